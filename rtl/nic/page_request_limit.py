"""Page requests of all functions on their way out, no more than software allows."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.iommu import GroupResponsePayload, PageRequestPayload, PageResponse
from models.spec.translation import GroupResponse, PageRequest
from rtl.bus.stream import StreamRegister
from rtl.nic.pci_state import PriPort

__all__ = ["PageRequestLimit"]

_INDEX_BITS = GroupResponsePayload.as_shape()["index"].width


class PageRequestLimit(wiring.Component):
    """The page request interface that PF and VFs share (PCIe 10.4.2 and 10.5.2).

    Requests wait while page requests are disabled or as many are outstanding as are allocated.
    Responses never wait for them.  A RAM knows which group indices are outstanding.

    Latency
    -------
    Three cycles either way; a reset takes a cycle per index.

    Members
    -------
    request : ``In(stream)`` of PageRequest; asked : ``Out(stream)`` of PageRequest
        From the DMA engine, and to the IOMMU.
    response : ``In(stream)`` of GroupResponse; answered : ``Out(stream)`` of GroupResponse
        From the IOMMU, and to the DMA engine.
    pri : ``In(PriPort)``
    """

    request: In(stream.Signature(PageRequest))
    asked: Out(stream.Signature(PageRequest))
    response: In(stream.Signature(GroupResponse))
    answered: Out(stream.Signature(GroupResponse))
    pri: In(PriPort())

    def elaborate(self, platform):
        m = Module()
        m.submodules.asking = asking = StreamRegister(PageRequest)
        m.submodules.table = table = Memory(shape=1, depth=1 << _INDEX_BITS, init=[])
        connect(m, asking.o, flipped(self.asked))
        look, store = table.read_port(), table.write_port()
        count, forget = Signal(_INDEX_BITS + 1), Signal(init=1)
        index, place = Signal(_INDEX_BITS), Signal(_INDEX_BITS)
        wanted = data.View(PageRequestPayload, self.request.payload.payload).index
        answer = data.View(GroupResponsePayload, self.response.payload.payload)
        may_ask = self.pri.enable & (count < self.pri.allocation) & asking.i.ready
        m.d.comb += [
            self.pri.idle.eq(count == 0),
            asking.i.payload.eq(self.request.payload),
            self.answered.payload.eq(self.response.payload),
            look.addr.eq(index),
            store.addr.eq(index),
        ]
        with m.If(self.pri.reset):
            m.d.sync += forget.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += look.addr.eq(wanted)
                m.d.sync += [index.eq(wanted), place.eq(0)]
                with m.If(forget):
                    m.next = "FORGET"
                with m.Elif(self.response.valid):
                    m.d.comb += look.addr.eq(answer.index)
                    m.d.sync += index.eq(answer.index)
                    m.next = "ANSWER"
                with m.Elif(self.request.valid & may_ask):
                    m.next = "ASK"
            with m.State("FORGET"):
                m.d.comb += [store.addr.eq(place), store.en.eq(1)]
                m.d.sync += [place.eq(place + 1), count.eq(0)]
                with m.If(place.all()):
                    with m.If(~self.pri.reset):
                        m.d.sync += forget.eq(0)
                    m.next = "IDLE"
            with m.State("ASK"):
                m.d.comb += [
                    asking.i.valid.eq(1),
                    self.request.ready.eq(1),
                    store.en.eq(1),
                    store.data.eq(1),
                ]
                m.d.sync += count.eq(count + ~look.data)
                m.next = "IDLE"
            with m.State("ANSWER"):
                m.d.comb += self.answered.valid.eq(1)
                m.d.comb += look.addr.eq(index)
                with m.If(self.answered.ready):
                    m.d.comb += [
                        self.response.ready.eq(1),
                        store.en.eq(1),
                        # Codes that nobody has defined are failures (PCIe 10.4.2.1).
                        self.pri.failure.eq(look.data & (answer.code > PageResponse.INVALID)),
                        self.pri.unexpected.eq(~look.data),
                    ]
                    m.d.sync += count.eq(count - look.data)
                    m.next = "IDLE"
        return m
