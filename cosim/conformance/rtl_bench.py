"""Replays chosen scenarios on the RTL; runs inside of the simulator."""

import json
from pathlib import Path

import cocotb
from cocotb.triggers import SimTimeoutError

from cosim.bench.machine import options, report

from .replayer import replay
from .rows import Mismatch
from .rtl_target import RtlTarget
from .vectors import VectorFile

__all__ = ["chosen_scenarios"]


@cocotb.test()
async def chosen_scenarios(dut):
    """Say after each file how many scenarios passed, and the failures, as a line of JSON."""
    asked = options()
    target, count = RtlTarget(dut, pas=asked["pas"], jitter=asked["jitter"]), 0
    with open(asked["results"], "w", encoding="utf-8") as results:
        for path, numbers in asked["files"]:
            passed, failures = await _replay_file(target, VectorFile(Path(path)), set(numbers))
            assert passed + len(failures) == len(numbers)
            count += len(numbers)
            line = {"path": path, "passed": passed, "failures": failures}
            print(json.dumps(line), file=results, flush=True)
    report({"scenarios": count, "cycles": target.cycles})


async def _replay_file(target: RtlTarget, file: VectorFile, chosen: set[int]):
    passed, failures = 0, []
    for number, scenario in enumerate(file):
        if number not in chosen:
            continue
        try:
            await replay(scenario, target, file.header.parameters)
        except Mismatch as mismatch:
            failures.append(str(mismatch))
        except SimTimeoutError:
            failures.append(f"{scenario.name}: no answer from the hardware")
        else:
            passed += 1
    return passed, failures
