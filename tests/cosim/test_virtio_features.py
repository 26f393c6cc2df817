"""Every subset of features that a driver may accept works: rings, sizes, refusals."""

from functools import partial
from itertools import product
from random import Random

import pytest

from cosim.guest.features import KNOWN_FEATURES
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.drivers import REFUSABLE, RINGS, bare, bits, exchange, refusing, sizes
from tests.cosim.platform import COMPLETE, frame, run


def run_pair(*, features=KNOWN_FEATURES, batch=1, nic=None, **options):
    async def scenario(platform):
        guests = [
            await platform.guest(function, features=features, **options) for function in (1, 2)
        ]
        await exchange(platform, guests)
        return platform

    return run(scenario, nic=COMPLETE | (nic or {}), batch=batch)


def some(values, quick):
    """All values as parameters; but for the quick ones they are for `make test-full`."""
    return [pytest.param(v, marks=() if v in quick else pytest.mark.full) for v in values]


KINDS = list(product((0, 1), repeat=4))
FEW_KINDS = [(0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1), (0, 1, 1, 0)]


@pytest.mark.parametrize("accepted", some(KINDS, FEW_KINDS))
def test_every_kind_of_ring(accepted):
    refused = bits(f for f, yes in zip(RINGS, accepted, strict=True) if not yes)
    platform = run_pair(features=KNOWN_FEATURES & ~refused, batch=1 + 2 * accepted[3])
    assert platform.machine.nic.functions[1].driver_features & bits(RINGS) == bits(RINGS) & ~refused


#: Packed or not, entries, without indirect descriptors or not.
SIZES = [
    (packed, size, direct)
    for direct in (False, True)
    for packed, size in (
        *((0, 2), (0, 8), (0, 1024)),
        *((1, size) for size in (2, 3, 5, 7, 24, 1023, 1024)),
    )
]
FEW_SIZES = [(0, 2, True), (1, 3, False), (1, 5, True), (1, 1023, False)]


@pytest.mark.parametrize("case", some(SIZES, FEW_SIZES), ids=str)
def test_queue_sizes(case):
    packed, size, direct = case
    run(partial(sizes, packed=packed, size=size, direct=direct), nic=COMPLETE)


@pytest.mark.parametrize("place", range(0, len(REFUSABLE), 2))
def test_refusing_any_one_feature_still_works(place):
    run(partial(refusing, place=place), nic=COMPLETE)


def test_refusing_everything_works():
    run(bare, nic=COMPLETE)


def test_event_index_spares_notifications_and_interrupts():
    counts = {}
    for feature in (0, 1 << Feature.RING_EVENT_IDX):
        platform = run_pair(features=KNOWN_FEATURES & ~(1 << Feature.RING_EVENT_IDX) | feature)
        counts[bool(feature)] = [
            sum(platform.stat(function, stat) for function in (1, 2))
            for stat in (Stat.NOTIFICATIONS, Stat.INTERRUPTS)
        ]
    assert counts[True][0] < counts[False][0]
    assert counts[True][1] < counts[False][1]


def test_frames_longer_than_a_drivers_buffers_are_dropped():
    """A driver that has not accepted the MTU may have buffers of 1514 bytes (5.1.6.3)."""

    async def scenario(platform):
        rng, outside = Random(3), bytes.fromhex("02fe00000001")
        guest = await platform.guest(1, frame_bytes=1514)
        frames = [frame(guest.mac, outside, rng, size) for size in (1514, 1515, 60, 4000, 1514)]
        for content in frames:
            await platform.machine.send_frame(content)
        fits = [content for content in frames if len(content) <= 1514]
        await platform.until(lambda: len(guest.received) == len(fits))
        assert guest.received == fits
        assert platform.stat(1, Stat.RX_DROPPED_BUFFER) == 2

    run(scenario, nic={"frame_bytes": 16384, "mtu": 9000})
