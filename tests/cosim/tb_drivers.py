"""A scenario of ``drivers`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.drivers import SCENARIOS
from tests.cosim.rtl_platform import rtl_platform


@cocotb.test()
async def drivers(dut) -> None:
    """Run the one that the options name."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"])
    await SCENARIOS[asked["scenario"]](platform, **asked["arguments"])
    report({"cycles": platform.machine.now()})
