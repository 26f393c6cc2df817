"""A capture between two guests on the RTL; runs inside of the simulator."""

from pathlib import Path

import cocotb

from cosim.bench.machine import options, report
from tests.cosim.captures_world import exchange
from tests.cosim.rtl_platform import rtl_platform


@cocotb.test()
async def capture(dut) -> None:
    """Replay what the options name."""
    asked = options()
    platform = await rtl_platform(dut, 1)
    rings, offload, mergeable = asked["combination"]
    combination = tuple(rings), offload, mergeable
    report(await exchange(platform, Path(asked["path"]), combination, asked["limit"]))
