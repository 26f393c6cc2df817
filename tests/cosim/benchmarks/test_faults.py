"""``iovirt bench faults``: what a missing page costs, and that no frame is lost."""

import pytest

from cosim.benchmarks.faults import bench_faults
from cosim.cli import main

KEYS = {
    *("policy", "rate", "direction", "goodput_rel", "lost", "dropped_counted", "p99_rel"),
    *("others_p99_rel", "service_cycles", "p50"),
}


@pytest.mark.full
def test_nothing_is_lost_and_others_go_on():
    found = bench_faults(name="tiny", rates=(0.01,), policies=("pin", "stall", "retry"), quick=True)
    points = {(point["direction"], point["policy"]): point for point in found["points"]}
    assert len(points) == 6
    for point in points.values():
        assert point.keys() >= KEYS
        assert point["lost"] == point["mismatches"] == 0
    for direction in ("tx", "rx"):
        stall, retry = points[direction, "stall"], points[direction, "retry"]
        assert retry["others_p99_rel"] < stall["others_p99_rel"]
        assert retry["dropped_counted"] <= stall["dropped_counted"]
    assert points["rx", "retry"]["backed_up"] > 0


@pytest.mark.parametrize(
    "options",
    [["--rate", "2"], ["--functions", "1"], ["--functions", "99"], ["--config", "none"]],
)
def test_what_makes_no_sense_is_one_clear_line(options, capsys):
    assert main(["bench", "faults", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
