"""``iovirt bench nic`` measures what it says, on the smallest configuration."""

import pytest

from cosim.benchmarks.nic import Points, bench_nic

POINTS = Points(frames=(64,), rings=("split",), functions=(2,), iommu=("on",), latencies=(20,))


@pytest.fixture(scope="module")
def found():
    return bench_nic(name="tiny", points=POINTS, packets=64)


@pytest.mark.full
def test_points_are_those_that_were_asked_for(found):
    assert [point["direction"] for point in found["points"]] == ["tx", "rx", "both"]
    for point in found["points"]:
        # The bus moves a frame of 64 bytes in 4 cycles.
        assert point["cycles_per_packet"] >= 4
        assert point["bus_share"] == pytest.approx(4 / point["cycles_per_packet"], rel=0.5)
        assert point["ring_accesses_per_packet"] > 0


@pytest.mark.full
def test_parts_of_the_round_trip_add_up(found):
    trip = dict(found["round_trip_cycles"]["latency_20"])
    total = trip.pop("total")
    assert total == sum(trip.values())
    assert min(trip.values()) > 0
