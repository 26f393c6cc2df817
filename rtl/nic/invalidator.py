"""Answers invalidation requests when every older use of a translation has ended."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.translation import InvalidationCompletion, InvalidationRequest
from rtl.bus.stream import StreamFifo

__all__ = ["Invalidator"]


class Invalidator(wiring.Component):
    """The NIC keeps no translation beyond the segment that asked for it, so what an invalidation
    must outlive is the segments that were under way when it came, waiting for a translation or
    moving data.  Later segments use later translations and do not delay the answer.

    Segments begin in one of two colours.  The colour changes for all invalidations that wait; they
    are answered when the old one's segments have ended.

    Members
    -------
    request : ``In(stream.Signature(InvalidationRequest))``
        Up to 32 wait here, the most that an IOMMU may have outstanding.
    completion : ``Out(stream.Signature(InvalidationCompletion))``
        One for each, in order.
    colour : ``Out(1)``
        Of segments that begin in this cycle.
    begun : ``In(1)``
        One does.
    ended, ended_colour : ``In(1)``
        A segment of that colour has ended.
    """

    def __init__(self, config: NicConfig):
        self.slots = config.dma_slots
        super().__init__(
            {
                "request": In(stream.Signature(InvalidationRequest)),
                "completion": Out(stream.Signature(InvalidationCompletion)),
                "colour": Out(1),
                "begun": In(1),
                "ended": In(1),
                "ended_colour": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        kept = data.StructLayout({"device_id": 24, "itag": 5})
        m.submodules.waiting = waiting = StreamFifo(kept, 32)
        request, oldest = self.request, waiting.o
        counts = [Signal(range(self.slots + 1), name=f"count{colour}") for colour in range(2)]
        covered = Signal(range(33))  # invalidations since which the colour has changed
        m.d.comb += [
            waiting.i.valid.eq(request.valid),
            request.ready.eq(waiting.i.ready),
            waiting.i.payload.device_id.eq(request.payload.device_id),
            waiting.i.payload.itag.eq(request.payload.itag),
            self.completion.payload.device_id.eq(oldest.payload.device_id),
            self.completion.payload.itag_vector.eq(1 << oldest.payload.itag),
            self.completion.payload.count.eq(1),
            self.completion.valid.eq((covered != 0) & (Mux(self.colour, *counts) == 0)),
            oldest.ready.eq(self.completion.valid & self.completion.ready),
        ]
        for colour, count in enumerate(counts):
            begun, ended = Signal(name=f"begun{colour}"), Signal(name=f"ended{colour}")
            m.d.comb += [
                begun.eq(self.begun & (self.colour == colour)),
                ended.eq(self.ended & (self.ended_colour == colour)),
            ]
            m.d.sync += count.eq(count + begun - ended)
        with m.If((covered == 0) & oldest.valid):
            m.d.sync += [covered.eq(waiting.level), self.colour.eq(~self.colour)]
        with m.If(oldest.ready):
            m.d.sync += covered.eq(covered - 1)
        return m
