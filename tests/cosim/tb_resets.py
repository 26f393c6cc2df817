"""Resets of functions on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from models.spec.config import config
from tests.cosim.resets import Resets

_BASE, _BYTES = 0x8000_0000, 1 << 26


@cocotb.test()
async def resets(dut) -> None:
    """Reset at every delay that the options name."""
    asked = options()
    system = config(asked["config"])
    bench = Bench(dut)
    bench.memory.map(_BASE, _BYTES)
    for number, manager in enumerate(("memory", "tables")):
        bench.timing(manager, latency=asked["latency"], jitter=asked["jitter"], seed=number)
    machine = Machine(bench)
    await bench.start()
    costs = Costs(service_cycles=asked["service_cycles"])
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES, costs=costs)
    scenario = Resets(machine, hypervisor, system.nic.frame_bytes)
    if asked["silent"]:
        found = await scenario.silent(asked["delays"], asked["silent"])
    else:
        found = await scenario.run(asked["delays"], evict=asked["evict"])
    report(found | {"cycles": bench.usage().cycles})
