"""The measurement on ``tiny``: what holds of any IOMMU that is correct."""

import pytest

from cosim.benchmarks.fairness import miss_bound
from cosim.benchmarks.iommu import bench_iommu
from cosim.benchmarks.storage import storage_bits


@pytest.fixture(scope="module")
def figures():
    return bench_iommu(name="tiny", latencies=(20,), quick=True, sixteen=False)["latency_20"]


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
    assert fairness["hit_latency_flooded_worst"] == fairness["hit_latency_alone"]
    for way in ("flooded", "shared"):
        worst = fairness[f"bridge_hit_latency_{way}_worst"]
        assert worst <= fairness["bridge_hit_latency_bound"]
    assert fairness["bridge_address_wait_worst"] <= fairness["bridge_address_wait_bound"]
    assert fairness["miss_latency_flooded_worst"] <= fairness["miss_latency_bound"]


def test_the_bound_counts_rounds_of_walk_contexts():
    own = {"alone": 100, "reads": 10, "walk": 200}
    # A context is free at once; every read waits for 12 steps, the answer for 11.
    assert miss_bound(ahead=10, walkers=12, **own) == 100 + 10 * 12 + 11 * 4
    # The 3 that are too many for 8 contexts end in one round, 10 for one context one by one.
    assert miss_bound(ahead=10, walkers=8, **own) == 100 + 200 + 10 * 8 + 11 * 4
    assert miss_bound(ahead=10, walkers=1, **own) == 100 + 10 * 200 + 10 * 1 + 11 * 4


def test_storage_is_counted():
    text = (
        "module \\top.iommu.iotlb (clk);\n  reg [6:0] ram [3:0];\n  reg [2:0] state = 3'h0;\n"
        "  reg x;\nendmodule\nmodule \\top.bridge (clk);\n  reg [6:0] ram [3:0];\nendmodule\n"
    )
    assert storage_bits(text) == {"iommu.iotlb": 7 * 4 + 3}
