"""One function whose DMA meets pages that are not there, beside others, on whatever machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.backup import BackupRings
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import RAM_GPA
from cosim.port import Port
from cosim.scenarios.traffic import guest_mac
from models.pagetable import KIB_4
from models.spec.nic import DROPS, MANAGEMENT, Stat, function_block
from models.spec.virtio import Feature, NetHeader

__all__ = ["BACKUP_ENTRIES", "POLICIES", "SERVICE_CYCLES", "Workload", "measure"]

#: What happens when a page is not there.
POLICIES = ("pin", "drop", "stall", "retry")
#: The workload (docs/figures.md).
SERVICE_CYCLES, BACKUP_ENTRIES = 10_000, 1024
FRAME_BYTES, LINE_SHARE, BUS_BYTES = 1500, 0.8, 16
_HEADER_BYTES = NetHeader.as_shape().size // 8
_BUFFERS = 128
_RAM_BYTES = 512 * KIB_4
_WIRE_MAC = b"\x02\xff\xff\xff\xff\xff"
#: Cycles between two looks; looks without anything new after which a run has ended.
_STEP, _PATIENCE = 200, 200


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one point measures.

    Parameters
    ----------
    policy : str
        ``pin``: all memory is resident, whatever ``rate``.  ``drop``: no backup rings; page
        requests for what is sent are answered "invalid", which costs the frame.  ``stall``: no
        queue's DMA begins while one waits.  ``retry``: a queue waits for itself, what comes for it
        goes through its backup ring.
    rate : float
        Share of frames whose buffer is evicted before use: faults per packet.
    direction : str
        ``tx``: every function sends as fast as it can.  ``rx``: the wire offers 80% of its rate to
        the functions in turn.
    functions : int
        The first faults, the others do not.
    packets : int
        Frames of the function that faults.
    """

    policy: str
    rate: float
    direction: str
    functions: int = 2
    packets: int = 4000
    seed: int = 1


class _Pages(Allocator):
    """A page for every buffer."""

    def scattered(self, size: int, rng: Random) -> int:
        return self.allocate(size, align=KIB_4)


def _frame(target: bytes, source: bytes, number: int) -> bytes:
    head = target + source + b"\x88\xb5" + number.to_bytes(4, "big")
    return head + Random(number).randbytes(8) * ((FRAME_BYTES - len(head)) // 8 + 1)


class _Driver(VirtioNet):
    """A driver whose receive buffers have now and then been evicted when the device comes."""

    evict: Callable[[int], None]

    def _post(self, pair: int, buffers: list[list[Piece]]) -> None:
        super()._post(pair, buffers)
        for pieces in buffers:
            self.evict(pieces[0].gpa)

    def buffers_at(self, pair: int) -> list[int]:
        """Return where the receive buffers of a pair are."""
        return [pieces[0].gpa for pieces in self._buffers_of(pair)]

    def taken_back(self) -> list[int]:
        """Buffers that have been sent, since the last call."""
        found = list(self._headers)
        self._headers.clear()
        return found


@dataclass
class _Guest:
    """A guest, what it has sent and received, and when."""

    port: Port
    hypervisor: Hypervisor
    function: int
    work: Workload
    rng: Random
    sends: int = 0
    posted: list[int] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    latency: list[int] = field(default_factory=list)
    differ: int = 0
    evicting: bool = False

    @property
    def mac(self) -> bytes:
        return guest_mac(self.function)

    async def boot(self) -> None:
        self.vm = vm = self.hypervisor.new_vm(f"guest{self.function}", _RAM_BYTES)
        self.hypervisor.pin(vm)
        bus = await self.hypervisor.assign(vm, self.function, self.mac, count=False)
        allocator = _Pages(RAM_GPA + KIB_4, _RAM_BYTES - KIB_4)
        self.driver = driver = _Driver(
            self.port,
            bus,
            vm.memory,
            allocator,
            self.rng,
            features=KNOWN_FEATURES & ~(1 << Feature.RING_PACKED),
            queue_size=256,
            fragments=1,
            buffers=_BUFFERS,
            frame_bytes=FRAME_BYTES,
        )
        driver.evict = self.evict
        await driver.start()
        driver.on_receive = self._received
        self.free = [allocator.scattered(FRAME_BYTES, self.rng) for _ in range(_BUFFERS)]

    def evict(self, gpa: int) -> None:
        """Take the page away that the device is about to use, at the rate that is asked for."""
        work = self.work
        if not self.evicting or work.policy == "pin" or self.rng.random() >= work.rate:
            return
        if self.vm.pages.resident(gpa):
            self.port.spawn(self.hypervisor.evict(self.vm, gpa), "eviction")

    def _received(self, frame: bytes) -> None:
        number = int.from_bytes(frame[14:18], "big")
        self.differ += frame != _frame(self.mac, _WIRE_MAC, number)[:FRAME_BYTES]
        self._note(self.offered[number])

    def on_wire(self, frame: bytes) -> None:
        number = int.from_bytes(frame[14:18], "big")
        self.differ += frame != _frame(_WIRE_MAC, self.mac, number)[:FRAME_BYTES]
        self._note(self.posted[number])

    def _note(self, since: int) -> None:
        self.arrived.append(self.port.now())
        self.latency.append(self.port.now() - since)

    def refill(self, most: int) -> None:
        """Have the ring full of frames to send, up to ``most`` in all."""
        queue, before = self.driver.queue(1), self.sends
        self.free += self.driver.taken_back()
        while self.free and self.sends < most and queue.fits(1):
            gpa = self.free.pop(0)
            frame = _frame(_WIRE_MAC, self.mac, self.sends)[:FRAME_BYTES]
            self.vm.memory.write(gpa, bytes(_HEADER_BYTES) + frame)
            queue.add([Piece(gpa, _HEADER_BYTES + FRAME_BYTES)], (), gpa)
            self.posted.append(self.port.now())
            self.sends += 1
            self.evict(gpa)
        if self.sends != before:
            self.driver.kick()


async def _boot(port: Port, hypervisor: Hypervisor, work: Workload) -> list[_Guest]:
    guests = [
        _Guest(port, hypervisor, function, work, Random(f"{work.seed}/{function}"))
        for function in range(1, 1 + work.functions)
    ]
    for guest in guests:
        await guest.boot()
    if work.policy == "retry":
        rings = BackupRings(hypervisor, BACKUP_ENTRIES)
        await rings.start()
        for guest in guests:
            await rings.enable(guest.function)
    stalls = function_block(0) + MANAGEMENT["fault_stall"].offset
    await port.mmio_write("nic", stalls, work.policy == "stall")
    hypervisor.refuses = work.policy == "drop" and work.direction == "tx"
    by_mac = {guest.mac: guest for guest in guests}
    port.on_frame(lambda frame, cycle: by_mac[frame[6:12]].on_wire(frame))
    first = guests[0]
    first.evicting = True
    for gpa in first.driver.buffers_at(0):
        first.evict(gpa)
    await port.sleep(10_000)
    return guests


async def _offer(port: Port, guests: list[_Guest], count: int) -> None:
    """Put frames on the wire at 80% of its rate, to the functions in turn."""
    gap = FRAME_BYTES / BUS_BYTES / LINE_SHARE
    begin = port.now()
    for number in range(count * len(guests)):
        guest = guests[number % len(guests)]
        if (ahead := begin + int(number * gap) - port.now()) > 0:
            await port.sleep(ahead)
        frame = _frame(guest.mac, _WIRE_MAC, len(guest.offered))[:FRAME_BYTES]
        guest.offered.append(port.now())
        await port.send_frame(frame)


async def _drain(port: Port, guests: list[_Guest], most: int) -> None:
    """Run until the first guest's frames are there and nothing more arrives."""
    still, before = 0, -1
    while still < _PATIENCE:
        await port.sleep(_STEP)
        now = sum(len(guest.arrived) for guest in guests)
        still, before = (still + 1 if now == before else 0), now
        if guests[0].work.direction == "tx":
            # The others send until the first has done.
            first = guests[0]
            done = first.sends >= most and len(first.free) == _BUFFERS
            for guest in guests[:1] if done else guests:
                guest.refill(most if guest is guests[0] else 1 << 30)


async def _dropped(hypervisor: Hypervisor, guests: list[_Guest]) -> dict[str, int]:
    """Frames that were dropped and counted; of the port's own the PF's counter."""
    functions = (0, *(guest.function for guest in guests))
    each = {f: sum([await hypervisor.stat(f, stat) for stat in DROPS]) for f in functions}
    return {"all": sum(each.values()), "first": each[guests[0].function] + each[0]}


async def measure(port: Port, hypervisor: Hypervisor, work: Workload) -> dict[str, Any]:
    """Measure a point; cycles, latencies in cycles, bytes per cycle.

    Latency is from the cycle in which a frame is put on the wire, or posted, to that in which the
    driver takes it, or it is on the wire.
    """
    guests = await _boot(port, hypervisor, work)
    first, others = guests[0], guests[1:]
    begin = port.now()
    if work.direction == "rx":
        await _offer(port, guests, work.packets)
    await _drain(port, guests, work.packets)
    dropped = await _dropped(hypervisor, guests)
    sent = sum(len(guest.offered) + len(guest.posted) for guest in guests)
    arrived = sum(len(guest.arrived) for guest in guests)
    first_share = len(first.arrived) * FRAME_BYTES / (first.arrived[-1] - begin)
    faults = await hypervisor.stat(first.function, Stat.PAGE_REQUESTS)
    beside = [cycles for guest in others for cycles in guest.latency]
    return {
        "goodput": first_share,
        "p50": float(np.percentile(first.latency, 50)),
        "p99": float(np.percentile(first.latency, 99)),
        "others_p99": float(np.percentile(beside, 99)),
        "lost": sent - arrived - dropped["all"],
        "dropped_counted": dropped["all"],
        "mismatches": sum(guest.differ for guest in guests),
        "faults": faults,
        "backed_up": await hypervisor.stat(first.function, Stat.RX_BACKUP),
        "cycles": port.now() - begin,
    }
