"""What an entry of the IOTLB is, when it matches, and what removes it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig

__all__ = [
    "SMALL",
    "Demand",
    "cached_size",
    "covers_range",
    "covers_space",
    "demand",
    "is_cut",
    "packed",
    "payload_layout",
    "same_space",
    "size_groups",
    "sufficient",
    "tag_layout",
    "vpn_bits",
]

#: log2 of the size that the sets hold.
SMALL = 12
#: What rights are judged by.
RIGHTS = dict.fromkeys(("r", "w", "x", "u", "dirty"), 1)


class Demand(data.Struct):
    """What a lookup asks of an entry's rights."""

    user: 1  # an entry with U may be used,
    other: 1  # and one without
    r: 1
    w: 1  # with D
    x: 1
    settled: 1  # D, if there is W


def vpn_bits(config: IommuConfig) -> int:
    """Page-number bits kept per entry.

    All higher bits of a valid one equal the highest kept: the sign of an IOVA, or 0 of a guest
    physical address or of Sv32.
    """
    kept = {
        "sv32": 21,
        "sv39": 27,
        "sv48": 36,
        "sv57": 45,
        "sv32x4": 23,
        "sv39x4": 30,
        "sv48x4": 39,
        "sv57x4": 48,
    }
    return max(bits for name, bits in kept.items() if getattr(config, name))


def size_groups(config: IommuConfig) -> list[int]:
    """Lowest page-number bits of the groups that pages of the next larger size leave open.

    A page of ``12 + groups[n]`` bits leaves all groups below the n-th open.
    """
    groups = {0, 4, 9, 18}
    if config.sv32 or config.sv32x4:
        groups.add(10)
    if config.sv48 or config.sv48x4:
        groups.add(27)
    if config.sv57 or config.sv57x4:
        groups.add(36)
    return sorted(groups)


def cached_size(config: IommuConfig, size):
    """The largest size of a page table's page that fits into a range and into physical memory.

    Both are log2 bytes, 6 bits.
    """
    fitting = Const(SMALL, 6)
    for group in size_groups(config)[1:]:
        if SMALL + group <= config.pas:
            fitting = Mux(size >= SMALL + group, SMALL + group, fitting)
    return fitting


def is_cut(config: IommuConfig, size):
    """Whether a page of a page table is cached in part, since it is larger than physical memory."""
    return size > config.pas


def tag_layout(page_bits: int, *, rights: bool = True) -> data.StructLayout:
    """What an entry is found and judged by, with so many bits of the page number."""
    return data.StructLayout(
        {
            "gv": 1,
            "gscid": 16,
            "pv": 1,
            "pscid": 20,
            "msi": 1,
            "glob": 1,
            "piece": 1,
            **(RIGHTS if rights else {}),
            "vpn": page_bits,
        }
    )


def payload_layout(config: IommuConfig) -> data.StructLayout:
    """What an entry answers."""
    return data.StructLayout(
        {
            "ppn": config.pas - 12,
            **RIGHTS,
            "glob": 1,
            "pbmt": 2,
        }
    )


def same_space(entry, key, *, gscid, pscid):
    """Whether an entry belongs to the address space of a key; the IDs are equal or not."""
    return (
        (entry.gv == key.gv)
        & gscid
        & (entry.pv == key.pv)
        & (entry.msi == key.msi)
        & (~key.pv | pscid | entry.glob)
    )


def covers_space(op, space, glob, *, gscid, pscid):
    """Whether an invalidation is about an address space (models.spec.iotlb); IDs likewise."""
    machine = Mux(op.gv, space.gv & gscid, Mux(op.gvma, space.gv, ~space.gv))
    return machine & (op.gvma | (space.pv & (~op.pscv | (pscid & ~glob))))


def covers_range(op, *, piece, same):
    """Whether the address range of an invalidation, if it has one, meets an entry's.

    Of pieces of a larger first-stage page it is not known which others belong to that page.
    """
    return ~op.av | op.gvma | piece | same


def demand(m: Module, lookup) -> data.View:
    """What a lookup asks (models.spec.iotlb, "Details")."""
    asks, supervisor = Signal(Demand), lookup.priv & lookup.key.pv
    plain = ~lookup.ats
    m.d.comb += [
        asks.user.eq(~supervisor | (lookup.sum & ~(plain & lookup.exec))),
        asks.other.eq(supervisor),
        asks.r.eq(lookup.ats | lookup.also_read | ~(lookup.write | lookup.exec)),
        asks.w.eq(plain & lookup.write),
        asks.x.eq(plain & lookup.exec),
        asks.settled.eq(lookup.ats & lookup.write),
    ]
    return asks


def sufficient(asks, entry):
    """Whether the rights of an entry answer a lookup without a walk."""
    return (
        Mux(entry.u, asks.user, asks.other)
        & (entry.r | ~asks.r)
        & (entry.x | ~asks.x)
        & Mux(entry.w, entry.dirty | ~(asks.w | asks.settled), ~asks.w)
    )


def packed(layout: data.StructLayout, fill, *, vpn=None):
    """Bits of a tag or a payload from a fill."""
    key = fill.key
    source = {name: key[name] for name in ("gv", "gscid", "pv", "pscid", "msi")}
    source |= {"vpn": vpn}
    return Cat(
        source[name] if name in source else fill[name][: layout[name].width]
        for name in layout.members
    )
