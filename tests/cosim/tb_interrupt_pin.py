"""The workload of ``interrupt_pin`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import report, started
from cosim.hypervisor.hypervisor import Hypervisor
from models.spec.config import config
from tests.cosim.interrupt_pin import by_pin
from tests.cosim.platform import HOST_BASE, HOST_BYTES, Platform


@cocotb.test()
async def pin(dut) -> None:
    """Run it."""
    machine = await started(dut, base=HOST_BASE, size=HOST_BYTES, latency=20, seed=1)
    hypervisor = Hypervisor(machine, config("tiny"), base=HOST_BASE, size=HOST_BYTES)
    await hypervisor.start()
    report(await by_pin(Platform(machine, hypervisor, 1)))
