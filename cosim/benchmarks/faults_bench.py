"""Measures DMA page faults; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.benchmarks.faulting import SERVICE_CYCLES, Workload, measure
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from models.spec.config import SystemConfig

__all__ = ["point"]

_BASE, _BYTES = 0x8000_0000, 1 << 28


@cocotb.test()
async def point(dut) -> None:
    """Measure the point that the options ask for."""
    asked = options()
    latency = asked.pop("latency")
    bench = Bench(dut)
    system: SystemConfig = bench.built.design.arguments[0]
    bench.memory.map(_BASE, _BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=latency - 1, jitter=0, seed=asked["seed"])
    machine = Machine(bench)
    await bench.start()
    costs = Costs(service_cycles=SERVICE_CYCLES)
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES, costs=costs)
    await hypervisor.start()
    report(await measure(machine, hypervisor, Workload(**asked)))
