"""``iovirt bench interrupts`` measures what moderation is for."""

import pytest

from cosim.benchmarks.interrupts import LOADS, MODERATION, bench_interrupts
from cosim.benchmarks.moderation import receive
from tests.cosim.platform import run


def _check(points):
    """Moderation spares interrupts, and costs latency; but never more than its timer."""
    for load in LOADS:
        alone = points[load, "none"]
        for setting in ("timer", "count"):
            point = points[load, setting]
            assert point["interrupts"] < alone["interrupts"], (load, setting, point, alone)
            assert point["latency_p50"] > alone["latency_p50"], (load, setting, point, alone)
        limit = alone["latency_p99"] + MODERATION["timer"]["cycles"] + 200
        assert points[load, "timer"]["latency_p99"] <= limit


@pytest.mark.parametrize("configuration", ["tiny", "default"])
def test_what_is_measured_on_the_golden_model(configuration):
    points = {}
    for load, (pace, _) in LOADS.items():
        gap = max(pace, 200)  # what its nominal time allows
        for name, setting in MODERATION.items():

            async def measure(platform, setting=setting, gap=gap):
                machine, hypervisor = platform.machine, platform.hypervisor
                return await receive(machine, hypervisor, **setting, gap=gap, count=24)

            points[load, name] = run(measure, name=configuration)
    _check(points)


@pytest.mark.full
def test_moderation_spares_interrupts_for_latency():
    found = bench_interrupts(name="tiny", quick=True)["points"]
    _check({(point["load"], point["moderation"]): point for point in found})
