"""The demonstration on the RTL: both simulators to the same cycle, and hostile guests."""

import json
from dataclasses import replace

import pytest

from cosim.capture import shipped_capture
from cosim.report.waves import check
from cosim.scenarios.demo import HOSTILE
from cosim.scenarios.on_rtl import run_demo
from cosim.scenarios.settings import Settings

SETTINGS = Settings(config="tiny", packets=12)


@pytest.fixture(scope="module")
def verilator():
    return run_demo(SETTINGS, shipped_capture())


def figures(result):
    """Everything but what the simulator's speed and name decide."""
    found = json.loads(json.dumps(result.as_dict()))
    del found["cycles_per_s"], found["python_share"], found["settings"]["sim"]
    return found


def test_everything_arrives_and_the_three_rates_are_equal(verilator):
    assert verilator.good
    assert verilator.packets >= 12
    assert verilator.mismatches == verilator.lost == 0
    assert len(verilator.functions) == 3
    for function in verilator.functions:
        rates = function.iotlb_hit_rate
        assert rates.counter == rates.model == rates.waves
        assert 0 < function.misses < function.lookups
        assert function.page_faults > 0
        assert function.vm_exits
        assert function.interrupts > 0
    assert 0 < verilator.python_share < 1


def test_icarus_agrees_to_the_cycle(verilator):
    icarus = run_demo(replace(SETTINGS, sim="icarus"), shipped_capture())
    assert figures(icarus) == figures(verilator)


def test_same_seed_same_run_other_seed_another(verilator):
    assert figures(run_demo(SETTINGS, shipped_capture())) == figures(verilator)
    other = run_demo(replace(SETTINGS, seed=2), shipped_capture())
    assert other.good
    assert other.cycles != verilator.cycles


@pytest.mark.parametrize("kind", HOSTILE)
def test_harm_stops_one_queue_and_nobody_else(kind):
    result = run_demo(replace(SETTINGS, hostile=kind, packets=40), shipped_capture())
    assert result.good, result.problems
    assert result.hostile is not None
    assert result.hostile.queue_error != "NONE"
    assert result.hostile.fault_records == (kind == "address")


def test_waves_that_are_kept_check_by_themselves(verilator, tmp_path):
    waves = tmp_path / "a.vcd"
    run_demo(SETTINGS, shipped_capture(), waves=waves)
    checked = list(check(waves))
    assert [c.device_id for c in checked] == [f.device_id for f in verilator.functions]
    assert all(c.equal and c.counted for c in checked)
    assert list(tmp_path.iterdir()) == [waves]
