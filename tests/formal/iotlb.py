"""Harness of the IOTLB: answers only from fills that no later invalidation covers."""

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Shape, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbKey, iotlb_set

from .prover import Plant, Proof, anything, held

__all__ = ["PROOFS"]

#: The smallest geometry that has a choice everywhere.
GEOMETRY = {"iotlb_ways": 2, "iotlb_sets": 2, "iotlb_superpages": 1}


#: Bits of long fields that are free; the others are 0 (of page numbers: equal the highest).
FREE = {"gscid": 2, "pscid": 2, "ppn": 12, "vpn": 13, "addr": 13, "device_id": 0, "tag": 0}
SIGNED = ("vpn", "addr")


def _narrow(view):
    """Return the bits of a record with fewer free ones."""
    parts = []
    for name, _ in data.Layout.cast(view.shape()):
        value = view[name]
        if isinstance(value, data.View):
            parts.append(_narrow(value))
        elif name in FREE:
            free, width = FREE[name], len(value)
            high = value[free - 1] if name in SIGNED else 0
            parts += [value[:free], (Const(0, 1) | high).replicate(width - free)]
        else:
            parts.append(value.as_value() if hasattr(value, "as_value") else value)
    return Cat(*parts)


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
            lookup.as_value().eq(_narrow(asked)),
            dut.lookup.valid.eq(self.input("lookup_valid", 1)),
            Assume(lookup.elsewhere == (at != asks)),
        ]
        self.looks = dut.lookup.valid & dut.lookup.ready
        for name in ("fill", "invalidate"):
            port = getattr(dut, name)
            width = len(port.payload.as_value())
            valid, payload = self.input(f"{name}_valid", 1), self.input(name, width)
            record = data.View(port.payload.shape(), payload)
            m.d.comb += [port.valid.eq(valid), port.payload.as_value().eq(_narrow(record))]
            setattr(self, f"{name}s", port.valid & port.ready)
            waits, before = Signal(name=f"{name}_waits"), Signal(width, name=f"{name}_before")
            withdrawn = dut.invalidate.valid & dut.invalidate.ready if name == "fill" else 0
            m.d.sync += [waits.eq(valid & ~port.ready & ~withdrawn), before.eq(payload)]
            m.d.comb += Assume(~waits | (valid & (payload == before)))
        fill = dut.fill.payload
        m.d.comb += Assume((fill.size == 12) | (fill.size == 16) | (fill.size == 21))
        for key in (fill.key, lookup.key):
            m.d.comb += Assume((key.gv | (key.gscid == 0)) & (key.pv | (key.pscid == 0)))

    def input(self, name: str, width: int) -> Signal:
        """Return a new free input."""
        return anything(self.ports, name, width)


def _range_bits(size):
    """Ones in the page-number bits within a range of that size."""
    return Mux(size == 12, 0, Mux(size == 16, 0xF, Const(0x1FF, 52)))


def _covers(op, key, size, glob, *, ranges: bool):
    """Whether the specification has an invalidation remove an entry."""
    span = Mux(op.s, op.addr ^ (op.addr + 1)[:52], 0) if ranges else Const(0, 52)
    apart = (op.addr ^ key.vpn) & ~span & ~_range_bits(size)
    vm = Mux(op.gv, key.gv & (key.gscid == op.gscid), Mux(op.gvma, key.gv, ~key.gv))
    process = ~op.pscv | ((key.pscid == op.pscid) & ~glob)
    first_stage = key.pv & process & (~op.av | (apart == 0))
    return vm & (op.gvma | first_stage)


def iotlb(module, *, ranges: bool = False):
    """Follow one arbitrary key, size and target, the same in all cycles."""
    config = IommuConfig(**GEOMETRY, s=ranges)
    m = Module()
    m.submodules.dut = dut = module.Iotlb(config)
    outside = _Outside(m, dut)

    def symbolic(name, shape):
        raw = outside.input(name, Shape.cast(shape).width)
        held(m, raw)
        if isinstance(shape, int):
            return raw
        value = Signal(shape, name=f"the_{name}")
        m.d.comb += value.as_value().eq(_narrow(data.View(shape, raw)))
        return value

    key = symbolic("key", IotlbKey)
    size, target, glob = symbolic("size", 6), symbolic("target", 44), symbolic("global", 1)
    fill, op, asked = dut.fill.payload, dut.invalidate.payload, dut.lookup.payload
    # A fill that maps the key's page to the target, as its rights and tag say.
    within = _range_bits(fill.size)
    space = (
        (fill.key.gv == key.gv)
        & (fill.key.gscid == key.gscid)
        & (fill.key.pv == key.pv)
        & (fill.key.msi == key.msi)
        & ((fill.key.pscid == key.pscid) | fill.glob | ~key.pv)
    )
    maps = (
        space
        & (((fill.key.vpn ^ key.vpn) & ~within) == 0)
        & (fill.size == size)
        & (fill.glob == glob)
        & ((((fill.ppn & ~within) | (key.vpn & within))[:44]) == target)
    )
    covered = outside.invalidates & _covers(op, key, size, glob, ranges=ranges)
    filled = outside.fills & maps
    alive, kept, gone = Signal(), Signal(), Signal()
    # Within one cycle the invalidation comes first, then the fill.
    with m.If(filled):
        m.d.sync += alive.eq(1)
    with m.Elif(covered):
        m.d.sync += alive.eq(0)
    m.d.sync += gone.eq((gone | covered) & ~filled)
    result = dut.result
    same = asked.key.as_value() == key.as_value()
    # A result comes a cycle after its lookup, and is of what was true then.
    looked, was_alive, was_gone = Signal(), Signal(), Signal()
    m.d.sync += [looked.eq(outside.looks & same), was_alive.eq(alive), was_gone.eq(gone)]
    answers = looked & result.hit
    exact = (result.ppn == target) & (result.size == size) & (result.glob == glob)
    m.d.comb += [
        Assert(~(answers & exact) | was_alive),
        Cover(answers & exact & (size == 12)),
        Cover(answers & exact & (size == 21) & (key.vpn[:9] != 0)),
        Cover(looked & was_gone & ~result.hit),
    ]
    # What was filled last is answered until an invalidation: no fill is lost beside another port's
    # transfer.  Of overlapping entries, which careless software makes, any may answer.
    overlap = Signal()
    others = (fill.size != size) | (fill.glob != glob) | (fill.key.pscid != key.pscid)
    with m.If(outside.fills & space & (((fill.key.vpn ^ key.vpn) & ~within) == 0) & others):
        m.d.sync += overlap.eq(1)
    full = fill.r & fill.u & ~fill.glob & (fill.key.pscid == key.pscid)
    with m.If(filled & full):
        m.d.sync += kept.eq(1)
    with m.Elif(outside.fills | outside.invalidates):
        m.d.sync += kept.eq(0)
    reads = ~asked.write & ~asked.exec & ~asked.priv & ~asked.ats
    asks = outside.looks & same & reads & ~glob & ~overlap & ~asked.elsewhere
    owed = Signal()
    m.d.sync += owed.eq(kept & asks)
    m.d.comb += [Assert(~owed | (result.hit & exact)), Cover(owed)]
    # Nobody waits for ever: an invalidation passes within two sweeps.
    waiting = Signal(5)
    m.d.sync += waiting.eq(Mux(dut.invalidate.valid & ~dut.invalidate.ready, waiting + 1, 0))
    m.d.comb += Assert(waiting <= GEOMETRY["iotlb_sets"] + 6)
    m.d.comb += Cover(filled & dut.invalidate.valid)
    m.d.comb += Cover(outside.invalidates & dut.fill.valid)
    return m, outside.ports


_ASSUMPTIONS = (
    "a lookup says whether the set that was named a cycle before is its page's",
    "fills and invalidations on offer stay, but a fill may be withdrawn as an invalidation passes",
    "sizes are 4 KiB, 64 KiB and 2 MiB",
    "IDs have 2 bits that may be set, physical pages 12, page numbers 13 and their sign",
    "GSCID and PSCID are 0 if their stage is off",
)

PROOFS = (
    Proof(
        name="iotlb",
        claim="a hit comes from a fill that no later invalidation covers; no fill is lost",
        module="rtl.iommu.iotlb",
        harness=iotlb,
        depth=13,
        quick=9,
        assumptions=_ASSUMPTIONS,
        covers=(
            "the last fill is asked for",
            "hits of a page and within a superpage",
            "a miss after an invalidation",
            "a fill and an invalidation offered in one cycle, either first",
        ),
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
        ),
    ),
)
