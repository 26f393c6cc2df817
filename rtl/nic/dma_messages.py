"""MSI-X messages: writes of the DMA engine that no queue asks for."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import MsiWrite, StatEvent
from rtl.nic.segments import Segment

__all__ = ["DmaMessages"]


class DmaMessages(wiring.Component):
    """Puts one message at a time before the segments of writes, in a slot of its own.

    Members
    -------
    message : ``In(stream.Signature(MsiWrite))``
    segment : ``In(stream.Signature(Segment))``; merged : ``Out(stream.Signature(Segment))``
        Writes, without and with messages.
    value : ``Out(32)``
        Data of the message that is under way.
    done, error : ``In(1)``
        It has its response.
    stat : ``Out(stream.Signature(StatEvent))``
        Messages that failed.
    """

    def __init__(self, config: NicConfig):
        self.slot = config.dma_slots
        super().__init__(
            {
                "message": In(stream.Signature(MsiWrite)),
                "segment": In(stream.Signature(Segment)),
                "merged": Out(stream.Signature(Segment)),
                "value": Out(32),
                "done": In(1),
                "error": In(1),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        busy, function, sends = Signal(), Signal(8), Signal()
        message, merged = self.message.payload, self.merged
        # Once offered, a segment stays.
        offered = Signal()
        m.d.sync += offered.eq(merged.valid & ~merged.ready & ~sends)
        m.d.comb += [
            sends.eq(self.message.valid & ~busy & ~self.stat.valid & ~offered),
            self.message.ready.eq(sends & merged.ready),
            merged.valid.eq(sends | self.segment.valid),
            merged.payload.eq(self.segment.payload),
            self.segment.ready.eq(merged.ready & ~sends),
            self.stat.payload.function.eq(function),
            self.stat.payload.stat.eq(Stat.DMA_FAULTS),
            self.stat.payload.amount.eq(1),
        ]
        with m.If(sends):
            m.d.comb += [
                merged.payload.eq(0),
                merged.payload.slot.eq(self.slot),
                merged.payload.address.eq(message.address),
                merged.payload.length.eq(4),
                merged.payload.function.eq(message.function),
            ]
        with m.If(self.message.ready):
            m.d.sync += [busy.eq(1), function.eq(message.function), self.value.eq(message.data)]
        with m.If(self.stat.ready):
            m.d.sync += self.stat.valid.eq(0)
        with m.If(self.done):
            m.d.sync += [busy.eq(0), self.stat.valid.eq(self.error)]
        return m
