"""The workload of ``closing`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.closing import COSTS, closing
from tests.cosim.rtl_platform import rtl_platform


@cocotb.test()
async def closes(dut) -> None:
    """Run it."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"], COSTS)
    report(await closing(platform, asked["features"]))
