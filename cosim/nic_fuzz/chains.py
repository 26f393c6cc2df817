"""Stores the chains of a session into a queue, right or wrong."""

from random import Random
from typing import Any

from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import DESCRIPTOR_BYTES, Virtqueue
from models.memory import ByteMemory
from models.spec.virtio import Descriptor, DescriptorFlag, PackedDescriptor

__all__ = ["ChainWriter"]

#: Most bytes of a guest's own memory that a piece is given, whatever length it claims.
_LARGEST = 2048


class ChainWriter:
    """Stores chains; their pieces lie one behind the other in an area of the guest's memory.

    Parameters
    ----------
    memory : ByteMemory
        The guest's, by GPA.
    base, size : int
        That area; it is used again from the start with each :meth:`begin`.
    """

    def __init__(self, memory: ByteMemory, base: int, size: int) -> None:
        self._memory, self._base, self._end = memory, base, base + size
        self.begin()

    def begin(self) -> None:
        """Let what was stored be overwritten."""
        self._memory.write(self._base, bytes(self._end - self._base))
        self._cursor, self._number = self._base, 0
        self._taken = 0  # descriptors of the ring
        #: Whether all pieces lie in memory of the guest's own.
        self.owned = True

    def content(self) -> bytes:
        """All of the area."""
        return self._memory.read(self._base, self._end - self._base)

    def _place(self, gap: int, size: int) -> int:
        """Address of so many bytes; where there is no room any more, of the area's start."""
        if self._cursor + gap + size > self._end:
            self.owned = False
            return self._base
        self._cursor += gap + size
        return self._cursor - size

    def _pieces(self, chain: dict[str, Any]) -> list[tuple[int, int, int, int | None]]:
        """Address, length, flags and twisted ``next`` of each piece, with its bytes in memory."""
        rng, found = Random(chain["seed"]), []
        content = bytes.fromhex(chain["head"])
        content += rng.randbytes(max(0, _LARGEST * len(chain["pieces"]) - len(content)))
        for flags, length, gap, following, address in chain["pieces"]:
            size = min(length, _LARGEST)
            if address is None:
                address = self._place(gap, size)
                self._memory.write(address, content[:size])
            else:
                self.owned = False
            if length > _LARGEST:  # what lies behind it may be another piece
                self.owned = False
            content = content[size:]
            found.append((address, length, flags, following))
        return found

    def post(self, queue: Virtqueue, chain: dict[str, Any]) -> None:
        """Make a chain available, unless it would lie over those that were before it.

        What came of that would depend on when the device looks.
        """
        needed = 1 if chain["table"] else len(chain["pieces"])
        alone = isinstance(queue, SplitQueue) and not self._taken
        if self._taken + needed > queue.size and not alone:
            return
        self._taken += needed
        if isinstance(queue, SplitQueue):
            self._post_split(queue, chain)
        else:
            assert isinstance(queue, PackedQueue)
            self._post_packed(queue, chain)

    def _table(self, kind: Any, entries: list[dict[str, int]]) -> tuple[int, int]:
        """Store an indirect table; return its address and bytes."""
        raw = b"".join(
            kind.const(entry).as_bits().to_bytes(DESCRIPTOR_BYTES, "little") for entry in entries
        )
        address = self._place(-self._cursor % DESCRIPTOR_BYTES, len(raw))
        if address != self._base:
            self._memory.write(address, raw)
        return address, len(raw)

    def _post_split(self, queue: SplitQueue, chain: dict[str, Any]) -> None:
        pieces, size = self._pieces(chain), queue.size
        head = self._number % size
        first = 0 if chain["table"] else self._number
        entries = []
        for place, (address, length, flags, following) in enumerate(pieces):
            usual = (first + place + 1) % (len(pieces) + 1 if chain["table"] else size)
            entries.append(
                {
                    "addr": address,
                    "len": length,
                    "flags": flags,
                    "next": usual if following is None else following,
                }
            )
        if chain["table"]:
            table, length = self._table(Descriptor, entries)
            flags = DescriptorFlag.INDIRECT | chain["flags"]
            queue.write_descriptor(head, table, max(0, length + chain["odd"]), flags, 0)
            self._number += 1
        else:
            for place, entry in enumerate(entries):
                queue.write_descriptor((self._number + place) % size, *entry.values())
            self._number += len(entries)
        queue.publish(head)

    def _post_packed(self, queue: PackedQueue, chain: dict[str, Any]) -> None:
        pieces, start = self._pieces(chain), queue.next_position
        marks = DescriptorFlag.AVAIL | DescriptorFlag.USED
        self._number += 1
        if chain["table"]:
            entries = [
                {"addr": address, "len": length, "id": 0, "flags": flags}
                for address, length, flags, _ in pieces
            ]
            table, length = self._table(PackedDescriptor, entries)
            flags = DescriptorFlag.INDIRECT | chain["flags"] & ~marks
            length = max(0, length + chain["odd"])
            queue.write_descriptor(start, table, length, self._number, flags)
            queue.skip(1)
            return
        # The first descriptor comes last (2.8.6).
        for place, (address, length, flags, following) in reversed(list(enumerate(pieces))):
            identity = self._number if following is None else following
            queue.write_descriptor(start + place, address, length, identity, flags & ~marks)
        queue.skip(len(pieces))
