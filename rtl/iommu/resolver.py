"""Answers everybody who waited, when a walk has ended or contexts have come."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, FaultRecord
from models.spec.iotlb import IotlbFill
from models.spec.translation import AddressType, TranslationResponse
from rtl.bus.priority import lowest_bit, number_of
from rtl.iommu.directory import ContextFill
from rtl.iommu.iotlb_entry import cached_size, is_cut
from rtl.iommu.permissions import Judge, by_access, is_ats, lookup_key, stages
from rtl.iommu.requests import Context, Held, WalkResult
from rtl.iommu.seams import PIPELINE_DEPTH, Event

__all__ = ["Resolver"]


class _Answer(data.Struct):
    response: TranslationResponse
    epoch: 1


class Resolver(wiring.Component):
    """Takes one result at a time and answers its waiters, the leader first.

    A result is registered when it is taken, with its leader's request; everything else follows
    from these registers.  Who waits is looked up in the cycle after.

    Latency
    -------
    The leader's answer is offered two cycles after its result is taken (three if it is a context's
    fault), the next one three cycles later, each further one a cycle.  A fault's record is handed
    over before its answer is offered.

    Members
    -------
    walk : ``In(stream.Signature(WalkResult))``
        Ended walks.
    context : ``In(stream.Signature(ContextFill))``; ``context_leader`` is who had asked.
        Fetched contexts; waiters of good ones are replayed, of bad ones answered.
    response : ``Out(stream.Signature(TranslationResponse))``; ``epoch`` is the request's.
        Answers.
    record_en : ``Out(1)``; record : ``Out(FaultRecord)``; record_room : ``In(1)``
        Faults to be recorded, only while there is room.
    fill : ``Out(stream.Signature(IotlbFill))``
        What may be cached, with a physical page that there is; dropped while another one waits, or
        when an invalidation is accepted.
    replay : ``Out(entries)``
        Waiters whose contexts have come, for one cycle.
    event : ``Out(Event)``
        Walks, and requests that end without having passed the pipeline.
    The other ports are the miss table's.
    """

    def __init__(self, config: IommuConfig):
        self.config, self.entries = config, config.misses + PIPELINE_DEPTH
        self.bits = (self.entries - 1).bit_length()
        self.page_bits = config.pas - 12
        super().__init__(
            {
                "walk": In(stream.Signature(WalkResult)),
                "context": In(stream.Signature(ContextFill)),
                "context_leader": In(8),
                "response": Out(stream.Signature(TranslationResponse)),
                "epoch": Out(1),
                "record_en": Out(1),
                "record": Out(FaultRecord),
                "record_room": In(1),
                "fill": Out(stream.Signature(IotlbFill)),
                "replay": Out(self.entries),
                "event": Out(Event),
                "closes": Out(self.entries),
                "members_of": Out(8),
                "members": In(self.entries),
                "stale": In(self.entries),
                "stale_all": In(1),
                "free_en": Out(1),
                "free_entry": Out(8),
                "read_entry": Out(8),
                "read_held": In(Held),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.judge = judge = Judge()
        m.submodules.answers = answers = fifo.SyncFIFO(width=_Answer.as_shape().size, depth=2)
        answer, offered = Signal(_Answer), data.View(_Answer, answers.r_data)
        # Taken in the cycle before; who is being answered, and with what; who is next; who is left.
        fresh, current, left = Signal(), Signal(), Signal(self.entries)
        follows, following, idle = Signal(), Signal(self.bits), Signal(init=1)
        entry, result, held = Signal(self.bits), Signal(WalkResult), Signal(Held)
        guest, of_context, device = Signal(), Signal(), Signal(Context)
        fails, cause, bad = Signal(), Signal(12), Signal()
        self.ddt_walk, self.pdt_walk = Signal(), Signal()
        room = Signal()
        fetched = self.context.payload
        # What was taken: a walk's end, a context's fault, or a context for replays.
        walked, refused, found = Signal(), Signal(), Signal()
        take_context, take_walk, answers_one = Signal(), Signal(), Signal()
        leader, next_, picks = Signal(8), Signal(), Signal()
        current_then, left_then = Signal(), Signal(self.entries)
        m.d.comb += [
            room.eq(answers.w_rdy & self.record_room),
            self.context.ready.eq(idle),
            self.walk.ready.eq(idle & ~self.context.valid),
            take_context.eq(self.context.valid & self.context.ready),
            take_walk.eq(self.walk.valid & self.walk.ready),
            leader.eq(Mux(self.context.valid, self.context_leader, self.walk.payload.index)),
            walked.eq(fresh & ~of_context),
            refused.eq(fresh & of_context & fails),
            found.eq(fresh & of_context & ~fails),
            self.members_of.eq(entry),
            next_.eq(follows & (~current | answers_one)),
            picks.eq(~follows | next_),
            self.read_entry.eq(Mux(follows, following, leader)),
            answers_one.eq(current & room),
            self.free_en.eq(answers_one),
            self.free_entry.eq(entry),
            judge.held.eq(held),
            judge.result.eq(result),
            judge.cause.eq(cause),
            judge.bad.eq(bad),
            judge.dtf.eq(Mux(of_context, device.dtf, held.context.dtf)),
            answers.w_en.eq(answers_one),
            answers.w_data.eq(answer),
            answer.response.eq(judge.response),
            answer.epoch.eq(held.epoch),
            self.record_en.eq(answers_one & judge.record_en),
            self.record.eq(judge.record),
            self.replay.eq(Mux(found, self.members, 0)),
            self.response.valid.eq(answers.r_rdy),
            self.response.payload.eq(offered.response),
            self.epoch.eq(offered.epoch),
            answers.r_en.eq(self.response.ready),
        ]
        first = lowest_bit(left)
        others = self.members & ~(1 << entry)
        m.d.comb += [
            # Contexts' faults are counted before they are answered.
            current_then.eq(take_walk | refused | (current & ~answers_one) | next_),
            left_then.eq(Mux(walked | refused, others, left & ~Mux(picks, first, 0))),
        ]
        m.d.sync += [
            fresh.eq(take_walk | take_context),
            self.closes.eq(Mux(take_walk | take_context, 1 << self.read_entry, 0)),
            current.eq(current_then),
            left.eq(left_then),
            # Nobody is picked from those who are not known yet.
            follows.eq(left.any() | (follows & ~next_)),
            idle.eq(
                ~(take_context | current_then | left_then.any() | left.any() | (follows & ~next_))
            ),
        ]
        with m.If(picks):
            m.d.sync += following.eq(number_of(first))
        # Each one's cause is known with its request: a page of the process directory is missed by
        # its own access, and a debug translation does not get the address of an MRIF.
        came = Mux(self.context.valid, fetched.cause, self.walk.payload.cause)
        cause_then, fails_then = Mux(idle, came, result.cause), Mux(idle, came != 0, fails)
        found_mrif = Mux(idle, self.walk.payload.mrif & ~self.context.valid, result.mrif)
        guest_then = Mux(idle, self.context.valid & fetched.guest, of_context & guest)
        asks = self.read_held.request
        hidden = found_mrif & asks.debug & ~fails_then
        with m.If(idle | next_):
            m.d.sync += [
                held.eq(self.read_held),
                entry.eq(self.read_entry),
                bad.eq(fails_then | hidden),
                cause.eq(Mux(hidden, Cause.TYPE_DISALLOWED, cause_then)),
            ]
            with m.If(guest_then):
                m.d.sync += cause.eq(by_access(asks, 21, 23, 20))
        with m.If(idle):
            m.d.sync += [
                of_context.eq(self.context.valid),
                result.eq(self.walk.payload),
                fails.eq(came != 0),
                guest.eq(fetched.guest),
                device.eq(Mux(fetched.context_valid, fetched.context.as_value(), 0)),
                self.ddt_walk.eq(fetched.ddt_walk),
                self.pdt_walk.eq(fetched.pdt_walk),
            ]
            with m.If(self.context.valid):
                m.d.sync += [
                    result.eq(0),
                    result.cause.eq(fetched.cause),
                    result.gpa.eq(fetched.gpa),
                    result.implicit.eq(1),
                    result.implicit_write.eq(fetched.implicit_write),
                ]
        self._fill(m, walked & ~fails, held, result, entry)
        self._count(m, held, walked, fresh & of_context, current & of_context & room, device)
        return m

    def _fill(self, m: Module, good, held, found, entry) -> None:
        """Offer what may be cached."""
        fill, stale = self.fill.payload, Signal()
        with m.Switch(entry):
            for i in range(self.entries):
                with m.Case(i):
                    m.d.comb += stale.eq(self.stale[i])
        keep = good & found.cacheable & ~found.mrif & ~stale
        keep = keep & ~found.ppn[self.page_bits :].any()
        with m.If(self.stale_all):
            m.d.sync += self.fill.valid.eq(0)
        with m.Elif(~self.fill.valid | self.fill.ready):
            m.d.sync += self.fill.valid.eq(keep)
        with m.If(~self.fill.valid | self.fill.ready):
            m.d.sync += fill.key.eq(lookup_key(held))
            # A range that ends beside interrupt files may be of any size.
            m.d.sync += [
                fill.size.eq(cached_size(self.config, found.size)),
                fill.piece.eq(found.piece | is_cut(self.config, found.size)),
            ]
            for name in ("ppn", "r", "w", "x", "u", "glob", "dirty", "pbmt"):
                m.d.sync += fill[name].eq(found[name])

    def _count(self, m: Module, held, walked, fetched, refused, device) -> None:
        """Register what may be counted."""
        event, request = self.event, held.request
        context = Mux(refused, device.as_value(), held.context.as_value())
        context = data.View(Context, context)
        first, second = stages(request, context)
        new = refused & ~held.counted
        m.d.sync += [
            event.eq(0),
            event.valid.eq(walked | fetched | refused),
            event.first_stage_walk.eq(walked & first),
            event.second_stage_walk.eq(walked & second),
            event.ddt_walk.eq(fetched & self.ddt_walk),
            event.pdt_walk.eq(fetched & self.pdt_walk),
            event.untranslated.eq(new & (request.at == AddressType.UNTRANSLATED)),
            event.translated.eq(new & (request.at == AddressType.TRANSLATED)),
            event.ats.eq(new & is_ats(request)),
            event.device_id.eq(request.device_id),
            event.process_id.eq(request.process_id),
            event.pv.eq(request.pv),
            event.gscid.eq(context.gscid),
            event.gscv.eq(second),
            event.pscid.eq(context.pscid),
            event.pscv.eq(first),
        ]
