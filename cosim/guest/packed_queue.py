"""A packed virtqueue from the driver's side (virtio 1.3, 2.8)."""

from cosim.guest.virtqueue import DESCRIPTOR_BYTES, BrokenDevice, Outstanding, Piece, Virtqueue
from models.spec.virtio import DescriptorFlag, EventFlags, EventSuppression, PackedDescriptor

__all__ = ["PackedQueue"]

_EVENT_BYTES = EventSuppression.as_shape().size // 8
_MARKS = DescriptorFlag.AVAIL | DescriptorFlag.USED


class PackedQueue(Virtqueue):
    """Descriptor ring and event suppression.  Parameters are those of Virtqueue.

    Positions count descriptors since the queue was enabled; the wrap counter of a position is 1 in
    the first lap and changes with each (2.8.1).
    """

    def _allocate(self) -> tuple[tuple[int, int], ...]:
        sizes = ((DESCRIPTOR_BYTES * self.size, 16), (_EVENT_BYTES, 4), (_EVENT_BYTES, 4))
        return tuple((self._allocator.allocate(size, align=align), size) for size, align in sizes)

    def clear(self) -> None:
        """Begin anew, as before the queue is enabled."""
        super().clear()
        (self._desc, _), (self._driver, _), (self._device, _) = self._areas
        self._unused = list(range(self.size))
        self._available = self._seen = self._notified = 0

    @property
    def room(self) -> int:
        """Free descriptors."""
        return self.size - (self._available - self._seen)

    def _wrap(self, position: int) -> bool:
        return not position // self.size & 1

    def _marks(self, position: int) -> DescriptorFlag:
        """AVAIL and USED of a descriptor that is made available (2.8.21.1)."""
        return DescriptorFlag.AVAIL if self._wrap(position) else DescriptorFlag.USED

    def _add(self, pieces: list[tuple[Piece, bool]], chain: Outstanding) -> None:
        identity = self._unused.pop(0)
        self._chains[identity] = chain
        if self._by_table(len(pieces)):
            chain.slots = [self._available]
            table = self._table(identity, len(pieces))
            for number, (piece, write) in enumerate(pieces):
                address = self._space.address(piece.gpa, piece.length)
                flags = DescriptorFlag.WRITE if write else DescriptorFlag(0)
                self._write(table + DESCRIPTOR_BYTES * number, address, piece.length, 0, flags)
            size = DESCRIPTOR_BYTES * len(pieces)
            entries = [(self._space.address(table, size), size, DescriptorFlag.INDIRECT)]
        else:
            chain.slots = list(range(self._available, self._available + len(pieces)))
            entries = []
            for position, (piece, write) in enumerate(pieces, 1):
                flags = DescriptorFlag.WRITE if write else DescriptorFlag(0)
                flags |= DescriptorFlag.NEXT if position < len(pieces) else DescriptorFlag(0)
                address = self._space.address(piece.gpa, piece.length)
                entries.append((address, piece.length, flags))
        # The first descriptor comes last (2.8.6).
        for place, (address, length, flags) in reversed(list(enumerate(entries))):
            self.write_descriptor(self._available + place, address, length, identity, flags)
        self._available += len(entries)

    def _write(self, gpa: int, address: int, length: int, identity: int, flags: int) -> None:
        fields = {"addr": address, "len": length, "id": identity, "flags": flags}
        raw = PackedDescriptor.const(fields).as_bits().to_bytes(DESCRIPTOR_BYTES, "little")
        self._memory.write(gpa, raw)

    def write_descriptor(
        self, position: int, address: int, length: int, identity: int, flags: int
    ) -> None:
        """Store one descriptor, available but for that as it is."""
        gpa = self._desc + DESCRIPTOR_BYTES * (position % self.size)
        self._write(gpa, address, length, identity, flags | self._marks(position))

    @property
    def next_position(self) -> int:
        """Where the next descriptor goes."""
        return self._available

    def skip(self, descriptors: int) -> None:
        """Count descriptors that :meth:`write_descriptor` has stored as added."""
        self._available += descriptors

    def _event(self, gpa: int):
        raw = self._memory.read(gpa, _EVENT_BYTES)
        return EventSuppression.from_bits(int.from_bytes(raw, "little"))

    @property
    def wants_notify(self) -> bool:
        """Whether the device asks to be notified (2.8.14)."""
        added = range(self._notified, self._available)
        self._notified = self._available
        event = self._event(self._device)
        if event.flags == EventFlags.DESC and self.options.event_idx:
            wanted = event.offset, bool(event.wrap)
            return wanted in {(at % self.size, self._wrap(at)) for at in added}
        return event.flags != EventFlags.DISABLE

    def _used_at(self, position: int):
        """The descriptor at a position, ``None`` if it is not used."""
        gpa = self._desc + DESCRIPTOR_BYTES * (position % self.size)
        raw = self._memory.read(gpa, DESCRIPTOR_BYTES)
        found = PackedDescriptor.from_bits(int.from_bytes(raw, "little"))
        return found if found.flags & _MARKS == (_MARKS if self._wrap(position) else 0) else None

    def _element(self) -> tuple[int, int] | None:
        if self._seen == self._available:
            return None
        found = self._used_at(self._seen)
        if found is None:
            return None
        if found.len and not found.flags & DescriptorFlag.WRITE:
            raise BrokenDevice(f"Queue {self.number}: a length, but nothing written")
        return found.id, found.len

    def _free(self, identity: int, chain: Outstanding) -> None:
        self._unused.append(identity)
        self._seen += len(chain.slots)

    def _ask(self, flags: EventFlags, position: int = 0) -> None:
        fields = {
            "offset": position % self.size,
            "wrap": int(self._wrap(position)),
            "flags": flags,
        }
        raw = EventSuppression.const(fields).as_bits().to_bytes(_EVENT_BYTES, "little")
        self._memory.write(self._driver, raw)

    def disable_events(self) -> None:
        """Ask for no interrupts (2.8.14)."""
        self._ask(EventFlags.DISABLE)

    def enable_events(self, *, delay: int = 0) -> bool:
        """Ask for an interrupt (2.8.14); with EVENT_IDX after ``delay`` more chains."""
        if not self.options.event_idx:
            self._ask(EventFlags.ENABLE)
            return self._element() is not None
        position = self._seen
        for chain in list(self._chains.values())[:delay]:
            position += len(chain.slots)
        self._ask(EventFlags.DESC, position)
        # Used descriptors are written at the start of what was used, which may begin later.
        return self._element() is not None
