"""Judges requests: what a walk's leaves, or a fault, mean for the one who asked."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import Cause, FaultRecord, Ttyp
from models.spec.translation import (
    AddressType,
    TranslationRequest,
    TranslationResponse,
    TranslationStatus,
)
from rtl.iommu.context import Context
from rtl.iommu.walker import WalkResult, WalkStatus

__all__ = ["Held", "Judge", "fault_response", "record_fields"]

#: Faults that DC.tc.DTF does not silence (section "Device-context fields", DTF).
_ALWAYS_RECORDED = (256, 257, 258, 259, 268, 272, 273)


class Held(data.Struct):
    """A request on its way through the translator."""

    request: TranslationRequest
    context: Context
    epoch: 1  # for drains
    replay: 1  # passes the pipeline again, with entry
    entry: 8


def _of_access(request, read, write, execute):
    """The cause that fits the kind of access."""
    return Mux(request.exec, execute, Mux(request.write, write, read))


def is_ats(request):
    """Whether a request is an ATS translation request."""
    return request.at == AddressType.ATS_REQUEST


def fault_response(m: Module, response, held, cause) -> None:
    """Drive a response that carries a fault (section "ATS", table of responses)."""
    request = held.request
    ats = is_ats(request)
    quiet = Signal(name="page_fault")  # answered as a success without rights
    m.d.comb += quiet.eq(
        Cat(
            cause == value
            for value in (
                Cause.INSTRUCTION_PAGE_FAULT,
                Cause.READ_PAGE_FAULT,
                Cause.WRITE_PAGE_FAULT,
                Cause.INSTRUCTION_GUEST_PAGE_FAULT,
                Cause.READ_GUEST_PAGE_FAULT,
                Cause.WRITE_GUEST_PAGE_FAULT,
            )
        ).any()
    )
    # Causes from 256 to 260 are unsupported requests, the others abort.
    unsupported = (cause[8:] == 1) & (cause[:8] <= 4)
    m.d.comb += [
        response.tag.eq(request.tag),
        response.cause.eq(cause),
        response.size.eq(12),
        response.status.eq(
            Mux(
                ats & quiet,
                TranslationStatus.SUCCESS,
                Mux(
                    ats & ~unsupported,
                    TranslationStatus.COMPLETER_ABORT,
                    TranslationStatus.UNSUPPORTED_REQUEST,
                ),
            )
        ),
    ]


def record_fields(m: Module, record, held, cause, gpa, implicit):
    """Drive a fault record; returns whether it is to be stored."""
    request = held.request
    kind = Signal(6, name="ttyp")
    base = Mux(
        request.exec,
        Ttyp.UNTRANSLATED_EXECUTE,
        Mux(request.write, Ttyp.UNTRANSLATED_WRITE, Ttyp.UNTRANSLATED_READ),
    )
    with m.Switch(request.at):
        with m.Case(AddressType.UNTRANSLATED):
            m.d.comb += kind.eq(base)
        with m.Case(AddressType.TRANSLATED):
            m.d.comb += kind.eq(base + 4)
        with m.Case(AddressType.ATS_REQUEST):
            m.d.comb += kind.eq(Ttyp.ATS_REQUEST)
        with m.Case(AddressType.MESSAGE):
            m.d.comb += kind.eq(Ttyp.MESSAGE)
    guest = Cat(cause == value for value in (20, 21, 23)).any()
    m.d.comb += [
        record.cause.eq(cause),
        record.pid.eq(Mux(request.pv, request.process_id, 0)),
        record.pv.eq(request.pv),
        record.priv.eq(request.pv & request.priv),
        record.ttyp.eq(kind),
        record.did.eq(request.device_id),
        record.iotval.eq(request.iova),
        record.iotval2.eq(Mux(guest, Cat(implicit, Const(0, 1), gpa[2:]), 0)),
    ]
    always = Cat(cause == value for value in _ALWAYS_RECORDED).any()
    page_fault = guest | Cat(cause == value for value in (12, 13, 15)).any()
    return (cause != 0) & (always | ~held.context.dtf) & ~(is_ats(request) & page_fault)


class Judge(wiring.Component):
    """Answers one request from a walk's result, or from a fault known before.  Combinational.

    Privileged Architecture, "Virtual Address Translation Process" steps 5 to 9 for the leaf of
    each stage; specification, "ATS translation requests".

    Members
    -------
    held : ``In(Held)``
        Who asks.
    result : ``In(WalkResult)``
        Leaves.
    cause : ``In(12)``
        A fault that makes the result void; 0 for none.
    response : ``Out(TranslationResponse)``; record : ``Out(FaultRecord)``; record_en : ``Out(1)``
        The answer.
    """

    held: In(Held)
    result: In(WalkResult)
    cause: In(12)
    response: Out(TranslationResponse)
    record: Out(FaultRecord)
    record_en: Out(1)

    def elaborate(self, platform):
        m = Module()
        request, result, response = self.held.request, self.result, self.response
        first, second = result.first, result.second
        ats = is_ats(request)
        # What each stage allows; requests without a privileged process are user accesses.
        allow = {}
        for name, rights in (("first", first), ("second", second)):
            base = rights.a & rights.u
            read = Signal(name=f"{name}_read")
            write = Signal(name=f"{name}_write")
            execute = Signal(name=f"{name}_execute")
            m.d.comb += [
                read.eq(base & rights.r),
                write.eq(base & rights.w & rights.d),
                execute.eq(base & rights.x),
            ]
            allow[name] = (read, write, execute)

        def granted(stage):
            read, write, execute = allow[stage]
            plain = Mux(request.exec, execute, Mux(request.write, write, read))
            return Mux(ats, read, plain)

        cause = Signal(12)
        page = _of_access(request, 13, 15, 12)
        guest = _of_access(request, 21, 23, 20)
        access = _of_access(request, 5, 7, 1)
        with m.If(self.cause != 0):
            m.d.comb += cause.eq(self.cause)
        with m.Else():
            with m.Switch(result.status):
                with m.Case(WalkStatus.FIRST_STAGE):
                    m.d.comb += cause.eq(page)
                with m.Case(WalkStatus.IMPLICIT):
                    m.d.comb += cause.eq(guest)
                with m.Case(WalkStatus.ACCESS):
                    m.d.comb += cause.eq(access)
                with m.Default():
                    # The first stage's leaf is judged before the second stage is looked at.
                    with m.If(~granted("first")):
                        m.d.comb += cause.eq(page)
                    with m.Elif(result.status == WalkStatus.FINAL):
                        m.d.comb += cause.eq(guest)
                    with m.Elif(result.status == WalkStatus.FINAL_ACCESS):
                        m.d.comb += cause.eq(access)
                    with m.Elif(~granted("second")):
                        m.d.comb += cause.eq(guest)
        implicit = result.status == WalkStatus.IMPLICIT
        m.d.comb += self.record_en.eq(
            record_fields(m, self.record, self.held, cause, result.gpa, implicit)
        )
        with m.If(cause != 0):
            fault_response(m, response, self.held, cause)
        with m.Else():
            read = allow["first"][0] & allow["second"][0]
            write = allow["first"][1] & allow["second"][1]
            execute = allow["first"][2] & allow["second"][2]
            m.d.comb += [
                response.tag.eq(request.tag),
                response.status.eq(TranslationStatus.SUCCESS),
                response.spa.eq(Cat(request.iova[:12], result.ppn)),
                response.size.eq(result.size),
                response.r.eq(read),
                response.w.eq(write & (request.write | ~ats)),
                response.x.eq(execute & (read | ~ats) & (request.exec | ~ats)),
            ]
        return m
