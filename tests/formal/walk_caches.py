"""Harness of the walk caches: they answer only from fills that no later invalidation covers."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from rtl.iommu.seams import InvalidateKind

from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Bits of long fields that are free; the others are 0.
FREE = {"gscid": 1, "pscid": 1, "prefix": 1, "ppn": 1, "gpa_page": 0, "addr": 0, "did": 0}
ENTRIES = 2
#: Cycles in which all rows are read and cleared.
LONGEST = 4 * ENTRIES


def _narrow(layout, raw):
    """A record with fewer free bits."""
    parts = []
    for name, field in data.Layout.cast(layout):
        free = min(FREE.get(name, field.width), field.width)
        parts += [raw[field.offset : field.offset + free], Const(0, field.width - free)]
    return data.View(layout, Cat(*parts))


def _harness(module, *, second: bool):
    """Follow one arbitrary key of a stage and one table of level 0."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.WalkCache(IommuConfig(walk_cache=ENTRIES))

    free = partial(anything, ports)

    key_bits, table_bits = len(dut.key.as_value()), len(dut.fill.as_value())
    key = _narrow(module.TableKey, constant(m, ports, key_bits, "the_key"))
    table = _narrow(module.TableOfStage, constant(m, ports, table_bits, "the_table"))
    op, fills = dut.invalidate, dut.fill_en[0]
    m.d.comb += [
        dut.look_en.eq(free("look_en")),
        dut.look.eq(_narrow(module.TableKey, free("look", key_bits))),
        dut.key.eq(_narrow(module.TableKey, free("key", key_bits))),
        dut.fill.eq(_narrow(module.TableOfStage, free("fill", table_bits))),
        fills.eq(free("fill_en")),
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
    same = fills & (dut.key.as_value() == key.as_value())
    maps = same & (dut.fill.as_value() == table.as_value())
    looks = dut.look_en & (dut.look.as_value() == key.as_value())
    beside = fills & (dut._row(dut.look, 0) == dut._row(dut.key, 0))
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
    asks = asked & (dut.key.as_value() == key.as_value())
    found = dut.hits[0] & (dut.found0.as_value() == table.as_value())
    m.d.comb += [
        Assert(~(asks & found) | alive),
        Assert(~(asks & known) | found),
        Cover(asks & found & ~kept),
        Cover(asks & known & both),
        Cover(asks & gone & ~dut.hits[0] & dut.busy),
    ]
    # Clearing ends, so that no invalidation waits for ever.
    busy = Signal(range(LONGEST + 2))
    m.d.sync += busy.eq(Mux(dut.busy, busy + 1, 0))
    m.d.comb += Assert(busy <= LONGEST)
    return m, ports


def first_stage(module):
    """Tables of the first stage."""
    return _harness(module, second=False)


def second_stage(module):
    """Tables of the second stage."""
    return _harness(module, second=True)


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
        harness=first_stage,
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
        harness=second_stage,
        plants=(
            Plant(
                name="IOTINVAL.GVMA leaves the second stage's tables",
                old="both.eq(gvma & non_leaf)",
                new="both.eq(0)",
            ),
        ),
        **_SHARED,
    ),
)
