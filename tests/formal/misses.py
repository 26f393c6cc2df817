"""Harness of the miss table: staleness, joins, and who waits for whom."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from models.spec.translation import TranslationRequest

from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Entries beyond ``misses``, so that the table is small.
SPARE = 2


def miss_table(module, *, single: bool = False):
    """Follow one arbitrary leader and everybody who joins it, or whether there is a ``single`` one
    to join.
    """
    m, ports = Module(), []
    depth, module.PIPELINE_DEPTH = module.PIPELINE_DEPTH, SPARE
    try:
        m.submodules.dut = dut = module.MissTable(IommuConfig(misses=1, walkers=1))
    finally:
        module.PIPELINE_DEPTH = depth
    count = dut.entries

    free = partial(anything, ports)

    for name in ("offer", "allocate_en", "free_en", "release_en", "stale_all"):
        m.d.comb += getattr(dut, name).eq(free(name, 1))
    for name in ("free_entry", "release_entry"):
        m.d.comb += getattr(dut, name).eq(free(name, 8))
    m.d.comb += [dut.detach.eq(free("detach", count)), dut.closes.eq(free("closes", count))]
    allocate = data.View(dut.allocate.shape(), free("allocate", len(dut.allocate.as_value())))
    # What may be stored is announced before.
    announced = Signal(TranslationRequest)
    m.d.comb += [
        dut.comes.eq(free("comes", 1)),
        dut.coming.as_value().eq(free("coming", len(dut.coming.as_value()))),
        dut.allocate.eq(allocate),
        dut.allocate.held.request.eq(announced),
    ]
    with m.If(dut.comes):
        m.d.sync += announced.eq(dut.coming)
    for name in ("walk", "context"):
        m.d.comb += getattr(dut, name).ready.eq(free(f"{name}_ready", 1))
    leader, other = (constant(m, ports, 8, name) for name in ("leader", "other"))
    m.d.comb += [
        Assume(leader < count),
        Assume(other < count),
        Assume(leader != other),
        dut.members_of.eq(leader),
        Assume(allocate.held.entry < count),
    ]
    # Which entries are in use, or were until the cycle before; a new request takes another one.
    used, after, gone = Signal(count), Signal(count), Signal(count)
    fresh = dut.allocate_en & ~allocate.held.replay
    m.d.sync += [used.eq(after), gone.eq(used & ~after)]
    m.d.comb += after.eq(
        (used | Mux(fresh, dut.chosen, 0)[:count])
        & ~Mux(dut.free_en, 1 << dut.free_entry[:2], 0)[:count]
        & ~Mux(dut.release_en, 1 << dut.release_entry[:2], 0)[:count]
    )
    for name in ("free", "release"):
        entry = getattr(dut, f"{name}_entry")
        in_use = (entry < count) & used.bit_select(entry[:2], 1)
        replays = dut.allocate_en & allocate.held.replay & (allocate.held.entry == entry)
        m.d.comb += Assume(~getattr(dut, f"{name}_en") | (in_use & ~replays))
    m.d.comb += [
        Assume(~(dut.free_en & dut.release_en) | (dut.free_entry != dut.release_entry)),
        Assume(~fresh | ~(used | gone).all()),
        Assert(~fresh | (dut.chosen.any() & ((dut.chosen & (dut.chosen - 1 | used)) == 0))),
        Assume(~dut.allocate_en | (dut.offer & dut.comes)),
        Assume(~dut.offer | ~allocate.held.replay | dut.allocate_en),
        Assume(~allocate.held.replay | used.bit_select(allocate.held.entry[:2], 1)),
        Assert((dut.members & ~used) == 0),
    ]
    if single:
        m.d.comb += [
            Assert(~dut.allocate_en | ((dut.match & (dut.match - 1)) == 0)),
            Cover(dut.allocate_en & dut.match.any()),
        ]
        return m, ports
    waits = dut.members.bit_select(other, 1)
    stale = dut.stale.bit_select(leader, 1)
    gives = (dut.free_en & (dut.free_entry == other)) | (
        dut.release_en & (dut.release_entry == other)
    )
    before = {
        name: Signal(name=f"before_{name}")
        for name in ("waits", "stale", "allocates", "fresh", "closes", "leaves", "all", "begun")
    }
    replayed = dut.allocate_en & allocate.held.replay & (allocate.held.entry == other)
    m.d.sync += [
        before["waits"].eq(waits),
        before["stale"].eq(stale),
        before["allocates"].eq(dut.allocate_en),
        before["fresh"].eq(dut.allocate_en & ~allocate.stale & ~dut.stale_all),
        before["closes"].eq(dut.closes.bit_select(leader, 1)),
        before["leaves"].eq(gives | dut.detach.bit_select(other, 1) | replayed),
        before["all"].eq(dut.stale_all),
        before["begun"].eq(1),
    ]
    joined = before["begun"] & waits & ~before["waits"]
    m.d.comb += [
        # What an invalidation has met stays stale until its entry is another request's.
        Assert(~before["all"] | dut.stale.all()),
        Assert(~before["stale"] | stale | before["fresh"]),
        # Nobody joins a walk that is older than an invalidation, or that has been answered.
        Assert(~joined | (before["allocates"] & ~before["stale"] & ~before["closes"])),
        # Nobody is lost: who waits leaves by being answered, replayed or detached alone.
        Assert(~before["waits"] | waits | before["leaves"]),
        Cover(joined),
        Cover(stale & waits),
        Cover(before["stale"] & ~stale),
    ]
    return m, ports


_ASSUMPTIONS = (
    "a new request comes only while an entry has been free for a cycle",
    "what comes is announced in an earlier cycle, and stored once; what comes again is not kept "
    "outside",
    "entries in use alone are given back, each once, or come again",
)

PROOFS = (
    Proof(
        name="miss-table",
        claim="stale stays stale; nobody joins a stale or closed walk; nobody who waits is lost",
        module="rtl.iommu.misses",
        harness=miss_table,
        depth=14,
        quick=7,
        assumptions=_ASSUMPTIONS,
        covers=("a join", "a joined walk turns stale", "a stale entry is used afresh"),
        plants=(
            Plant(
                name="requests join what an invalidation has met",
                old="with m.If(self.closes[i] | self.stale_all):",
                new="with m.If(self.closes[i]):",
            ),
            Plant(
                name="requests join what is being answered",
                old="joins[i] & ~self.closes[i]",
                new="joins[i]",
            ),
        ),
    ),
    Proof(
        name="miss-leaders",
        claim="a request finds one leader to join at most",
        module="rtl.iommu.misses",
        harness=partial(miss_table, single=True),
        depth=9,
        quick=6,
        assumptions=_ASSUMPTIONS,
        covers=("a join",),
        plants=(
            Plant(
                name="a request is not compared with the one right before it",
                old="Mux(writes[i], equals(who, how), equals(whos[i], hows[i]))",
                new="equals(whos[i], hows[i])",
            ),
        ),
    ),
)
