"""Harness of the walk caches: they answer only from fills that no later invalidation covers."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from rtl.iommu.seams import InvalidateKind

from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Bits of long fields that are free; the others are 0.  Of prefixes the lowest of each level is.
FREE = {"gscid": 1, "pscid": 1, "ppn": 1, "gpa_page": 0, "addr": 0, "did": 0}
LEVELS = (0, 9)
ENTRIES = 2
#: Cycles in which all rows are read and cleared.
LONGEST = 4 * ENTRIES


def _narrow(layout, raw):
    """A record with fewer free bits."""
    parts = []
    for name, field in data.Layout.cast(layout):
        bits = raw[field.offset : field.offset + field.width]
        if name == "prefix":
            parts += [bit if n in LEVELS else Const(0, 1) for n, bit in enumerate(bits)]
        else:
            free = min(FREE.get(name, field.width), field.width)
            parts += [bits[:free], Const(0, field.width - free)]
    return data.View(layout, Cat(*parts))


def _equal(record, other, level: int):
    """Whether keys are of one table of a level."""
    fields = (name for name in ("second", "gv", "gscid", "pscid"))
    prefix = (record.prefix ^ other.prefix)[LEVELS[level] :] == 0
    return prefix & Cat(record[name] == other[name] for name in fields).all()


def _harness(module, *, second: bool, level: int):
    """Follow one arbitrary key of a stage and one table of a level."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.WalkCache(IommuConfig(walk_cache=ENTRIES))

    free = partial(anything, ports)

    key_bits, table_bits = len(dut.key.as_value()), len(dut.fill.as_value())
    key = _narrow(module.TableKey, constant(m, ports, key_bits, "the_key"))
    table = _narrow(module.TableOfStage, constant(m, ports, table_bits, "the_table"))
    op, fills = dut.invalidate, dut.fill_en[level]
    m.d.comb += [
        dut.look_en.eq(free("look_en")),
        dut.look.eq(_narrow(module.TableKey, free("look", key_bits))),
        dut.key.eq(_narrow(module.TableKey, free("key", key_bits))),
        dut.fill.eq(_narrow(module.TableOfStage, free("fill", table_bits))),
        dut.fill_en.eq(free("fill_en", 2)),
        dut.invalidate_en.eq(free("invalidate_en")),
        op.eq(_narrow(module.Invalidate, free("invalidate", len(op.as_value())))),
        Assume(~dut.invalidate_en | ~dut.busy),
        Assume(key.second == second),
    ]
    for record in (dut.key, dut.look, key):
        of_second = record.gv & (record.pscid == 0)
        of_first = record.gv | (record.gscid == 0)
        m.d.comb += Assume(Mux(record.second, of_second, of_first))

    # What the specification has an invalidation forget of tables that are not leaves.
    vma, gvma = op.kind == InvalidateKind.VMA, op.kind == InvalidateKind.GVMA
    vm = Mux(op.gv, key.gv & (key.gscid == op.gscid), ~key.gv)
    of_second = gvma & (~op.gv | (key.gscid == op.gscid)) & (~op.av | op.nl)
    of_first = vma & vm & (~op.pscv | (key.pscid == op.pscid)) & (~op.av | op.nl)
    # The first stage's were reached through the second.
    through = gvma & key.gv & (~op.gv | (key.gscid == op.gscid))
    covers = dut.invalidate_en & (of_second if second else of_first | through)
    # One that names no address space may forget more.
    whole = dut.invalidate_en & ~op.gv & (gvma | (vma & ~op.pscv))
    same = fills & _equal(dut.key, key, level)
    maps = same & (dut.fill.as_value() == table.as_value())
    looks = dut.look_en & _equal(dut.look, key, level)
    beside = fills & (dut._row(dut.look, level) == dut._row(dut.key, level))
    undisturbed = ~dut.busy & ~beside & ~dut.invalidate_en
    alive, kept, gone, both, asked, known = (Signal() for _ in range(6))
    m.d.sync += [
        alive.eq((alive | maps) & ~covers),
        kept.eq(((maps & ~dut.busy) | (kept & ~fills)) & ~covers & ~whole),
        gone.eq((gone | (covers & alive)) & ~same),
        both.eq((maps & ~dut.busy & dut.invalidate_en & ~covers) | (both & ~fills)),
        known.eq(Mux(dut.look_en, looks & kept & undisturbed, known & ~dut.invalidate_en)),
    ]
    with m.If(dut.look_en):
        m.d.sync += asked.eq(looks)
    asks = asked & _equal(dut.key, key, level)
    tables = (dut.found0, dut.found1)
    found = dut.hits[level] & (tables[level].as_value() == table.as_value())
    m.d.comb += [
        Assert(~(asks & found) | alive),
        Assert(~(asks & known) | found),
        Cover(asks & found & ~kept),
        Cover(asks & known & both),
        Cover(asks & gone & ~dut.hits[level] & dut.busy),
    ]
    # Clearing ends, so that no invalidation waits for ever.
    busy = Signal(range(LONGEST + 2))
    m.d.sync += busy.eq(Mux(dut.busy, busy + 1, 0))
    m.d.comb += Assert(busy <= LONGEST)
    return m, ports


_SHARED = {
    "module": "rtl.iommu.walk_cache",
    "depth": 16,
    "quick": 10,
    "assumptions": (
        "an invalidation comes only while no other is being carried out",
        "IDs, addresses and physical pages have 1 bit that may be set",
        "IDs of a stage that is off are 0",
    ),
    "covers": (
        "an older fill is found",
        "a fill beside an invalidation that does not cover it is found when that is done",
        "what an invalidation covers is not found while it is being cleared",
    ),
}
PROOFS = (
    Proof(
        name="walk-cache-first",
        claim="a table comes from a fill that no later invalidation covers; no fill is lost",
        harness=partial(_harness, second=False, level=0),
        plants=(
            Plant(
                name="what was read before an invalidation is found after it",
                old="m.d.sync += fresh.eq(0)",
                new="m.d.sync += fresh.eq(fresh)",
            ),
            Plant(
                name="an invalidation of a VM's second stage leaves the first stage's tables",
                old="sweeping.eq(gvma | (vma & non_leaf))",
                new="sweeping.eq((gvma | vma) & non_leaf)",
            ),
        ),
        **_SHARED,
    ),
    Proof(
        name="walk-cache-second",
        claim="the same of the second stage",
        harness=partial(_harness, second=True, level=0),
        plants=(
            Plant(
                name="IOTINVAL.GVMA leaves the second stage's tables",
                old="both.eq(gvma & non_leaf)",
                new="both.eq(0)",
            ),
        ),
        **_SHARED,
    ),
    Proof(
        name="walk-cache-first-upper",
        claim="the same of the first stage's tables a level above",
        harness=partial(_harness, second=False, level=1),
        plants=(
            Plant(
                name="tables of the upper level are told by the lower one's part of the address",
                old="prefix = key.prefix[_LEVEL_BITS * level : self._prefix_bits]",
                new="prefix = key.prefix[: self._prefix_bits - _LEVEL_BITS * level]",
            ),
        ),
        **_SHARED,
    ),
    Proof(
        name="walk-cache-second-upper",
        claim="the same of the second stage's tables a level above",
        harness=partial(_harness, second=True, level=1),
        plants=(
            Plant(
                name="tables of both levels are kept in both",
                old="self.fill_en[level]))",
                new="self.fill_en.any()))",
            ),
        ),
        **_SHARED,
    ),
)
