"""A guest's use of its own memory: allocation, and addresses for devices.

``memory`` everywhere is a :class:`models.memory.ByteMemory` by GPA.
"""

from collections.abc import Awaitable, Callable
from random import Random

from models.memory import ByteMemory
from models.pagetable import KIB_4, PageFlags, PageTable

__all__ = ["Allocator", "DeviceSpace", "FirstStage"]


class Allocator:
    """Gives out guest memory, never the same twice.

    Parameters
    ----------
    base, size : int
        Guest physical extent.
    """

    def __init__(self, base: int, size: int) -> None:
        self._next, self._end = base, base + size

    def allocate(self, size: int, align: int = 1) -> int:
        """Return the GPA of ``size`` bytes; ``MemoryError`` if there are none left."""
        address = -(-self._next // align) * align
        if address + size > self._end:
            raise MemoryError(f"The guest has no {size} bytes left")
        self._next = address + size
        return address

    def scattered(self, size: int, rng: Random) -> int:
        """Return ``size`` bytes at a random alignment, often across the end of a page."""
        self._next += rng.choice((0, 1, 2, 3, 5, 7, 8, 15, 16, 31, 61))
        return self.allocate(size)


class DeviceSpace:
    """Addresses that the guest's device uses: guest physical ones."""

    def address(self, gpa: int, size: int) -> int:
        """Return what the device calls ``size`` bytes at a GPA."""
        return gpa


class FirstStage(DeviceSpace):
    """A guest's own Sv39 tables for its device, in its own memory, one page at a time.

    IOVAs are unlike GPAs, in both halves of the address space, so that nothing works by accident.

    Parameters
    ----------
    memory : ByteMemory
    allocator : Allocator
    invalidate : callable
        ``await invalidate(iova)`` after a mapping was removed or changed.
    """

    #: Upper half: a canonical address of 39 bits.
    BASE = 0xFFFF_FFC0_0000_0000

    def __init__(
        self,
        memory: ByteMemory,
        allocator: Allocator,
        invalidate: Callable[[int], Awaitable[None]],
    ) -> None:
        self._invalidate = invalidate
        self.table = PageTable(
            memory.read,
            memory.write,
            lambda pages: allocator.allocate(pages * KIB_4, align=pages * KIB_4),
        )

    @property
    def fsc(self) -> int:
        """What the device context needs to know."""
        return self.table.iosatp

    def address(self, gpa: int, size: int) -> int:
        """Map what is not mapped yet, and return the IOVA of ``gpa``."""
        for page in range(gpa & -KIB_4, gpa + size, KIB_4):
            if self.table.walk(self.BASE + page) is None:
                self.map_page(page)
        return self.BASE + gpa

    def map_page(self, gpa: int) -> int:
        """Map one page, and return its IOVA."""
        self.table.map(self.BASE + gpa, gpa, flags=PageFlags.DATA)
        return self.BASE + gpa

    async def unmap(self, gpa: int) -> None:
        """Take a page back from the device."""
        self.table.unmap(self.BASE + (gpa & -KIB_4))
        await self._invalidate(self.BASE + (gpa & -KIB_4))
