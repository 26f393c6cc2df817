"""Measures interrupts of one function that receives; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.benchmarks.moderation import receive
from cosim.hypervisor.hypervisor import Hypervisor
from models.spec.config import config

__all__ = ["measure"]

_BASE, _BYTES = 0x8000_0000, 1 << 28
_LATENCY = 20


@cocotb.test()
async def measure(dut) -> None:
    """Receive frames at the pace and with the moderation that the options ask for."""
    asked = options()
    system = config(asked.pop("config"))
    bench = Bench(dut)
    bench.memory.map(_BASE, _BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=_LATENCY - 1, jitter=0, seed=1)
    machine = Machine(bench)
    await bench.start()
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES)
    await hypervisor.start()
    report(await receive(machine, hypervisor, **asked))
