"""Runs one point of ``iovirt bench overcommit`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report, started
from cosim.benchmarks.overcommit_load import HOST_BASE, HOST_BYTES, Load, run_load
from models.spec.config import SystemConfig

__all__ = ["measure"]

#: Cycles of memory from accepted address to first data.
_LATENCY = 20


@cocotb.test()
async def measure(dut) -> None:
    """Run the load that the options hold, and report its figures."""
    load = Load(**options())
    where = {"base": HOST_BASE, "size": HOST_BYTES}
    machine = await started(dut, **where, latency=_LATENCY, seed=load.seed)
    system: SystemConfig = machine.bench.built.design.arguments[0]
    report(await run_load(machine, system, load))
