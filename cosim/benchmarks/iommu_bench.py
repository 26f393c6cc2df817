"""Measures the IOMMU with its bridge; runs inside of the simulator.

Cycles are those of transfers at the ports of :class:`rtl.iommu_bridge.IommuWithBridge`; nothing
inside is looked at.  ``L`` is from an accepted read address at the table port to its first data.
"""

import cocotb

from cosim.bench.initiator import Initiator
from cosim.bench.machine import options, report
from cosim.benchmarks.bridge_figures import BridgeFigures
from cosim.benchmarks.fairness import Fairness
from cosim.benchmarks.invalidation_figures import InvalidationFigures
from cosim.benchmarks.measurement import DEVICE, IOVA, ONE_STAGE_DEVICE, OTHER_DEVICE, Measurement
from cosim.benchmarks.translation_figures import TranslationFigures

__all__ = ["measure"]


@cocotb.test()
async def measure(dut) -> None:
    """Measure what the options ask for."""
    asked = options()
    run = Measurement(dut, asked)
    pages = asked["pages"]
    run.tables.two_stage(DEVICE, IOVA, pages)
    run.tables.two_stage(OTHER_DEVICE, IOVA, 64)
    run.tables.one_stage(ONE_STAGE_DEVICE, IOVA, 8)
    initiator = Initiator(run.bench, "dma")
    await run.start()
    found: dict = {}
    parts = asked["parts"]
    if "hits" in parts:
        found["measured_latency"] = await run.measured_latency()
        assert found["measured_latency"] == asked["latency"], found
        figures = TranslationFigures(run)
        found |= await figures.hits()
        found |= await figures.walks()
        found["outstanding_misses"] = await figures.outstanding()
    if "iotinval" in parts:
        found |= await InvalidationFigures(run).measure(quick=asked["quick"])
    if "fairness" in parts:
        found["fairness"] = await Fairness(run, initiator, slots=16).measure()
    if "bridge" in parts:
        bridge = BridgeFigures(run, initiator)
        found["bridge_hit_latency"] = await bridge.hits()
        found["stream_efficiency"] = await bridge.stream(min(pages, 64))
    if "random" in parts:
        found["random_cycles_per_request"] = await BridgeFigures(run, initiator).random_reads(64)
    if "all_miss" in parts:
        found["all_miss_per_kcycle"] = await TranslationFigures(run).all_miss(pages)
    report(found)
