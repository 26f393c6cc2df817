"""Where pages are that are not resident: compressed in memory, or in the swap file."""

import zlib
from collections import OrderedDict
from dataclasses import dataclass

import lz4.block

from cosim.hypervisor.paging.swap_file import SwapFile
from models.pagetable import KIB_4

__all__ = ["Copy", "PageStore"]

#: A page that compresses to more is not worth its room.
_WORTH = KIB_4 * 3 // 4


@dataclass(eq=False)
class Copy:
    """A stored page: its CRC-32 when it was stored, and a slot or compressed bytes."""

    crc: int
    slot: int | None = None
    blob: bytes | None = None


class PageStore:
    """Stores pages and proves, by CRC, that what comes back is what was put there.

    Parameters
    ----------
    swap : SwapFile
    pool_bytes : int
        Most bytes of compressed pages; the longest stored go to the swap file beyond that.
        0: nothing is compressed.
    """

    def __init__(self, swap: SwapFile, pool_bytes: int = 0) -> None:
        self.swap, self._pool_limit = swap, pool_bytes
        self._pool: OrderedDict[Copy, None] = OrderedDict()
        #: Bytes of compressed pages now and at most.
        self.pool_bytes = self.pool_bytes_peak = 0
        #: Pages compressed, and what they came to.
        self.compressed = self.compressed_bytes = 0
        #: Pages that came back other than they were stored.
        self.mismatches = 0

    def put(self, data: bytes, *, pooled: bool = True) -> Copy:
        """Store a page, compressed only if ``pooled``."""
        copy = Copy(zlib.crc32(data))
        pooled = pooled and self._pool_limit > 0
        blob = lz4.block.compress(data, store_size=False) if pooled else data
        if pooled and len(blob) <= min(_WORTH, self._pool_limit):
            copy.blob = blob
            self._pool[copy] = None
            self.compressed += 1
            self.compressed_bytes += len(blob)
            self.pool_bytes += len(blob)
            self._trim()
            self.pool_bytes_peak = max(self.pool_bytes_peak, self.pool_bytes)
        else:
            copy.slot = self.swap.store(data)
        return copy

    def _trim(self) -> None:
        """Write the longest stored pages back to the swap file while there are too many bytes."""
        while self.pool_bytes > self._pool_limit:
            oldest = next(iter(self._pool))
            data = self.get(oldest)
            self._leave_pool(oldest)
            oldest.slot = self.swap.store(data)

    def _leave_pool(self, copy: Copy) -> None:
        assert copy.blob is not None
        del self._pool[copy]
        self.pool_bytes -= len(copy.blob)
        copy.blob = None

    def get(self, copy: Copy) -> bytes:
        """Return a stored page, compared with its CRC; a difference is counted."""
        if copy.blob is not None:
            data = lz4.block.decompress(copy.blob, uncompressed_size=KIB_4)
        else:
            assert copy.slot is not None
            data = self.swap.load(copy.slot)
        self.verify(copy, data)
        return data

    def verify(self, copy: Copy, data: bytes) -> None:
        """Count a difference between a page and its stored copy."""
        self.mismatches += zlib.crc32(data) != copy.crc

    def drop(self, copy: Copy) -> None:
        """Forget a stored page."""
        if copy.blob is not None:
            self._leave_pool(copy)
        elif copy.slot is not None:
            self.swap.free(copy.slot)
            copy.slot = None
