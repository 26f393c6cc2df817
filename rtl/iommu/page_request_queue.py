"""Page-request queue of the IOMMU (section "Page-Request-Queue")."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.iommu import (
    Cause,
    GroupResponsePayload,
    PageRequestPayload,
    PageRequestRecord,
    PageResponse,
)
from models.spec.translation import (
    PAGE_REQUEST_MESSAGE,
    AddressType,
    GroupResponse,
    PageRequest,
    TranslationStatus,
)
from rtl.bus.axi import Axi4
from rtl.iommu.record_writer import RecordOutcome, RecordWriter
from rtl.iommu.register_file import QueueRegisters
from rtl.iommu.seams import TranslationPort

__all__ = ["PageRequestQueue"]

WORDS = 2


class PageRequestQueue(wiring.Component):
    """Checks page requests and writes them to memory, or answers them.

    The device's context is looked up by a MESSAGE request, whose faults the translator reports.
    A request that gets into the queue is answered by software.  Any other that is the last of its
    group and no stop marker is answered here:

    ============================================ ======== =============================
    why                                          code     PASID in the answer
    ============================================ ======== =============================
    context not found or bad (256 to 259, 268),  Failure  if the request had one
    queue off, pqmf, write failed
    requests of this kind not allowed (260)      Invalid  if so and DC.tc.PRPR
    queue full or pqof                           Success  if so and DC.tc.PRPR
    ============================================ ======== =============================

    One request at a time.

    Parameters
    ----------
    addr_width : int
        Bits of a physical address.

    Members
    -------
    request : ``In(stream)`` of PageRequest
    translate : ``Out(TranslationPort)``
        For MESSAGE requests, tag 0.
    registers : ``In(QueueRegisters)``
    be : ``In(1)``
        fctl.BE.
    group_response : ``Out(stream)`` of GroupResponse
    interrupt : ``Out(1)``
        Condition of ipsr.pip.
    memory : ``Out(Axi4)``, writes only
    """

    def __init__(self, *, addr_width: int):
        self._addr_width = addr_width
        super().__init__(
            {
                "request": In(stream.Signature(PageRequest)),
                "translate": Out(TranslationPort()),
                "registers": In(QueueRegisters()),
                "be": In(1),
                "group_response": Out(stream.Signature(GroupResponse)),
                "interrupt": Out(1),
                "memory": Out(Axi4(addr_width=addr_width, data_width=64, id_width=1, read=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer = writer = RecordWriter(words=WORDS, addr_width=self._addr_width)
        connect(m, flipped(self.registers), writer.registers)
        connect(m, writer.memory, flipped(self.memory))
        message = Signal(PageRequest)
        payload = PageRequestPayload(message.payload)
        answer_code, with_pasid, prpr = Signal(PageResponse), Signal(), Signal()
        lookup, found = self.translate.request, self.translate.response
        answer = self.group_response

        record = PageRequestRecord(writer.record.payload.as_value())
        m.d.comb += [
            self.interrupt.eq(writer.interrupt),
            writer.be.eq(self.be),
            lookup.payload.at.eq(AddressType.MESSAGE),
            lookup.payload.device_id.eq(message.device_id),
            lookup.payload.process_id.eq(Mux(message.pv, message.process_id, 0)),
            lookup.payload.pv.eq(message.pv),
            lookup.payload.priv.eq(message.pv & message.priv),
            lookup.payload.iova.eq(PAGE_REQUEST_MESSAGE),
            record.pid.eq(Mux(message.pv, message.process_id, 0)),
            record.pv.eq(message.pv),
            record.priv.eq(message.pv & message.priv),
            record.exec.eq(message.pv & message.exec),
            record.did.eq(message.device_id),
            record.payload.eq(message.payload),
        ]
        # What an answer says is registered with its code.
        response = GroupResponsePayload(answer.payload.payload)
        m.d.comb += [
            answer.payload.device_id.eq(message.device_id),
            answer.payload.dsv.eq(message.device_id[16:].any()),
            answer.payload.pv.eq(with_pasid),
            answer.payload.process_id.eq(Mux(with_pasid, message.process_id, 0)),
            response.index.eq(payload.index),
            response.code.eq(answer_code),
            response.destination.eq(message.device_id),
        ]
        stop_marker = payload.last & ~payload.r & ~payload.w
        expects_answer = payload.last & ~stop_marker

        def finish(code, pasid):
            """Answer the group if the device waits for that."""
            m.d.sync += [
                answer_code.eq(code),
                with_pasid.eq(pasid),
                answer.valid.eq(expects_answer),
            ]
            m.next = "ANSWER"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += message.eq(self.request.payload)
                with m.If(self.request.valid):
                    m.d.sync += lookup.valid.eq(1)
                    m.next = "LOOK UP"
            with m.State("LOOK UP"):
                with m.If(lookup.ready):
                    m.d.sync += lookup.valid.eq(0)
                    m.next = "FOUND"
            with m.State("FOUND"):
                m.d.comb += found.ready.eq(1)
                m.d.sync += prpr.eq(found.payload.prpr)
                with m.If(found.valid):
                    with m.If(found.payload.status == TranslationStatus.SUCCESS):
                        m.next = "RECORD"
                    with m.Elif(found.payload.cause == Cause.TYPE_DISALLOWED):
                        finish(PageResponse.INVALID, message.pv & found.payload.prpr)
                    with m.Else():
                        finish(PageResponse.FAILURE, message.pv)
            with m.State("RECORD"):
                m.d.comb += writer.record.valid.eq(1)
                with m.If(writer.record.ready):
                    with m.Switch(writer.outcome):
                        with m.Case(RecordOutcome.WRITTEN):
                            m.next = "IDLE"
                        with m.Case(RecordOutcome.FULL):
                            finish(PageResponse.SUCCESS, message.pv & prpr)
                        with m.Default():
                            finish(PageResponse.FAILURE, message.pv)
            with m.State("ANSWER"):
                with m.If(~answer.valid | answer.ready):
                    m.d.sync += answer.valid.eq(0)
                    m.next = "IDLE"
        return m
