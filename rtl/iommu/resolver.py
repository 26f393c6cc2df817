"""Answers everybody who waited, when a walk has ended or contexts have come."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from models.spec.iotlb import IotlbFill
from models.spec.translation import AddressType, TranslationResponse
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

    Latency
    -------
    The leader's answer is offered two cycles after its result is taken, each further one a cycle
    later.  A fault's record is handed over before its answer is offered.

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
                "close_en": Out(1),
                "close_entry": Out(8),
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
        # Waiters that are still to be answered; the next of them, and with what.
        left, entry, result = Signal(self.entries), Signal(self.bits), Signal(WalkResult)
        guest, of_context, device = Signal(), Signal(), Signal(Context)
        busy, room, leader = left.any(), Signal(), Signal(8)
        fetched = self.context.payload
        failed = fetched.cause != 0
        take_context, take_walk, answers_one = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(answers.w_rdy & self.record_room),
            self.context.ready.eq(~busy),
            self.walk.ready.eq(~busy & ~self.context.valid),
            take_context.eq(self.context.valid & self.context.ready),
            take_walk.eq(self.walk.valid & self.walk.ready),
            leader.eq(Mux(self.context.valid, self.context_leader, self.walk.payload.index)),
            self.members_of.eq(leader),
            self.close_entry.eq(leader),
            self.close_en.eq(take_context | take_walk),
            self.read_entry.eq(Mux(busy, entry, leader)),
            answers_one.eq(busy & room),
            self.free_en.eq(answers_one),
            self.free_entry.eq(entry),
            judge.held.eq(self.read_held),
            judge.result.eq(result),
            judge.dtf.eq(Mux(of_context, device.dtf, self.read_held.context.dtf)),
            answers.w_en.eq(answers_one),
            answers.w_data.eq(answer),
            answer.response.eq(judge.response),
            answer.epoch.eq(self.read_held.epoch),
            self.record_en.eq(answers_one & judge.record_en),
            self.record.eq(judge.record),
            self.replay.eq(Mux(take_context & ~failed, self.members, 0)),
            self.response.valid.eq(answers.r_rdy),
            self.response.payload.eq(offered.response),
            self.epoch.eq(offered.epoch),
            answers.r_en.eq(self.response.ready),
        ]
        with m.If(of_context & guest):
            m.d.comb += judge.result.cause.eq(by_access(self.read_held.request, 21, 23, 20))

        following = Signal(self.entries)
        m.d.comb += following.eq(left & ~(1 << entry))
        with m.If(take_walk | (take_context & failed)):
            m.d.sync += [left.eq(self.members), entry.eq(leader)]
        with m.Elif(answers_one):
            m.d.sync += left.eq(following)
            for i in reversed(range(self.entries)):
                with m.If(following[i]):
                    m.d.sync += entry.eq(i)
        with m.If(take_walk):
            m.d.sync += [result.eq(self.walk.payload), of_context.eq(0)]
        with m.If(take_context):
            m.d.sync += [
                result.eq(0),
                result.cause.eq(fetched.cause),
                result.gpa.eq(fetched.gpa),
                result.implicit.eq(1),
                result.implicit_write.eq(fetched.implicit_write),
                guest.eq(fetched.guest),
                of_context.eq(1),
                device.eq(Mux(fetched.context_valid, fetched.context.as_value(), 0)),
            ]
        self._fill(m, take_walk)
        self._count(m, take_walk, take_context, busy & of_context & room, device)
        return m

    def _fill(self, m: Module, take_walk) -> None:
        """Offer what may be cached."""
        found, fill = self.walk.payload, self.fill.payload
        stale = Signal()
        with m.Switch(found.index):
            for i in range(self.entries):
                with m.Case(i):
                    m.d.comb += stale.eq(self.stale[i])
        keep = take_walk & (found.cause == 0) & found.cacheable & ~found.mrif & ~stale
        keep = keep & ~found.ppn[self.page_bits :].any()
        with m.If(self.stale_all):
            m.d.sync += self.fill.valid.eq(0)
        with m.Elif(~self.fill.valid | self.fill.ready):
            m.d.sync += self.fill.valid.eq(keep)
            with m.If(keep):
                m.d.sync += fill.key.eq(lookup_key(self.read_held))
                # A range that ends beside interrupt files may be of any size.
                m.d.sync += [
                    fill.size.eq(cached_size(self.config, found.size)),
                    fill.piece.eq(found.piece | is_cut(self.config, found.size)),
                ]
                for name in ("ppn", "r", "w", "x", "u", "glob", "dirty", "pbmt"):
                    m.d.sync += fill[name].eq(found[name])

    def _count(self, m: Module, walked, fetched, refused, device) -> None:
        """Register what may be counted."""
        event, held = self.event, self.read_held
        request = held.request
        context = Mux(refused, device.as_value(), held.context.as_value())
        context = data.View(Context, context)
        first, second = stages(request, context)
        fill = self.context.payload
        new = refused & ~held.counted
        m.d.sync += [
            event.eq(0),
            event.valid.eq(walked | fetched | refused),
            event.first_stage_walk.eq(walked & first),
            event.second_stage_walk.eq(walked & second),
            event.ddt_walk.eq(fetched & fill.ddt_walk),
            event.pdt_walk.eq(fetched & fill.pdt_walk),
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
