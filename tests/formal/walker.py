"""Harness of the walker: no walk is lost, doubled or forgotten, whatever its steps decide."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Fragment, Module, Mux, Signal

from models.spec.config import IommuConfig
from rtl.iommu import walk_lookup

from .ports import promise, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Entries of the miss table beyond ``misses``.
SIZES = {"PIPELINE_DEPTH": 1}
#: Cycles that a walk may stay inside while everything outside is ready.
PATIENCE = 8


class _Bench(Elaboratable):
    """The walker with other steps: each ends the walk, reads or stores as ``decides`` says."""

    def __init__(self, module, decides: Signal) -> None:
        self._module, self._decides = module, decides
        kept = {name: getattr(module, name) for name in SIZES}
        try:
            for name, size in SIZES.items():
                setattr(module, name, size)
            self.dut = module.Walker(IommuConfig(misses=1, walkers=1))
        finally:
            for name, size in kept.items():
                setattr(module, name, size)

    def elaborate(self, platform):
        module, decides = self._module, self._decides
        step, entry, goal = module.WalkStep, module.WalkEntry, module.Goal
        decide = walk_lookup.WalkDecide

        class AnyStep(step):
            """Stores or reads; the lock bit says that the walk ends."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [
                    self.judged.goal.goal.eq(Mux(decides[0], goal.STORE, goal.READ)),
                    self.judged.goal.lock.eq(decides[1]),
                ]
                return m

        class NoDecision(decide):
            """It has been decided."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += self.goal.eq(self.judged.goal)
                return m

        class AnyEntry(entry):
            """Ends the walk if the step says so."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [
                    self.ends.eq(self.goal.lock),
                    self.end.index.eq(self.goal.index),
                ]
                return m

        module.WalkStep, module.WalkEntry = AnyStep, AnyEntry
        walk_lookup.WalkDecide = NoDecision
        try:
            return Fragment.get(self.dut, platform)
        finally:
            module.WalkStep, module.WalkEntry = step, entry
            walk_lookup.WalkDecide = decide


def walker(module):
    """Follow one arbitrary walk."""
    m, ports = Module(), []

    free = partial(anything, ports)

    m.submodules.bench = bench = _Bench(module, free("decides", 2))
    dut = bench.dut
    memory, start, result = dut.memory, dut.start, dut.result
    walk = constant(m, ports, 1, "walk")
    for name, port in (("ar", memory.ar), ("aw", memory.aw), ("w", memory.w), ("result", result)):
        take(m, ports, name, port)
        stable(m, port, name)
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
    running, reads, stores = (Signal(2, name=name) for name in ("running", "reads", "stores"))
    ends = result.valid & result.ready
    for n in range(2):
        begins = start.valid & start.ready & (start.payload.index == n)
        asks = memory.ar.valid & (memory.ar.payload.id == n)
        puts = memory.aw.valid & (memory.aw.payload.id == n)
        given = memory.r.valid & (memory.r.payload.id == n)
        stored = memory.b.valid & (memory.b.payload.id == n)
        ended = ends & (result.payload.index == n)
        m.d.sync += [
            running[n].eq((running[n] | begins) & ~ended),
            reads[n].eq((reads[n] | (asks & memory.ar.ready)) & ~(given & memory.r.ready)),
            stores[n].eq((stores[n] | (puts & memory.aw.ready)) & ~stored),
        ]
        m.d.comb += [
            Assume(~(start.valid & (start.payload.index == n)) | ~running[n]),
            Assume(~given | reads[n]),
            Assume(~stored | (stores[n] & ~memory.w.valid)),
        ]
        waits = reads[n] | stores[n]
        with m.If(walk == n):
            m.d.comb += [
                Assert(~asks | (running[n] & ~waits)),
                Assert(~puts | (running[n] & ~waits & ~asks)),
                Assert(~(result.valid & (result.payload.index == n)) | (running[n] & ~waits)),
                Cover(ended & reads[1 - n]),
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
)
