"""The end of the pipeline: answers requests, or hands them to the miss table."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from models.spec.iotlb import IotlbResult
from models.spec.translation import AddressType, TranslationResponse
from rtl.iommu.misses import Allocate
from rtl.iommu.permissions import (
    BARE_SIZE,
    by_access,
    fault_response,
    grant,
    is_ats,
    record_fields,
    stages,
)
from rtl.iommu.requests import Held, Lane
from rtl.iommu.seams import Event

__all__ = ["Answerer", "Verdict"]

_DEPTH = 4
_SPA_BITS = 56


class Verdict(data.Struct):
    """What is known of a request when it leaves the second stage of the pipeline."""

    held: Held
    cause: 12  # a fault already known
    lookup: 1  # the IOTLB was asked
    missing: 1  # a context is not there
    walks: 1  # it is not for the IOTLB to answer
    stale: 1


class _Rights(data.Struct):
    """What :func:`grant` looks at."""

    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1
    pbmt: 2


class Answerer(wiring.Component):
    """Takes verdicts in order, beside the answers of the resolver.

    Latency
    -------
    A verdict that is accepted in cycle *n* is answered, or handed to the miss table, in cycle
    *n + 2*.  A fault takes a cycle more: it is recorded before it is answered.

    Members
    -------
    verdict : ``In(stream.Signature(Verdict))``
        ``ready`` depends on nothing but earlier cycles.
    result : ``In(IotlbResult)``
        What the IOTLB answers, a cycle after the verdict.
    response : ``Out(stream.Signature(TranslationResponse))``
        Answers.
    late, late_epoch
        Those of the resolver; verdicts come first, so that hits take as long as ever.
    pause : ``Out(1)``
        The resolver waits: accept no request in this cycle, so that its turn comes.
    allocate_en, allocate, release_en, release_entry
        Miss table; an entry is given back when its replay is answered.
    transfer : ``In(1)``
        An invalidation takes effect: verdicts that wait here are older.
    record_en, record, record_room
        Faults, handed over only while there is room.
    keep : ``In(1)``
        There is no entry for what is handed over: it comes again.
    lands : ``Out(Lane)``
        Which kind of a request that came again is answered or handed over.
    answered : ``Out(2)``
        Requests of which epoch are answered.
    event : ``Out(Event)``
        Once per request, when its contexts are known.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "verdict": In(stream.Signature(Verdict)),
                "result": In(IotlbResult),
                "response": Out(stream.Signature(TranslationResponse)),
                "late": In(stream.Signature(TranslationResponse)),
                "late_epoch": In(1),
                "pause": Out(1),
                "allocate_en": Out(1),
                "allocate": Out(Allocate),
                "release_en": Out(1),
                "release_entry": Out(8),
                "transfer": In(1),
                "record_en": Out(1),
                "record": Out(FaultRecord),
                "record_room": In(1),
                "keep": In(1),
                "lands": Out(Lane),
                "answered": Out(2),
                "event": Out(Event),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.verdicts = self.verdicts = fifo.SyncFIFO(
            width=Verdict.as_shape().size, depth=_DEPTH
        )
        m.d.comb += [
            self.verdict.ready.eq(self.verdicts.w_rdy),
            self.verdicts.w_data.eq(self.verdict.payload),
            self.verdicts.w_en.eq(self.verdict.valid),
        ]
        m.submodules.results = results = fifo.SyncFIFO(
            width=IotlbResult.as_shape().size, depth=_DEPTH
        )
        m.d.comb += results.w_data.eq(self.result)
        m.d.sync += results.w_en.eq(self.verdict.valid & self.verdict.ready)
        verdict = data.View(Verdict, self.verdicts.r_data)
        result = data.View(IotlbResult, results.r_data)
        # Results follow their verdicts.
        valid, held = results.r_rdy, verdict.held
        request, response = held.request, self.response
        walks = verdict.walks | (verdict.lookup & ~result.hit)
        waits, plain = verdict.missing | walks, ~verdict.lookup & (verdict.cause == 0)
        own, recorded, cause = Signal(TranslationResponse), Signal(), Signal(12)
        m.d.comb += cause.eq(verdict.cause)
        # What is not translated must be a physical address.
        beyond = request.iova[_SPA_BITS:].any() & (request.at != AddressType.MESSAGE)
        with m.If(plain & beyond):
            m.d.comb += cause.eq(by_access(request, 5, 7, 1))
        m.d.comb += recorded.eq(record_fields(m, self.record, held, cause) & ~waits)
        with m.If(cause != 0):
            fault_response(m, own, held, cause)
            m.d.comb += own.prpr.eq(held.context.prpr)
        with m.Else():
            self._grant(m, own, verdict, result)

        # Ours come first, unless the resolver's is being offered already.  A fault is recorded
        # before it is answered.
        mine, offered, logged, done = Signal(), Signal(), Signal(), Signal()
        answers = response.valid & response.ready
        which = Mux(mine, held.epoch, self.late_epoch)
        m.d.comb += [
            self.record_en.eq(valid & recorded & ~logged & self.record_room),
            mine.eq(valid & ~waits & (~recorded | logged) & ~offered),
            response.valid.eq(mine | self.late.valid),
            response.payload.eq(Mux(mine, own.as_value(), self.late.payload.as_value())),
            self.late.ready.eq(response.ready & ~mine),
            done.eq((mine & response.ready) | (valid & waits)),
            self.verdicts.r_en.eq(done),
            results.r_en.eq(done),
            self.lands.eq(Mux(done & ~held.replay, held.lane, Lane.NONE)),
            self.release_en.eq(mine & response.ready & held.replay),
            self.release_entry.eq(held.entry),
            self.allocate_en.eq(valid & waits),
            self.allocate.held.eq(held),
            self.allocate.held.counted.eq(held.counted | ~verdict.missing),
            self.allocate.for_context.eq(verdict.missing),
            self.answered.eq(Cat(answers & ~which, answers & which)),
        ]
        m.d.sync += [
            offered.eq(self.late.valid & ~mine & ~response.ready),
            logged.eq((logged | self.record_en) & ~done),
        ]
        # One gap in the requests is one answer of the resolver's; should another take the gap,
        # there is a further one.
        age = Signal(3)
        m.d.sync += [
            age.eq(Mux(self.late.valid & ~self.late.ready, age + 1, 0)),
            self.pause.eq(self.late.valid & ~self.late.ready & (age == 0)),
        ]
        self._age(m, verdict, done)
        self._count(m, done & ~verdict.missing & ~held.counted, verdict, walks)
        return m

    def _age(self, m: Module, verdict, done) -> None:
        """Tell the miss table which verdicts are older than an invalidation."""
        level, old = Signal(range(_DEPTH + 2)), Signal(range(_DEPTH + 2))
        m.d.comb += [
            level.eq(self.verdicts.level + (self.verdict.valid & self.verdict.ready) - done),
            self.allocate.stale.eq(verdict.stale | (old != 0)),
        ]
        with m.If(self.transfer):
            m.d.sync += old.eq(level)
        with m.Elif(done & (old != 0)):
            m.d.sync += old.eq(old - 1)

    def _grant(self, m: Module, own, verdict, result) -> None:
        """A success from the IOTLB, or one that needs no translation."""
        held = verdict.held
        request = held.request
        rights = Signal(_Rights)
        for name in _Rights.as_shape().members:
            bare = 0 if name in ("glob", "pbmt") else 1
            m.d.comb += rights[name].eq(Mux(verdict.lookup, result[name], bare))
        size = Mux(verdict.lookup, result.size, Mux(is_ats(request), BARE_SIZE, _SPA_BITS))
        # Without a translation nobody's privilege matters.
        grant(m, own, held, rights, size=size, bare=~verdict.lookup)
        m.d.comb += own.spa.eq(request.iova)
        with m.If(verdict.lookup):
            m.d.comb += own.spa.eq(Cat(request.iova[:12], result.ppn))

    def _count(self, m: Module, leaves, verdict, walks) -> None:
        """Count a request when it first leaves the pipeline with its contexts known."""
        event, held = self.event, verdict.held
        request, context = held.request, held.context
        first, second = stages(request, context)
        m.d.comb += [
            event.valid.eq(leaves),
            event.untranslated.eq(request.at == AddressType.UNTRANSLATED),
            event.translated.eq(request.at == AddressType.TRANSLATED),
            event.ats.eq(is_ats(request)),
            event.lookup.eq(verdict.lookup),
            event.tlb_miss.eq(walks),
            event.device_id.eq(request.device_id),
            event.process_id.eq(request.process_id),
            event.pv.eq(request.pv),
            event.gscid.eq(context.gscid),
            event.gscv.eq(second),
            event.pscid.eq(context.pscid),
            event.pscv.eq(first),
        ]
