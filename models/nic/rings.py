"""Virtqueues as the device serves them, whatever their format (virtio 1.3, 2.7 and 2.8)."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from models.nic.dma import Parked, Stopped, Transfer
from models.spec.iommu import PageResponse
from models.spec.nic import QueueError
from models.spec.virtio import DescriptorFlag

__all__ = [
    "DESCRIPTOR_BYTES",
    "Buffer",
    "Chain",
    "ChainBuilder",
    "Direction",
    "Ring",
    "RingSetup",
    "Step",
    "Used",
]

#: Bytes of a descriptor of either format.
DESCRIPTOR_BYTES = 16


class Direction(Enum):
    """What buffers of a queue are for."""

    READ = "the device reads them"
    WRITE = "the device writes them"
    BOTH = "the device reads the first ones and writes the others"


class Access(Protocol):
    """DMA of the queue's function."""

    def read(self, iova: int, size: int, refused: QueueError) -> Transfer:
        """Return bytes; a fault that retry cannot mend stops the queue with ``refused``."""
        ...

    def write(self, iova: int, data: bytes, refused: QueueError) -> Transfer:
        """Store bytes, likewise."""
        ...


@dataclass(frozen=True, kw_only=True)
class RingSetup:
    """What the driver has said of a queue.

    Parameters
    ----------
    size : int
        Entries.
    desc, driver, device : int
        Addresses of the three areas.
    direction : Direction
    indirect, event_idx, in_order : bool
        Features that it accepted.
    """

    size: int
    desc: int
    driver: int
    device: int
    direction: Direction
    indirect: bool = False
    event_idx: bool = False
    in_order: bool = False


@dataclass(frozen=True)
class Buffer:
    """One descriptor's buffer."""

    address: int
    length: int


@dataclass(frozen=True)
class Chain:
    """A chain of descriptors: those that the device reads, then those that it writes.

    ``id`` is the head of a split chain and the buffer ID of a packed one; ``slots`` are the places
    of the used ring that it takes: one, in a packed ring as many as it has descriptors there.
    """

    id: int
    slots: int
    readable: tuple[Buffer, ...]
    writable: tuple[Buffer, ...]

    @property
    def read_bytes(self) -> int:
        """Bytes that can be read."""
        return sum(buffer.length for buffer in self.readable)

    @property
    def write_bytes(self) -> int:
        """Bytes that can be written."""
        return sum(buffer.length for buffer in self.writable)


@dataclass
class ChainBuilder:
    """Collects the descriptors of one chain, and refuses what no chain may be."""

    setup: RingSetup
    readable: list[Buffer] = field(default_factory=list)
    writable: list[Buffer] = field(default_factory=list)

    def room(self) -> None:
        """Stop the queue if the chain is as long as it may be (2.7.5.3.1, 2.8.18)."""
        if len(self.readable) + len(self.writable) == self.setup.size:
            raise Stopped(QueueError.BAD_CHAIN)

    def add(self, address: int, length: int, flags: int) -> None:
        """Take a descriptor of a buffer; readable ones come first (2.7.4.2, 2.8.18)."""
        self.room()
        write, allowed = bool(flags & DescriptorFlag.WRITE), self.setup.direction
        if allowed is (Direction.READ if write else Direction.WRITE) or (
            self.writable and not write
        ):
            raise Stopped(QueueError.BAD_CHAIN)
        (self.writable if write else self.readable).append(Buffer(address, length))

    def table_entries(self, length: int, flags: int) -> int:
        """Return the entries of an indirect table, whose descriptor this is (2.7.5.3, 2.8.7)."""
        if not self.setup.indirect:
            raise Stopped(QueueError.BAD_FLAGS)
        if flags & DescriptorFlag.NEXT or not length or length % DESCRIPTOR_BYTES:
            raise Stopped(QueueError.BAD_INDIRECT)
        return length // DESCRIPTOR_BYTES

    def chain(self, identity: int, slots: int) -> Chain:
        """Return what was collected."""
        return Chain(identity, slots, tuple(self.readable), tuple(self.writable))


@dataclass(frozen=True)
class Used:
    """A chain that the device is done with, and the bytes that it has written to it."""

    chain: Chain
    written: int


#: Part of a queue's service: yields where it parks.
Step = Generator[Parked, PageResponse, Chain | None]


class Ring:
    """One enabled virtqueue; its format is a subclass's.

    Parameters
    ----------
    dma : Access
        Of the function that it belongs to.
    setup : RingSetup
    """

    def __init__(self, dma: Access, setup: RingSetup) -> None:
        self.dma, self.setup = dma, setup

    def take(self) -> Step:
        """Return the next chain that the driver made available, ``None`` if there is none.

        Before it returns ``None`` with EVENT_IDX, the driver has been asked for a notification.
        """
        raise NotImplementedError

    def give_back(self, used: Sequence[Used]) -> Generator[Parked, PageResponse, bool]:
        """Put chains into the used ring together; return whether the driver wants an interrupt.

        With IN_ORDER only the last is written if all others are used completely (2.7.9, 2.8.9).
        """
        raise NotImplementedError

    def _load(self, address: int, size: int) -> Generator[Parked, PageResponse, int]:
        raw = yield from self.dma.read(address, size, QueueError.RING_ADDRESS)
        return int.from_bytes(raw, "little")

    def _store(self, address: int, value: int, size: int) -> Transfer:
        raw = value.to_bytes(size, "little")
        return (yield from self.dma.write(address, raw, QueueError.RING_ADDRESS))

    def _written(self, used: Sequence[Used]) -> Sequence[tuple[int, Used]]:
        """Position within the batch, and chain, of each used element that has to be written."""
        if self.setup.in_order and all(
            done.written == done.chain.write_bytes for done in used[:-1]
        ):
            return [(0, used[-1])]
        place, found = 0, []
        for done in used:
            found.append((place, done))
            place += done.chain.slots
        return found

    def gather(
        self, chain: Chain, most: int | None = None
    ) -> Generator[Parked, PageResponse, bytes]:
        """Read what may be read of a chain, up to the buffer that makes it more than ``most``."""
        content = b""
        for buffer in chain.readable:
            if most is not None and len(content) + buffer.length > most:
                break
            content += yield from self.dma.read(
                buffer.address, buffer.length, QueueError.BUFFER_ADDRESS
            )
        return content

    def scatter(self, chain: Chain, content: bytes) -> Generator[Parked, PageResponse, bytes]:
        """Write to the buffers of a chain, in order; return what did not fit."""
        for buffer in chain.writable:
            part, content = content[: buffer.length], content[buffer.length :]
            yield from self.dma.write(buffer.address, part, QueueError.BUFFER_ADDRESS)
        return content
