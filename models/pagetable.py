"""Builder of page tables in a memory, as a hypervisor or a guest makes them.

It needs three callables: ``read(address, size)``, ``write(address, data)`` and ``allocate(pages)``,
which returns the address of that many 4 KiB pages, zeroed or not, naturally aligned.  For a guest's
first stage these take guest physical addresses.  Nothing here invalidates caches: software sends
the commands that a change asks for.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag

from models.spec.iommu import Atp, IoatpMode, Iohgatp, IohgatpMode, Pte

__all__ = [
    "GIB_1",
    "KIB_4",
    "KIB_64",
    "MIB_2",
    "Allocate",
    "Mapping",
    "PageFlags",
    "PageTable",
    "Read",
    "Write",
]

#: Page sizes in bytes.
KIB_4, KIB_64, MIB_2, GIB_1 = 1 << 12, 1 << 16, 1 << 21, 1 << 30

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], None]
Allocate = Callable[[int], int]

_PTE = Pte.as_shape()
_PPN_SHIFT, _PBMT_SHIFT, _N_SHIFT = (_PTE[name].offset for name in ("ppn", "pbmt", "n"))
_PPN_MASK = (1 << _PTE["ppn"].width) - 1
_INDEX_BITS = 9
_X4_BITS = 2


class PageFlags(IntFlag):
    """Bits 7:0 of a page-table entry."""

    V = 1 << _PTE["v"].offset
    R = 1 << _PTE["r"].offset
    W = 1 << _PTE["w"].offset
    X = 1 << _PTE["x"].offset
    U = 1 << _PTE["u"].offset
    G = 1 << _PTE["g"].offset
    A = 1 << _PTE["a"].offset
    D = 1 << _PTE["d"].offset
    #: What a page for reading and writing by devices needs when hardware updates nothing.
    DATA = V | R | W | U | A | D
    #: The same for reading only.
    READ_ONLY = V | R | U | A


@dataclass(frozen=True)
class Mapping:
    """A leaf: ``size`` bytes from ``address`` on are at ``target``."""

    address: int
    target: int
    size: int
    flags: PageFlags
    pbmt: int = 0


class PageTable:
    """One tree of page tables (RISC-V Privileged Architecture, 12.3 to 12.6 and 15.5.1).

    Parameters
    ----------
    read, write, allocate : callable
        Memory that the tables are in; see the module.
    levels : int
        3 for Sv39, 4 for Sv48, 5 for Sv57.
    x4 : bool
        A second stage: two more address bits, a root of four pages.
    root : int or None
        Address of an existing root; ``None`` allocates one.
    """

    def __init__(
        self,
        read: Read,
        write: Write,
        allocate: Allocate,
        *,
        levels: int = 3,
        x4: bool = False,
        root: int | None = None,
    ) -> None:
        if levels not in (3, 4, 5):
            raise ValueError(f"Page tables have 3, 4 or 5 levels, not {levels!r}")
        self._read, self._write, self._allocate = read, write, allocate
        self.levels, self.x4 = levels, x4
        self.root = self._new_table(4 if x4 else 1) if root is None else root

    @property
    def iosatp(self) -> int:
        """``fsc`` of a context whose first stage this is."""
        if self.x4:
            raise ValueError("An x4 table is no first stage")
        mode = (IoatpMode.SV39, IoatpMode.SV48, IoatpMode.SV57)[self.levels - 3]
        return Atp.const({"mode": mode, "ppn": self.root >> 12}).as_bits()

    def iohgatp(self, gscid: int) -> int:
        """``iohgatp`` of a context whose second stage this is."""
        if not self.x4:
            raise ValueError("Only an x4 table is a second stage")
        mode = (IohgatpMode.SV39X4, IohgatpMode.SV48X4, IohgatpMode.SV57X4)[self.levels - 3]
        fields = {"mode": mode, "gscid": gscid, "ppn": self.root >> 12}
        return Iohgatp.const(fields).as_bits()

    def _new_table(self, pages: int) -> int:
        address = self._allocate(pages)
        if address % (pages * KIB_4):
            raise ValueError(f"{pages} pages at {address:#x} are not naturally aligned")
        self._write(address, bytes(pages * KIB_4))
        return address

    def _load(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")

    def _store(self, address: int, entry: int) -> None:
        self._write(address, entry.to_bytes(8, "little"))

    def _check(self, address: int) -> None:
        bits = 12 + _INDEX_BITS * self.levels
        if self.x4:
            if address >> bits + _X4_BITS:
                raise ValueError(f"{address:#x} has more than {bits + _X4_BITS} bits")
        elif address >> bits - 1 not in (0, (1 << 65 - bits) - 1):
            raise ValueError(f"{address:#x} is not canonical in {bits} bits")

    def _slot(self, table: int, level: int, address: int) -> int:
        bits = _INDEX_BITS + (_X4_BITS if self.x4 and level == self.levels - 1 else 0)
        index = address >> 12 + _INDEX_BITS * level & (1 << bits) - 1
        return table + 8 * index

    def _find(self, address: int) -> tuple[int, int, int]:
        """Return level, slot and entry of what ends the walk of ``address``."""
        self._check(address)
        table = self.root
        for level in reversed(range(self.levels)):
            slot = self._slot(table, level, address)
            entry = self._load(slot)
            if not entry & PageFlags.V or entry & (PageFlags.R | PageFlags.X) or not level:
                return level, slot, entry
            table = (entry >> _PPN_SHIFT & _PPN_MASK) << 12
        raise AssertionError("Level 0 ends every walk")

    def map(
        self,
        address: int,
        target: int,
        size: int = KIB_4,
        flags: PageFlags = PageFlags.DATA,
        *,
        pbmt: int = 0,
    ) -> None:
        """Map one page of 4 KiB, 64 KiB (Svnapot), 2 MiB, 1 GiB and so on.

        ``ValueError`` if the size is no page size, either address is not a multiple of it, or
        something is mapped there.
        """
        if size == KIB_64:
            if address % size or target % size:
                raise ValueError(f"{address:#x} and {target:#x} must be multiples of {size:#x}")
            napot = target >> 12 | 8
            entry = 1 << _N_SHIFT | pbmt << _PBMT_SHIFT | napot << _PPN_SHIFT | flags | PageFlags.V
            for page in range(address, address + size, KIB_4):
                self._place(page, 0, entry)
            return
        sizes = [KIB_4 << _INDEX_BITS * level for level in range(self.levels)]
        if size not in sizes:
            raise ValueError(f"Page sizes are {', '.join(map(hex, sizes))}, not {size!r}")
        if address % size or target % size:
            raise ValueError(f"{address:#x} and {target:#x} must be multiples of {size:#x}")
        entry = pbmt << _PBMT_SHIFT | target >> 12 << _PPN_SHIFT | flags | PageFlags.V
        self._place(address, sizes.index(size), entry)

    def _table(self, address: int, level: int) -> int:
        """Return the table of a level that covers ``address``, made if need be."""
        self._check(address)
        table = self.root
        for depth in range(self.levels - 1, level, -1):
            slot = self._slot(table, depth, address)
            pointer = self._load(slot)
            if pointer & (PageFlags.R | PageFlags.X):
                raise ValueError(f"{address:#x} is mapped by a larger page")
            if pointer & PageFlags.V:
                table = (pointer >> _PPN_SHIFT & _PPN_MASK) << 12
            else:
                table = self._new_table(1)
                self._store(slot, table >> 12 << _PPN_SHIFT | PageFlags.V)
        return table

    def _place(self, address: int, level: int, entry: int) -> None:
        slot = self._slot(self._table(address, level), level, address)
        if self._load(slot) & PageFlags.V:
            raise ValueError(f"{address:#x} is mapped")
        self._store(slot, entry)

    def map_pages(
        self, address: int, target: int, count: int, flags: PageFlags = PageFlags.DATA
    ) -> None:
        """Map pages of 4 KiB that follow each other on both sides, a table at a time."""
        if (address | target) % KIB_4:
            raise ValueError("Ranges are made of 4 KiB pages")
        while count:
            part = min(count, (MIB_2 - address % MIB_2) // KIB_4)
            slot = self._slot(self._table(address, 0), 0, address)
            old = memoryview(self._read(slot, 8 * part)).cast("Q")
            if any(entry & PageFlags.V for entry in old):
                raise ValueError(f"Something from {address:#x} on is mapped")
            first = target >> 12 << _PPN_SHIFT | flags | PageFlags.V
            step = 1 << _PPN_SHIFT
            self._write(slot, struct.pack(f"<{part}Q", *range(first, first + part * step, step)))
            address, target = address + part * KIB_4, target + part * KIB_4
            count -= part

    def unmap_pages(self, address: int, count: int) -> None:
        """Clear the leaves of pages of 4 KiB that follow each other, a table at a time."""
        while count:
            part = min(count, (MIB_2 - address % MIB_2) // KIB_4)
            level, slot, _ = self._find(address)
            old = () if level else memoryview(self._read(slot, 8 * part)).cast("Q")
            if not old or not all(entry & PageFlags.V for entry in old):
                raise ValueError(f"Not every page from {address:#x} on is mapped")
            self._write(slot, bytes(8 * part))
            address, count = address + part * KIB_4, count - part

    def map_range(
        self, address: int, target: int, length: int, flags: PageFlags = PageFlags.DATA
    ) -> None:
        """Map a range with the largest pages (up to 1 GiB) that fit."""
        if (address | target | length) % KIB_4:
            raise ValueError("Ranges are made of 4 KiB pages")
        while length:
            size = next(
                size
                for size in (GIB_1, MIB_2, KIB_4)
                if size <= length and not (address | target) % size
            )
            self.map(address, target, size, flags)
            address, target, length = address + size, target + size, length - size

    def _leaf(self, address: int) -> tuple[int, int, int]:
        level, slot, entry = self._find(address)
        if not entry & PageFlags.V:
            raise ValueError(f"{address:#x} is not mapped")
        return level, slot, entry

    def _mapping(self, address: int, level: int, entry: int) -> Mapping:
        size = KIB_4 << _INDEX_BITS * level
        ppn = entry >> _PPN_SHIFT & _PPN_MASK
        if entry >> _N_SHIFT & 1:
            size, ppn = KIB_64, ppn & ~0xF
        flags = PageFlags(entry & 0xFF)
        return Mapping(address & -size, ppn << 12, size, flags, entry >> _PBMT_SHIFT & 3)

    def walk(self, address: int) -> Mapping | None:
        """Return the leaf that covers ``address``, or ``None``.  Judges no rights."""
        level, _, entry = self._find(address)
        return self._mapping(address, level, entry) if entry & PageFlags.V else None

    def _replace(self, address: int, change: Callable[[int], int]) -> Mapping:
        level, slot, entry = self._leaf(address)
        old = self._mapping(address, level, entry)
        if old.size != KIB_64:
            self._store(slot, change(entry))
            return old
        for page in range(old.address, old.address + KIB_64, KIB_4):
            _, slot, entry = self._find(page)
            self._store(slot, change(entry))
        return old

    def unmap(self, address: int) -> Mapping:
        """Clear the leaf that covers ``address``; return what it was."""
        return self._replace(address, lambda entry: 0)

    def protect(self, address: int, flags: PageFlags) -> Mapping:
        """Give the leaf that covers ``address`` other flags; return what it was."""
        return self._replace(address, lambda entry: entry & ~0xFF | flags | PageFlags.V)

    def move(self, address: int, target: int) -> Mapping:
        """Let the leaf that covers ``address`` point elsewhere; return what it was."""
        level, slot, entry = self._leaf(address)
        old = self._mapping(address, level, entry)
        if old.size == KIB_64 or target % old.size:
            raise ValueError(f"{old!r} cannot move to {target:#x}")
        kept = entry & ~(_PPN_MASK << _PPN_SHIFT)
        self._store(slot, kept | target >> 12 << _PPN_SHIFT)
        return old

    def __iter__(self) -> Iterator[Mapping]:
        """All leaves, by address (of the upper half: without sign extension)."""
        yield from self._leaves(self.root, self.levels - 1, 0)

    def _leaves(self, table: int, level: int, base: int) -> Iterator[Mapping]:
        pages = 4 if self.x4 and level == self.levels - 1 else 1
        raw = self._read(table, pages * KIB_4)
        for index in range(len(raw) // 8):
            entry = int.from_bytes(raw[8 * index : 8 * index + 8], "little")
            address = base + (index << 12 + _INDEX_BITS * level)
            if not entry & PageFlags.V:
                continue
            if entry & (PageFlags.R | PageFlags.X) or not level:
                mapping = self._mapping(address, level, entry)
                if mapping.address == address:
                    yield mapping
            else:
                yield from self._leaves((entry >> _PPN_SHIFT & _PPN_MASK) << 12, level - 1, address)
