"""The bench on both simulators, held against each other."""

import os
import shutil
import time
from dataclasses import replace

import pytest
from vcdvcd import VCDVCD

from cosim.bench.build import Design, ToolError, build, build_folder
from cosim.bench.ports import Tap
from cosim.bench.run import SimulationError, run

DESIGN = Design(
    "tests.cosim.bench.copier:Copier",
    taps=(Tap(instance="echo", name="sink", shape=32),),
    waves=(("echo", 1),),
)
MODULE = "tests.cosim.bench.tb_copier"


@pytest.fixture(scope="module")
def verilator() -> dict:
    return run(build(DESIGN, "verilator", "vcd"), MODULE, options={"seed": 5})


def test_simulators_agree_on_every_transfer_and_cycle(verilator):
    icarus = run(build(DESIGN, "icarus"), MODULE, options={"seed": 5})
    assert icarus == verilator
    assert icarus["cycle"] > 500


def test_seed_changes_timing(verilator):
    other = run(build(DESIGN, "verilator", "vcd"), MODULE, options={"seed": 6}, test="everything")
    assert other["digest"] != verilator["digest"]


def test_second_build_is_instant(verilator):
    start = time.perf_counter()
    build(DESIGN, "verilator", "vcd")
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
def test_waves_hold_the_chosen_ports_alone(verilator, simulator, tmp_path):
    waves = tmp_path / "dump.vcd"
    trace = "vcd"
    run(
        build(DESIGN, simulator, trace), MODULE, options={"seed": 5}, waves=waves, test="everything"
    )
    names = VCDVCD(str(waves), only_sigs=True).signals
    assert any("echo.sink__payload" in name for name in names)
    assert not any("bus__ar" in name for name in names)


@pytest.mark.full
def test_fst_waves_are_written_on_request(tmp_path):
    waves = tmp_path / "dump.fst"
    built = build(DESIGN, "verilator", "fst")
    run(built, MODULE, options={"seed": 5}, waves=waves, test="everything")
    # Header block: its type, its length, start and end time.
    header = waves.read_bytes()[:25]
    assert header[0] == 0
    assert int.from_bytes(header[1:9], "big") == 329
    assert int.from_bytes(header[17:25], "big") > 1000


def test_no_command_named_python_is_needed(monkeypatch, tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if (runtime := build_folder() / "runtime").exists():  # Verilator's own library needs none
        shutil.copytree(runtime, tmp_path / "build/runtime")
    monkeypatch.setenv("IOVIRT_BUILD", str(tmp_path / "build"))
    built = build(DESIGN, "verilator", quick=True)
    assert run(built, MODULE, options={"seed": 5}, test="everything")["cycle"] > 500


def test_failing_tool_is_named_with_its_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("IOVIRT_BUILD", str(tmp_path))
    monkeypatch.setattr("cosim.bench.build._check_taps", lambda text, top, ports: None)
    renamed = replace(DESIGN, taps=(Tap(instance="echo", name="renamed", shape=32),))
    with pytest.raises(ToolError, match=r"^verilator failed:\n.*renamed__valid"):
        build(renamed, "verilator")
    assert not list((tmp_path / "sim").glob("*/"))


@pytest.mark.parametrize(
    "tap",
    [
        Tap(instance="echo", name="renamed", shape=32),
        Tap(instance="nobody", name="sink", shape=32),
        Tap(instance="echo", name="sink", shape=31),
    ],
)
def test_a_tap_on_anything_but_that_port_is_refused(tap, monkeypatch, tmp_path):
    """Amaranth may give the port a number, and its name to another signal of the module."""
    monkeypatch.setenv("IOVIRT_BUILD", str(tmp_path))
    with pytest.raises(ValueError, match=rf"^{tap.instance} has no {tap.name}__"):
        build(replace(DESIGN, taps=(tap,)), "verilator")


def test_failing_test_is_reported():
    with pytest.raises(SimulationError, match="failed: everything"):
        run(build(DESIGN, "verilator", "vcd"), MODULE, options={}, test="everything", quiet=True)


def test_unknown_simulator_is_refused():
    with pytest.raises(ValueError, match="No simulator 'vcs'; there are verilator, icarus"):
        build(DESIGN, "vcs")


def test_missing_tool_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolError, match="iverilog is not installed"):
        build(DESIGN, "icarus")
