"""Random page tables: few entries, at indices that differ in every level, of all sizes."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from models.spec.config import IommuConfig

from .image import Image

__all__ = ["PTE", "Entry", "Leafs", "Scheme", "Tree", "schemes"]

_PAGE_SHIFT = 12


class PTE:
    """Bits of an entry."""

    V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
    FULL = V | R | W | X | U | A | D
    RSW2, PBMT, N, RESERVED = 59, 61, 63, 54


@dataclass(frozen=True)
class Scheme:
    """Shape of a scheme, its mode's encoding, and the bits of its addresses."""

    mode: int
    levels: int
    x4: bool
    index_bits: int = 9
    pte_bytes: int = 8

    @property
    def narrow(self) -> bool:
        """Whether it is of 32 bits."""
        return self.pte_bytes == 4

    def shift(self, level: int) -> int:
        """log2 of what an entry of a level maps."""
        return _PAGE_SHIFT + level * self.index_bits

    @property
    def bits(self) -> int:
        """Bits of addresses."""
        return self.shift(self.levels) + 2 * self.x4


def schemes(config: IommuConfig, *, x4: bool, narrow: bool) -> list[Scheme]:
    """Schemes of a stage that a configuration has."""
    tail = "x4" if x4 else ""
    if narrow:
        there = getattr(config, f"sv32{tail}")
        return [Scheme(8, 2, x4, index_bits=10, pte_bytes=4)] if there else []
    names = {3: "sv39", 4: "sv48", 5: "sv57"}
    return [
        Scheme(8 + levels - 3, levels, x4)
        for levels, name in names.items()
        if getattr(config, name + tail)
    ]


@dataclass
class Entry:
    """One entry, or the 16 equal ones of a NAPOT page."""

    level: int
    address: int  # first address that it maps
    slots: list[int]  # where it is in memory
    value: int
    keeps: bool = False  # tables depend on it
    leaf: bool = False
    original: int = 0

    @property
    def napot(self) -> bool:
        """Whether it is one of 64 KiB."""
        return len(self.slots) > 1


@dataclass
class Leafs:
    """How leafs are drawn: chances that a bit is missing, targets, extra bits."""

    missing: dict[int, float]
    target: Callable[[int], int]  # an address for a page of so many bits
    glob: bool = False
    svpbmt: bool = False
    rsw2: bool = False


@dataclass
class _Table:
    spa: int
    level: int
    base: int
    entries: dict[int, Entry] = field(default_factory=dict)
    below: dict[int, "_Table"] = field(default_factory=dict)


class Tree:
    """One tree of tables.

    Parameters
    ----------
    image : Image
    scheme : Scheme
    big : bool
        Byte order.
    limit : int
        Addresses beyond are not mapped.
    seen : callable
        Address by which the IOMMU gets to a table at some SPA (GPA of first stages).
    """

    def __init__(
        self,
        rng: random.Random,
        image: Image,
        scheme: Scheme,
        *,
        big: bool,
        limit: int,
        seen: Callable[[int], int] = lambda spa: spa,
    ) -> None:
        self.rng, self.image, self.scheme, self.big = rng, image, scheme, big
        self.limit = min(limit, 1 << scheme.bits)
        self._seen = seen
        spa = image.page(4 if scheme.x4 else 1, low=scheme.narrow)
        self.root_seen = seen(spa)
        self._root = _Table(spa, scheme.levels - 1, 0)
        self.entries: list[Entry] = []
        self.tables = [spa]

    # Addresses ---------------------------------------------------------------------------------

    def _indices(self, table: _Table, limit: int) -> list[int]:
        """Indices to choose from: few, and alike in all tables."""
        top = 1 << self.scheme.index_bits
        found = [0, 1, 2, top // 2, top - 1]
        if table is self._root and self.scheme.x4:
            found += [top + 1, 4 * top - 1]
        shift = self.scheme.shift(table.level)
        return [index for index in found if table.base + (index << shift) < limit]

    def extended(self, address: int) -> int:
        """Address as requests carry it: with its sign."""
        bits = self.scheme.bits
        if not self.scheme.x4 and not self.scheme.narrow and address >> bits - 1:
            return address | (1 << 64) - (1 << bits)
        return address

    # Entries -----------------------------------------------------------------------------------

    def _store(self, entry: Entry) -> None:
        for slot in entry.slots:
            self.image.put(slot, entry.value, self.scheme.pte_bytes, big=self.big)

    def _enter(self, table: _Table, index: int, value: int, count: int = 1, **how) -> Entry:
        size = self.scheme.pte_bytes
        address = table.base + (index << self.scheme.shift(table.level))
        slots = [table.spa + size * (index + n) for n in range(count)]
        entry = Entry(table.level, address, slots, value, **how)
        for n in range(count):
            table.entries[index + n] = entry
        entry.original = value
        self.entries.append(entry)
        self._store(entry)
        return entry

    def _table_below(self, table: _Table, index: int) -> _Table | None:
        """Return the table of an entry, made if the slot is free."""
        if index in table.below:
            return table.below[index]
        if index in table.entries:
            return None
        spa = self.image.page(low=self.scheme.narrow)
        self.tables.append(spa)
        base = table.base + (index << self.scheme.shift(table.level))
        below = table.below[index] = _Table(spa, table.level - 1, base)
        value = self._seen(spa) >> 12 << 10 | PTE.V
        if self.rng.random() < 0.1:
            value |= self.rng.randrange(4) << 8
        self._enter(table, index, value)
        return below

    def leaf_value(self, leafs: Leafs, size_log2: int, target: int | None = None) -> int:
        """Draw a leaf for a page of some size."""
        rng, narrow = self.rng, self.scheme.narrow
        napot = size_log2 == 16 and not narrow
        base = leafs.target(size_log2) if target is None else target
        value = base >> 12 << 10
        if narrow:
            value &= (1 << 32) - 1
        if napot:
            value = value & ~(0xF << 10) | 8 << 10 | 1 << PTE.N
        value |= PTE.FULL
        for bit, chance in leafs.missing.items():
            if rng.random() < chance:
                value &= ~bit
        value |= rng.randrange(4) << 8 if rng.random() < 0.2 else 0
        if leafs.glob and rng.random() < 0.3:
            value |= PTE.G
        if leafs.svpbmt and not narrow and rng.random() < 0.3:
            value |= rng.randrange(1, 3) << PTE.PBMT
        if leafs.rsw2 and not narrow and rng.random() < 0.3:
            value |= rng.randrange(4) << PTE.RSW2
        return value

    def insert(
        self, leafs: Leafs, spa: int | None = None, tries: int = 20, *, largest: bool = False
    ) -> Entry | None:
        """Add a leaf of random or of the largest size, anywhere; with ``spa`` it holds that."""
        rng = self.rng
        # What tables depend on must be reached; other pages may be too far away.
        far = 1 << min(self.scheme.bits, 56 if self.scheme.x4 else 64)
        limit = self.limit if spa is not None or rng.random() < 0.8 else far
        for _ in range(tries):
            level = 4 if largest else rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 4])
            level = min(level, self.scheme.levels - 1)
            table = self._root
            while table and table.level > level:
                table = self._table_below(table, rng.choice(self._indices(table, limit)))
            if table is None:
                continue
            indices = self._indices(table, limit)
            if not indices:
                continue
            index, count = rng.choice(indices), 1
            if level == 0:
                index = min(index + rng.randrange(6), (1 << self.scheme.index_bits) - 1)
                if not self.scheme.narrow and rng.random() < 0.2:
                    index, count = index & ~0xF, 16
            if any(index + n in table.entries for n in range(count)):
                continue
            shift = self.scheme.shift(level) + (4 if count > 1 else 0)
            target = None if spa is None else spa >> shift << shift
            value = self.leaf_value(leafs, shift, target)
            return self._enter(table, index, value, count, keeps=spa is not None, leaf=True)
        return None

    def size_log2(self, entry: Entry) -> int:
        """log2 of the bytes that an entry maps."""
        return self.scheme.shift(entry.level) + (4 if entry.napot else 0)

    def change(self, entry: Entry, value: int) -> None:
        """Store another value."""
        entry.value = value
        self._store(entry)

    # Faults ------------------------------------------------------------------------------------

    def spoil(self, entry: Entry) -> int:
        """Return a value with one thing wrong."""
        value, rng = entry.value, self.rng
        kinds = [
            lambda: value & ~PTE.V,
            lambda: 0,
            lambda: value & ~PTE.R | PTE.W,
            lambda: value & ~PTE.A,
            lambda: value & ~PTE.U,
            lambda: value & ~(PTE.R | PTE.W | PTE.X),
        ]
        if not self.scheme.narrow:
            kinds += [
                lambda: value | 1 << PTE.RESERVED + rng.randrange(5),
                lambda: value | 3 << PTE.PBMT,
                lambda: value | 1 << PTE.PBMT,
                lambda: value | 1 << PTE.RSW2 + rng.randrange(2),
            ]
            if not entry.napot:  # 16 pages with one number would each have to be invalidated
                kinds.append(lambda: _with_n(value))
        if entry.leaf and (entry.level or entry.napot):
            kinds += [lambda: value | 1 << 10 + rng.randrange(4)]
        if not entry.leaf:
            kinds += [
                lambda: value | rng.choice([PTE.A, PTE.D, PTE.U]),
                lambda: value | PTE.R | PTE.A | PTE.U,
            ]
        return rng.choice(kinds)()


def _with_n(value: int) -> int:
    """Return an entry's value with N; one alone must not look like a sound NAPOT entry."""
    return (value ^ 1 << 10 if value >> 10 & 0xF == 8 else value) | 1 << PTE.N
