"""The platform of tests on the RTL; for use inside of the simulator."""

from cosim.bench.machine import Bench, Machine
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from tests.cosim.platform import HOST_BASE, HOST_BYTES, Platform

__all__ = ["rtl_platform"]


async def rtl_platform(dut, seed: int, costs: Costs | None = None) -> Platform:
    """Bring hardware and hypervisor up; memory answers after 20 to 30 cycles."""
    bench = Bench(dut)
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for number, manager in enumerate(("memory", "tables")):
        bench.timing(manager, latency=20, jitter=10, seed=number)
    machine, system = Machine(bench), bench.built.design.arguments[0]
    await bench.start()
    hypervisor = Hypervisor(machine, system, base=HOST_BASE, size=HOST_BYTES, costs=costs)
    await hypervisor.start()
    return Platform(machine, hypervisor, seed)
