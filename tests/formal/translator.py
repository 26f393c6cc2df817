"""Harness of the translator: every request is answered once, whatever caches and memory know."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Fragment, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from rtl.iommu.seams import InvalidateKind

from .ports import narrow, promise, take
from .prover import Plant, Proof, anything, constant, held

__all__ = ["PROOFS"]

CONFIG = IommuConfig(
    pas=34,
    device_id_bits=1,
    sv39x4=False,
    hpm=False,
    misses=1,
    walkers=1,
    context_entries=1,
    iotlb_ways=1,
    iotlb_sets=2,
    iotlb_superpages=1,
)
#: Places of each lane of the backlog, and those kept for what the pipeline holds.
PLACES, MARGIN = 16, 8
#: Bits of long fields that are free; the others are 0.
FREE = {
    "tag": 2,
    "device_id": 1,
    "process_id": 0,
    "iova": 13,
    "gscid": 0,
    "pscid": 0,
    "g_ppn": 0,
    "s_ppn": 0,
    "msi_ppn": 0,
    "msi_mask": 0,
    "msi_pattern": 0,
    "rcid": 0,
    "mcid": 0,
    "ppn": 0,
    "gpa": 0,
    "nid": 0,
    "notice_ppn": 0,
    "mrif_address": 0,
}
#: Cycles in which a request misses, comes again or is answered when nothing outside is waited for.
PATIENCE = 9


class _Bench:
    """The translator with caches, directory and walker that may say anything.

    ``waits``: the walker or the directory has not answered, or nobody would take what they answer.
    """

    def __init__(self, module, free) -> None:
        self._free = free
        self.walking, self.fetching = Signal(8), Signal()
        self.fetched = Signal(24)  # the device whose context is asked for
        replaced = {
            "Walker": self._walker(module.Walker),
            "Directory": self._directory(module.Directory),
            "Iotlb": self._iotlb(module.Iotlb),
            "ContextCache": self._contexts(module.ContextCache),
        }
        backlog = module.Backlog
        places = backlog.PLACES, backlog.MARGIN
        kept = {name: getattr(module, name) for name in replaced}
        try:
            backlog.PLACES, backlog.MARGIN = PLACES, MARGIN
            for name, value in replaced.items():
                setattr(module, name, value)
            self.dut = module.Translator(CONFIG)
            # At once, since inputs have to be known.
            self.inside = Fragment.get(self.dut, None)
        finally:
            backlog.PLACES, backlog.MARGIN = places
            for name, value in kept.items():
                setattr(module, name, value)

    def _any(self, m: Module, name: str, target) -> None:
        """Drive a record."""
        raw = data.View(target.shape(), self._free(name, len(target.as_value())))
        m.d.comb += target.as_value().eq(narrow(raw, FREE))

    def _walker(self, walker):
        bench = self

        class AnyWalker(walker):
            """Ends each walk once, in any order."""

            def elaborate(self, platform):
                m = Module()
                start, result = self.start, self.result
                running = bench.walking[: self.entries]
                begins, ends = start.valid & start.ready, result.valid & result.ready
                index, ended = start.payload.index, result.payload.index
                bench._any(m, "result", result.payload)
                m.d.comb += [
                    start.ready.eq(bench._free("start_ready")),
                    result.valid.eq(bench._free("result_valid")),
                    self.entry_index.eq(0),
                    self.invalidate.ready.eq(bench._free("walker_ready")),
                    Assume(~result.payload.directory),
                    Assume(~result.valid | ((running >> ended) & 1)),
                    Assert(~start.valid | ~((running >> index) & 1)),
                ]
                promise(m, result, "result")
                m.d.sync += bench.walking.eq(
                    (bench.walking | Mux(begins, 1 << index, 0)) & ~Mux(ends, 1 << ended, 0)
                )
                return m

        return AnyWalker

    def _directory(self, directory):
        bench = self

        class AnyDirectory(directory):
            """Answers each request once, with a context of the device that it is for."""

            def elaborate(self, platform):
                m = Module()
                request, fill, busy = self.request, self.fill, bench.fetching
                bench._any(m, "fill", fill.payload)
                with m.If(request.valid & request.ready):
                    m.d.sync += bench.fetched.eq(request.payload.device_id)
                m.d.comb += [
                    fill.payload.device_id.eq(bench.fetched),
                    request.ready.eq(~busy),
                    fill.valid.eq(busy & bench._free("fill_valid")),
                ]
                promise(m, fill, "fill")
                m.d.sync += busy.eq((busy | request.valid) & ~(fill.valid & fill.ready))
                return m

        return AnyDirectory

    def _iotlb(self, iotlb):
        bench = self

        class AnyIotlb(iotlb):
            """Hits or not."""

            def elaborate(self, platform):
                m = Module()
                bench._any(m, "found", self.result)
                m.d.comb += [
                    self.lookup.ready.eq(1),
                    self.fill.ready.eq(bench._free("iotlb_fill")),
                    self.invalidate.ready.eq(bench._free("iotlb_ready")),
                ]
                return m

        return AnyIotlb

    def _contexts(self, contexts):
        bench = self

        class AnyContexts(contexts):
            """Knows a context or not."""

            def elaborate(self, platform):
                m = Module()
                bench._any(m, "context", self.context)
                m.d.comb += self.hit.eq(bench._free("context_hit"))
                return m

        return AnyContexts


def translator(module):
    """Follow one arbitrary tag."""
    m, ports = Module(), []

    free = partial(anything, ports)

    bench = _Bench(module, free)
    m.submodules.dut, dut = bench.inside, bench.dut
    request, response = dut.translate.request, dut.translate.response
    m.d.comb += [
        request.valid.eq(free("request_valid")),
        dut.invalidate.valid.eq(free("invalidate_valid")),
        dut.drain.request.eq(free("drain")),
    ]
    bench._any(m, "request", request.payload)
    bench._any(m, "invalidate", dut.invalidate.payload)
    promise(m, request, "request")
    promise(m, dut.invalidate, "invalidate")
    m.d.comb += dut.directory.mode.eq(held(m, free("mode", 4)))
    take(m, ports, "response", response)
    take(m, ports, "faults", dut.faults)

    tag = constant(m, ports, FREE["tag"], "tag")
    accepted = request.valid & request.ready & (request.payload.tag == tag)
    offered = response.valid & (response.payload.tag == tag)
    answered = offered & response.ready
    late, again, lookup = dut.resolver.response, dut.backlog.again, dut.iotlb.lookup
    owed, looked, hit, old = Signal(), Signal(), Signal(), Signal()
    came_again = again.valid & again.ready & (again.payload.request.tag == tag)
    replay = dut.pipeline.replay_taken & (dut.pipeline.replay_held.request.tag == tag)
    m.d.comb += [
        Assume(~(request.valid & (request.payload.tag == tag)) | ~owed),
        # Never unasked, so never twice.
        Assert(~offered | owed),
        Cover(answered & hit),
        Cover(late.valid & late.ready & (late.payload.tag == tag) & (late.payload.status == 0)),
        Cover(came_again),
        Cover(replay),
    ]
    m.d.sync += [
        owed.eq((owed | accepted) & ~answered),
        looked.eq(lookup.valid & (lookup.payload.tag == tag)),
        hit.eq((hit | (looked & dut.iotlb.result.hit)) & owed),
    ]
    # And at all: while nothing outside is waited for, and nothing new comes, it moves on.
    start, allocate = dut.walker.start, dut.answerer.allocate
    outside = bench.walking.any() | (start.valid & ~start.ready) | bench.fetching
    outside = outside | ~response.ready | ~dut.faults.ready | request.valid
    misses = dut.answerer.allocate_en & (allocate.held.request.tag == tag)
    waited = Signal(range(PATIENCE + 2))
    m.d.sync += waited.eq(Mux(owed & ~(outside | misses | came_again | replay), waited + 1, 0))
    m.d.comb += Assert(waited <= PATIENCE)
    # A drain waits for it.
    drain, drains = dut.drain, Signal()
    m.d.comb += [Assume(~drains | drain.request), Assert(~(drain.done & old))]
    m.d.sync += drains.eq(drain.request & ~drain.done)
    begun = Signal()
    m.d.sync += begun.eq(drain.request)
    with m.If(drain.request & ~begun):
        m.d.sync += old.eq(owed & ~answered)
    with m.Elif(answered | ~drain.request):
        m.d.sync += old.eq(0)
    m.d.comb += Cover(drain.done & drains & owed)
    transfer = _invalidations(m, dut, bench)
    # Who has looked for a context before an invalidation, and misses after it, does so as stale.
    verdict, judged, met = dut.pipeline.verdict, Signal(), Signal()
    mine = verdict.valid & (verdict.payload.held.request.tag == tag)
    ends = misses | answered
    m.d.sync += [
        judged.eq((judged | (mine & verdict.ready)) & ~ends),
        met.eq((met | (transfer & (mine | judged))) & ~ends),
    ]
    m.d.comb += [Assert(~(misses & met) | allocate.stale), Cover(misses & met)]
    return m, ports


def _invalidations(m: Module, dut, bench) -> Signal:
    """They are everywhere in one cycle, and keep contexts out that they cover and that are being
    fetched; returns whether there is one.
    """
    port, fetch, op = dut.invalidate, dut.fetch.request, dut.invalidate.payload
    kind, transfer, stale = op.kind, Signal(), Signal()
    contexts = (kind == InvalidateKind.DDT) | (kind == InvalidateKind.PDT)
    covers = (kind == InvalidateKind.DDT) & (~op.dv | (op.did == bench.fetched))
    pages = (kind == InvalidateKind.VMA) | (kind == InvalidateKind.GVMA)
    walker, iotlb = dut.walker.invalidate, dut.iotlb.invalidate
    m.d.comb += [
        transfer.eq(port.valid & port.ready),
        Assert((walker.valid & walker.ready) == transfer),
        Assert((iotlb.valid & iotlb.ready) == (transfer & pages)),
        Assert(dut.cache.clear_en == (transfer & (kind == InvalidateKind.DDT))),
        Assert(~dut.cache.fill_en | ~stale),
        Assert(~dut.cache.fill_en | ~(transfer & contexts)),
        Cover(dut.cache.fill_en),
        Cover(dut.fetch.fill.valid & dut.fetch.fill.ready & stale),
    ]
    m.d.sync += stale.eq(
        (stale | (bench.fetching & transfer & covers)) & ~(fetch.valid & fetch.ready)
    )
    return transfer


PROOFS = (
    Proof(
        name="translator",
        claim="a request is answered once, by its tag, and does not stay anywhere for long when "
        "nothing outside is waited for; nobody is answered unasked; no walk begins twice; a drain "
        "ends when all requests before it are answered; an invalidation takes effect in all caches "
        "at once, keeps contexts out that it covers and that are being fetched, and marks who then "
        "misses",
        module="rtl.iommu.translator",
        harness=translator,
        depth=14,
        quick=12,
        reach=13,
        assumptions=(
            "requests and invalidations on offer stay; tags are not used again until answered",
            "caches of contexts and the IOTLB know anything or nothing, in every cycle anew",
            "walks end, and contexts come, in any order, once each (walker)",
            "a drain is asked for until it is done",
            "tags of 2 bits, two devices, no processes, no interrupt files; room for 1 + 4 misses",
        ),
        covers=(
            "hits are answered, and who waited for a walk",
            "who waited comes again from the backlog, or with a context",
            "a drain is done while a later request is not answered",
            "contexts are kept, and not if an invalidation that covers them came while they were "
            "fetched; one comes before a miss",
        ),
        plants=(
            Plant(
                name="a drain forgets who came in the cycle before",
                old="Mux(epoch, counts[0] | came[0], counts[1] | came[1])",
                new="Mux(epoch, counts[0], counts[1])",
            ),
            Plant(
                name="contexts are kept that are older than an invalidation",
                old="took & ~stale & fill.context_valid",
                new="took & fill.context_valid",
            ),
            Plant(
                name="a context is stored as it is invalidated",
                old="others = Mux(pages, iotlb.ready, ~self.stores)",
                new="others = Mux(pages, iotlb.ready, 1)",
            ),
            Plant(
                name="walk caches forget before the IOTLB does",
                old="walker.valid.eq(port.valid & others)",
                new="walker.valid.eq(port.valid)",
            ),
            Plant(
                name="verdicts that wait are not met by an invalidation",
                module="rtl.iommu.answer",
                old="self.head.verdict.stale | (old != 0)",
                new="self.head.verdict.stale",
            ),
            Plant(
                name="entries that nobody has are answered",
                module="rtl.iommu.misses",
                old="busy[i] & (leaders[i] == self.members_of[:bits])",
                new="leaders[i] == self.members_of[:bits]",
            ),
            Plant(
                name="who waits for a walk is answered at once too",
                module="rtl.iommu.answer",
                old="mine.eq(self.valid & ~head.waits & ",
                new="mine.eq(self.valid & ",
            ),
            Plant(
                name="who waits for their turn to be answered is forgotten",
                module="rtl.iommu.answer",
                old="self.valid.eq(results.r_rdy | comes)",
                new="self.valid.eq(comes)",
                depth=13,
            ),
        ),
    ),
)
