"""Split virtqueues as the device serves them (virtio 1.3, 2.7)."""

from collections.abc import Generator
from dataclasses import dataclass

from models.nic.dma import Dma, Parked, Stopped
from models.spec.iommu import PageResponse
from models.spec.nic import QueueError
from models.spec.virtio import AVAIL_F_NO_INTERRUPT, Descriptor, DescriptorFlag, UsedElement

__all__ = ["Buffer", "Chain", "Ring", "Step"]

_DESCRIPTOR_BYTES = Descriptor.as_shape().size // 8
_USED_BYTES = UsedElement.as_shape().size // 8
_WRAP = 0xFFFF


@dataclass(frozen=True)
class Buffer:
    """One descriptor's buffer."""

    address: int
    length: int


@dataclass(frozen=True)
class Chain:
    """A chain of descriptors, all of one direction."""

    head: int
    buffers: tuple[Buffer, ...]

    @property
    def length(self) -> int:
        """Bytes in all."""
        return sum(buffer.length for buffer in self.buffers)


#: Part of a queue's service: yields where it parks.
Step = Generator[Parked, PageResponse, "Chain | None"]


class Ring:
    """One enabled virtqueue.

    Parameters
    ----------
    dma : Dma
        Of the function that it belongs to.
    size : int
        Entries.
    desc, driver, device : int
        Addresses of descriptor area, available ring and used ring.
    writable : bool
        Direction of its buffers: the device writes them (receive).
    """

    def __init__(
        self, dma: Dma, *, size: int, desc: int, driver: int, device: int, writable: bool
    ) -> None:
        self.dma, self.size, self.writable = dma, size, writable
        self._desc, self._driver, self._device = desc, driver, device
        self._next = self._used = 0

    def _read(self, address: int, size: int) -> Generator[Parked, PageResponse, int]:
        raw = yield from self.dma.read(address, size, QueueError.RING_ADDRESS)
        return int.from_bytes(raw, "little")

    def take(self) -> Step:
        """Return the next chain that the driver made available, ``None`` if there is none."""
        index = yield from self._read(self._driver + 2, 2)
        waiting = index - self._next & _WRAP
        if waiting > self.size:
            raise Stopped(QueueError.BAD_INDEX)
        if not waiting:
            return None
        slot = self._driver + 4 + 2 * (self._next % self.size)
        head = yield from self._read(slot, 2)
        chain = yield from self._chain(head)
        self._next = self._next + 1 & _WRAP
        return chain

    def _chain(self, head: int) -> Generator[Parked, PageResponse, Chain]:
        buffers: list[Buffer] = []
        number = head
        while True:
            if number >= self.size:
                raise Stopped(QueueError.BAD_HEAD)
            if len(buffers) == self.size:
                raise Stopped(QueueError.BAD_CHAIN)
            bits = yield from self._read(self._desc + _DESCRIPTOR_BYTES * number, _DESCRIPTOR_BYTES)
            descriptor = Descriptor.from_bits(bits)
            flags = descriptor.flags
            if flags & DescriptorFlag.INDIRECT:
                raise Stopped(QueueError.BAD_FLAGS)
            if bool(flags & DescriptorFlag.WRITE) != self.writable:
                raise Stopped(QueueError.BAD_CHAIN)
            buffers.append(Buffer(descriptor.addr, descriptor.len))
            if not flags & DescriptorFlag.NEXT:
                return Chain(head, tuple(buffers))
            number = descriptor.next

    def give_back(self, chain: Chain, written: int) -> Generator[Parked, PageResponse, bool]:
        """Put a chain into the used ring; return whether the driver wants an interrupt."""
        slot = self._device + 4 + _USED_BYTES * (self._used % self.size)
        element = UsedElement.const({"id": chain.head, "len": written}).as_bits()
        raw = element.to_bytes(_USED_BYTES, "little")
        yield from self.dma.write(slot, raw, QueueError.RING_ADDRESS)
        self._used = self._used + 1 & _WRAP
        index = self._used.to_bytes(2, "little")
        yield from self.dma.write(self._device + 2, index, QueueError.RING_ADDRESS)
        flags = yield from self._read(self._driver, 2)
        return not flags & AVAIL_F_NO_INTERRUPT

    def gather(self, chain: Chain) -> Generator[Parked, PageResponse, bytes]:
        """Read all of a chain."""
        content = b""
        for buffer in chain.buffers:
            content += yield from self.dma.read(
                buffer.address, buffer.length, QueueError.BUFFER_ADDRESS
            )
        return content

    def scatter(self, chain: Chain, content: bytes) -> Generator[Parked, PageResponse, None]:
        """Write to the buffers of a chain, in order."""
        for buffer in chain.buffers:
            part, content = content[: buffer.length], content[buffer.length :]
            yield from self.dma.write(buffer.address, part, QueueError.BUFFER_ADDRESS)
