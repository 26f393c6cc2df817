"""Evictions on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report, started
from models.spec.config import config
from tests.cosim.evictions import BASE, BYTES, Evictions


@cocotb.test()
async def evictions(dut) -> None:
    """Evict at every delay that the options name."""
    asked = options()
    machine = await started(dut, base=BASE, size=BYTES, latency=asked.pop("latency"), seed=1)
    scenario = Evictions(machine, config("tiny"), asked.pop("plant"))
    report(await scenario.run(**asked) | {"cycles": machine.now()})
