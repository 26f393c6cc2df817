"""Measures interrupts of one function that receives; runs inside of the simulator.

Latency is from the cycle in which a frame is put on the wire to that in which the driver, woken by
the interrupt, takes it from its ring.  The driver's own work takes no time.
"""

import cocotb
import numpy as np

from cosim.bench.machine import Bench, Machine, options, report
from cosim.benchmarks.nic_guest import WIRE_MAC, BenchGuest
from cosim.hypervisor.hypervisor import Hypervisor
from models.spec.config import config
from models.spec.nic import MANAGEMENT, QueueCoalescing, Stat, function_block

__all__ = ["measure"]

_BASE, _BYTES = 0x8000_0000, 1 << 28
_FUNCTION, _FRAME_BYTES, _LATENCY = 1, 64, 20
#: Cycles after which whatever waits has been told of.
_QUIET = 30_000


@cocotb.test()
async def measure(dut) -> None:
    """Receive frames at the pace and with the moderation that the options ask for."""
    asked = options()
    bench = Bench(dut)
    bench.memory.map(_BASE, _BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=_LATENCY - 1, jitter=0, seed=1)
    machine = Machine(bench)
    await bench.start()
    hypervisor = Hypervisor(machine, config(asked["config"]), base=_BASE, size=_BYTES)
    await hypervisor.start()
    guest = BenchGuest(
        machine,
        hypervisor,
        _FUNCTION,
        functions=1,
        frame=_FRAME_BYTES,
        packed=False,
        iommu=True,
    )
    await guest.boot()
    setting = {"packets": asked["packets"], "cycles": asked["cycles"]}
    await machine.mmio_write(
        "nic",
        function_block(_FUNCTION) + MANAGEMENT["coalescing0"].offset,
        QueueCoalescing.const(setting).as_bits(),
    )
    await machine.sleep(2000)

    taken: list[int] = []
    offered: list[int] = []
    guest.driver.on_receive = lambda frame: taken.append(machine.now())
    before = await hypervisor.stat(_FUNCTION, Stat.INTERRUPTS)
    begin = machine.now()
    for number in range(asked["count"]):
        while machine.now() < begin + number * asked["gap"]:
            await machine.sleep(begin + number * asked["gap"] - machine.now())
        offered.append(machine.now())
        frame = guest.mac + WIRE_MAC + bytes([8, 0]) + number.to_bytes(4, "big")
        bench.send_frame(frame.ljust(_FRAME_BYTES, b"\0"))
    await machine.sleep(_QUIET)
    interrupts = await hypervisor.stat(_FUNCTION, Stat.INTERRUPTS) - before
    assert await hypervisor.stat(_FUNCTION, Stat.RX_DROPPED_FULL) == 0, "frames were dropped"
    assert len(taken) == len(offered), "frames were lost"
    latency = np.array(taken) - np.array(offered)
    report(
        {
            "packets": len(taken),
            "interrupts": interrupts,
            "interrupts_per_packet": interrupts / len(taken),
            "latency_p50": float(np.percentile(latency, 50)),
            "latency_p99": float(np.percentile(latency, 99)),
        }
    )
