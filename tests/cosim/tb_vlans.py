"""Functions in VLANs on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.rtl_platform import rtl_platform
from tests.cosim.vlan_world import vlans


@cocotb.test()
async def exchange(dut) -> None:
    """Go through all phases."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"])
    report({"phases": await vlans(platform, **asked["driver"])})
