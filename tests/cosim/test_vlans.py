"""VLANs of functions' own, on golden machine and RTL: isolation, trunks, mirrors."""

import pytest

from cosim.bench.run import run as simulate
from cosim.guest.features import KNOWN_FEATURES
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.spec.virtio import Feature, NetHeaderFlag
from tests.cosim.features_world import RECEIVING, receiving_rtl
from tests.cosim.platform import run
from tests.cosim.vlan_world import PHASES, WIRE, draw, expected, vlans

SEED = 3
#: Without filters of the driver's own: trunks receive all VLANs.
OPEN = KNOWN_FEATURES & ~(1 << Feature.NET_CTRL_VLAN)


def check(found):
    """What came to whom is what scapy makes of the rules, and nothing else."""
    checked = 0
    for number, phase in enumerate(PHASES):
        wanted = {place: [] for place in (*phase, WIRE)}
        refused = dict.fromkeys(phase, 0)
        for source, frame in draw(phase, number):
            receivers = expected(phase, source, frame)
            for place, content in receivers.items():
                wanted[place].append(content.hex())
            if source != WIRE and phase[source].vlan and frame[12:14] == b"\x81\x00":
                assert not receivers
                refused[source] += 1
        came = found[number]["came"]
        for place, frames in wanted.items():
            got = came.get(str(place), [])
            assert [content for content, _ in got] == frames, (number, place)
            checked += any(flags & NetHeaderFlag.DATA_VALID for _, flags in got)
            assert len(frames) > 3
        assert sum(refused.values()) > 1
        before = found[number - 1]["counts"] if number else {}
        for function, count in refused.items():
            name = f"{function} TX_DROPPED_VLAN"
            assert found[number]["counts"][name] - before.get(name, 0) == count
    assert checked > 3


def golden(nic=None, **options):
    found = run(lambda platform: vlans(platform, **options), name="tiny", nic=nic, seed=SEED)
    check(found)
    return found


def test_golden_machine():
    golden()


def rtl(built, options):
    asked = {"seed": SEED, "driver": options}
    return simulate(built, "tests.cosim.tb_vlans", options=asked, seed=SEED)["phases"]


def test_rtl():
    """Nobody has a frame of another VLAN, whatever is sent; each has its own without a tag."""
    found = rtl(build_system(Settings(config="tiny")), {})
    check(found)
    assert found == golden()


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True])
def test_rtl_with_everything(packed):
    """Frames over several buffers, of either kind of ring, in two queue pairs."""
    options = {"features": OPEN & ~(0 if packed else 1 << Feature.RING_PACKED), "pairs": 2}
    found = rtl(receiving_rtl(), options)
    check(found)
    assert found == golden(RECEIVING, **options)
