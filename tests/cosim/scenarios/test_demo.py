"""The demonstration: RTL on both simulators to the same cycle, golden machine, hostile guests."""

import json
from dataclasses import replace

import pytest

from cosim.capture import read_capture, shipped_capture
from cosim.golden_machine import GoldenMachine
from cosim.report.waves import check
from cosim.scenarios.demo import HOST_BASE, HOST_BYTES, HOSTILE, Demo, DemoOptions
from cosim.scenarios.on_rtl import run_demo
from cosim.scenarios.settings import Settings
from cosim.scenarios.traffic import plan

SETTINGS = Settings(config="tiny", packets=6)


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
    assert verilator.packets >= 6
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


def test_checksums_left_to_the_nic_arrive_right(verilator):
    """The demonstration compares frames, what headers say of them, and counters."""
    assert run_demo(replace(SETTINGS, offload=True, packets=40), shipped_capture()).good


@pytest.mark.full
def test_the_whole_capture_with_checksums_left_to_the_nic():
    assert run_demo(replace(SETTINGS, offload=True, packets=0), shipped_capture()).good


def test_icarus_agrees_to_the_cycle(verilator):
    icarus = run_demo(replace(SETTINGS, sim="icarus"), shipped_capture())
    assert figures(icarus) == figures(verilator)


def test_same_seed_same_run_other_seed_another(verilator):
    assert figures(run_demo(SETTINGS, shipped_capture())) == figures(verilator)
    other = run_demo(replace(SETTINGS, seed=2), shipped_capture())
    assert other.good
    assert other.cycles != verilator.cycles


def on_golden_machine(**options):
    machine = GoldenMachine(SETTINGS.system, memory_base=HOST_BASE, memory_bytes=HOST_BYTES)
    frames = plan(read_capture(shipped_capture()).frames, limit=40)
    choices = DemoOptions(windows=SETTINGS.windows, queue_size=64, **options)
    demo = Demo(machine, SETTINGS.system, frames, choices)
    return machine.run(demo.run(), limit=50_000_000)


def test_the_same_software_runs_on_the_golden_machine():
    result = on_golden_machine()
    assert result.good, result.problems
    assert result.packets >= 40
    assert all(function.page_faults for function in result.functions)
    offload = on_golden_machine(offload=True)
    assert offload.good, offload.problems
    resident = on_golden_machine(resident=True)
    assert resident.good, resident.problems
    assert not any(function.page_faults for function in resident.functions)


@pytest.mark.parametrize("kind", HOSTILE)
def test_golden_machine_and_rtl_stop_a_hostile_guest_alike(kind):
    rtl = run_demo(replace(SETTINGS, hostile=kind, packets=40), shipped_capture())
    golden = on_golden_machine(hostile=kind)
    assert golden.good, golden.problems
    assert golden.hostile == rtl.hostile


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
