"""Measures DMA page faults; runs inside of the simulator."""

import cocotb
import numpy as np

from cosim.bench.machine import options, report, started
from cosim.benchmarks.fault_times import PARTS, STREAMS, split
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
    latency, seed = asked.pop("latency"), asked["seed"]
    machine = await started(dut, base=_BASE, size=_BYTES, latency=latency, seed=seed)
    system: SystemConfig = machine.bench.built.design.arguments[0]
    costs = Costs(service_cycles=SERVICE_CYCLES)
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES, costs=costs)
    await hypervisor.start()
    for name in STREAMS:
        machine.bench.stream(name).log()
    measured = await measure(machine, hypervisor, Workload(**asked))
    log = {name: machine.bench.take_fields(name) for name in STREAMS}
    services = [s for a in hypervisor.assignments.values() for s in a.services]
    times = split(log, services)
    for part in (*PARTS, "total"):
        values = [getattr(one, part) for one in times]
        measured[part] = float(np.mean(values)) if values else 0.0
    report(measured)
