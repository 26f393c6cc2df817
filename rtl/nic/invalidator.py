"""Answers invalidation requests when every older use of a translation has ended."""

from amaranth.hdl import Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.translation import InvalidationCompletion, InvalidationRequest

__all__ = ["Invalidator"]


class Invalidator(wiring.Component):
    """The NIC keeps no translation beyond the segment that asked for it, so what an invalidation
    must outlive is the segments that were under way when it came, waiting for a translation or
    moving data.  Later segments use later translations and do not delay the answer.

    Members
    -------
    request : ``In(stream.Signature(InvalidationRequest))``
        Up to 32 wait here, the most that an IOMMU may have outstanding.
    completion : ``Out(stream.Signature(InvalidationCompletion))``
        One for each, in order.
    busy : ``In(slots)``
        Segments under way.
    """

    def __init__(self, config: NicConfig):
        self.slots = config.dma_slots
        super().__init__(
            {
                "request": In(stream.Signature(InvalidationRequest)),
                "completion": Out(stream.Signature(InvalidationCompletion)),
                "busy": In(self.slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = len(self.request.payload.device_id) + len(self.request.payload.itag)
        m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(width=width, depth=32)
        device, tag, older = Signal(24), Signal(5), Signal(self.slots)
        active = Signal()
        payload = self.request.payload
        m.d.comb += [
            waiting.w_data.eq(payload.device_id | (payload.itag << 24)),
            waiting.w_en.eq(self.request.valid),
            self.request.ready.eq(waiting.w_rdy),
            self.completion.payload.device_id.eq(device),
            self.completion.payload.itag_vector.eq(1 << tag),
            self.completion.payload.count.eq(1),
            self.completion.valid.eq(active & (older == 0)),
        ]
        with m.If(~active):
            m.d.comb += waiting.r_en.eq(1)
            m.d.sync += [
                active.eq(waiting.r_rdy),
                device.eq(waiting.r_data[:24]),
                tag.eq(waiting.r_data[24:]),
                older.eq(self.busy),
            ]
        with m.Else():
            m.d.sync += older.eq(older & self.busy)
            with m.If(self.completion.valid & self.completion.ready):
                m.d.sync += active.eq(0)
        return m
