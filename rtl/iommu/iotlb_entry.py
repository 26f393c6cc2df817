"""What an entry of the IOTLB is, when it matches, and what removes it."""

from amaranth.hdl import Cat, Const, Mux
from amaranth.lib import data

from models.spec.config import IommuConfig

__all__ = [
    "SMALL",
    "covers_page",
    "covers_space",
    "entry_layout",
    "matches_page",
    "packed",
    "page_span",
    "same_space",
    "sufficient",
    "vpn_bits",
]

#: log2 of the size that the sets hold.
SMALL = 12


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


def entry_layout(config: IommuConfig) -> data.StructLayout:
    """What an entry holds."""
    return data.StructLayout(
        {
            "valid": 1,
            "gv": 1,
            "gscid": 16,
            "pv": 1,
            "pscid": 20,
            "msi": 1,
            "vpn": vpn_bits(config),
            "ppn": 44,
            "r": 1,
            "w": 1,
            "x": 1,
            "u": 1,
            "glob": 1,
            "dirty": 1,
            "pbmt": 2,
            "piece": 1,
        }
    )


def packed(layout: data.StructLayout, fill):
    """An entry's bits from a fill."""
    key = fill.key
    source = {"valid": Const(1, 1), "vpn": key.vpn[: layout["vpn"].width]}
    source |= {name: key[name] for name in ("gv", "gscid", "pv", "pscid", "msi")}
    return Cat(source[name] if name in source else fill[name] for name in layout.members)


def same_space(entry, key):
    """Whether an entry belongs to the address space of a key."""
    same_process = (entry.pscid == key.pscid) | entry.glob
    return (
        entry.valid
        & (entry.gv == key.gv)
        & (entry.gscid == key.gscid)
        & (entry.pv == key.pv)
        & (entry.msi == key.msi)
        & (~key.pv | same_process)
    )


def matches_page(entry, vpn, mask=None):
    """Whether an entry's range, of ones in ``mask`` if it is more than a page, has a page."""
    width = len(entry.vpn)
    high = vpn[width:]
    fits = Mux(entry.vpn[-1], high.all(), ~high.any())
    different = entry.vpn ^ vpn[:width]
    return fits & ((different if mask is None else different & ~mask) == 0)


def covers_space(op, *, gv, gscid, pv, pscid, glob):
    """Whether an invalidation is about an address space (models.spec.iotlb)."""
    vm = Mux(op.gv, gv & (op.gscid == gscid), Mux(op.gvma, gv, ~gv))
    return vm & (op.gvma | (pv & (~op.pscv | ((op.pscid == pscid) & ~glob))))


def page_span(config: IommuConfig, op):
    """Ones where an invalidation's range leaves the page number open."""
    if not config.s:
        return Const(0, 52)
    return Mux(op.s, op.addr ^ (op.addr + 1)[:52], 0)


def covers_page(op, span, vpn, mask=None, *, piece):
    """Whether the address range of an invalidation, if it has one, has a page of an entry's.

    Of pieces of a larger first-stage page it is not known which others belong to that page.
    """
    width = len(vpn)
    different = (op.addr[:width] ^ vpn) & ~span[:width]
    if mask is not None:
        different = different & ~mask
    return ~op.av | op.gvma | piece | (different == 0)


def sufficient(lookup, entry):
    """Whether the rights of an entry answer a lookup without a walk."""
    supervisor = lookup.priv & lookup.key.pv
    usable = Mux(supervisor, ~entry.u | lookup.sum, entry.u)
    executable = entry.x & Mux(supervisor, ~entry.u, entry.u)
    reads = lookup.also_read | ~(lookup.write | lookup.exec)
    plain = (
        (~reads | (entry.r & usable))
        & (~lookup.write | (entry.w & entry.dirty & usable))
        & (~lookup.exec | executable)
    )
    ats = usable & entry.r & (~lookup.write | ~entry.w | entry.dirty)
    return Mux(lookup.ats, ats, plain)
