"""MSIs end to end: device, bridge, MSI page table, interrupt files."""

from dataclasses import replace

import pytest

from cosim.bench.build import build
from cosim.bench.run import run as simulate
from cosim.benchmarks.iommu import design
from models.spec.config import config

BENCH = "tests.rtl.iommu.msi_bench"
INTERRUPTS = dict.fromkeys(("msi_flat", "msi_mrif", "amo_mrif", "amo_hwad", "qosid"), True)
CONFIGS = {
    "small": replace(config("tiny").iommu, **INTERRUPTS, pas=50),
    "full": config("full").iommu,
}


@pytest.mark.full
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("latency", "jitter"), [(3, 0), (10, 30)])
def test_msis_reach_their_interrupt_files(name, latency, jitter):
    options = {"latency": latency, "jitter": jitter, "seed": 1}
    built = build(design(CONFIGS[name]), quick=True)
    found = simulate(built, BENCH, options=options, cycles=300_000, test="delivered")
    assert found["sent"] == 65


@pytest.mark.full
@pytest.mark.parametrize("name", CONFIGS)
def test_accesses_carry_the_qos_ids_of_whom_they_are_for(name):
    options = {"latency": 3, "jitter": 5, "seed": 1}
    built = build(design(CONFIGS[name]), quick=True)
    found = simulate(built, BENCH, options=options, cycles=100_000, test="qos_ids")
    assert found["regions"] == 8
