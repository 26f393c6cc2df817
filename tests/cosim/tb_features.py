"""The workload of ``features_world`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from tests.cosim.features_world import receiving_system, traffic
from tests.cosim.platform import HOST_BASE, HOST_BYTES, Platform


@cocotb.test()
async def features(dut) -> None:
    """Run it with each set of features that the options name."""
    asked = options()
    bench = Bench(dut)
    bench.memory.map(HOST_BASE, HOST_BYTES)
    for number, manager in enumerate(("memory", "tables")):
        bench.timing(manager, latency=20, jitter=10, seed=number)
    machine = Machine(bench)
    await bench.start()
    hypervisor = Hypervisor(
        machine, receiving_system(), base=HOST_BASE, size=HOST_BYTES, costs=Costs()
    )
    await hypervisor.start()
    platform = Platform(machine, hypervisor, asked["seed"])
    report(await traffic(platform, asked["features"], **asked["driver"]))
