"""Plays scenarios on the RTL; runs inside of the simulator.

Options: ``files`` to replay, or ``config``, ``seed``, ``translations`` and ``scenario`` (requests
of one) to generate from; ``failures``, where to put what failed; ``progress``, a file of lines.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cocotb
from cocotb.triggers import SimTimeoutError

from cosim.bench.bench import CycleLimit
from cosim.bench.machine import options, report
from cosim.conformance.rows import Mismatch
from models.spec.config import IommuConfig

from .failure import Failure
from .generator import generate
from .lockstep import Lockstep
from .rtl_target import FuzzTarget
from .scenario import Scenario
from .shrink import shrink
from .statistics import Statistics

__all__ = ["scenarios"]


def _scenarios(asked: dict, statistics: Statistics) -> Iterator[Scenario]:
    for path in asked.get("files", []):
        yield Scenario.load(Path(path))
    if "files" in asked:
        return
    config, number = IommuConfig(**asked["config"]), 0
    while statistics.translations < asked["translations"]:
        yield generate(config, f"{asked['seed']}/{number}", asked["scenario"])
        number += 1


@cocotb.test()
async def scenarios(dut):
    """Play until enough was translated, or a scenario failed."""
    asked = options()
    statistics, told, began = Statistics(), "", time.monotonic()
    target = FuzzTarget(dut, pas=asked["pas"], iotlb_sets=asked["sets"])
    for number, scenario in enumerate(_scenarios(asked, statistics)):
        target.retime(**scenario.timing)
        failure = await play(scenario, target, statistics)
        if failure:
            told = str(failure)
            if asked.get("failures"):
                told += f"\nshrunk: {await _keep(scenario, target, asked)}"
            break
        if asked.get("progress") and number % 20 == 0:
            Path(asked["progress"]).write_text(json.dumps(statistics.translations))
    statistics.cycles = target.cycles
    statistics.seconds = time.monotonic() - began
    report({"failure": told, "statistics": statistics.as_dict()})


async def _keep(scenario: Scenario, target: FuzzTarget, asked: dict) -> str:
    """Shrink what failed, save it; returns what goes wrong in it."""

    async def again(smaller: Scenario) -> Failure | None:
        return await play(smaller, target, Statistics())

    small = await shrink(scenario, again, seconds=asked["shrinking"])
    failure = await again(small)
    small.save(Path(asked["failures"]))
    return str(failure or "fails only after the scenarios before it")


async def play(scenario: Scenario, target: FuzzTarget, statistics: Statistics) -> Failure | None:
    """Play one; returns what went wrong."""
    try:
        await Lockstep(target, statistics).play(scenario)
    except Mismatch as mismatch:
        return Failure.of(mismatch)
    except (SimTimeoutError, CycleLimit) as error:
        return Failure("no answer", f"{scenario.name}: no answer from the hardware ({error})")
    statistics.scenarios += 1
    return None
