"""The workload of ``features_world`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.features_world import traffic
from tests.cosim.rtl_platform import rtl_platform


@cocotb.test()
async def features(dut) -> None:
    """Run it with each set of features that the options name."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"])
    report(await traffic(platform, asked["features"], **asked["driver"]))
