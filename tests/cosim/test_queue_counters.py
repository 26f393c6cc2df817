"""Counters of queues on the golden machine: each has its share of its function's."""

from random import Random

import pytest

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.stack import Outgoing
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.backup import BackupRings
from cosim.hypervisor.costs import Costs
from models.spec.nic import Stat, TxQueueStat
from models.spec.virtio import NetHeader
from tests.cosim.features_world import flow
from tests.cosim.platform import COMPLETE, frame, run

PAIRS = 2
NOT_OWNED = 0x7_0000_0000
SPOOFED = {"spoof_check": True, "vlans": frozenset((5,))}
BAD_OFFLOAD = NetHeader.const({"gso_type": 3}).as_bits().to_bytes(12, "little")


async def of_queues(platform, function, *names):
    """Counters of these names of the queues that have them, in order."""
    found = []
    for queue in range(2 * PAIRS):
        counters = await platform.hypervisor.queue_stats(function, queue)
        found.append(tuple(counters[name] for name in names if name in counters))
    return found


async def settle(platform):
    await platform.machine.sleep(30_000)


def scenario(steps, **options):
    """Run steps with two guests of two queue pairs each."""

    async def whole(platform):
        assign = {1: SPOOFED}
        guests = [
            await platform.guest(f, features=KNOWN_FEATURES, pairs=PAIRS, assign=assign.get(f))
            for f in (1, 2)
        ]
        await settle(platform)
        return await steps(platform, *guests)

    return run(whole, nic=COMPLETE, **options)


def test_packets_and_bytes_are_those_of_the_queue():
    rng, sizes = Random(1), {0: (60, 1514), 1: (100, 200, 300)}

    async def steps(platform, first, second):
        bells = await of_queues(platform, 1, "NOTIFICATIONS")
        for pair, each in sizes.items():
            for size in each:
                await first.driver.send(frame(second.mac, first.mac, rng, size), pair=pair)
                await settle(platform)
        for number in range(8):
            await platform.machine.send_frame(flow(second.mac, number, 600))
        await settle(platform)
        sent = await of_queues(platform, 1, "TX_PACKETS", "TX_BYTES")
        assert sent == [(), (2, 1574), (), (3, 600)]
        got = await of_queues(platform, 2, "RX_PACKETS", "RX_BYTES")
        assert [sum(each) for each in zip(got[0], got[2], strict=True)] == [
            platform.stat(2, Stat.RX_PACKETS),
            platform.stat(2, Stat.RX_BYTES),
        ]
        assert got[0][0] > 5  # what is not a flow; others are spread
        assert got[2][0] > 0
        after = await of_queues(platform, 1, "NOTIFICATIONS")
        rung = [now - then for (now,), (then,) in zip(after, bells, strict=True)]
        assert (rung[1], rung[3]) == (2, 3)

    scenario(steps)


@pytest.mark.parametrize("pair", range(PAIRS))
def test_what_is_dropped_has_its_reason(pair):
    rng = Random(2)

    async def steps(platform, first, second):
        driver = first.driver
        await driver.send(frame(second.mac, second.mac, rng), pair=pair)  # spoofed
        tagged = second.mac + first.mac + bytes.fromhex("8100000688b5") + bytes(60)
        await driver.send(tagged, pair=pair)
        await driver.submit(Outgoing(frame(second.mac, first.mac, rng), BAD_OFFLOAD), pair=pair)
        await driver.submit(Outgoing(bytes(13), bytes(12)), pair=pair)
        driver.queue(2 * pair + 1).add([Piece(NOT_OWNED, 80)], (), driver._header())
        driver.kick(2 * pair + 1)
        await settle(platform)
        names = ("TX_DROPPED", "TX_DROPPED_OFFLOAD", "TX_DROPPED_MAC", "TX_DROPPED_VLAN")
        expected = [(), (0,) * 4, (), (0,) * 4]
        expected[2 * pair + 1] = (5, 1, 1, 1)
        assert await of_queues(platform, 1, *names) == expected
        assert platform.stat(1, Stat.TX_DROPPED) == 5
        assert platform.stat(1, Stat.TX_DROPPED_LENGTH) == 1
        assert platform.stat(1, Stat.TX_DROPPED_REFUSED) == 1

    scenario(steps)


def test_what_has_no_room_is_of_no_queue_but_what_a_backup_ring_loses_is():
    """Both guests' pages are gone; the second has backup rings."""
    count = 120

    async def steps(platform, *guests):
        rng = Random(3)
        rings = BackupRings(platform.hypervisor, 8)
        await rings.start()
        await rings.enable(2)
        for guest in guests:
            for gpa in list(guest.vm.pages.resident_addresses):
                await platform.hypervisor.evict(guest.vm, gpa)
        for _ in range(count):
            for guest in guests:
                await platform.machine.send_frame(frame(guest.mac, b"\x02" * 6, rng, 60))
        for guest in guests:
            await platform.until(
                lambda guest=guest: len(guest.received)
                + platform.stat(guest.function, Stat.RX_DROPPED_FULL) == count
            )  # fmt: skip
        for function, expected in ((1, (0, 0)), (2, None)):
            stats = Stat.RX_DROPPED_FULL, Stat.RX_BACKUP
            counts = tuple(platform.stat(function, stat) for stat in stats)
            first, _, second, _ = await of_queues(platform, function, "RX_DROPPED", "RX_BACKUP")
            assert counts[0] > 0
            assert first == (counts if expected is None else expected)
            assert second == (0, 0)

    scenario(steps, costs=Costs(service_cycles=20_000))


def test_no_reset_clears_them():
    rng = Random(4)

    async def steps(platform, first, second):
        await first.driver.send(frame(second.mac, first.mac, rng, 60), pair=1)
        await settle(platform)
        await first.driver.reset_queues(1)
        await settle(platform)
        await first.driver.stop()
        await platform.hypervisor.reset(1)
        found = await platform.hypervisor.queue_stat(1, 3, TxQueueStat.TX_PACKETS)
        assert found == platform.stat(1, Stat.TX_PACKETS) == 1

    scenario(steps)
