"""Measures interrupts of one function that receives; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report, started
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
    machine = await started(dut, base=_BASE, size=_BYTES, latency=_LATENCY, seed=1)
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES)
    await hypervisor.start()
    report(await receive(machine, hypervisor, **asked))
