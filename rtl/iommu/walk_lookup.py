"""What is known of a walk's goal: tables in the walk caches, and what the final address is."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from rtl.iommu.msi import is_interrupt_file, range_without_files
from rtl.iommu.seams import Invalidate
from rtl.iommu.walk_cache import TableKey, WalkCache
from rtl.iommu.walk_decide import WalkDecide
from rtl.iommu.walk_records import (
    GPA_BITS,
    Goal,
    WalkFound,
    WalkGoal,
    WalkJudged,
    gpa_page_bits,
)

__all__ = ["WalkLookup"]


class WalkLookup(wiring.Component):
    """Decides what a walk does, asks the walk caches where a stage begins, and keeps there what was
    found on the way, unless the walk is older than an invalidation.

    The first stage's caches are asked where it begins; if they do not know its tables, the second
    stage begins at its root.

    Latency
    -------
    Two cycles from ``i`` to ``o``, none without walk caches.

    Members
    -------
    i : ``In(stream.Signature(WalkJudged))``
        Steps.
    begins_first : ``In(1)``
        If the step asks for a lookup, then for the first stage's.
    o : ``Out(stream.Signature(WalkGoal))``; found : ``Out(WalkFound)``
        What they lead to, and what is known of it.
    stale_all : ``In(1)``
        An invalidation takes effect.
    invalidate : ``In(stream.Signature(Invalidate))``
        For the walk caches; ``ready`` does not depend on ``valid``.
    """

    i: In(stream.Signature(WalkJudged))
    begins_first: In(1)
    o: Out(stream.Signature(WalkGoal))
    found: Out(WalkFound)
    stale_all: In(1)
    invalidate: In(stream.Signature(Invalidate))

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        out = self.o.payload
        m.submodules.decide = self.decide = decide = WalkDecide(self.config)
        if self.config.walk_cache:
            # Before it is looked for, and while it is.
            self.asks, self.asked, self.first = Signal(), Signal(WalkJudged), Signal()
            self.moves = Signal()
            m.d.comb += [
                self.moves.eq(~self.o.valid | self.o.ready),
                self.i.ready.eq(~self.asks | self.moves),
                decide.judged.eq(self.asked),
            ]
            with m.If(self.i.ready):
                m.d.sync += [
                    self.asks.eq(self.i.valid),
                    self.asked.eq(self.i.payload),
                    self.first.eq(self.begins_first),
                ]
            with m.Elif(self.stale_all):
                m.d.sync += self.asked.goal.keeps.eq(0)
            with m.If(self.moves):
                m.d.sync += [self.o.valid.eq(self.asks), out.eq(decide.goal)]
            with m.If(self.stale_all):
                m.d.sync += out.keeps.eq(0)
            self._cache(m)
        else:
            m.d.comb += [
                decide.judged.eq(self.i.payload),
                self.o.valid.eq(self.i.valid),
                self.i.ready.eq(self.o.ready),
                out.eq(decide.goal),
                self.invalidate.ready.eq(1),
            ]
        self._begin(m)
        self._final(m)
        return m

    def _begin(self, m: Module) -> None:
        """Stage and levels of the access, with what the caches know of the stage that begins."""
        goal, found = self.o.payload, self.found
        first, level = goal.goal == Goal.FIRST, Mux(found.hits[0], 0, 1)
        hits = found.hits.any()
        m.d.comb += [
            found.first.eq(first & hits),
            found.enters.eq(
                (goal.goal == Goal.TABLE)
                | (goal.goal == Goal.FINAL)
                | (first & (goal.g_levels != 0) & ~hits)
            ),
            found.second.eq((goal.state.second | found.enters) & ~found.first),
            found.s_level.eq(Mux(found.first, level, goal.state.s_level)),
            found.g_level.eq(
                Mux(found.enters, Mux(hits, level, goal.g_levels - 1), goal.state.g_level)
            ),
        ]

    def _cache(self, m: Module) -> None:
        m.submodules.cache = cache = WalkCache(self.config)
        out = self.o.payload
        first = (out.goal == Goal.FIRST) | out.table_first
        level = Mux(first, out.state.s_level, out.state.g_level)
        beyond = out.state.table[self.config.pas - PAGE_SHIFT :].any()
        fills = (self.o.valid & out.keeps & ~self.stale_all & ~beyond) & (
            out.table_first | out.table_second
        )
        asks = (out.goal == Goal.FIRST) | (out.goal == Goal.TABLE) | (out.goal == Goal.FINAL)
        m.d.comb += [
            cache.look_en.eq(self.moves),
            cache.look.eq(_key(self.decide.goal, self.first)),
            cache.key.eq(_key(out, first)),
            *(cache.fill_en[n].eq(fills & (level == n)) for n in range(2)),
            cache.fill.ppn.eq(out.state.table),
            cache.fill.gpa_page.eq(out.state.gpa_page),
            cache.fill.glob.eq(out.state.glob),
            cache.invalidate.eq(self.invalidate.payload),
            cache.invalidate_en.eq(self.invalidate.valid & self.invalidate.ready),
            self.invalidate.ready.eq(~cache.busy),
            self.found.hits.eq(Mux(asks, cache.hits, 0)),
            self.found.table0.eq(cache.found0),
            self.found.table1.eq(cache.found1),
        ]

    def _final(self, m: Module) -> None:
        """Whether the second stage knows such an address, and where interrupt files are."""
        config, out, found = self.config, self.o.payload, self.found
        for levels, bits in GPA_BITS.items():
            with m.If(out.g_levels == levels):
                m.d.comb += found.too_wide.eq(out.gpa_page[bits - PAGE_SHIFT :].any())
        if config.sv32 or config.sv32x4:
            with m.If(out.sxl & out.gpa_page[GPA_BITS[2] - PAGE_SHIFT :].any()):
                m.d.comb += found.too_wide.eq(1)
        if not config.msi_flat:
            return
        bits = gpa_page_bits(config)
        page, mask, pattern = (x[:bits] for x in (out.gpa_page, out.msi_mask, out.msi_pattern))
        m.d.comb += found.file.eq(
            (out.goal == Goal.FINAL)
            & out.msi
            & ~out.gpa_page[bits:].any()
            & is_interrupt_file(page, mask, pattern)
        )
        limit = range_without_files(m, page, mask, pattern)
        m.d.comb += found.limit.eq(Mux((out.goal == Goal.FINAL) & out.msi, limit, 63))


def _key(goal, first):
    """Key of a goal's table of a stage."""
    page = Mux(first, goal.iova[PAGE_SHIFT:], goal.gpa_page)
    fields = {
        "second": ~first,
        "gv": goal.g_levels != 0,
        "gscid": goal.gscid,
        "pscid": goal.pscid,
        "prefix": page[9:47],
    }
    shape = TableKey.as_shape()
    return Cat(Cat(fields[name], Const(0, 64))[: shape[name].width] for name in shape.members)
