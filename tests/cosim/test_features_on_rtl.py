"""What the receive side can do, on golden machine and RTL: the same frames come to the same."""

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from cosim.bench.run import run as simulate
from cosim.guest.features import KNOWN_FEATURES
from models.spec.virtio import Feature
from tests.cosim.features_world import RECEIVING, receiving_rtl, traffic
from tests.cosim.platform import run

SEED = 1
TSO = Feature.NET_HOST_TSO4
SPLIT = KNOWN_FEATURES & ~(1 << Feature.RING_PACKED)


@pytest.fixture(scope="module")
def built():
    return receiving_rtl()


def is_right(frame: bytes) -> bool:
    """Whether scapy finds lengths and checksums as they should be; only of TCP."""
    packet = Ether(frame)
    if TCP not in packet:
        return True
    for layer, name in ((IP, "chksum"), (IP, "len"), (TCP, "chksum")):
        delattr(packet[layer], name)
    return bytes(packet) == frame


def both(built, features, **driver):
    """Run the workload on both; returns what the golden machine says when they agree."""
    golden = run(
        lambda platform: traffic(platform, features, **driver),
        name="tiny",
        nic=RECEIVING,
        seed=SEED,
    )
    options = {"seed": SEED, "features": features, "driver": driver}
    rtl = simulate(built, "tests.cosim.tb_features", options=options, seed=SEED)
    assert rtl == golden
    last = 2 * driver.get("pairs", 1) - 1
    assert golden["queues"][1][f"{last} TX_DROPPED"] == 2
    assert golden["queues"][1][f"{last} TX_DROPPED_OFFLOAD"] == 1
    assert all(len(frames) == 6 for frames in golden["received"].values())
    assert all(is_right(bytes.fromhex(frame)) for frame in golden["wire"])
    return golden


@pytest.mark.full
def test_packed_rings_of_odd_size_and_flows_over_two_pairs(built):
    golden = both(built, KNOWN_FEATURES, pairs=2, queue_size=57)
    assert set(golden["pairs"].values()) == {0, 1}
    assert min(golden["merged"]) > 0
    for direction in (0, 1):  # flows are spread both ways
        name = ("RX_PACKETS", "TX_PACKETS")[direction]
        assert all(golden["queues"][1].get(f"{2 * pair + direction} {name}") for pair in (0, 1))


@pytest.mark.full
@pytest.mark.parametrize("refused", [Feature.NET_MRG_RXBUF, Feature.RING_EVENT_IDX, TSO])
def test_split_rings(built, refused):
    golden = both(built, SPLIT & ~(1 << refused), pairs=2)
    assert (max(golden["merged"]) > 0) == (refused != Feature.NET_MRG_RXBUF)


@pytest.mark.full
def test_one_pair_with_the_control_queue_at_two(built):
    golden = both(built, SPLIT & ~(1 << Feature.NET_MQ | 1 << Feature.NET_RSS))
    assert set(golden["pairs"].values()) == {0}
