"""The end of the pipeline: answers requests, or hands them to the miss table."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, FaultRecord
from models.spec.iotlb import IotlbResult
from models.spec.translation import (
    AddressType,
    TranslationRequest,
    TranslationResponse,
    TranslationStatus,
)
from rtl.bus.stream import StreamBypass
from rtl.iommu.misses import Allocate
from rtl.iommu.permissions import (
    BARE_SIZE,
    SPA_BITS,
    by_access,
    fault_status,
    grant,
    is_ats,
    is_recorded,
    record_fields,
    stages,
)
from rtl.iommu.requests import Held, Lane
from rtl.iommu.seams import Event

__all__ = ["Answerer", "Verdict"]

_DEPTH = 4


class Verdict(data.Struct):
    """What is known of a request when it leaves the second stage of the pipeline."""

    held: Held
    lookup: 1  # the IOTLB was asked
    off: 1  # faults already known: ALL_INBOUND_DISALLOWED,
    disallowed: 1  # or TYPE_DISALLOWED
    beyond: 1  # as a physical address there is no such one
    missing: 1  # a context is not there
    walks: 1  # it is not for the IOTLB to answer
    stale: 1


class _Head(data.Struct):
    """The verdict whose turn it is, with its result."""

    verdict: Verdict
    cause: 12
    faulty: 1  # the cause is not 0
    recorded: 1
    status: TranslationStatus  # of the fault
    waits: 1
    walks: 1
    result: IotlbResult  # ones where there was no lookup
    supervisor: 1


class _Offer(data.Struct):
    """An answer on offer, with the epoch of its request."""

    response: TranslationResponse
    epoch: 1


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
    comes, coming
        For the miss table: what ``allocate`` has from the next cycle on, until ``comes`` again.
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
        Requests of which epoch were answered in the cycle before.
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
                "comes": Out(1),
                "coming": Out(TranslationRequest),
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
        self.head, self.valid, self.done = Signal(_Head), Signal(), Signal()
        self._take(m)
        head, held = self.head, self.head.verdict.held
        # A client that does not take its answer is known of from the next cycle on.
        m.submodules.offer = offer = StreamBypass(_Offer)
        own = Signal(TranslationResponse)
        with m.If(head.faulty):
            m.d.comb += [
                own.tag.eq(held.request.tag),
                own.cause.eq(head.cause),
                own.size.eq(12),
                own.status.eq(head.status),
                own.prpr.eq(held.context.prpr),
            ]
        with m.Else():
            self._grant(m, own)

        # Ours come first, unless the resolver's is being offered already.  A fault is recorded
        # before it is answered.
        mine, offered, logged = Signal(), Signal(), Signal()
        answers = self.response.valid & self.response.ready
        epoch = offer.o.payload.epoch
        m.d.comb += [
            self.record_en.eq(self.valid & head.recorded & ~logged & self.record_room),
            mine.eq(self.valid & ~head.waits & (~head.recorded | logged) & ~offered),
            offer.i.valid.eq(mine | self.late.valid),
            offer.i.payload.response.eq(Mux(mine, own.as_value(), self.late.payload.as_value())),
            offer.i.payload.epoch.eq(Mux(mine, held.epoch, self.late_epoch)),
            self.late.ready.eq(offer.i.ready & ~mine),
            self.response.valid.eq(offer.o.valid),
            self.response.payload.eq(offer.o.payload.response),
            offer.o.ready.eq(self.response.ready),
            self.done.eq((mine & offer.i.ready) | (self.valid & head.waits)),
            self.lands.eq(Mux(self.done & ~held.replay, held.lane, Lane.NONE)),
            self.release_en.eq(mine & offer.i.ready & held.replay),
            self.release_entry.eq(held.entry),
            self.allocate_en.eq(self.valid & head.waits),
            self.allocate.held.eq(held),
            self.allocate.held.counted.eq(held.counted | ~head.verdict.missing),
            self.allocate.for_context.eq(head.verdict.missing),
        ]
        m.d.sync += [
            offered.eq(self.late.valid & ~mine & ~offer.i.ready),
            logged.eq((logged | self.record_en) & ~self.done),
            self.answered.eq(Cat(answers & ~epoch, answers & epoch)),
        ]
        # One gap in the requests is one answer of the resolver's; should another take the gap,
        # there is a further one.
        age = Signal(3)
        m.d.sync += [
            age.eq(Mux(self.late.valid & ~self.late.ready, age + 1, 0)),
            self.pause.eq(self.late.valid & ~self.late.ready & (age == 0)),
        ]
        self._age(m)
        self._count(m, self.done & ~head.verdict.missing & ~held.counted, head.verdict, head.walks)
        return m

    def _take(self, m: Module) -> None:
        """Queue verdicts, put the first into a register when its result has come.

        What does not depend on the result is judged on the way.
        """
        m.submodules.verdicts = verdicts = fifo.SyncFIFO(
            width=Verdict.as_shape().size, depth=_DEPTH
        )
        m.submodules.results = results = fifo.SyncFIFO(
            width=IotlbResult.as_shape().size, depth=_DEPTH
        )
        # A result comes in the cycle after its verdict.
        comes, moves, result = Signal(), Signal(), Signal(IotlbResult)
        m.d.sync += comes.eq(self.verdict.valid & self.verdict.ready)
        m.d.comb += [
            self.verdict.ready.eq(verdicts.w_rdy),
            verdicts.w_data.eq(self.verdict.payload),
            verdicts.w_en.eq(self.verdict.valid),
            moves.eq(~self.valid | self.done),
            verdicts.r_en.eq(moves & (results.r_rdy | comes)),
            results.w_data.eq(self.result),
            results.w_en.eq(comes & (results.r_rdy | ~moves)),
            results.r_en.eq(moves),
            result.eq(Mux(results.r_rdy, results.r_data, self.result.as_value())),
        ]
        verdict, new = data.View(Verdict, verdicts.r_data), Signal(_Head)
        held = verdict.held
        request = held.request
        walks = verdict.walks | (verdict.lookup & ~result.hit)
        sound = ~(verdict.off | verdict.disallowed)
        plain = ~verdict.lookup & sound
        first, _ = stages(request, held.context)
        m.d.comb += [
            new.verdict.eq(verdict),
            new.cause.eq(
                Mux(verdict.off, Cause.ALL_INBOUND_DISALLOWED, 0)
                | Mux(verdict.disallowed, Cause.TYPE_DISALLOWED, 0)
            ),
            new.walks.eq(walks),
            new.waits.eq(verdict.missing | walks),
            new.supervisor.eq(request.pv & request.priv & first & verdict.lookup),
        ]
        # What is not translated must be a physical address.
        beyond = plain & verdict.beyond
        with m.If(beyond):
            m.d.comb += new.cause.eq(by_access(request, 5, 7, 1))
        m.d.comb += [
            new.faulty.eq(~sound | beyond),
            # Of those that wait for a walk since they missed the IOTLB the cause is 0.
            new.recorded.eq(is_recorded(held, new.cause) & ~verdict.missing & ~verdict.walks),
            new.status.eq(fault_status(request, new.cause)),
        ]
        m.d.comb += new.result.eq(Mux(verdict.lookup, result.as_value(), self._bare(request)))
        m.d.comb += [self.comes.eq(moves), self.coming.eq(request)]
        with m.If(moves):
            m.d.sync += [self.valid.eq(results.r_rdy | comes), self.head.eq(new)]
        record_fields(m, self.record, self.head.verdict.held, self.head.cause)

    @staticmethod
    def _bare(request):
        """Result where nothing is translated."""
        result = {name: Const(1, 1) for name in ("hit", "r", "w", "x", "u", "dirty")}
        result |= {"ppn": request.iova[12:56], "size": Mux(is_ats(request), BARE_SIZE, SPA_BITS)}
        members = IotlbResult.as_shape().members
        widths = {name: Shape.cast(shape).width for name, shape in members.items()}
        return Cat(result.get(name, Const(0, width)) for name, width in widths.items())

    def _age(self, m: Module) -> None:
        """Tell the miss table which verdicts are older than an invalidation."""
        # Verdicts that are here, and in the next cycle; those that are older.
        count, level, old = (Signal(range(_DEPTH + 3)) for _ in range(3))
        m.d.comb += [
            level.eq(count + (self.verdict.valid & self.verdict.ready) - self.done),
            self.allocate.stale.eq(self.head.verdict.stale | (old != 0)),
        ]
        m.d.sync += count.eq(level)
        with m.If(self.transfer):
            m.d.sync += old.eq(level)
        with m.Elif(self.done & (old != 0)):
            m.d.sync += old.eq(old - 1)

    def _grant(self, m: Module, own) -> None:
        """A success from the IOTLB, or one that needs no translation."""
        head = self.head
        held, result = head.verdict.held, head.result
        # Without a translation nobody's privilege matters.
        grant(m, own, held, result, size=result.size, supervisor=head.supervisor)
        m.d.comb += own.spa.eq(Cat(held.request.iova[:12], result.ppn))

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
