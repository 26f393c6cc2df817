"""``iovirt bench faults``: what a missing page costs, and that no frame is lost."""

import io

import numpy as np
import pytest

from cosim.benchmarks import fault_times
from cosim.benchmarks.fault_times import PARTS, FaultTimes
from cosim.benchmarks.faulting import SERVICE_CYCLES
from cosim.benchmarks.faults import bench_faults
from cosim.benchmarks.report import print_faults
from cosim.cli import main
from cosim.hypervisor.hypervisor import Service
from models.spec.iommu import PageRequestPayload, PageResponse

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
        parts = retry["service_cycles"]
        assert sum(parts[part] for part in PARTS) == pytest.approx(parts["total"])
        assert parts["software"] > SERVICE_CYCLES
        assert all(0 < parts[part] < SERVICE_CYCLES for part in PARTS if part != "software")
    assert points["rx", "retry"]["backed_up"] > 0


def test_the_table_has_every_figure_of_a_point():
    point = {"policy": "retry", "rate": 0.01, "service_cycles": dict.fromkeys(PARTS, 1234.0)}
    text = io.StringIO()
    print_faults({"points": [point]}, text)
    assert all(part in text.getvalue() for part in PARTS)
    assert text.getvalue().count("1234.000") == len(PARTS)


def _column(**columns):
    return {name: np.array(values, np.uint64) for name, values in columns.items()}


def test_the_parts_of_a_fault_are_those_between_its_events():
    """Tag 5 meets two pages that are not there; tag 6's end is not in the log."""
    asked = [PageRequestPayload.const({"index": index}).as_bits() for index in (5, 0x105, 6)]
    log = {
        fault_times.REQUEST: _column(cycle=[3, 10, 400], tag=[5, 5, 6]),
        fault_times.PARK: _column(cycle=[50, 250, 450], value=[5, 5, 6]),
        fault_times.ASKED: _column(cycle=[55, 255, 455], device_id=[2, 2, 2], payload=asked),
        fault_times.RETRY: _column(cycle=[210], value=[5]),
        fault_times.DONE: _column(cycle=[8], tag=[5]),
        fault_times.FAILED: _column(cycle=[330], tag=[5]),
    }
    services = [
        Service(device_id=2, index=index, iova=0, write=False, code=PageResponse.SUCCESS,
                since=since, cycles=cycles)
        for index, since, cycles in ((5, 80, 120), (0x105, 260, 40), (6, 460, 9))
    ]  # fmt: skip
    found = fault_times.split(log, services)
    assert found == [
        FaultTimes(detect=40, request=30, software=120, retry=50),
        FaultTimes(detect=40, request=10, software=40, retry=30),
    ]


@pytest.mark.parametrize(
    "options",
    [["--rate", "2"], ["--functions", "1"], ["--functions", "99"], ["--config", "none"]],
)
def test_what_makes_no_sense_is_one_clear_line(options, capsys):
    assert main(["bench", "faults", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
