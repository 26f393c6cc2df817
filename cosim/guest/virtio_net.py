"""A virtio-net driver: guest memory, a PCI bus, doorbells and interrupts, no more."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from random import Random

from cosim.guest.control import ControlClient
from cosim.guest.features import KNOWN_FEATURES, NEEDED_FEATURES, consistent
from cosim.guest.memory import Allocator, DeviceSpace
from cosim.guest.queue_format import queue_format
from cosim.guest.receiving import Packet, assemble
from cosim.guest.stack import Outgoing, large, partial, plain
from cosim.guest.transport import Processor, Transport
from cosim.guest.virtio_pci import GuestBus
from cosim.guest.virtqueue import Piece, Virtqueue
from cosim.port import Event, Task
from models.memory import ByteMemory
from models.spec.nic import Isr
from models.spec.virtio import (
    MSI_NO_VECTOR,
    DeviceStatus,
    Feature,
    NetHeader,
    NetStatus,
)
from models.spec.virtio_net import control_queue

__all__ = ["Processor", "QueueStopped", "VirtioNet"]

_HEADER_BYTES = NetHeader.as_shape().size // 8


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
    features : int
        Features that the driver accepts if they are offered.
    queue_size : int
        Entries of each queue, cut to what the device has.
    pairs : int
        Queue pairs used, cut to what the device has.
    fragments : int
        Most pieces that a frame or buffer is cut into.
    buffers : int
        Receive buffers posted per queue.
    frame_bytes : int
        Longest frame that a receive buffer holds, without the header.
    merge_bytes : int
        Bytes of a mergeable receive buffer.
    messages : bool
        Interrupts are messages; else they come by the pin.
    vectors : int or None
        Most that queues have; where there are fewer than queues, they share them.
    pay : callable or None
        Awaited in the driver's loops, so that the processor's time passes.
    prepare : callable or None
        Awaited with addresses and bytes before they are written: a processor's store waits for a
        page, these cannot.
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
        messages: bool = True,
        vectors: int | None = None,
        features: int = KNOWN_FEATURES,
        queue_size: int = 64,
        pairs: int = 1,
        fragments: int = 4,
        buffers: int = 16,
        frame_bytes: int = 2048,
        merge_bytes: int = 512,
        pay: Callable[[], Awaitable[None]] | None = None,
        prepare: Callable[[Iterable[tuple[int, int]]], Awaitable[None]] | None = None,
    ) -> None:
        if fragments < 1 or fragments > queue_size:
            raise ValueError(f"{fragments} fragments do not fit a queue of {queue_size}")
        self._cpu, self._memory, self._allocator = cpu, memory, allocator
        self.transport = Transport(cpu, bus, message_address, messages=messages)
        self._rng, self._space = rng, space or DeviceSpace()
        self._known, self._wanted_pairs = consistent(features), pairs
        self._most_vectors = vectors
        self._queue_size, self._fragments, self._buffers = queue_size, fragments, buffers
        self._frame_bytes, self._merge_bytes = frame_bytes, merge_bytes
        self._pay, self._prepare = pay, prepare
        self._queues: dict[int, Virtqueue] = {}
        self._events: dict[int, Event] = {}
        self._made: dict[int, list[list[Piece]]] = {}
        self._sent = cpu.event()
        self._tasks: list[Task] = []
        self._headers: deque[int] = deque()
        self.on_receive: Callable[[bytes], None] | None = None
        #: Called with frame, header and queue pair.
        self.on_packet: Callable[[bytes, object, int], None] | None = None
        self.mac = bytes(6)
        self.mtu = 1500
        self.link_up = True
        self.pairs = 1
        self.features = 0
        self.running = False
        self.sent = self.received = self.validated = 0

    def accepted(self, feature: Feature) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.features >> feature & 1)

    # Set-up (virtio 1.3, 3.1.1 and 5.1.5) ---------------------------------------------------------

    async def start(self) -> None:
        """Find the device, bring it up from any state, and post receive buffers."""
        transport = self.transport
        await transport.find()
        self.features = await transport.begin(self._known, NEEDED_FEATURES)
        await self._read_config()
        numbers = list(range(2 * self.pairs))
        if self.accepted(Feature.NET_CTRL_VQ):
            numbers.append(control_queue(self._most_pairs))
        await self._set_up_vectors(numbers)
        for number in numbers:
            await self._set_up_queue(number, vector=self._vector(numbers.index(number)))
        await transport.add_status(DeviceStatus.DRIVER_OK)
        self.running = True
        self._tasks.append(self._cpu.spawn(self._watch_config(), "configuration"))
        for pair in range(self.pairs):
            self._tasks += [
                self._cpu.spawn(self._receiver(pair), f"receiver {pair}"),
                self._cpu.spawn(self._cleaner(pair), f"transmit cleaner {pair}"),
            ]
            await self._ready(*self._queues[2 * pair].areas)
            self._post(pair, self._buffers_of(pair))
        self.control = None
        if self.accepted(Feature.NET_CTRL_VQ):
            await self._set_up_control(numbers[-1])

    async def _set_up_control(self, number: int) -> None:
        queue, event = self._queues[number], self._events[number]
        client = ControlClient(self._memory, self._allocator, self.transport, queue, event)
        self.control = client
        if self.pairs > 1:
            if self.accepted(Feature.NET_MQ):
                await client.set_pairs(self.pairs)
            else:
                await client.set_rss_evenly(self.pairs, self._rng)
        if self.accepted(Feature.NET_CTRL_MAC_ADDR) and not self.accepted(Feature.NET_MAC):
            await client.set_mac(self.mac)

    async def _read_config(self) -> None:
        config = await self.transport.net_config()
        several = self.accepted(Feature.NET_MQ) or self.accepted(Feature.NET_RSS)
        self._most_pairs = config.max_virtqueue_pairs if several else 1
        self.pairs = min(self._wanted_pairs, self._most_pairs)
        if self.accepted(Feature.NET_MAC):
            self.mac = config.mac.to_bytes(6, "little")
        elif not any(self.mac):
            self.mac = b"\x02" + self._rng.randbytes(5)
        self.mtu = config.mtu if self.accepted(Feature.NET_MTU) else 1500
        if self.accepted(Feature.NET_STATUS):
            self.link_up = bool(config.status & NetStatus.LINK_UP)

    async def _set_up_vectors(self, numbers: list[int]) -> None:
        """Route a vector to each queue as far as they go, and one to configuration changes."""
        for number in numbers:
            self._events.setdefault(number, self._cpu.event())
        self._config_event = self._cpu.event()
        self._vectors = min(len(numbers), self.transport.vectors)
        if self._most_vectors is not None:
            self._vectors = min(self._vectors, self._most_vectors)
        if not self._vectors:
            wake = self._waker(numbers)
            self._tasks = [self._cpu.spawn(self._by_pin(wake), "interrupt pin")]
            return
        for vector in range(self._vectors):
            await self.transport.route(vector, self._waker(numbers[vector :: self._vectors]))
        spare = self._vectors < self.transport.vectors
        vector = self._vectors if spare else MSI_NO_VECTOR
        await self.transport.store("config_msix_vector", vector)
        if spare:
            await self.transport.route(vector, self._config_event.set)

    async def _by_pin(self, wake: Callable[[], None]) -> None:
        """Wake whom interrupts by the pin are for: all queues, or the watcher of changes."""

        def causes(found: Isr) -> None:
            if found & Isr.QUEUE:
                wake()
            if found & Isr.CONFIG:
                self._config_event.set()

        await self.transport.by_pin(causes)

    def _waker(self, numbers: list[int]) -> Callable[[], None]:
        def wake() -> None:
            for number in numbers:
                self._events[number].set()

        return wake

    def _vector(self, place: int) -> int:
        return place % self._vectors if self._vectors else MSI_NO_VECTOR

    async def _set_up_queue(self, number: int, *, vector: int) -> None:
        size = await self.transport.queue_size(number, self._queue_size)
        kind, options = queue_format(self.features)
        queue = self._queues.get(number)
        if not isinstance(queue, kind) or (queue.size, queue.options) != (size, options):
            queue = kind(
                self._memory,
                self._allocator,
                self._space,
                number=number,
                size=size,
                options=options,
            )
            self._queues[number] = queue
        await self._ready(*queue.areas)
        queue.clear()
        await self.transport.enable_queue(queue, vector)

    async def stop(self) -> None:
        """Reset the device; buffers are the driver's again, frames under way are lost."""
        self.running = False
        await self.transport.reset()
        self.die()
        for queue in self._queues.values():
            queue.clear()
        self._headers.clear()
        self._sent.set()

    def die(self) -> None:
        """End without a word to the device."""
        self.running = False
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def reset_queues(self, pair: int) -> None:
        """Reset both queues of a pair and enable them again, with RING_RESET (2.6.1).

        Frames under way in them are lost.
        """
        for number in (2 * pair, 2 * pair + 1):
            await self.transport.reset_queue(number)
            await self._set_up_queue(number, vector=self._vector(number))
        self._sent.set()
        await self._ready(*self._queues[2 * pair].areas)
        self._post(pair, self._buffers_of(pair))

    async def _watch_config(self) -> None:
        """Read the configuration again whenever it has changed (5.1.4)."""
        while True:
            await self._config_event.wait()
            self._config_event.clear()
            config = await self.transport.net_config()
            if self.accepted(Feature.NET_STATUS):
                self.link_up = bool(config.status & NetStatus.LINK_UP)

    # Receiving -----------------------------------------------------------------------------------

    def _cut(self, gpa: int, length: int, most: int) -> list[Piece]:
        """Cut a buffer at random points."""
        cuts = min(self._rng.randint(1, most), length) - 1
        bounds = [0, *sorted(self._rng.sample(range(1, length), cuts)), length]
        return [Piece(gpa + low, high - low) for low, high in pairwise(bounds)]

    def _buffers_of(self, pair: int) -> list[list[Piece]]:
        """All receive buffers of a pair, made the first time."""
        mergeable = self.accepted(Feature.NET_MRG_RXBUF)
        length = self._merge_bytes if mergeable else _HEADER_BYTES + self._frame_bytes
        made = self._made.get(pair)
        if made is None or sum(piece.length for piece in made[0]) != length:
            fragments = min(self._fragments, self._queues[2 * pair].size)
            count = max(1, min(self._buffers, self._queues[2 * pair].size // fragments))
            made = [
                self._cut(self._allocator.scattered(length, self._rng), length, fragments)
                for _ in range(count)
            ]
            self._made[pair] = made
        return list(made)

    def _post(self, pair: int, buffers: list[list[Piece]]) -> None:
        """Post receive buffers."""
        queue = self._queues[2 * pair]
        for pieces in reversed(buffers):
            queue.add((), pieces, pieces)
        if buffers:
            self.transport.notify(queue)

    async def _pay_up(self) -> None:
        if self._pay is not None:
            await self._pay()

    async def _ready(self, *areas: tuple[int, int]) -> None:
        """Return when areas can be written."""
        if self._prepare is not None:
            await self._prepare(areas)

    async def _receiver(self, pair: int) -> None:
        """Take received frames, in order, whenever the queue's interrupt has come."""
        event, queue = self._events[2 * pair], self._queues[2 * pair]
        while True:
            await event.wait()
            event.clear()
            queue = self._queues[2 * pair]
            await self._ready(*queue.areas)
            queue.disable_events()
            while True:
                free: list[list[Piece]] = []
                while (packet := assemble(queue, self._memory, self.features, free)) is not None:
                    self._received(packet, pair)
                self._post(pair, free)
                await self._pay_up()
                await self._ready(*queue.areas)
                if not queue.enable_events():
                    break
                queue.disable_events()

    def _received(self, packet: Packet, pair: int) -> None:
        self.received += 1
        self.validated += packet.validated
        if self.on_receive is not None:
            self.on_receive(packet.frame)
        if self.on_packet is not None:
            self.on_packet(packet.frame, packet.header, pair)

    # Sending -------------------------------------------------------------------------------------

    async def send(self, frame: bytes, *, pair: int = 0) -> None:
        """Copy a frame into guest memory and send it; waits while the ring has no room.

        Its checksum is left to the device if that was negotiated.
        """
        outgoing = partial(frame) if self.accepted(Feature.NET_CSUM) else plain(frame)
        await self.submit(outgoing, pair=pair)

    async def send_large(self, frame: bytes, size: int, *, pair: int = 0) -> None:
        """Send a TCP frame that the device cuts into segments of ``size`` bytes of payload."""
        await self.submit(large(frame, size), pair=pair)

    async def submit(self, outgoing: Outgoing, *, pair: int = 0) -> None:
        """Send a frame with the header that it comes with."""
        length = len(outgoing.content)
        gpa = self._allocator.scattered(length, self._rng)
        await self._ready((gpa, length))
        self._memory.write(gpa, outgoing.content)
        await self.send_from(gpa, length, pair=pair, header=outgoing.header)

    async def send_from(
        self, gpa: int, length: int, *, pair: int = 0, header: bytes = bytes(_HEADER_BYTES)
    ) -> None:
        """Send what lies in guest memory; it must stay until it is sent.  Nothing is touched."""
        queue = self._queues[2 * pair + 1]
        pieces = self._cut(gpa, length, min(self._fragments, queue.size - 1))
        await self.send_pieces(pieces, pair=pair, header=header)

    async def send_pieces(
        self, pieces: Sequence[Piece], *, pair: int = 0, header: bytes = bytes(_HEADER_BYTES)
    ) -> None:
        """Send a frame that lies in guest memory in pieces, likewise."""
        queue = self._queues[2 * pair + 1]
        place = None
        while place is None or not queue.fits(len(pieces) + 1):
            await self._room(queue, len(pieces) + 1)
            place = self._header() if place is None else place
            await self._ready(*queue.areas, (place, _HEADER_BYTES))
        self._memory.write(place, header)
        queue.add([Piece(place, _HEADER_BYTES), *pieces], (), place)
        self.sent += 1
        self.transport.notify(queue)
        await self._pay_up()

    async def _room(self, queue: Virtqueue, pieces: int) -> None:
        """Wait until a chain of so many pieces fits."""
        while not queue.fits(pieces):
            self._sent.clear()
            await self._sent.wait()
            if not self.running:
                raise QueueStopped("The driver was stopped")

    def _header(self) -> int:
        """Where there is room for a header."""
        if not self._headers:
            return self._allocator.scattered(_HEADER_BYTES, self._rng)
        return self._headers.popleft()

    async def _cleaner(self, pair: int) -> None:
        """Take sent frames back whenever the queue's interrupt has come."""
        event = self._events[2 * pair + 1]
        while True:
            await event.wait()
            event.clear()
            queue = self._queues[2 * pair + 1]
            await self._ready(*queue.areas)
            queue.disable_events()
            while True:
                while (found := queue.take()) is not None:
                    header = found[0]
                    assert isinstance(header, int)
                    self._headers.append(header)
                self._sent.set()
                await self._pay_up()
                await self._ready(*queue.areas)
                if not queue.enable_events(delay=queue.outstanding * 3 // 4):
                    break
                queue.disable_events()

    async def drained(self) -> None:
        """Return when every frame that was sent has been taken by the device."""
        transmit = [queue for number, queue in self._queues.items() if number % 2]
        while any(queue.outstanding for queue in transmit):
            self._sent.clear()
            await self._sent.wait()

    def queue(self, number: int) -> Virtqueue:
        """A queue, for those who mean harm."""
        return self._queues[number]

    def kick(self, number: int = 1) -> None:
        """Notify a queue."""
        self.transport.notify(self._queues[number])
