"""A function that receives at a pace, its interrupts moderated, on whatever machine."""

from typing import Any

import numpy as np

from cosim.benchmarks.nic_guest import WIRE_MAC, BenchGuest
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.mailbox import SERVED
from cosim.port import Port
from models.spec.nic import MANAGEMENT, QueueCoalescing, Stat, function_block

__all__ = ["receive"]

_FUNCTION, _FRAME_BYTES = 1, 64
#: Where a frame has its number.
_NUMBER = 14
#: Cycles after which whatever waits has been told of.
_QUIET = 30_000


async def receive(
    port: Port, hypervisor: Hypervisor, *, packets: int, cycles: int, gap: int, count: int
) -> dict[str, Any]:
    """Receive ``count`` frames, one every ``gap`` cycles; returns interrupts and latencies.

    ``packets`` and ``cycles`` are those of QueueCoalescing.  Latency is from the cycle in which a
    frame is put on the wire to that in which the driver, woken by the interrupt, takes it from its
    ring.  The driver's own work takes no time.
    """
    guest = BenchGuest(
        port, hypervisor, _FUNCTION, functions=1, frame=_FRAME_BYTES, packed=False, iommu=True
    )
    await guest.boot()
    setting = QueueCoalescing.const({"packets": packets, "cycles": cycles}).as_bits()
    register = function_block(_FUNCTION) + MANAGEMENT["coalescing0"].offset
    await port.sleep(SERVED)
    await port.mmio_write("nic", register, setting)
    await port.sleep(2000)
    assert await port.mmio_read("nic", register) == setting, "somebody else has set it"

    latency: list[int] = []
    offered: list[int] = []

    def take(frame: bytes) -> None:
        number = int.from_bytes(frame[_NUMBER : _NUMBER + 4], "big")
        latency.append(port.now() - offered[number])

    guest.driver.on_receive = take
    before = await hypervisor.stat(_FUNCTION, Stat.INTERRUPTS)
    begin = port.now()
    for number in range(count):
        if (ahead := begin + number * gap - port.now()) > 0:
            await port.sleep(ahead)
        offered.append(port.now())
        frame = guest.mac + WIRE_MAC + bytes([8, 0]) + number.to_bytes(4, "big")
        await port.send_frame(frame.ljust(_FRAME_BYTES, b"\0"))
    await port.sleep(_QUIET)
    interrupts = await hypervisor.stat(_FUNCTION, Stat.INTERRUPTS) - before
    dropped = await hypervisor.stat(_FUNCTION, Stat.RX_DROPPED_FULL)
    assert len(latency) + dropped == count, "frames were lost"
    return {
        "packets": len(latency),
        "dropped": dropped,
        "interrupts": interrupts,
        "interrupts_per_packet": interrupts / len(latency),
        "latency_p50": float(np.percentile(latency, 50)),
        "latency_p99": float(np.percentile(latency, 99)),
    }
