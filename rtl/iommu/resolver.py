"""Answers everybody who waited, when a walk has ended or a context has come."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from models.spec.iotlb import IotlbFill, IotlbKey
from models.spec.translation import TranslationResponse
from rtl.iommu.context import ContextFill
from rtl.iommu.permissions import Held, Judge
from rtl.iommu.seams import PIPELINE_DEPTH, Event
from rtl.iommu.walker import WalkResult, WalkStatus

__all__ = ["Resolver"]


class Resolver(wiring.Component):
    """Takes one result at a time and answers its waiters, the leader first.

    Latency
    -------
    From a result to the leader's answer 3 cycles, to each further one 3 more.

    Members
    -------
    walk : ``In(stream.Signature(WalkResult))``
        Ended walks.
    context : ``In(stream.Signature(ContextFill))``; ``context_leader`` is who had asked.
        Fetched contexts; waiters of a good one are replayed, of a bad one answered.
    response : ``Out(stream.Signature(TranslationResponse))``; ``epoch`` is the request's.
        Answers.
    fault : ``Out(stream.Signature(FaultRecord))``
        Offered together with the response that it belongs to, before it.
    fill : ``Out(stream.Signature(IotlbFill))``
        What may be cached.
    replay : ``Out(entries)``
        Waiters whose context has come, for one cycle.
    The other ports are the miss table's.
    """

    def __init__(self, config: IommuConfig):
        self.entries = config.misses + PIPELINE_DEPTH
        super().__init__(
            {
                "walk": In(stream.Signature(WalkResult)),
                "context": In(stream.Signature(ContextFill)),
                "context_leader": In(8),
                "response": Out(stream.Signature(TranslationResponse)),
                "epoch": Out(1),
                "fault": Out(stream.Signature(FaultRecord)),
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
                "read_key": In(IotlbKey),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.judge = judge = Judge()
        leader, for_context = Signal(8), Signal()
        result, cause = Signal(WalkResult), Signal(12)
        entry, left = Signal(8), Signal(self.entries)
        at_leader = Signal()
        m.d.comb += [
            self.members_of.eq(leader),
            self.close_entry.eq(leader),
            self.read_entry.eq(entry),
            self.free_entry.eq(entry),
            judge.held.eq(self.read_held),
            judge.result.eq(result),
            judge.cause.eq(cause),
        ]
        lowest = Signal(8)
        for i in reversed(range(self.entries)):
            with m.If(left[i]):
                m.d.comb += lowest.eq(i)

        with m.If(self.fill.ready):
            m.d.sync += self.fill.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                take_walk = self.walk.valid & ~self.context.valid
                m.d.comb += [self.context.ready.eq(1), self.walk.ready.eq(take_walk)]
                m.d.sync += [
                    for_context.eq(self.context.valid),
                    leader.eq(
                        Mux(self.context.valid, self.context_leader, self.walk.payload.index)
                    ),
                    cause.eq(Mux(self.context.valid, self.context.payload.cause, 0)),
                    result.eq(self.walk.payload),
                    at_leader.eq(1),
                ]
                with m.If(self.context.valid | self.walk.valid):
                    m.next = "CLOSE"
            with m.State("CLOSE"):  # a request may join in this very cycle
                m.d.comb += self.close_en.eq(1)
                m.next = "GATHER"
            with m.State("GATHER"):
                with m.If(for_context & (cause == 0)):
                    m.d.comb += self.replay.eq(self.members)
                    m.next = "IDLE"
                with m.Else():
                    m.d.sync += [left.eq(self.members), entry.eq(leader)]
                    m.next = "READ"
            with m.State("READ"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                self._judge(m, judge, at_leader & ~for_context, leader, result)
                m.d.sync += [left.eq(left & ~(1 << entry)), at_leader.eq(0)]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.response.valid.eq(~self.fault.valid)
                with m.If(self.fault.ready):
                    m.d.sync += self.fault.valid.eq(0)
                with m.If(self.response.valid & self.response.ready):
                    m.d.comb += self.free_en.eq(1)
                    m.d.sync += entry.eq(lowest)
                    with m.If(left.any()):
                        m.next = "READ"
                    with m.Else():
                        m.next = "IDLE"
        return m

    def _judge(self, m: Module, judge, walked, leader, result) -> None:
        """Register the answer of one entry; the leader's walk also counts and fills."""
        m.d.sync += [
            self.response.payload.eq(judge.response),
            self.epoch.eq(self.read_held.epoch),
            self.fault.payload.eq(judge.record),
            self.fault.valid.eq(judge.record_en),
        ]
        context, request = self.read_held.context, self.read_held.request
        m.d.comb += [
            self.event.valid.eq(walked),
            self.event.first_stage_walk.eq(context.s_on),
            self.event.second_stage_walk.eq(context.g_on),
            self.event.device_id.eq(request.device_id),
            self.event.process_id.eq(request.process_id),
            self.event.pv.eq(request.pv),
            self.event.gscid.eq(context.gscid),
            self.event.gscv.eq(context.g_on),
            self.event.pscid.eq(context.pscid),
            self.event.pscv.eq(context.s_on),
        ]
        first, second, fill = result.first, result.second, self.fill.payload
        stale = Signal()
        with m.Switch(leader):
            for i in range(self.entries):
                with m.Case(i):
                    m.d.comb += stale.eq(self.stale[i])
        useful = (first.r & second.r) | (first.x & second.x)
        good = (result.status == WalkStatus.OK) & first.a & second.a & useful
        with m.If(walked & good & ~stale & ~self.stale_all):
            m.d.sync += [
                self.fill.valid.eq(1),
                fill.key.eq(self.read_key),
                fill.ppn.eq(result.ppn),
                fill.size.eq(result.size),
                fill.r.eq(first.r & second.r),
                fill.w.eq(first.w & second.w),
                fill.x.eq(first.x & second.x),
                fill.u.eq(first.u & second.u),
                fill.glob.eq(result.glob & context.s_on),
                fill.dirty.eq(first.d & second.d),
                fill.pbmt.eq(0),
            ]
