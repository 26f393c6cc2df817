"""Packed virtqueues (virtio 1.3, 2.8)."""

from collections.abc import Generator, Sequence

from models.nic.dma import Parked, Stopped
from models.nic.rings import (
    DESCRIPTOR_BYTES,
    Access,
    Chain,
    ChainBuilder,
    Ring,
    RingSetup,
    Step,
    Used,
)
from models.spec.iommu import PageResponse
from models.spec.nic import QueueError
from models.spec.virtio import DescriptorFlag, EventFlags, EventSuppression, PackedDescriptor

__all__ = ["PackedRing"]

_EVENT_BYTES = EventSuppression.as_shape().size // 8


class PackedRing(Ring):
    """A packed virtqueue.  Parameters are those of :class:`~models.nic.rings.Ring`.

    Positions count descriptors since the queue was enabled; a position's wrap counter is 1 in the
    first lap and changes with every lap (2.8.1).
    """

    def __init__(self, dma: Access, setup: RingSetup) -> None:
        super().__init__(dma, setup)
        self._next = self._used = 0
        self._asked = 0  # the driver has zeroed the device's structure: it notifies of all

    def _slot(self, position: int) -> int:
        return self.setup.desc + DESCRIPTOR_BYTES * (position % self.setup.size)

    def _wrap(self, position: int) -> bool:
        return not position // self.setup.size & 1

    def _descriptor(self, position: int) -> Generator[Parked, PageResponse, tuple]:
        """Return address, length, id, flags of a descriptor; ``()`` if it is not available."""
        bits = yield from self._load(self._slot(position), DESCRIPTOR_BYTES)
        found = PackedDescriptor.from_bits(bits)
        available, used = (
            bool(found.flags & flag) for flag in (DescriptorFlag.AVAIL, DescriptorFlag.USED)
        )
        if available != self._wrap(position) or used == available:
            return ()
        return found.addr, found.len, found.id, found.flags

    def take(self) -> Step:
        """Return the next chain (2.8.21)."""
        first = yield from self._descriptor(self._next)
        if not first:
            if not self.setup.event_idx or self._asked == self._next:
                return None
            # What comes between looking and asking would never be notified: look again.
            fields = {
                "offset": self._next % self.setup.size,
                "wrap": int(self._wrap(self._next)),
                "flags": EventFlags.DESC,
            }
            event = EventSuppression.const(fields).as_bits()
            yield from self._store(self.setup.device, event, _EVENT_BYTES)
            self._asked = self._next
            first = yield from self._descriptor(self._next)
            if not first:
                return None
        if self._next - self._used >= self.setup.size:
            raise Stopped(QueueError.BAD_INDEX)
        chain = yield from self._chain(first)
        self._next += chain.slots
        return chain

    def _chain(self, descriptor: tuple) -> Generator[Parked, PageResponse, Chain]:
        """Collect a list of descriptors (2.8.6) or a table of them (2.8.7)."""
        builder, slots = ChainBuilder(self.setup), 1
        while True:
            address, length, identity, flags = descriptor
            if flags & DescriptorFlag.INDIRECT:
                entries = builder.table_entries(length, flags)
                if slots > 1:
                    raise Stopped(QueueError.BAD_INDIRECT)
                yield from self._table(builder, address, entries)
                return builder.chain(identity, slots)
            builder.add(address, length, flags)
            if not flags & DescriptorFlag.NEXT:
                return builder.chain(identity, slots)
            if self._next + slots - self._used >= self.setup.size:
                raise Stopped(QueueError.BAD_CHAIN)
            descriptor = yield from self._descriptor(self._next + slots)
            if not descriptor:
                raise Stopped(QueueError.BAD_WRAP)
            slots += 1

    def _table(
        self, builder: ChainBuilder, table: int, entries: int
    ) -> Generator[Parked, PageResponse, None]:
        """Collect an indirect table, of whose flags only WRITE counts (2.8.7)."""
        for number in range(entries):
            builder.room()
            bits = yield from self._load(table + DESCRIPTOR_BYTES * number, DESCRIPTOR_BYTES)
            found = PackedDescriptor.from_bits(bits)
            builder.add(found.addr, found.len, found.flags)

    def give_back(self, used: Sequence[Used]) -> Generator[Parked, PageResponse, bool]:
        """Write used descriptors (2.8.22), the first one last (2.8.10)."""
        for place, done in reversed(self._written(used)):
            position = self._used + place
            flags = DescriptorFlag.WRITE if done.written else DescriptorFlag(0)
            if self._wrap(position):
                flags |= DescriptorFlag.AVAIL | DescriptorFlag.USED
            fields = {"len": done.written, "id": done.chain.id, "flags": flags}
            bits = PackedDescriptor.const(fields).as_bits() >> 64
            yield from self._store(self._slot(position) + 8, bits, 8)
        before = self._used
        self._used += sum(done.chain.slots for done in used)
        bits = yield from self._load(self.setup.driver, _EVENT_BYTES)
        return self._wanted(EventSuppression.from_bits(bits), range(before, self._used))

    def _wanted(self, event, covered: range) -> bool:
        """Whether descriptors used at ``covered`` positions ask for an interrupt (2.8.14)."""
        if event.flags == EventFlags.DISABLE:
            return False
        if event.flags == EventFlags.DESC and self.setup.event_idx:
            wanted = event.offset, bool(event.wrap)
            return wanted in {(at % self.setup.size, self._wrap(at)) for at in covered}
        return True
