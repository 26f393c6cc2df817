"""What the IOTLB holds, from what crossed its ports (:mod:`models.spec.iotlb`).

Fed with the lookups, fills and invalidations that were accepted, each with its cycle; hits follow,
and are never taken from the hardware.  A lookup that joins a walk in progress finds no entry and so
is a miss.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbKey, IotlbLookup, iotlb_set

__all__ = ["Fill", "HitCounts", "Invalidation", "IotlbModel", "Lookup", "Space"]


class Space(NamedTuple):
    """An address space; ``None`` for a stage that is Bare."""

    gscid: int | None
    pscid: int | None
    msi: bool = False  # its device has an MSI page table


class Lookup(NamedTuple):
    """A lookup, with what its rights are judged by."""

    space: Space
    vpn: int
    device_id: int
    write: bool = False
    execute: bool = False
    ats: bool = False
    privileged: bool = False
    sum: bool = False
    also_read: bool = False
    again: bool = False
    elsewhere: bool = False

    @classmethod
    def from_bits(cls, bits: int) -> "Lookup":
        """Decode an :class:`~models.spec.iotlb.IotlbLookup`."""
        space, vpn = _key(bits >> _LOOKUP["key"].offset)
        return cls(
            space,
            vpn,
            bits >> _DEVICE_ID & 0xFF_FFFF,
            *(bool(bits >> offset & 1) for offset in _RIGHTS),
        )


class Fill(NamedTuple):
    """A finished walk's translation."""

    space: Space
    vpn: int
    size_log2: int
    r: bool
    w: bool
    x: bool
    u: bool
    glob: bool
    dirty: bool
    piece: bool = False

    @classmethod
    def from_bits(cls, bits: int) -> "Fill":
        """Decode an :class:`~models.spec.iotlb.IotlbFill`."""
        space, vpn = _key(bits >> _FILL["key"].offset)
        flags = ("r", "w", "x", "u", "glob", "dirty", "piece")
        rights = (bool(bits >> _FILL[name].offset & 1) for name in flags)
        return cls(space, vpn, bits >> _FILL["size"].offset & 63, *rights)


class Invalidation(NamedTuple):
    """An IOTINVAL; operands that are not valid are ``None``.  ``vpn`` is a page of its range."""

    second_stage: bool
    gscid: int | None
    pscid: int | None
    vpn: int | None
    pages_log2: int = 0

    @classmethod
    def from_bits(cls, bits: int) -> "Invalidation":
        """Decode an :class:`~models.spec.iotlb.IotlbInvalidate`."""
        take = {name: bits >> f.offset & (1 << f.width) - 1 for name, f in _INVALIDATE}
        return cls(
            bool(take["gvma"]),
            take["gscid"] if take["gv"] else None,
            take["pscid"] if take["pscv"] else None,
            take["addr"] if take["av"] else None,
            # Ones below a zero encode the range: as many as the number changes by adding one.
            (take["addr"] ^ take["addr"] + 1).bit_length() if take["av"] and take["s"] else 0,
        )


_LOOKUP, _FILL = IotlbLookup.as_shape(), IotlbFill.as_shape()
_INVALIDATE = IotlbInvalidate.as_shape()
_KEY = IotlbKey.as_shape()
_GV, _GSCID, _PV, _PSCID, _VPN, _MSI = (
    _KEY[name].offset for name in ("gv", "gscid", "pv", "pscid", "vpn", "msi")
)
_DEVICE_ID = _LOOKUP["device_id"].offset
_RIGHTS = [
    _LOOKUP[name].offset
    for name in ("write", "exec", "ats", "priv", "sum", "also_read", "again", "elsewhere")
]
_VPN_MASK = (1 << _KEY["vpn"].width) - 1


def _key(bits: int) -> tuple[Space, int]:
    gscid = bits >> _GSCID & 0xFFFF if bits >> _GV & 1 else None
    pscid = bits >> _PSCID & 0xF_FFFF if bits >> _PV & 1 else None
    return Space(gscid, pscid, bool(bits >> _MSI & 1)), bits >> _VPN & _VPN_MASK


@dataclass
class HitCounts:
    """Lookups of one device or of all."""

    hits: int = 0
    misses: int = 0

    @property
    def rate(self) -> float:
        """Share of hits; 0 without lookups."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0


def _matches(entry: Fill, space: Space, vpn: int) -> bool:
    """Whether an entry translates a page of an address space."""
    if (entry.vpn ^ vpn) >> entry.size_log2 - PAGE_SHIFT:
        return False
    if entry.space[0] != space[0] or entry.space[2] != space[2]:
        return False
    mine, other = entry.space[1], space[1]
    if mine is None or other is None:
        return mine is other
    return entry.glob or mine == other


def _suffices(entry: Fill, lookup: Lookup) -> bool:
    """Whether an entry's rights answer a lookup without another walk."""
    if lookup.privileged and lookup.space.pscid is not None:
        if entry.u and ((lookup.execute and not lookup.ats) or not lookup.sum):
            return False
    elif not entry.u:
        return False
    if lookup.ats:
        return entry.r and (not lookup.write or not entry.w or entry.dirty)
    if (lookup.execute and not entry.x) or (lookup.write and not (entry.w and entry.dirty)):
        return False
    return entry.r or ((lookup.execute or lookup.write) and not lookup.also_read)


def _covered(entry: Fill, op: Invalidation) -> bool:
    """Whether an invalidation removes an entry."""
    gscid, pscid, _ = entry.space
    if op.second_stage:
        return gscid is not None and op.gscid in (None, gscid)
    if gscid != op.gscid or pscid is None:
        return False
    if op.pscid is not None and (entry.glob or op.pscid != pscid):
        return False
    if op.vpn is None or entry.piece:
        return True
    return not (entry.vpn ^ op.vpn) >> max(entry.size_log2 - PAGE_SHIFT, op.pages_log2)


def _numbered(order: int, source: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, int, Any]]:
    for cycle, record in source:
        yield cycle, order, record


class _Array:
    """Entries that replace each other."""

    def __init__(self, size: int) -> None:
        self.entries: list[Fill | None] = [None] * size
        self.pointer = 0

    def fill(self, fill: Fill) -> None:
        """Put a translation where the rules say."""
        free = None
        for index, entry in enumerate(self.entries):
            if entry is None:
                free = index if free is None else free
            elif (
                entry.glob == fill.glob
                and entry.size_log2 == fill.size_log2
                and _matches(entry, fill.space, fill.vpn)
            ):
                self.entries[index] = fill
                return
        if free is not None:
            self.entries[free] = fill
            return
        self.entries[self.pointer] = fill
        self.pointer = (self.pointer + 1) % len(self.entries)


class IotlbModel:
    """Contents of an IOTLB.

    Parameters
    ----------
    ways, sets, superpages : int
        Its geometry; see :mod:`models.spec.iotlb`.
    """

    def __init__(self, *, ways: int, sets: int, superpages: int) -> None:
        self._sets = [_Array(ways) for _ in range(sets)]
        self._superpages = _Array(superpages)
        #: Hits and misses by device_id.
        self.counts: dict[int, HitCounts] = {}

    @classmethod
    def from_config(cls, config: IommuConfig) -> "IotlbModel":
        """Return an empty IOTLB of a configuration's geometry."""
        return cls(
            ways=config.iotlb_ways, sets=config.iotlb_sets, superpages=config.iotlb_superpages
        )

    @property
    def total(self) -> HitCounts:
        """Hits and misses of all devices."""
        counts = self.counts.values()
        return HitCounts(sum(c.hits for c in counts), sum(c.misses for c in counts))

    def __iter__(self) -> Iterator[Fill]:
        """All entries held, in no particular order."""
        for array in (*self._sets, self._superpages):
            yield from (entry for entry in array.entries if entry is not None)

    def lookup(self, lookup: Lookup) -> bool:
        """Return whether a lookup hits, and count it if it is its request's first."""
        hit = self._find(lookup)
        if lookup.again:
            return hit
        counts = self.counts.get(lookup.device_id)
        if counts is None:
            counts = self.counts.setdefault(lookup.device_id, HitCounts())
        if hit:
            counts.hits += 1
        else:
            counts.misses += 1
        return hit

    def _find(self, lookup: Lookup) -> bool:
        space, vpn = lookup.space, lookup.vpn
        sets = [] if lookup.elsewhere else [self._set(space, vpn)]
        for array in (*sets, self._superpages):
            for entry in array.entries:
                if entry is not None and _matches(entry, space, vpn):
                    return _suffices(entry, lookup)
        return False

    def _set(self, space: Space, vpn: int) -> _Array:
        return self._sets[iotlb_set(vpn, space.gscid or 0, len(self._sets))]

    def fill(self, fill: Fill) -> None:
        """Take a translation in."""
        if fill.size_log2 == PAGE_SHIFT:
            self._set(fill.space, fill.vpn).fill(fill)
        else:
            self._superpages.fill(fill)

    def invalidate(self, op: Invalidation) -> None:
        """Remove what an IOTINVAL covers."""
        for array in (*self._sets, self._superpages):
            for index, entry in enumerate(array.entries):
                if entry is not None and _covered(entry, op):
                    array.entries[index] = None

    def replay(
        self,
        *,
        lookups: Iterable[tuple[int, Lookup]],
        fills: Iterable[tuple[int, Fill]],
        invalidations: Iterable[tuple[int, Invalidation]],
    ) -> Counter[bool]:
        """Apply operations, each with the cycle in which its port took it; return hit counts.

        Each kind must come in order of cycles.  Within a cycle the lookup is first, then the
        invalidation, then the fill.
        """
        outcomes: Counter[bool] = Counter()
        streams = [
            _numbered(order, source) for order, source in enumerate((lookups, invalidations, fills))
        ]
        for _, order, record in merge(*streams, key=itemgetter(0, 1)):
            if order == 0:
                hit = self.lookup(record)
                outcomes[hit] += not record.again
            elif order == 1:
                self.invalidate(record)
            else:
                self.fill(record)
        return outcomes
