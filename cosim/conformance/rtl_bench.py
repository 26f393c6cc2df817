"""Replays chosen scenarios of one file on the RTL; runs inside of the simulator."""

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
    """Report how many passed, and the failures."""
    asked = options()
    file = VectorFile(Path(asked["path"]))
    target = RtlTarget(dut, pas=asked["pas"], jitter=asked["jitter"])
    chosen, passed, failures = set(asked["scenarios"]), 0, []
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
    assert passed + len(failures) == len(chosen)
    report({"passed": passed, "failures": failures})
