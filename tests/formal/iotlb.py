"""Harness of the IOTLB: answers only from fills that no later invalidation covers."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Shape, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbLookup, iotlb_set

from .ports import narrow
from .prover import Plant, Proof, anything, held

__all__ = ["PROOFS"]

#: The smallest geometry that has a choice everywhere.
GEOMETRY = {"iotlb_ways": 2, "iotlb_sets": 2, "iotlb_superpages": 1}


#: Bits of long fields that are free; the others are 0 (of page numbers: equal the highest).
FREE = {"gscid": 2, "pscid": 2, "ppn": 12, "vpn": 13, "addr": 13, "device_id": 0, "tag": 0}
SIGNED = ("vpn", "addr")


class _Outside:
    """Free inputs of the IOTLB, with what its ports ask of them."""

    def __init__(self, m: Module, dut) -> None:
        self.ports: list = []
        next_set = self.input("next_set", len(dut.next_set))
        asks = Signal.like(next_set, name="set")  # where this cycle's lookup is
        m.d.comb += dut.next_set.eq(next_set)
        m.d.sync += asks.eq(next_set)
        lookup = dut.lookup.payload
        asked = data.View(lookup.shape(), self.input("lookup", len(lookup.as_value())))
        at = iotlb_set(lookup.key.vpn, lookup.key.gscid, GEOMETRY["iotlb_sets"])
        m.d.comb += [
            lookup.as_value().eq(narrow(asked, FREE, SIGNED)),
            dut.lookup.valid.eq(self.input("lookup_valid", 1)),
            Assume(lookup.elsewhere == (at != asks)),
        ]
        self.looks = dut.lookup.valid & dut.lookup.ready
        for name in ("fill", "invalidate"):
            port = getattr(dut, name)
            width = len(port.payload.as_value())
            valid, payload = self.input(f"{name}_valid", 1), self.input(name, width)
            record = data.View(port.payload.shape(), payload)
            m.d.comb += [
                port.valid.eq(valid),
                port.payload.as_value().eq(narrow(record, FREE, SIGNED)),
            ]
            setattr(self, f"{name}s", port.valid & port.ready)
            waits, before = Signal(name=f"{name}_waits"), Signal(width, name=f"{name}_before")
            withdrawn = dut.invalidate.valid & dut.invalidate.ready if name == "fill" else 0
            m.d.sync += [waits.eq(valid & ~port.ready & ~withdrawn), before.eq(payload)]
            m.d.comb += Assume(~waits | (valid & (payload == before)))
        fill = dut.fill.payload
        m.d.comb += Assume((fill.size == 12) | (fill.size == 16) | (fill.size == 21))
        for key in (fill.key, lookup.key):
            m.d.comb += Assume(key.gv | (key.gscid == 0))

    def input(self, name: str, width: int) -> Signal:
        """Return a new free input."""
        return anything(self.ports, name, width)


def _range_bits(size):
    """Ones in the page-number bits within a range of that size."""
    return Mux(size == 12, 0, Mux(size == 16, 0xF, Const(0x1FF, 52)))


def _covers(op, entry, piece: int, *, ranges: bool):
    """Whether the specification has an invalidation remove an entry."""
    key = entry.key
    span = Mux(op.s, op.addr ^ (op.addr + 1)[:52], 0) if ranges else Const(0, 52)
    apart = (op.addr ^ key.vpn) & ~span & ~_range_bits(entry.size)
    vm = Mux(op.gv, key.gv & (key.gscid == op.gscid), Mux(op.gvma, key.gv, ~key.gv))
    process = ~op.pscv | ((key.pscid == op.pscid) & ~entry.glob)
    first_stage = key.pv & process & (~op.av | piece | (apart == 0))
    return vm & (op.gvma | first_stage)


def _suffices(asked, rights):
    """Whether rights answer a lookup (models.spec.iotlb, "Details")."""
    supervisor = asked.priv & asked.key.pv
    executes = asked.exec & ~asked.ats
    may = Mux(supervisor, ~rights.u | (asked.sum & ~executes), rights.u)
    reads = ~(asked.exec | asked.write) | asked.also_read
    plain = (
        (~asked.exec | rights.x) & (~asked.write | (rights.w & rights.dirty)) & (~reads | rights.r)
    )
    of_ats = rights.r & (~asked.write | ~rights.w | rights.dirty)
    return may & Mux(asked.ats, of_ats, plain)


def iotlb(module, *, ranges: bool = False):
    """Follow what one arbitrary fill says of one arbitrary page, the same in all cycles."""
    config = IommuConfig(**GEOMETRY, s=ranges)
    m = Module()
    m.submodules.dut = dut = module.Iotlb(config)
    outside = _Outside(m, dut)

    # Its page is the key's, not the first of the range.
    raw = held(m, outside.input("the_entry", Shape.cast(IotlbFill).width))
    entry = Signal(IotlbFill)
    m.d.comb += entry.as_value().eq(narrow(data.View(IotlbFill, raw), FREE, SIGNED))
    key, size = entry.key, entry.size
    fill, op, asked = dut.fill.payload, dut.invalidate.payload, dut.lookup.payload
    # Fills that map the key's page, and those of them that take the place of its entry.
    within = _range_bits(fill.size)
    space = (
        (fill.key.gv == key.gv)
        & (fill.key.gscid == key.gscid)
        & (fill.key.pv == key.pv)
        & (fill.key.msi == key.msi)
        & ((fill.key.pscid == key.pscid) | fill.glob | ~key.pv)
    )
    maps = outside.fills & space & (((fill.key.vpn ^ key.vpn) & ~within) == 0)
    replaces = maps & (fill.size == size) & (fill.glob == entry.glob)
    page = ((fill.ppn & ~within) | (key.vpn & within))[:44]
    rights = ("r", "w", "x", "u", "dirty", "pbmt")
    says = (page == entry.ppn) & Cat(fill[name] == entry[name] for name in rights).all()
    alive, kept, gone, lost = Signal(2), Signal(2), Signal(), []
    # Of entries and of pieces of larger pages, which an answer does not tell.  Within one cycle the
    # invalidation comes first, then the fill.
    for piece in range(2):
        covered = outside.invalidates & _covers(op, entry, piece, ranges=ranges)
        filled = replaces & says & (fill.piece == piece)
        with m.If(filled):
            m.d.sync += [alive[piece].eq(1), kept[piece].eq(1)]
        with m.Else():
            m.d.sync += [
                alive[piece].eq(alive[piece] & ~covered & ~replaces),
                kept[piece].eq(kept[piece] & ~covered & ~outside.fills),
            ]
        m.d.comb += Cover(filled & dut.invalidate.valid)
        lost.append(covered & alive[piece])
    m.d.sync += gone.eq((gone | Cat(lost).any()) & ~replaces)
    result = dut.result
    same = asked.key.as_value() == key.as_value()
    # A result comes a cycle after its lookup, and is of what was true then.
    looked, was_alive, was_gone = Signal(), Signal(), Signal()
    last, any_looked = Signal(IotlbLookup), Signal()
    m.d.sync += [
        looked.eq(outside.looks & same),
        was_alive.eq(alive.any()),
        was_gone.eq(gone),
        last.eq(asked),
        any_looked.eq(outside.looks),
    ]
    answers = looked & result.hit
    exact = (
        (result.ppn == entry.ppn)
        & (result.size == size)
        & (result.glob == entry.glob)
        & Cat(result[name] == entry[name] for name in rights).all()
    )
    m.d.comb += [
        Assert(~(answers & exact) | was_alive),
        Assert(~(any_looked & result.hit) | _suffices(last, result)),
        Cover(answers & exact & (size == 12)),
        Cover(answers & exact & (size == 21) & (key.vpn[:9] != 0)),
        Cover(looked & was_gone & ~result.hit),
        Cover(outside.invalidates & dut.fill.valid),
    ]
    # What was filled last is answered until an invalidation covers it: no fill is lost beside
    # another port's transfer.  Of overlapping entries, which careless software makes, any may
    # answer.
    overlap, owed, spared = Signal(), Signal(), Signal()
    m.d.sync += overlap.eq(overlap | (maps & ~replaces))
    asks = outside.looks & same & _suffices(asked, entry) & (~asked.elsewhere | (size != 12))
    m.d.sync += [
        owed.eq(kept.any() & asks & ~overlap),
        spared.eq((spared | outside.invalidates) & kept.any()),
    ]
    m.d.comb += [Assert(~owed | (result.hit & exact)), Cover(owed), Cover(owed & spared)]
    # Nobody waits for ever: an invalidation passes within two sweeps.
    waiting = Signal(5)
    m.d.sync += waiting.eq(Mux(dut.invalidate.valid & ~dut.invalidate.ready, waiting + 1, 0))
    m.d.comb += Assert(waiting <= GEOMETRY["iotlb_sets"] + 6)
    return m, outside.ports


_ASSUMPTIONS = (
    "a lookup says whether the set that was named a cycle before is its page's",
    "fills and invalidations on offer stay, but a fill may be withdrawn as an invalidation passes",
    "sizes are 4 KiB, 64 KiB and 2 MiB",
    "IDs have 2 bits that may be set, physical pages 12, page numbers 13 and their sign",
    "GSCID is 0 without a second stage",
)

_COVERS = (
    "the last fill is asked for, and after an invalidation that spares it",
    "hits of a page and within a superpage",
    "a miss after an invalidation",
    "a fill, of a piece or not, and an invalidation offered in one cycle, either first",
)

PROOFS = (
    Proof(
        name="iotlb",
        claim="a hit is what the last fill of its page said, which no later invalidation covers, "
        "and has the rights that are asked for; no fill is lost, nor removed by an invalidation "
        "that does not cover it",
        module="rtl.iommu.iotlb",
        harness=iotlb,
        depth=18,
        quick=9,
        assumptions=_ASSUMPTIONS,
        covers=_COVERS,
        plants=(
            Plant(
                name="what is being swept is answered",
                old="self.sweeping & covers_space(op, key",
                new="Const(0, 1) & covers_space(op, key",
            ),
            Plant(
                name="an invalidation of one page sweeps the wrong set",
                old="Mux(single, iotlb_set(op.addr, vm, sets), 0)",
                new="Mux(single, iotlb_set(~op.addr, vm, sets), 0)",
                depth=14,
            ),
            Plant(
                name="an invalidation without a VM sweeps the set of one",
                old="vm = Mux(op.gv, op.gscid, 0)",
                new="vm = op.gscid",
                depth=14,
            ),
            Plant(
                name="a lookup believes what it finds in another page's set",
                old="ways.elsewhere.eq(self.lookup.payload.elsewhere)",
                new="ways.elsewhere.eq(0)",
            ),
            Plant(
                name="a fill does not wait for an invalidation in its cycle",
                old="begins.eq(~busy & beside & fill.valid & ~self.invalidate.valid)",
                new="begins.eq(~busy & beside & fill.valid)",
            ),
            Plant(
                name="pieces of larger pages are not touched by every address",
                module="rtl.iommu.iotlb_entry",
                old="op.gvma | piece | same",
                new="op.gvma | same",
            ),
            Plant(
                name="an invalidation of a process removes global entries",
                module="rtl.iommu.iotlb_entry",
                old="(pscid & ~glob)",
                new="pscid",
            ),
            Plant(
                name="rights of what is just written are those of what was there",
                module="rtl.iommu.iotlb_ways",
                old="right = Mux(late, sufficient(self.asks, self.new.tag), ",
                new="right = Mux(late, sufficient(self.asks, look.tag), ",
            ),
            Plant(
                name="an entry of the same page stays beside the new one",
                module="rtl.iommu.iotlb_ways",
                old="Mux(same.any(), lowest_bit(same), Mux(free.any(), lowest_bit(free), victim))",
                new="Mux(free.any(), lowest_bit(free), victim)",
                depth=12,
            ),
        ),
    ),
    Proof(
        name="iotlb-ranges",
        claim="the same where invalidations may be of ranges",
        module="rtl.iommu.iotlb",
        harness=partial(iotlb, ranges=True),
        depth=18,
        quick=9,
        assumptions=_ASSUMPTIONS,
        covers=_COVERS,
        plants=(
            Plant(
                name="a range is one page",
                old="self.span.eq(Mux(op.s, op.addr ^ (op.addr + 1)[:52], 0))",
                new="self.span.eq(0)",
            ),
            Plant(
                name="a range visits one set",
                old="single = op.av & ~op.gvma & ~ranges & ~self.pieces",
                new="single = op.av & ~op.gvma & ~self.pieces",
                depth=14,
            ),
        ),
    ),
)
