"""A scenario of ``drivers`` or ``policies`` on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.drivers import SCENARIOS
from tests.cosim.policies import POLICIES
from tests.cosim.rtl_platform import rtl_platform


@cocotb.test()
async def drivers(dut) -> None:
    """Run the one that the options name."""
    asked = options()
    platform = await rtl_platform(dut, asked["seed"])
    known = SCENARIOS | {name: scenario for name, (scenario, _) in POLICIES.items()}
    await known[asked["scenario"]](platform, **asked["arguments"])
    report({"cycles": platform.machine.now()})
