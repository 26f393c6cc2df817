"""Split virtqueues (virtio 1.3, 2.7)."""

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
from models.spec.virtio import (
    AVAIL_F_NO_INTERRUPT,
    Descriptor,
    DescriptorFlag,
    UsedElement,
    avail_event_offset,
    used_event_offset,
)

__all__ = ["SplitRing"]

_USED_BYTES = UsedElement.as_shape().size // 8
_WRAP = 0xFFFF


class SplitRing(Ring):
    """A split virtqueue.  Parameters are those of :class:`~models.nic.rings.Ring`."""

    def __init__(self, dma: Access, setup: RingSetup) -> None:
        super().__init__(dma, setup)
        self._next = self._used = 0
        self._asked = 0  # what avail_event holds: the driver has zeroed it

    def _waiting(self) -> Generator[Parked, PageResponse, int]:
        """Return how many heads are available and not taken."""
        index = yield from self._load(self.setup.driver + 2, 2)
        waiting = index - self._next & _WRAP
        if waiting > self.setup.size:
            raise Stopped(QueueError.BAD_INDEX)
        return waiting

    def take(self) -> Step:
        """Return the next chain (2.7.13)."""
        if not (yield from self._waiting()):
            if not self.setup.event_idx or self._asked == self._next:
                return None
            # What comes between looking and asking would never be notified: look again (2.7.10).
            event = self.setup.device + avail_event_offset(self.setup.size)
            yield from self._store(event, self._next, 2)
            self._asked = self._next
            if not (yield from self._waiting()):
                return None
        slot = self.setup.driver + 4 + 2 * (self._next % self.setup.size)
        head = yield from self._load(slot, 2)
        chain = yield from self._chain(head)
        self._next = self._next + 1 & _WRAP
        return chain

    def _chain(self, head: int) -> Generator[Parked, PageResponse, Chain]:
        """Follow a chain (2.7.5), into the indirect table that may end it (2.7.5.3)."""
        builder = ChainBuilder(self.setup)
        table, entries, number = self.setup.desc, self.setup.size, head
        broken = QueueError.BAD_HEAD
        while True:
            if number >= entries:
                raise Stopped(broken)
            builder.room()
            address = table + DESCRIPTOR_BYTES * number
            descriptor = Descriptor.from_bits((yield from self._load(address, DESCRIPTOR_BYTES)))
            flags = descriptor.flags
            if flags & DescriptorFlag.INDIRECT:
                if broken is QueueError.BAD_INDIRECT:
                    raise Stopped(broken)
                entries = builder.table_entries(descriptor.len, flags)
                table, number, broken = descriptor.addr, 0, QueueError.BAD_INDIRECT
                continue
            builder.add(descriptor.addr, descriptor.len, flags)
            if not flags & DescriptorFlag.NEXT:
                return builder.chain(head, 1)
            number = descriptor.next

    def give_back(self, used: Sequence[Used]) -> Generator[Parked, PageResponse, bool]:
        """Write used elements, then ``used.idx`` (2.7.14)."""
        size, device = self.setup.size, self.setup.device
        for place, done in self._written(used):
            slot = device + 4 + _USED_BYTES * ((self._used + place) % size)
            element = UsedElement.const({"id": done.chain.id, "len": done.written}).as_bits()
            yield from self._store(slot, element, _USED_BYTES)
        before, self._used = self._used, self._used + len(used) & _WRAP
        yield from self._store(device + 2, self._used, 2)
        if self.setup.event_idx:
            event = yield from self._load(self.setup.driver + used_event_offset(size), 2)
            return event in {before + n & _WRAP for n in range(len(used))}
        flags = yield from self._load(self.setup.driver, 2)
        return not flags & AVAIL_F_NO_INTERRUPT
