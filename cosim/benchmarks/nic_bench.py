"""Measures the NIC behind the IOMMU; runs inside of the simulator.

Every VF has a guest of its own, resident, behind a two-stage translation cached in the IOTLB.  A
frame and its header are in one descriptor.  Cycles per packet are over all functions, from the
second quarter of what arrives to the last.
"""

from random import Random

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import RAM_GPA, Vm
from cosim.scenarios.traffic import guest_mac
from models.spec.config import config
from models.spec.nic import Stat
from models.spec.virtio import NetHeader

__all__ = ["measure"]

_BASE, _BYTES = 0x8000_0000, 1 << 28
_HEADER = NetHeader.as_shape().size // 8
_WIRE_MAC = b"\x02\xff\xff\xff\xff\xff"
_STEP = 200


class _Guest:
    """A guest with frames to send, made before the clock counts."""

    def __init__(self, port, hypervisor: Hypervisor, function: int, asked: dict):
        self.port, self.hypervisor, self.function, self.asked = port, hypervisor, function, asked
        self.vm: Vm
        self.driver: VirtioNet

    async def boot(self) -> None:
        asked, memory = self.asked, 1 << 20
        self.vm = vm = self.hypervisor.new_vm(f"guest{self.function}", memory)
        self.hypervisor.pin(vm)
        bar = await self.hypervisor.assign(vm, self.function, guest_mac(self.function), count=False)
        self.allocator = Allocator(RAM_GPA, memory)
        self.driver = VirtioNet(
            self.port,
            bar,
            vm.memory,
            self.allocator,
            Random(1),
            queue_size=256,
            fragments=1,
            buffers=128,
            frame_bytes=1514,
        )
        await self.driver.start()
        size = asked["size"]
        frame = _WIRE_MAC + guest_mac(self.function) + bytes([8, 0]) + bytes(size - 14)
        self.gpa = self.allocator.allocate(_HEADER + size, align=64)
        vm.memory.write(self.gpa, bytes(_HEADER) + frame)

    def send(self) -> None:
        """Put all frames into the ring at once."""
        queue = self.driver.queue(1)
        for _ in range(self.asked["packets"]):
            queue.add([Piece(self.gpa, _HEADER + self.asked["size"])], (), 0)
        self.driver.kick()


@cocotb.test()
async def measure(dut) -> None:
    """Send, receive or both, as the options ask."""
    asked = options()
    system = config(asked["config"])
    bench = Bench(dut)
    bench.memory.map(_BASE, _BYTES)
    for manager in ("memory", "tables"):
        bench.timing(manager, latency=asked["latency"], jitter=0, seed=1)
    machine = Machine(bench)
    await bench.start()
    hypervisor = Hypervisor(machine, system, base=_BASE, size=_BYTES)
    await hypervisor.start()
    guests = [
        _Guest(machine, hypervisor, function, asked)
        for function in range(1, 1 + asked["functions"])
    ]
    for guest in guests:
        await guest.boot()
    sent, received = [], []
    machine.on_frame(lambda frame, cycle: sent.append(cycle))
    for guest in guests:
        guest.driver.on_receive = lambda frame: received.append(machine.now())
    count = asked["packets"] * len(guests)
    begin = machine.now()
    if "tx" in asked["way"]:
        for guest in guests:
            guest.send()
    if "rx" in asked["way"]:
        for number in range(count):
            mac = guest_mac(1 + number % len(guests))
            frame = mac + _WIRE_MAC + bytes([8, 0]) + bytes(asked["size"] - 14)
            machine.bench.send_frame(frame)
    still, before = 0, -1
    while still < 20:
        await machine.sleep(_STEP)
        now = len(sent) + len(received)
        still = still + 1 if now == before else 0
        before = now
    found: dict = {"begin": begin}
    for name, cycles in (("tx", sent), ("rx", received)):
        found[name] = len(cycles)
        if len(cycles) > 8:
            quarter = len(cycles) // 4
            span = cycles[-1] - cycles[quarter]
            found[f"{name}_cycles_per_packet"] = span / (len(cycles) - 1 - quarter)
    faults = {}
    for guest in guests:
        for queue in (0, 1):
            error = await hypervisor.queue_error(guest.function, queue)
            if error:
                faults[f"{guest.function}/{queue}"] = error.name
        dropped = await hypervisor.stat(guest.function, Stat.RX_DROPPED_FULL)
        found["rx_dropped"] = found.get("rx_dropped", 0) + dropped
        translations = await hypervisor.stat(guest.function, Stat.TRANSLATIONS)
        found["translations"] = found.get("translations", 0) + translations
    found["errors"] = faults
    report(found)
