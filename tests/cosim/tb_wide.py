"""Scenarios of ``wide`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.rtl_platform import rtl_platform
from tests.cosim.wide import SCENARIOS


@cocotb.test()
async def functions(dut) -> None:
    """Run the one that the options name."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"])
    found = await SCENARIOS[asked["scenario"]](platform)
    report(found | {"cycles": platform.machine.now()})
