"""Harness of a walk cache: answers only from fills that no later invalidation covers."""

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from rtl.iommu.seams import InvalidateKind

from .prover import Plant, Proof, constant

__all__ = ["PROOFS"]

#: Bits of long fields that are free; the others are 0.
FREE = {"gscid": 1, "pscid": 1, "prefix": 1, "ppn": 1, "gpa_ppn": 0, "addr": 0, "did": 0}
ENTRIES = 4


def _narrow(layout, raw):
    """A record with fewer free bits."""
    parts = []
    for name, field in data.Layout.cast(layout):
        free = min(FREE.get(name, field.width), field.width)
        parts += [raw[field.offset : field.offset + free], Const(0, field.width - free)]
    return data.View(layout, Cat(*parts))


def _harness(module, *, second: bool):
    """Follow one arbitrary key and table."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.WalkCache(entries=ENTRIES, second=second)

    def free(name, width=1):
        signal = Signal(width, name=name)
        ports.append(signal)
        return signal

    key_bits, table_bits = len(dut.key.as_value()), len(dut.found.as_value())
    key = _narrow(module.TableKey, constant(m, ports, key_bits, "the_key"))
    table = _narrow(module.TableOfStage, constant(m, ports, table_bits, "the_table"))
    op = dut.invalidate
    m.d.comb += [
        dut.key.eq(_narrow(module.TableKey, free("key", key_bits))),
        dut.fill_key.eq(_narrow(module.TableKey, free("fill_key", key_bits))),
        dut.fill_table.eq(_narrow(module.TableOfStage, free("fill_table", table_bits))),
        dut.fill_en.eq(free("fill_en")),
        dut.invalidate_en.eq(free("invalidate_en")),
        op.eq(_narrow(module.Invalidate, free("invalidate", len(op.as_value())))),
        Assume(~dut.invalidate_en | ~dut.busy),
    ]
    for record in (dut.key, dut.fill_key, key):
        ids = record.gv & (record.pscid == 0) if second else record.gv | (record.gscid == 0)
        m.d.comb += Assume(ids)

    # What the specification has an invalidation forget of tables that are not leaves.
    vma, gvma = op.kind == InvalidateKind.VMA, op.kind == InvalidateKind.GVMA
    vm = Mux(op.gv, key.gv & (key.gscid == op.gscid), ~key.gv)
    of_second = gvma & (~op.gv | (key.gscid == op.gscid)) & (~op.av | op.nl)
    of_first = vma & vm & (~op.pscv | (key.pscid == op.pscid)) & (~op.av | op.nl)
    # The first stage's were reached through the second.
    through = gvma & key.gv & (~op.gv | (key.gscid == op.gscid))
    covers = dut.invalidate_en & (of_second if second else of_first | through)
    same = dut.fill_en & (dut.fill_key.as_value() == key.as_value())
    maps = same & (dut.fill_table.as_value() == table.as_value())
    alive, kept, gone, both = Signal(), Signal(), Signal(), Signal()
    m.d.sync += [
        alive.eq((alive | maps) & ~covers),
        kept.eq(((maps & ~dut.busy) | (kept & ~dut.fill_en)) & ~covers),
        gone.eq((gone | (covers & alive)) & ~same),
        both.eq((maps & ~dut.busy & dut.invalidate_en & ~covers) | (both & ~dut.fill_en)),
    ]
    asks = dut.key.as_value() == key.as_value()
    found = dut.hit & (dut.found.as_value() == table.as_value())
    m.d.comb += [
        Assert(~(asks & found) | alive),
        Assert(~(asks & kept) | found),
        Cover(asks & found & ~kept),
        Cover(asks & kept & both & ~dut.busy),
        Cover(asks & gone & ~dut.hit & dut.busy),
    ]
    # Clearing ends, so that no invalidation waits for ever.
    busy = Signal(range(8))
    m.d.sync += busy.eq(Mux(dut.busy, busy + 1, 0))
    m.d.comb += Assert(busy <= ENTRIES // 2)
    return m, ports


def first_stage(module):
    """Tables of the first stage."""
    return _harness(module, second=False)


def second_stage(module):
    """Tables of the second stage."""
    return _harness(module, second=True)


_SHARED = {
    "module": "rtl.iommu.walk_cache",
    "depth": 10,
    "quick": 7,
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
                name="what is being swept is found",
                old="gone = sweeping & self._covers(op, entry.key)",
                new="gone = Signal()",
            ),
            Plant(
                name="an invalidation of a VM's second stage leaves the first stage's tables",
                old="return Mux(gvma, key.gv & (~op.gv | same_vm), vma)",
                new="return Mux(gvma, 0, vma)",
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
                old="concerns = (new.kind == InvalidateKind.GVMA)",
                new="concerns = (new.kind == InvalidateKind.DDT)",
            ),
        ),
        **_SHARED,
    ),
)
