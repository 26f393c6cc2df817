"""The measurement on ``tiny``: what holds of any IOMMU that is correct."""

import pytest

from cosim.benchmarks.iommu import bench_iommu
from cosim.benchmarks.storage import storage_bits


@pytest.fixture(scope="module")
def figures():
    return bench_iommu(name="tiny", latencies=(20,), quick=True)["latency_20"]


def test_the_table_port_has_the_latency_asked_for(figures):
    assert figures["measured_latency"] == 20


def test_hits_flow_and_pass_a_miss(figures):
    assert figures["hit_throughput"] >= 0.99
    assert figures["hit_under_miss_latency"] == figures["hit_latency"]
    assert figures["iotinval_hit_latency"] == figures["hit_latency"]


def test_walks_read_what_they_must(figures):
    assert figures["two_stage_cold_reads"] == 15
    assert figures["one_stage_cold_reads"] == 3
    assert 1 <= figures["two_stage_warm_reads"] <= 15
    for stage in ("one_stage", "two_stage"):
        assert figures[f"{stage}_warm_cycles"] <= figures[f"{stage}_cold_cycles"]
        assert figures[f"{stage}_cold_cycles"] >= 20 * figures[f"{stage}_cold_reads"]


def test_a_device_that_misses_leaves_hits_alone(figures):
    fairness = figures["fairness"]
    assert fairness["hit_latency_beside_worst"] == fairness["hit_latency_alone"]
    assert fairness["miss_latency_flooded_worst"] <= fairness["miss_latency_bound"]


def test_storage_is_counted():
    text = (
        "module \\top.iommu.iotlb (clk);\n  reg [6:0] ram [3:0];\n  reg [2:0] state = 3'h0;\n"
        "  reg x;\nendmodule\nmodule \\top.bridge (clk);\n  reg [6:0] ram [3:0];\nendmodule\n"
    )
    assert storage_bits(text) == {"iommu.iotlb": 7 * 4 + 3}
