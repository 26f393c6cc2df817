"""Read half of the I/O bridge."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.translation import DmaUser, TranslationRequest, TranslationResponse
from rtl.bus.axi import Axi4
from rtl.bus.stream import StreamRegister
from rtl.iommu.admission import IOVA_BITS, Admission
from rtl.iommu.requests import QosId

__all__ = ["BridgeRead"]

#: AXI4's longest burst; read data is not kept here, so any length goes.
LONGEST_BURST = 256


class BridgeRead(wiring.Component):
    """Reads: address to translation to memory, data straight back.

    A refused read is answered with as many beats of zeros and an error response; a word of a
    memory-resident interrupt file reads 0.

    Parameters
    ----------
    slots, addr_width, data_width, id_width, mrif, qos
        As of :class:`~rtl.iommu.bridge.Bridge`.

    Members
    -------
    up, down : ``In(Axi4)``, ``Out(Axi4)``, reads only
    request, void, response : streams
        Translation port; the tag is the slot.
    live, finished : ``Out(slots)``
    """

    def __init__(self, *, slots, addr_width, data_width, id_width, mrif, qos):
        self._admission = Admission(
            slots=slots,
            beats=LONGEST_BURST,
            addr_width=addr_width,
            data_width=data_width,
            id_width=id_width,
            write=False,
            mrif=mrif,
            qos=qos,
        )
        bus = {"data_width": data_width, "id_width": id_width, "write": False}
        super().__init__(
            {
                "up": In(Axi4(addr_width=IOVA_BITS, user=DmaUser, **bus)),
                "down": Out(Axi4(addr_width=addr_width, user=QosId if qos else None, **bus)),
                "request": Out(stream.Signature(TranslationRequest)),
                "void": Out(1),
                "response": In(stream.Signature(TranslationResponse)),
                "live": Out(slots),
                "finished": Out(slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.admission = admission = self._admission
        m.submodules.out = out = StreamRegister(self.up.r.payload.shape())
        connect(m, flipped(self.up.ar), admission.address)
        connect(m, admission.request, flipped(self.request))
        m.d.comb += self.void.eq(admission.malformed)
        connect(m, flipped(self.response), admission.response)
        connect(m, out.o, flipped(self.up.r))
        m.d.comb += [
            admission.ready.eq(-1),
            self.live.eq(admission.live),
            self.finished.eq(admission.finished),
            self.down.ar.valid.eq(admission.issue.valid),
            self.down.ar.payload.eq(admission.issue.payload.address),
            admission.issue.ready.eq(self.down.ar.ready),
        ]

        # Memory's beats, or an error's between two bursts of memory's.
        failing, beat, amid = Signal(), Signal(8), Signal()
        transferred = Signal()
        amid_next = Signal()
        error = admission.error
        m.d.comb += [
            transferred.eq(out.i.valid & out.i.ready),
            amid_next.eq(Mux(transferred, ~out.i.payload.last, amid)),
        ]
        m.d.sync += amid.eq(amid_next)
        with m.If(failing):
            m.d.comb += [
                out.i.valid.eq(1),
                out.i.payload.id.eq(error.payload.id),
                out.i.payload.resp.eq(error.payload.resp),
                out.i.payload.last.eq(beat == error.payload.len),
                error.ready.eq(transferred & out.i.payload.last),
            ]
            with m.If(transferred):
                m.d.sync += beat.eq(beat + 1)
                with m.If(out.i.payload.last):
                    m.d.sync += failing.eq(0)
        with m.Else():
            m.d.comb += [
                out.i.valid.eq(self.down.r.valid),
                out.i.payload.eq(self.down.r.payload),
                self.down.r.ready.eq(out.i.ready),
                admission.answer.eq(transferred & out.i.payload.last),
                admission.answer_id.eq(self.down.r.payload.id),
            ]
            m.d.sync += beat.eq(0)
            with m.If(error.valid & ~amid_next):
                m.d.sync += failing.eq(1)
        return m
