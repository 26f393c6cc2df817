"""MSI-X messages: writes of the DMA engine that no queue asks for."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.bus.stream import StreamFifo
from rtl.nic.seams import MsiWrite, StatEvent
from rtl.nic.segments import Segment

__all__ = ["MESSAGES", "DmaMessages"]

#: Messages that are under way at once.
MESSAGES = 4


class DmaMessages(wiring.Component):
    """Makes messages segments of writes, in a slot of their own; a few at once, for which
    translation and memory take the time of one.

    They have one AXI ID, so that they stay in order, and so do their responses.

    Members
    -------
    message : ``In(stream.Signature(MsiWrite))``
    segment : ``Out(stream.Signature(Segment))``
    value : ``Out(32)``
        Data of the message that was the latest to be taken.
    done, error : ``In(1)``
        The oldest has its response.
    fenced, pushed : ``Out(1)``
        A fence has come, of a reset or of a read; those before it have their responses.
    stat : ``Out(stream.Signature(StatEvent))``
        Messages that failed.
    """

    def __init__(self, config: NicConfig):
        self.slot = config.dma_slots
        super().__init__(
            {
                "message": In(stream.Signature(MsiWrite)),
                "segment": Out(stream.Signature(Segment)),
                "value": Out(32),
                "done": In(1),
                "error": In(1),
                "fenced": Out(1),
                "pushed": Out(1),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Whose messages are under way, and whose failed and have not been counted.
        m.submodules.under_way = under_way = StreamFifo(8, MESSAGES)
        m.submodules.failed = failed = StreamFifo(8, MESSAGES)
        message, segment = self.message.payload, self.segment
        taken, counted, fence, passed = Signal(), Signal(), Signal(), Signal()
        places = Signal(range(MESSAGES + 1), init=MESSAGES)  # of both
        m.d.sync += places.eq(places - taken + (self.done & ~self.error) + counted)
        m.d.comb += [
            fence.eq(self.message.valid & message.fence),
            passed.eq(fence & (places == MESSAGES)),
            self.fenced.eq(passed & ~message.read),
            self.pushed.eq(passed & message.read),
            segment.valid.eq(self.message.valid & ~message.fence & (places != 0)),
            segment.payload.slot.eq(self.slot),
            segment.payload.address.eq(message.address),
            segment.payload.length.eq(4),
            segment.payload.function.eq(message.function),
            taken.eq(segment.valid & segment.ready),
            self.message.ready.eq(taken | passed),
            under_way.i.valid.eq(taken),
            under_way.i.payload.eq(message.function),
            under_way.o.ready.eq(self.done),
            failed.i.valid.eq(self.done & self.error),
            failed.i.payload.eq(under_way.o.payload),
            self.stat.valid.eq(failed.o.valid),
            failed.o.ready.eq(self.stat.ready),
            counted.eq(self.stat.valid & self.stat.ready),
            self.stat.payload.function.eq(failed.o.payload),
            self.stat.payload.stat.eq(Stat.DMA_FAULTS),
            self.stat.payload.amount.eq(1),
        ]
        with m.If(taken):
            m.d.sync += self.value.eq(message.data)
        return m
