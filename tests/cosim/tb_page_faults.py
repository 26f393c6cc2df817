"""Page faults that go wrong, on the RTL; runs inside of the simulator."""

import cocotb

from cosim.bench.machine import options, report, started
from models.spec.config import config
from tests.cosim.page_faults import BASE, BYTES, overflow


@cocotb.test()
async def overflows(dut) -> None:
    """Let the queue of page requests overflow."""
    machine = await started(dut, base=BASE, size=BYTES, latency=20, seed=1)
    report(await overflow(machine, config("tiny"), **options()))
