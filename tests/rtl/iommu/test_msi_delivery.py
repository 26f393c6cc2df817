"""MSIs end to end, in configuration ``full``: device, bridge, MSI page table, interrupt files."""

import pytest

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from models.spec.config import config

BENCH = "tests.rtl.iommu.msi_bench"


@pytest.mark.full
@pytest.mark.parametrize(("latency", "jitter"), [(3, 0), (10, 30)])
def test_msis_reach_their_interrupt_files(latency, jitter):
    built = build(Design("rtl.iommu_bridge:IommuWithBridge", (config("full").iommu,)), quick=True)
    options = {"latency": latency, "jitter": jitter, "seed": 1}
    assert simulate(built, BENCH, options=options, cycles=300_000, test="delivered")["sent"] == 66


@pytest.mark.full
def test_accesses_carry_the_qos_ids_of_whom_they_are_for():
    built = build(Design("rtl.iommu_bridge:IommuWithBridge", (config("full").iommu,)), quick=True)
    options = {"latency": 3, "jitter": 5, "seed": 1}
    assert simulate(built, BENCH, options=options, cycles=100_000, test="qos_ids")["regions"] == 8
