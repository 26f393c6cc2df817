"""Runs one point of ``iovirt bench overcommit`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.benchmarks.overcommit_load import HOST_BASE, HOST_BYTES, Load, run_load
from models.spec.config import SystemConfig

__all__ = ["measure"]

#: Cycles of memory from accepted address to first data.
_LATENCY = 20


@cocotb.test()
async def measure(dut) -> None:
    """Run the load that the options hold, and report its figures."""
    load = Load(**options())
    bench = Bench(dut)
    system: SystemConfig = bench.built.design.arguments[0]
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=_LATENCY - 1, jitter=0, seed=load.seed)
    machine = Machine(bench)
    await bench.start()
    report(await run_load(machine, system, load))
