"""``iovirt bench nic`` measures what it says, on the smallest configuration."""

from dataclasses import replace

import pytest

from cosim.benchmarks.nic import Points, bench_nic

POINTS = Points(frames=(64,), rings=("split",), functions=(2,), iommu=("on",), latencies=(20,))


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
