"""``iovirt bench nic`` measures what it says, and what it finds is within the goals."""

import json
from dataclasses import replace

import pytest

from cosim import cli
from cosim.benchmarks.nic import Points, bench_nic
from tests.cosim.features_world import receiving_system

#: Of a point: which one it is, and what was found.
WHICH = {"frame", "ring", "functions", "direction", "iommu", "latency", "gap"}
FOUND = {"cycles_per_packet", "bus_share", "ring_accesses_per_packet", "dropped"}
PARTS = {
    *("doorbell_to_ring_read", "ring_read_to_data_read", "data_read_to_frame_out"),
    *("frame_in_to_data_write", "data_write_to_used_write", "used_write_to_message"),
}
POINTS = Points(frames=(64,), rings=("split",), functions=(2,), iommu=("on",), latencies=(20,))


#: All functions of the system that tests of features share.
SMALL = Points(
    frames=(64, 1500), functions=(3,), directions=("tx", "rx"), iommu=("on",), latencies=(20,)
)
#: Most cycles per packet there, a tenth above what was found: four parts of DMA requests at once do
#: not reach the goals, which are of ``default``.
SMALL_CYCLES = {(64, "tx"): 21, (64, "rx"): 22, (1500, "tx"): 104, (1500, "rx"): 159}


def measure(points):
    """What the benchmark writes about these points of it."""
    return json.loads(json.dumps(bench_nic(name=receiving_system(), points=points, packets=240)))


def check_keys(found):
    assert set(found) == {"points", "round_trip_cycles"}
    assert {frozenset(point) for point in found["points"]} == {frozenset(WHICH | FOUND)}
    assert set(found["round_trip_cycles"]) == {"latency_20"}
    assert set(found["round_trip_cycles"]["latency_20"]) == PARTS | {"total"}


def check_rings(points):
    """Packed rings need fewer accesses than split ones."""
    by_point = {(p["frame"], p["direction"], p["ring"]): p for p in points}
    for (*which, ring), point in by_point.items():
        if ring == "packed":
            split = by_point[(*which, "split")]
            assert point["ring_accesses_per_packet"] < split["ring_accesses_per_packet"], which


@pytest.fixture(scope="module")
def small():
    return measure(SMALL)


def test_json_has_these_keys(small):
    check_keys(small)
    assert len(small["points"]) == 8


def test_small_system_keeps_its_pace(small):
    for point in small["points"]:
        most = SMALL_CYCLES[point["frame"], point["direction"]]
        assert point["frame"] / 16 <= point["cycles_per_packet"] <= most, point


def test_packed_rings_need_fewer_accesses(small):
    check_rings(small["points"])


def test_cycles_are_the_same_again(small):
    again = measure(replace(SMALL, frames=(64,), rings=("packed",), directions=("rx",)))
    [point] = again["points"]
    assert point in small["points"]
    assert again["round_trip_cycles"] == small["round_trip_cycles"]


@pytest.mark.full
def test_goals(capsys):
    """At L = 20 with eight functions: 64 B in 8 cycles, in 10 with as many the other way; 1500 B at
    0.95 of the bus.
    """
    points = ["--frame", "64", "1500", "--functions", "8", "--iommu", "on", "--latency", "20"]
    assert cli.main(["bench", "nic", *points, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    check_keys(found)
    assert len(found["points"]) == 12
    for point in found["points"]:
        if point["frame"] == 64:
            assert point["cycles_per_packet"] <= (10 if point["direction"] == "both" else 8), point
        else:
            assert point["bus_share"] >= 0.95, point
    # What is received at the bus's full rate has batches of two elements (docs/results.md).
    at_full_rate = (1500, "rx")
    check_rings(p for p in found["points"] if (p["frame"], p["direction"]) != at_full_rate)


@pytest.fixture(scope="module")
def found():
    # As many as are received: what is in flight for long tells nothing of so few.
    return bench_nic(name="tiny", points=POINTS, packets=64, gap=30)


@pytest.mark.full
def test_points_are_those_that_were_asked_for(found):
    assert [point["direction"] for point in found["points"]] == ["tx", "rx", "both"]
    for point in found["points"]:
        # The bus moves a frame of 64 bytes in 4 cycles.
        assert point["cycles_per_packet"] >= 4
        # Cycles are those of the slower direction, the share is that of the busier one.
        slower = 4 / point["cycles_per_packet"]
        if point["direction"] == "both":
            assert point["bus_share"] >= slower * 0.99
        else:
            assert point["bus_share"] == pytest.approx(slower)
        assert point["ring_accesses_per_packet"] > 0


@pytest.mark.full
def test_parts_of_the_round_trip_add_up(found):
    trip = dict(found["round_trip_cycles"]["latency_20"])
    total = trip.pop("total")
    assert total == sum(trip.values())
    assert min(trip.values()) > 0
    # There and back again: the port, ring and data are read and written, each at L = 20.
    assert 200 < total < 600


@pytest.mark.full
def test_what_the_port_offers_is_paced():
    points = replace(POINTS, directions=("rx",))
    [point] = bench_nic(name="tiny", points=points, packets=64, gap=50)["points"]
    assert (point["gap"], point["dropped"]) == (50, 0)
    assert point["cycles_per_packet"] == pytest.approx(50, abs=2)


@pytest.mark.full
@pytest.mark.parametrize("frame", [64, 9000])
def test_what_is_received_goes_on_while_others_are_sent(frame):
    """At the port's full rate as well, where most of short frames find no room; and of frames that
    take long to leave, since many are read beside each other.
    """
    points = replace(POINTS, frames=(frame,), functions=(1,), directions=("tx", "both"))
    alone, both = bench_nic(name="tiny", points=points, packets=48)["points"]
    assert alone["dropped"] == 0
    assert both["cycles_per_packet"] > frame / 16
