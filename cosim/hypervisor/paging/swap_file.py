"""A swap file: slots of one page each, on disk."""

import heapq
import os
import tempfile
import weakref

from models.pagetable import KIB_4

__all__ = ["SwapFile", "SwapFull"]


class SwapFull(MemoryError):
    """No slot is free."""


class SwapFile:
    """A temporary file without a name, which is gone when it is closed.

    Parameters
    ----------
    slots : int or None
        Pages that it holds at most; ``None``: as many as the disk does.
    folder : str or None
        Where it is; ``None``: where temporary files are.
    """

    def __init__(self, slots: int | None = None, folder: str | None = None) -> None:
        self._file, name = tempfile.mkstemp(prefix="iovirt-swap-", dir=folder)
        os.unlink(name)
        self._close = weakref.finalize(self, os.close, self._file)
        self._slots, self._end = slots, 0
        self._free: list[int] = []
        #: Slots in use; pages written and read so far.
        self.used = self.written = self.read_back = 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file).st_size

    def store(self, data: bytes, slot: int | None = None) -> int:
        """Write a page into a slot, a free one if none is named; return the slot."""
        if len(data) != KIB_4:
            raise ValueError(f"A slot holds {KIB_4} bytes, not {len(data)}")
        if slot is None:
            slot = self._take()
        os.pwrite(self._file, data, slot * KIB_4)
        self.written += 1
        return slot

    def _take(self) -> int:
        if self._free:
            slot = heapq.heappop(self._free)
        elif self._slots is not None and self._end >= self._slots:
            raise SwapFull(f"All {self._slots} slots of the swap file are in use")
        else:
            slot, self._end = self._end, self._end + 1
        self.used += 1
        return slot

    def load(self, slot: int) -> bytes:
        """Read a slot."""
        self.read_back += 1
        return os.pread(self._file, KIB_4, slot * KIB_4)

    def free(self, slot: int) -> None:
        """Let a slot be used again."""
        heapq.heappush(self._free, slot)
        self.used -= 1

    def close(self) -> None:
        """Remove the file."""
        self._close()
