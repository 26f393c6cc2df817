"""A split virtqueue from the driver's side (virtio 1.3, 2.7)."""

from cosim.guest.virtqueue import DESCRIPTOR_BYTES, BrokenDevice, Outstanding, Piece, Virtqueue
from models.spec.virtio import (
    AVAIL_F_NO_INTERRUPT,
    USED_F_NO_NOTIFY,
    Descriptor,
    DescriptorFlag,
    UsedElement,
    avail_bytes,
    avail_event_offset,
    used_bytes,
    used_event_offset,
)

__all__ = ["SplitQueue"]

_USED_BYTES = UsedElement.as_shape().size // 8
_WRAP = 0xFFFF


class SplitQueue(Virtqueue):
    """Descriptor table and rings.  Parameters are those of Virtqueue; ``size`` a power of two."""

    def _allocate(self) -> tuple[tuple[int, int], ...]:
        sizes = (
            (DESCRIPTOR_BYTES * self.size, 16),
            (avail_bytes(self.size) + 2, 2),
            (used_bytes(self.size) + 2, 4),
        )
        return tuple((self._allocator.allocate(size, align=align), size) for size, align in sizes)

    def clear(self) -> None:
        """Begin anew, as before the queue is enabled."""
        super().clear()
        (self._desc, _), (self._avail, _), (self._used, _) = self._areas
        self._unused = list(range(self.size))
        self._available = self._seen = self._notified = 0

    @property
    def room(self) -> int:
        """Free descriptors."""
        return len(self._unused)

    def _add(self, pieces: list[tuple[Piece, bool]], chain: Outstanding) -> None:
        if self._by_table(len(pieces)):
            head = self._unused.pop(0)
            chain.slots = [head]
            table = self._table(head, len(pieces))
            self._write_chain(table, list(range(len(pieces))), pieces)
            size = DESCRIPTOR_BYTES * len(pieces)
            address = self._space.address(table, size)
            self.write_descriptor(head, address, size, DescriptorFlag.INDIRECT, 0)
        else:
            chain.slots = [self._unused.pop(0) for _ in pieces]
            head = chain.slots[0]
            self._write_chain(self._desc, chain.slots, pieces)
        self._chains[head] = chain
        self.publish(head)

    def _write_chain(
        self, table: int, numbers: list[int], pieces: list[tuple[Piece, bool]]
    ) -> None:
        """Write the descriptors of a chain into a table."""
        for position, (number, (piece, write)) in enumerate(zip(numbers, pieces, strict=True)):
            last = position == len(pieces) - 1
            flags = DescriptorFlag.WRITE if write else DescriptorFlag(0)
            flags |= DescriptorFlag(0) if last else DescriptorFlag.NEXT
            address = self._space.address(piece.gpa, piece.length)
            following = 0 if last else numbers[position + 1]
            self._write(table, number, address, piece.length, flags, following)

    def _write(
        self, table: int, number: int, address: int, length: int, flags: int, following: int
    ) -> None:
        fields = {"addr": address, "len": length, "flags": flags, "next": following}
        raw = Descriptor.const(fields).as_bits().to_bytes(DESCRIPTOR_BYTES, "little")
        self._memory.write(table + DESCRIPTOR_BYTES * number, raw)

    def write_descriptor(
        self, number: int, address: int, length: int, flags: int, following: int
    ) -> None:
        """Store one descriptor as it is."""
        self._write(self._desc, number, address, length, flags, following)

    def publish(self, head: int) -> None:
        """Put a head into the available ring; the index comes last (2.7.13)."""
        slot = self._avail + 4 + 2 * (self._available % self.size)
        self._memory.write(slot, head.to_bytes(2, "little"))
        self.set_available(self._available + 1)

    @property
    def available(self) -> int:
        """``avail.idx``."""
        return self._available

    def set_available(self, index: int) -> None:
        """Store ``avail.idx``."""
        self._available = index & _WRAP
        self._memory.write(self._avail + 2, self._available.to_bytes(2, "little"))

    def _word(self, gpa: int) -> int:
        return int.from_bytes(self._memory.read(gpa, 2), "little")

    @property
    def wants_notify(self) -> bool:
        """Whether the device asks to be notified (2.7.10)."""
        before, self._notified = self._notified, self._available
        if not self.options.event_idx:
            return not self._word(self._used) & USED_F_NO_NOTIFY
        event = self._word(self._used + avail_event_offset(self.size))
        return (event - before) & _WRAP < (self._available - before) & _WRAP

    def _index(self) -> int:
        return self._word(self._used + 2)

    def _element(self) -> tuple[int, int] | None:
        index = self._index()
        if index == self._seen:
            return None
        if index - self._seen & _WRAP > self.size:
            raise BrokenDevice(f"Queue {self.number}: used.idx went from {self._seen} to {index}")
        slot = self._used + 4 + _USED_BYTES * (self._seen % self.size)
        raw = self._memory.read(slot, _USED_BYTES)
        element = UsedElement.from_bits(int.from_bytes(raw, "little"))
        return element.id, element.len

    def _free(self, identity: int, chain: Outstanding) -> None:
        self._unused += chain.slots
        self._seen = self._seen + 1 & _WRAP

    def disable_events(self) -> None:
        """Ask for no interrupts (2.7.7): with EVENT_IDX for one that has just gone by."""
        if self.options.event_idx:
            self._ask(self._seen - 1)
        else:
            self._memory.write(self._avail, AVAIL_F_NO_INTERRUPT.to_bytes(2, "little"))

    def _ask(self, index: int) -> None:
        event = self._avail + used_event_offset(self.size)
        self._memory.write(event, (index & _WRAP).to_bytes(2, "little"))

    def enable_events(self, *, delay: int = 0) -> bool:
        """Ask for an interrupt (2.7.7); with EVENT_IDX after ``delay`` more chains."""
        if self.options.event_idx:
            self._ask(self._seen + delay)
        else:
            self._memory.write(self._avail, bytes(2))
            delay = 0
        return self._index() - self._seen & _WRAP > delay
