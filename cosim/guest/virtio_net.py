"""A virtio-net driver: guest memory, a PCI bus, doorbells and interrupts, no more."""

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random
from typing import Protocol

from cosim.guest.memory import Allocator, DeviceSpace
from cosim.guest.virtio_pci import GuestBus, VirtioPci
from cosim.guest.virtqueue import BrokenDevice, Piece, Virtqueue
from cosim.port import Event, Task
from models.memory import ByteMemory
from models.spec.pci_capabilities import VirtioStructure
from models.spec.virtio import (
    MSI_NO_VECTOR,
    DeviceStatus,
    Feature,
    NetConfig,
    NetHeader,
    common,
)

__all__ = ["Processor", "QueueStopped", "VirtioNet"]

_HEADER_BYTES = NetHeader.as_shape().size // 8
_FEATURES = sum(
    1 << feature
    for feature in (
        Feature.VERSION_1,
        Feature.ACCESS_PLATFORM,
        Feature.ORDER_PLATFORM,
        Feature.NET_MAC,
        Feature.NET_MTU,
        Feature.NET_STATUS,
        Feature.RING_RESET,
    )
)
_NEEDED = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
_RECEIVE, _TRANSMIT = 0, 1


class Processor(Protocol):
    """What the driver needs of the machine that it runs on."""

    def sleep(self, cycles: int) -> Awaitable[None]:
        """Let cycles pass."""
        ...

    def spawn(self, coroutine, name: str = "") -> Task:
        """Start a task."""
        ...

    def event(self) -> Event:
        """Make an event."""
        ...


class QueueStopped(RuntimeError):
    """The driver was shut down while something waited."""


class VirtioNet:
    """Drives one function.

    Parameters
    ----------
    cpu : Processor
    bus : GuestBus
        Where it looks for its device.
    memory : ByteMemory
        The guest's, by GPA.
    allocator : Allocator
        Where rings and buffers come from.
    rng : Random
        Draws fragments and alignments.
    space : DeviceSpace or None
        How the device addresses guest memory; ``None``: by GPA.
    message_address : int or None
        The interrupt file as the device addresses it; ``None``: what the platform says.
    queue_size : int
        Entries of each queue, cut to what the device has.
    fragments : int
        Most pieces that a frame or buffer is cut into.
    buffers : int
        Receive buffers posted.
    frame_bytes : int
        Longest frame that a receive buffer holds, without the header.
    pay : callable or None
        Awaited in the driver's loops, so that the processor's time passes.
    """

    def __init__(
        self,
        cpu: Processor,
        bus: GuestBus,
        memory: ByteMemory,
        allocator: Allocator,
        rng: Random,
        *,
        space: DeviceSpace | None = None,
        message_address: int | None = None,
        queue_size: int = 64,
        fragments: int = 4,
        buffers: int = 16,
        frame_bytes: int = 2048,
        pay: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if fragments < 1 or fragments > queue_size:
            raise ValueError(f"{fragments} fragments do not fit a queue of {queue_size}")
        self._cpu, self._bus, self._memory, self._allocator = cpu, bus, memory, allocator
        self._rng, self._space = rng, space or DeviceSpace()
        self._message_address = message_address
        self._queue_size, self._fragments, self._buffers = queue_size, fragments, buffers
        self._frame_bytes, self._pay = frame_bytes, pay
        self._device: VirtioPci
        self._notify_off = [0, 0]
        self._queues: list[Virtqueue] = []
        self._events = [cpu.event(), cpu.event()]
        self._sent = cpu.event()
        self._tasks: list[Task] = []
        self._made: list[list[Piece]] = []
        self._pool: list[list[Piece]] = []
        self._headers: deque[int] = deque()
        self.on_receive: Callable[[bytes], None] | None = None
        self.mac = bytes(6)
        self.mtu = 0
        self.running = False
        self.sent = self.received = 0

    # Set-up (virtio 1.3, 3.1.1 and 4.1.5) ---------------------------------------------------------

    def _load(self, name: str) -> Awaitable[int]:
        register = common(name)
        return self._device.load(VirtioStructure.COMMON, register.offset, register.bytes)

    async def _store(self, name: str, value: int) -> None:
        """Store a register; 64-bit ones in two halves (4.1.3.1)."""
        register, kind = common(name), VirtioStructure.COMMON
        if register.bytes < 8:
            await self._device.store(kind, register.offset, register.bytes, value)
            return
        await self._device.store(kind, register.offset, 4, value & 0xFFFF_FFFF)
        await self._device.store(kind, register.offset + 4, 4, value >> 32)

    async def _add_status(self, bit: DeviceStatus) -> None:
        await self._store("device_status", await self._load("device_status") | bit)

    async def _reset(self) -> None:
        await self._store("device_status", 0)
        while await self._load("device_status"):
            await self._cpu.sleep(50)

    async def start(self) -> None:
        """Find the device, bring it up from any state, and post receive buffers."""
        self._device = await VirtioPci.find(self._bus)
        await self._reset()
        await self._add_status(DeviceStatus.ACKNOWLEDGE)
        await self._add_status(DeviceStatus.DRIVER)
        await self._negotiate()
        await self._set_up_vectors()
        for number in (_RECEIVE, _TRANSMIT):
            await self._set_up_queue(number)
        await self._read_config()
        await self._add_status(DeviceStatus.DRIVER_OK)
        self.running = True
        self._tasks = [
            self._cpu.spawn(self._receiver(), "receiver"),
            self._cpu.spawn(self._cleaner(), "transmit cleaner"),
        ]
        self._make_buffers()
        self._post()

    async def _negotiate(self) -> None:
        offered = 0
        for half in (0, 1):
            await self._store("device_feature_select", half)
            offered |= await self._load("device_feature") << 32 * half
        if offered & _NEEDED != _NEEDED:
            raise BrokenDevice(f"Features {offered:#x} lack what this driver needs")
        accepted = offered & _FEATURES
        for half in (0, 1):
            await self._store("driver_feature_select", half)
            await self._store("driver_feature", accepted >> 32 * half & 0xFFFF_FFFF)
        await self._add_status(DeviceStatus.FEATURES_OK)
        if not await self._load("device_status") & DeviceStatus.FEATURES_OK:
            await self._add_status(DeviceStatus.FAILED)
            raise BrokenDevice(f"The device refuses features {accepted:#x}")

    async def _set_up_vectors(self) -> None:
        more = {} if self._message_address is None else {"address": self._message_address}
        for number in (_RECEIVE, _TRANSMIT):
            await self._device.set_vector(number, self._events[number].set, **more)
        await self._store("config_msix_vector", MSI_NO_VECTOR)

    async def _set_up_queue(self, number: int) -> None:
        await self._store("queue_select", number)
        largest = await self._load("queue_size")
        if not largest:
            raise BrokenDevice(f"There is no queue {number}")
        size = min(self._queue_size, largest)
        if len(self._queues) <= number:
            self._queues.append(
                Virtqueue(self._memory, self._allocator, self._space, number=number, size=size)
            )
        queue = self._queues[number]
        queue.clear()
        await self._store("queue_size", queue.size)
        names = ("queue_desc", "queue_driver", "queue_device")
        for name, address in zip(names, queue.addresses, strict=True):
            await self._store(name, address)
        self._notify_off[number] = await self._load("queue_notify_off")
        await self._store("queue_msix_vector", number)
        if await self._load("queue_msix_vector") != number:
            raise BrokenDevice(f"The device has no room for vector {number}")
        await self._store("queue_enable", 1)

    async def _read_config(self) -> None:
        """Read the device configuration, again if it changed meanwhile (2.5.1)."""
        while True:
            before = await self._load("config_generation")
            words = [await self._device.load(VirtioStructure.DEVICE, 4 * n, 4) for n in range(3)]
            if await self._load("config_generation") == before:
                break
        raw = sum(word << 32 * n for n, word in enumerate(words))
        config = NetConfig.from_bits(raw & (1 << NetConfig.as_shape().size) - 1)
        self.mac, self.mtu = config.mac.to_bytes(6, "little"), config.mtu

    async def stop(self) -> None:
        """Reset the device; buffers are the driver's again, frames under way are lost."""
        self.running = False
        await self._reset()
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        for queue in self._queues:
            queue.clear()
        self._headers.clear()
        self._sent.set()

    # Receiving -----------------------------------------------------------------------------------

    def _cut(self, gpa: int, length: int, most: int) -> list[Piece]:
        """Cut a buffer at random points."""
        points = sorted(self._rng.sample(range(1, length), self._rng.randint(1, most) - 1))
        bounds = [0, *points, length]
        return [Piece(gpa + low, high - low) for low, high in pairwise(bounds)]

    def _make_buffers(self) -> None:
        """Have all receive buffers at hand, making them the first time."""
        if not self._made:
            length = _HEADER_BYTES + self._frame_bytes
            count = max(1, min(self._buffers, self._queues[_RECEIVE].size // self._fragments))
            self._made = [
                self._cut(self._allocator.scattered(length, self._rng), length, self._fragments)
                for _ in range(count)
            ]
        self._pool = list(self._made)

    def _post(self) -> None:
        """Post every receive buffer at hand."""
        queue = self._queues[_RECEIVE]
        if not self._pool:
            return
        while self._pool:
            pieces = self._pool.pop()
            queue.add(pieces, pieces, writable=True)
        self._notify(_RECEIVE)

    def _notify(self, number: int) -> None:
        if self._queues[number].wants_notify:
            self._device.notify(self._notify_off[number], number)

    async def _pay_up(self) -> None:
        if self._pay is not None:
            await self._pay()

    async def _receiver(self) -> None:
        """Take received frames, in order, whenever the queue's interrupt has come."""
        event, queue = self._events[_RECEIVE], self._queues[_RECEIVE]
        while True:
            await event.wait()
            event.clear()
            while (found := queue.take()) is not None:
                pieces, length = found
                assert isinstance(pieces, list)
                content = b"".join(self._memory.read(p.gpa, p.length) for p in pieces)
                if not _HEADER_BYTES < length <= len(content):
                    raise BrokenDevice(f"{length} bytes received into {len(content)}")
                header = NetHeader.from_bits(int.from_bytes(content[:_HEADER_BYTES], "little"))
                if header.num_buffers != 1 or header.flags or header.gso_type:
                    raise BrokenDevice(f"Header {content[:_HEADER_BYTES].hex()} is not plain")
                self._pool.append(pieces)
                self.received += 1
                if self.on_receive is not None:
                    self.on_receive(content[_HEADER_BYTES:length])
            self._post()
            await self._pay_up()

    # Sending -------------------------------------------------------------------------------------

    async def send(self, frame: bytes) -> None:
        """Copy a frame into guest memory and send it; waits while the ring has no room."""
        gpa = self._allocator.scattered(len(frame), self._rng)
        self._memory.write(gpa, frame)
        await self.send_from(gpa, len(frame))

    async def send_from(self, gpa: int, length: int) -> None:
        """Send what lies in guest memory; it must stay until it is sent.  Nothing is touched."""
        queue = self._queues[_TRANSMIT]
        pieces = self._cut(gpa, length, self._fragments)
        while queue.room < len(pieces) + 1:
            self._sent.clear()
            await self._sent.wait()
            if not self.running:
                raise QueueStopped("The driver was stopped")
        header = self._header()
        queue.add([Piece(header, _HEADER_BYTES), *pieces], header, writable=False)
        self.sent += 1
        self._notify(_TRANSMIT)
        await self._pay_up()

    def _header(self) -> int:
        """Return a header of zeros: nothing is offloaded."""
        if not self._headers:
            gpa = self._allocator.scattered(_HEADER_BYTES, self._rng)
            self._memory.write(gpa, bytes(_HEADER_BYTES))
            return gpa
        return self._headers.popleft()

    async def _cleaner(self) -> None:
        """Take sent frames back whenever the queue's interrupt has come."""
        event, queue = self._events[_TRANSMIT], self._queues[_TRANSMIT]
        while True:
            await event.wait()
            event.clear()
            while (found := queue.take()) is not None:
                header = found[0]
                assert isinstance(header, int)
                self._headers.append(header)
            self._sent.set()
            await self._pay_up()

    async def drained(self) -> None:
        """Return when every frame that was sent has been taken by the device."""
        while self._queues[_TRANSMIT].outstanding:
            self._sent.clear()
            await self._sent.wait()

    @property
    def transmit_queue(self) -> Virtqueue:
        """The transmit queue, for those who mean harm."""
        return self._queues[_TRANSMIT]

    def kick(self) -> None:
        """Notify the transmit queue."""
        self._notify(_TRANSMIT)
