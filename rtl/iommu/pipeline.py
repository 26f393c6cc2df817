"""The pipeline: looks contexts and translations up, one request a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, DdtpMode, FaultRecord
from models.spec.iotlb import IotlbLookup, IotlbResult
from models.spec.translation import AddressType, TranslationRequest, TranslationResponse
from rtl.iommu.context_checks import needs_process, refused
from rtl.iommu.misses import Allocate
from rtl.iommu.msi import is_interrupt_file
from rtl.iommu.permissions import (
    BARE_SIZE,
    by_access,
    fault_response,
    grant,
    is_ats,
    lookup_key,
    record_fields,
    stages,
)
from rtl.iommu.requests import Context, Held, ProcessState
from rtl.iommu.seams import PIPELINE_DEPTH, DirectoryControl, Event

__all__ = ["Pipeline"]

_DEPTH = 4
_SPA_BITS = 56


class _Verdict(data.Struct):
    """What is known of a request when it leaves the second stage of the pipeline."""

    held: Held
    cause: 12  # a fault already known
    lookup: 1  # the IOTLB was asked
    missing: 1  # a context is not there
    walks: 1  # there is no translation for it
    stale: 1
    result: IotlbResult


class _Rights(data.Struct):
    """What :func:`grant` looks at."""

    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1
    pbmt: 2


class Pipeline(wiring.Component):
    """From a request to its answer, or to the miss table.

    Two registers: contexts are looked for while a request is in the first, the IOTLB's set is read
    on the way to the second, and compared there.  Verdicts wait in a FIFO to be answered in order.
    Requests that had waited for a context pass again as replays.

    Latency
    -------
    A request accepted in cycle *n* is answered, or handed to the miss table, in cycle *n + 3*; one
    a cycle.  A fault takes a cycle more.

    Members
    -------
    request : ``In(stream)``; response : ``Out(stream)``
        The translation port.
    late, late_epoch
        Answers of the resolver; they come first.
    directory : ``In(DirectoryControl)``
    device_id, process_id : ``Out``; context_hit, context, process_hit, process : ``In``
        Caches of contexts, in the same cycle.
    next_page, lookup, result
        IOTLB.
    replay_valid, replay_held, replay_taken
        Replays, before new requests.
    replay_looks : ``Out(1)``
        A replay looks for its contexts.
    allocate_en, allocate, used, release_en, release_entry
        Miss table; an entry is given back when its replay is answered.
    transfer : ``In(1)``
        An invalidation takes effect.
    record_en, record, record_room
        Faults, handed over only while there is room.
    epoch : ``In(1)``; accepted : ``Out(1)``; answered : ``Out(2)``
        For drains: requests accepted now are of ``epoch``; those of which epoch are answered.
    event : ``Out(Event)``
        Once per request, when its contexts are known.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        super().__init__(
            {
                "request": In(stream.Signature(TranslationRequest)),
                "response": Out(stream.Signature(TranslationResponse)),
                "late": In(stream.Signature(TranslationResponse)),
                "late_epoch": In(1),
                "directory": In(DirectoryControl),
                "device_id": Out(24),
                "process_id": Out(20),
                "context_hit": In(1),
                "context": In(Context),
                "process_hit": In(1),
                "process": In(ProcessState),
                "next_page": Out(52),
                "lookup": Out(stream.Signature(IotlbLookup)),
                "result": In(IotlbResult),
                "replay_valid": In(1),
                "replay_held": In(Held),
                "replay_taken": Out(1),
                "replay_looks": Out(1),
                "allocate_en": Out(1),
                "allocate": Out(Allocate),
                "used": In(range(self.entries + 1)),
                "release_en": Out(1),
                "release_entry": Out(8),
                "transfer": In(1),
                "record_en": Out(1),
                "record": Out(FaultRecord),
                "record_room": In(1),
                "epoch": In(1),
                "accepted": Out(1),
                "answered": Out(2),
                "event": Out(Event),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.verdicts = self.verdicts = fifo.SyncFIFO(
            width=_Verdict.as_shape().size, depth=_DEPTH
        )
        self.inflight = Signal(range(2 * _DEPTH))
        self.held, self.valid, self.stale = Signal(Held), Signal(), Signal()
        self.found, self.process_found = Signal(), Signal()
        self.second_process = Signal(ProcessState)
        self.leaves = Signal()
        self._front(m)
        self._ask(m)
        self._answer(m)
        return m

    def _front(self, m: Module) -> None:
        """First register: a new request or a replay.  Then look for its contexts."""
        request = self.request
        first, first_valid = Signal(Held), Signal()
        moves = ~self.valid | self.leaves
        free = ~first_valid | moves
        # A replay first; else a new request if the miss table is sure to have room for it.
        room = (self.used + self.inflight) < self.entries
        m.d.comb += [
            self.replay_taken.eq(self.replay_valid & free),
            request.ready.eq(free & ~self.replay_valid & room),
            self.accepted.eq(request.valid & request.ready),
            self.replay_looks.eq(first_valid & first.replay),
            self.device_id.eq(first.request.device_id),
            self.process_id.eq(Mux(first.request.pv, first.request.process_id, 0)),
            self.next_page.eq(Mux(moves, first.request.iova[12:], self.held.request.iova[12:])),
        ]
        with m.If(free):
            m.d.sync += [
                first_valid.eq(self.replay_valid | self.accepted),
                first.eq(self.replay_held),
                first.replay.eq(1),
            ]
            with m.If(~self.replay_valid):
                m.d.sync += [
                    first.request.eq(request.payload),
                    first.replay.eq(0),
                    first.epoch.eq(self.epoch),
                ]
        with m.If(moves):
            m.d.sync += [
                self.valid.eq(first_valid),
                self.held.eq(first),
                self.held.context.eq(Mux(self.context_hit, self.context.as_value(), 0)),
                self.found.eq(self.context_hit),
                self.second_process.eq(self.process),
                self.process_found.eq(self.process_hit),
                self.stale.eq(self.transfer),
            ]
        with m.Else():
            m.d.sync += self.stale.eq(self.stale | self.transfer)

    def _width_ok(self, device_id):
        """Whether a device_id fits the mode of the directory, and the configuration."""
        modes = {
            DdtpMode.LVL1: 6 if self.config.msi_flat else 7,
            DdtpMode.LVL2: 15 if self.config.msi_flat else 16,
            DdtpMode.LVL3: 24,
        }
        wide = 0
        for mode, bits in modes.items():
            bits = min(bits, self.config.device_id_bits)
            wide = wide | ((self.directory.mode == mode) & device_id[bits:].any())
        return ~wide

    def _merge(self, m: Module, merged, needed) -> None:
        """Put the process context into the device's."""
        context = self.held.context
        m.d.comb += merged.eq(context)
        with m.If(needed):
            for name in ProcessState.as_shape().members:
                m.d.comb += merged[name].eq(self.second_process[name])
        with m.Elif(context.pdtv):
            m.d.comb += merged.s_levels.eq(0)

    def _ask(self, m: Module) -> None:
        """Judge what contexts alone decide; ask the IOTLB."""
        verdict, lookup, mode = Signal(_Verdict), self.lookup, self.directory.mode
        request, context = self.held.request, self.held.context
        untranslated = request.at == AddressType.UNTRANSLATED
        translated = request.at == AddressType.TRANSLATED
        message = request.at == AddressType.MESSAGE
        bare, directory = mode == DdtpMode.BARE, mode > DdtpMode.BARE
        located, needed, disallowed = Signal(), Signal(), Signal()
        no_process = Signal()
        ends = Signal()  # without any translation
        if self.config.pd8:
            m.d.comb += needed.eq(self.found & needs_process(request, context))
        m.d.comb += [
            located.eq(directory & self._width_ok(request.device_id) & self.found),
            disallowed.eq(Mux(message, ~context.en_pri, refused(request, context))),
            no_process.eq(needed & ~self.process_found),
            ends.eq(message | (translated & ~context.t2gpa)),
        ]
        cause = verdict.cause
        with m.If(mode == DdtpMode.OFF):
            m.d.comb += cause.eq(Cause.ALL_INBOUND_DISALLOWED)
        with m.Elif(bare):
            m.d.comb += cause.eq(Mux(untranslated, 0, Cause.TYPE_DISALLOWED))
        with m.Elif(~self._width_ok(request.device_id)):
            m.d.comb += cause.eq(Cause.TYPE_DISALLOWED)
        with m.Elif(~self.found):
            m.d.comb += verdict.missing.eq(1)
        with m.Elif(disallowed):
            m.d.comb += cause.eq(Cause.TYPE_DISALLOWED)
        with m.Elif(no_process):
            m.d.comb += verdict.missing.eq(1)
        with m.Elif(needed & request.pv & request.priv & ~self.second_process.ens):
            m.d.comb += cause.eq(Cause.TYPE_DISALLOWED)
        held = verdict.held
        m.d.comb += held.eq(self.held)
        self._merge(m, held.context, needed)
        with m.If(~located):
            # Without a context there is nothing that DTF could silence.
            m.d.comb += [
                held.context.eq(0),
                held.context.rcid.eq(self.directory.qos.rcid),
                held.context.mcid.eq(self.directory.qos.mcid),
            ]
        # The IOTLB holds no addresses of interrupt files, and none for answers with a GPA.
        first, second = stages(request, held.context)
        direct = is_ats(request) & context.t2gpa
        if self.config.msi_flat:
            file = is_interrupt_file(request.iova[12:], context.msi_mask, context.msi_pattern)
            direct = direct | (context.msi & second & ~first & file)
        open_ = Signal()
        m.d.comb += open_.eq(located & (cause == 0) & ~verdict.missing & ~ends & (first | second))
        looks, payload = Signal(), lookup.payload
        m.d.comb += [
            looks.eq(open_ & ~direct),
            verdict.lookup.eq(looks),
            verdict.walks.eq(open_ & (direct | ~self.result.hit)),
            verdict.stale.eq(self.stale | self.transfer),
            verdict.result.eq(self.result),
            payload.key.eq(lookup_key(held)),
            payload.device_id.eq(request.device_id),
            payload.tag.eq(request.tag),
            payload.write.eq(request.write),
            payload.exec.eq(request.exec),
            payload.priv.eq(request.pv & request.priv),
            payload.sum.eq(held.context.sum),
            payload.ats.eq(is_ats(request)),
            payload.also_read.eq(request.also_read),
            self.leaves.eq(self.verdicts.w_rdy & lookup.ready),
            lookup.valid.eq(self.valid & looks & self.verdicts.w_rdy),
            self.verdicts.w_data.eq(verdict),
            self.verdicts.w_en.eq(self.valid & self.leaves),
        ]

    def _answer(self, m: Module) -> None:
        """Answer the oldest request, or hand it to the miss table."""
        verdict = data.View(_Verdict, self.verdicts.r_data)
        valid, held = self.verdicts.r_rdy, verdict.held
        request, response = held.request, self.response
        waits, plain = verdict.missing | verdict.walks, ~verdict.lookup & (verdict.cause == 0)
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
            self._grant(m, own, verdict)

        # The resolver's answers come first, unless ours is being offered already.  A fault is
        # recorded before it is answered.
        mine, offering, logged, done = Signal(), Signal(), Signal(), Signal()
        answers = response.valid & response.ready
        which = Mux(mine, held.epoch, self.late_epoch)
        m.d.comb += [
            self.record_en.eq(valid & recorded & ~logged & self.record_room),
            mine.eq(valid & ~waits & (~recorded | logged) & (offering | ~self.late.valid)),
            response.valid.eq(mine | (self.late.valid & ~offering)),
            response.payload.eq(Mux(mine, own.as_value(), self.late.payload.as_value())),
            self.late.ready.eq(response.ready & ~mine),
            done.eq((mine & response.ready) | (valid & waits)),
            self.verdicts.r_en.eq(done),
            self.release_en.eq(mine & response.ready & held.replay),
            self.release_entry.eq(held.entry),
            self.allocate_en.eq(valid & waits),
            self.allocate.held.eq(held),
            self.allocate.for_context.eq(verdict.missing),
            self.answered.eq(Cat(answers & ~which, answers & which)),
        ]
        m.d.sync += [
            offering.eq(mine & ~response.ready),
            logged.eq((logged | self.record_en) & ~done),
            self.inflight.eq(self.inflight + self.accepted - (done & ~held.replay)),
        ]
        self._age(m, verdict, done)
        self._count(m, done & ~verdict.missing, verdict)

    def _age(self, m: Module, verdict, done) -> None:
        """Tell the miss table which verdicts are older than an invalidation."""
        level, old = Signal(range(_DEPTH + 2)), Signal(range(_DEPTH + 2))
        m.d.comb += [
            level.eq(self.verdicts.level + self.verdicts.w_en - done),
            self.allocate.stale.eq(verdict.stale | (old != 0)),
        ]
        with m.If(self.transfer):
            m.d.sync += old.eq(level)
        with m.Elif(done & (old != 0)):
            m.d.sync += old.eq(old - 1)

    def _grant(self, m: Module, own, verdict) -> None:
        """A success from the IOTLB, or one that needs no translation."""
        held, result = verdict.held, verdict.result
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

    def _count(self, m: Module, leaves, verdict) -> None:
        """Count a request when it leaves the pipeline with its contexts known."""
        event, held = self.event, verdict.held
        request, context = held.request, held.context
        first, second = stages(request, context)
        m.d.comb += [
            event.valid.eq(leaves),
            event.untranslated.eq(request.at == AddressType.UNTRANSLATED),
            event.translated.eq(request.at == AddressType.TRANSLATED),
            event.ats.eq(is_ats(request)),
            event.lookup.eq(verdict.lookup),
            event.tlb_miss.eq(verdict.walks),
            event.device_id.eq(request.device_id),
            event.process_id.eq(request.process_id),
            event.pv.eq(request.pv),
            event.gscid.eq(context.gscid),
            event.gscv.eq(second),
            event.pscid.eq(context.pscid),
            event.pscv.eq(first),
        ]
