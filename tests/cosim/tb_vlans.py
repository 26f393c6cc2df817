"""Functions in VLANs on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from tests.cosim.platform import HOST_BASE, HOST_BYTES, Platform
from tests.cosim.vlan_world import vlans


@cocotb.test()
async def exchange(dut) -> None:
    """Go through all phases."""
    asked, bench = options(), Bench(dut)
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for number, manager in enumerate(("memory", "tables")):
        bench.timing(manager, latency=20, jitter=10, seed=number)
    machine, config = Machine(bench), bench.built.design.arguments[0]
    await bench.start()
    hypervisor = Hypervisor(machine, config, base=HOST_BASE, size=HOST_BYTES, costs=Costs())
    await hypervisor.start()
    platform = Platform(machine, hypervisor, asked["seed"])
    report({"phases": await vlans(platform, **asked["driver"])})
