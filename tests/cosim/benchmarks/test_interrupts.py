"""``iovirt bench interrupts`` measures what moderation is for."""

import pytest

from cosim.benchmarks.interrupts import LOADS, MODERATION, bench_interrupts


@pytest.mark.full
def test_moderation_spares_interrupts_for_latency():
    found = bench_interrupts(name="tiny", quick=True)["points"]
    points = {(point["load"], point["moderation"]): point for point in found}
    assert set(points) == {(load, setting) for load in LOADS for setting in MODERATION}
    for load in LOADS:
        alone = points[load, "none"]
        for setting in ("timer", "count"):
            point = points[load, setting]
            assert point["interrupts"] < alone["interrupts"]
            assert point["latency_p50"] > alone["latency_p50"]
        limit = alone["latency_p99"] + MODERATION["timer"]["cycles"] + 200
        assert points[load, "timer"]["latency_p99"] <= limit
