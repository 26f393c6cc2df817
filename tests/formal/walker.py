"""Harness of the walker: no walk is lost or doubled, and none that is stale fills a cache, whatever
its steps decide.
"""

import importlib
from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Fragment, Module, Mux, Signal

from models.spec.config import IommuConfig

from .ports import promise, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Entries of the miss table beyond ``misses``.
SIZES = {"PIPELINE_DEPTH": 1}
#: Cycles that a walk may stay inside while everything outside is ready.
PATIENCE = 8


class _Bench(Elaboratable):
    """The walker with other steps: each ends the walk, reads or stores as ``decides`` says.

    With ``tables``, steps find tables as it says, which ``fills`` and ``filler`` tell of instead of
    walk caches; these are busy as ``busy`` says.
    """

    def __init__(self, module, decides: Signal, *, tables=None, busy=None) -> None:
        self._module, self._decides = module, decides
        self._tables, self._busy = tables, busy
        self._lookup = importlib.import_module("rtl.iommu.walk_lookup")
        self.fills, self.filler = Signal(2), Signal(8)
        kept = {name: getattr(module, name) for name in SIZES}
        try:
            for name, size in SIZES.items():
                setattr(module, name, size)
            cache = 0 if tables is None else 2
            self.dut = module.Walker(IommuConfig(misses=1, walkers=1, walk_cache=cache))
        finally:
            for name, size in kept.items():
                setattr(module, name, size)

    def elaborate(self, platform):
        bench, module, lookup = self, self._module, self._lookup
        decides, tables = self._decides, self._tables
        goal = module.Goal
        kept = (module.WalkStep, module.WalkEntry, lookup.WalkDecide, lookup.WalkCache)

        class AnyStep(module.WalkStep):
            """Stores or reads; the lock bit says that the walk ends."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [
                    self.judged.goal.goal.eq(Mux(decides[0], goal.STORE, goal.READ)),
                    self.judged.goal.lock.eq(decides[1]),
                ]
                if tables is not None:
                    m.d.comb += [
                        self.judged.goal.table_first.eq(tables[0]),
                        self.judged.goal.table_second.eq(tables[1]),
                        self.judged.goal.state.s_level.eq(tables[2]),
                        self.judged.goal.state.g_level.eq(tables[3]),
                    ]
                return m

        class NoDecision(lookup.WalkDecide):
            """It has been decided."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += self.goal.eq(self.judged.goal)
                return m

        class AnyEntry(module.WalkEntry):
            """Ends the walk if the step says so."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [
                    self.ends.eq(self.goal.lock),
                    self.end.index.eq(self.goal.index),
                ]
                return m

        class NoCache(lookup.WalkCache):
            """Knows nothing and tells what it is to keep."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [bench.fills.eq(self.fill_en), self.busy.eq(bench._busy)]
                return m

        module.WalkStep, module.WalkEntry = AnyStep, AnyEntry
        lookup.WalkDecide, lookup.WalkCache = NoDecision, NoCache
        try:
            m = Module()
            m.submodules.dut = Fragment.get(self.dut, platform)
        finally:
            module.WalkStep, module.WalkEntry, lookup.WalkDecide, lookup.WalkCache = kept
        m.d.comb += self.filler.eq(self.dut.lookup.o.payload.index)
        return m


class _Outside:
    """Free inputs of a walker with two walks, and what is known of these."""

    def __init__(self, m: Module, ports: list, dut) -> None:
        free = partial(anything, ports)
        memory, start, result = dut.memory, dut.start, dut.result
        for name, port in (
            ("ar", memory.ar),
            ("aw", memory.aw),
            ("w", memory.w),
            ("result", result),
        ):
            take(m, ports, name, port)
        m.d.comb += [
            start.valid.eq(free("start_valid")),
            start.payload.index.eq(free("start_index")),
            memory.r.valid.eq(free("r_valid")),
            memory.r.payload.id.eq(free("r_id")),
            memory.r.payload.last.eq(1),
            memory.b.valid.eq(free("b_valid")),
            memory.b.payload.id.eq(free("b_id")),
        ]
        promise(m, memory.r, "r")
        # Of both walks: under way, and what memory owes them.
        self.running, self.reads, self.stores = (
            Signal(2, name=name) for name in ("running", "reads", "stores")
        )
        self.begins, self.asks, self.puts, self.ended = (
            Signal(2, name=name) for name in ("begins", "asks", "puts", "ended")
        )
        for n in range(2):
            given = memory.r.valid & (memory.r.payload.id == n)
            stored = memory.b.valid & (memory.b.payload.id == n)
            ends = result.valid & result.ready & (result.payload.index == n)
            m.d.comb += [
                self.begins[n].eq(start.valid & start.ready & (start.payload.index == n)),
                self.asks[n].eq(memory.ar.valid & (memory.ar.payload.id == n)),
                self.puts[n].eq(memory.aw.valid & (memory.aw.payload.id == n)),
                self.ended[n].eq(ends),
                Assume(~(start.valid & (start.payload.index == n)) | ~self.running[n]),
                Assume(~given | self.reads[n]),
                Assume(~stored | (self.stores[n] & ~memory.w.valid)),
            ]
            asked, put = self.asks[n] & memory.ar.ready, self.puts[n] & memory.aw.ready
            m.d.sync += [
                self.running[n].eq((self.running[n] | self.begins[n]) & ~ends),
                self.reads[n].eq((self.reads[n] | asked) & ~(given & memory.r.ready)),
                self.stores[n].eq((self.stores[n] | put) & ~stored),
            ]


def walker(module):
    """Follow one arbitrary walk."""
    m, ports = Module(), []
    m.submodules.bench = bench = _Bench(module, anything(ports, "decides", 2))
    dut = bench.dut
    memory, result = dut.memory, dut.result
    walk = constant(m, ports, 1, "walk")
    outside = _Outside(m, ports, dut)
    running, reads, stores = outside.running, outside.reads, outside.stores
    for name, port in (("ar", memory.ar), ("aw", memory.aw), ("w", memory.w), ("result", result)):
        stable(m, port, name)
    for n in range(2):
        asks, puts, waits = outside.asks[n], outside.puts[n], reads[n] | stores[n]
        with m.If(walk == n):
            m.d.comb += [
                Assert(~asks | (running[n] & ~waits)),
                Assert(~puts | (running[n] & ~waits & ~asks)),
                Assert(~(result.valid & (result.payload.index == n)) | (running[n] & ~waits)),
                Cover(outside.ended[n] & reads[1 - n]),
            ]
    # It leaves the walker for memory or as a result: inside nothing is forgotten.
    inside = Signal(range(PATIENCE + 2))
    outside_ready = memory.ar.ready & memory.aw.ready & memory.w.ready & result.ready
    own = running.bit_select(walk, 1) & ~(reads | stores).bit_select(walk, 1)
    m.d.sync += inside.eq(Mux(own & outside_ready, inside + 1, 0))
    m.d.comb += [
        Assert(inside <= PATIENCE),
        Assert((memory.ar.payload.id < 2) | ~memory.ar.valid),
        Cover(stores.all()),
        Cover(reads.all()),
    ]
    return m, ports


def walk_fills(module):
    """Follow one arbitrary walk, whose requests are in a table that tells what is stale."""
    m, ports = Module(), []

    free = partial(anything, ports)

    bench = _Bench(module, free("decides", 2), tables=free("tables", 4), busy=free("busy"))
    m.submodules.bench, dut = bench, bench.dut
    walk = constant(m, ports, 1, "walk")
    outside = _Outside(m, ports, dut)
    invalidate, transfer = dut.invalidate, Signal()
    m.d.comb += [
        invalidate.valid.eq(free("invalidate_valid")),
        transfer.eq(invalidate.valid & invalidate.ready),
        dut.stale_all.eq(transfer),
    ]
    # As the miss table has it: stale until the entry is another request's.
    fresh, there, stale = free("fresh", 2), Signal(2), Signal(2)
    old = Signal(2)  # begun before an invalidation
    m.d.comb += [
        dut.stale.eq(stale),
        Assume((fresh & there) == 0),
        Assume(~dut.start.valid | there.bit_select(dut.start.payload.index[0], 1)),
    ]
    m.d.sync += [
        there.eq((there | fresh) & ~outside.ended),
        stale.eq((stale & ~fresh) | transfer.replicate(2)),
        old.eq((old | (outside.running & transfer.replicate(2))) & ~outside.begins),
    ]
    mine = bench.filler == walk
    fills = bench.fills.any() & mine
    was_old, met = old.bit_select(walk, 1), Signal()
    m.d.sync += met.eq(met | transfer)
    m.d.comb += [
        Assert(~fills | (outside.running.bit_select(walk, 1) & ~was_old & ~transfer)),
        Cover(bench.fills[0] & mine & met),
        Cover(bench.fills[1] & mine & outside.running.all() & old.any()),
        Cover(outside.ended.bit_select(walk, 1) & was_old),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="walker",
        claim="a walk that began has one access under way, or one result, until that is taken; "
        "none is doubled or forgotten; addresses, data and results on offer are stable",
        module="rtl.iommu.walker",
        harness=walker,
        depth=16,
        quick=10,
        assumptions=(
            "two walks, without MSI tables and the directory's walks",
            "a walk's steps read, store or end it in any order",
            "memory answers what it was asked, in any order; a store when it has its data",
        ),
        covers=("both walks wait for reads, and for stores", "one ends while the other reads"),
        plants=(
            Plant(
                name="a read is asked for twice",
                old="queue.w_en.eq(asks & ~at_once)",
                new="queue.w_en.eq(asks)",
            ),
            Plant(
                name="a stalled end is forgotten",
                old="results.w_en.eq(self.ready_valid & self.ends)",
                new="results.w_en.eq(self.ready_valid & self.ends & result.ready)",
                depth=18,
            ),
            Plant(
                name="a walk that begins beside an answer to a store is forgotten",
                old="start.ready.eq(first & ~b_valid & ~resume.valid)",
                new="start.ready.eq(first & ~resume.valid)",
                depth=20,
            ),
        ),
    ),
    Proof(
        name="walk-fills",
        claim="a walk that is older than an invalidation puts no table into the walk caches",
        module="rtl.iommu.walker",
        harness=walk_fills,
        depth=24,
        quick=11,
        assumptions=(
            "two walks, without MSI tables and the directory's walks",
            "a walk's steps read, store, end it or find tables, in any order",
            "memory answers what it was asked, in any order; a store when it has its data",
            "the miss table says what is stale (its own proof)",
        ),
        covers=(
            "a table of each level is kept, of a walk that began after an invalidation, and beside "
            "one that is stale",
            "a stale walk ends",
        ),
        plants=(
            Plant(
                name="stale walks fill",
                old="goal.keeps.eq(~stale & ~self.stale_all & ~step.directory)",
                new="goal.keeps.eq(1)",
            ),
            Plant(
                name="a step that is looked up is not met",
                module="rtl.iommu.walk_lookup",
                old="m.d.sync += out.keeps.eq(0)",
                new="m.d.sync += out.keeps.eq(decide.goal.keeps)",
            ),
            Plant(
                name="a table is kept beside an invalidation",
                module="rtl.iommu.walk_lookup",
                old="self.o.valid & out.keeps & ~self.stale_all & ~beyond",
                new="self.o.valid & out.keeps & ~beyond",
            ),
        ),
    ),
)
