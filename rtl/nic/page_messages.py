"""Messages about pages between the NIC and the IOMMU (PCI Base 6.0, 10.4), queued."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.iommu import GroupResponsePayload, PageRequestPayload
from models.spec.translation import GroupResponse, PageRequest
from rtl.bus.stream import StreamFifo

__all__ = ["PageAnswer", "PageAsked", "PageMessages"]


class PageAsked(data.Struct):
    """A page request, a group of its own."""

    function: 8
    write: 1
    index: 9
    page: 52


class PageAnswer(data.Struct):
    """A group response."""

    device_id: 24
    index: 9
    code: 4


class PageMessages(wiring.Component):
    """Queues with a place for every tag, so that neither direction waits for the other: an IOMMU
    that answers itself takes no request before its answer has been taken.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ask : ``In(stream.Signature(PageAsked))``; page_request : ``Out(stream)``
    group_response : ``In(stream)``; answer : ``Out(stream.Signature(PageAnswer))``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "ask": In(stream.Signature(PageAsked)),
                "page_request": Out(stream.Signature(PageRequest)),
                "group_response": In(stream.Signature(GroupResponse)),
                "answer": Out(stream.Signature(PageAnswer)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.config.dma_tags
        m.submodules.asked = asked = StreamFifo(PageAsked, tags, block=True)
        m.submodules.answers = answers = StreamFifo(PageAnswer, tags)
        connect(m, flipped(self.ask), asked.i)
        connect(m, answers.o, flipped(self.answer))

        response, answer = self.group_response, answers.i
        group = data.View(GroupResponsePayload, response.payload.payload)
        m.d.comb += [
            answer.valid.eq(response.valid),
            response.ready.eq(answer.ready),
            answer.payload.device_id.eq(response.payload.device_id),
            answer.payload.index.eq(group.index),
            answer.payload.code.eq(group.code),
        ]

        request, ask = self.page_request, asked.o
        payload = data.View(PageRequestPayload, request.payload.payload)
        m.d.comb += [
            request.valid.eq(ask.valid),
            ask.ready.eq(request.ready),
            request.payload.device_id.eq(self.config.device_id + ask.payload.function),
            payload.r.eq(~ask.payload.write),
            payload.w.eq(ask.payload.write),
            payload.last.eq(1),
            payload.index.eq(ask.payload.index),
            payload.address.eq(ask.payload.page),
        ]
        return m
