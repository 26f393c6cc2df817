"""Judges requests: what a translation or a fault means for the one who asked."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import FaultRecord, Ttyp
from models.spec.iotlb import IotlbKey
from models.spec.translation import AddressType, TranslationResponse, TranslationStatus
from rtl.iommu.requests import Held, WalkResult

__all__ = [
    "BARE_SIZE",
    "SPA_BITS",
    "Judge",
    "by_access",
    "fault_response",
    "fault_status",
    "grant",
    "is_ats",
    "is_recorded",
    "lookup_key",
    "record_fields",
    "stages",
]

#: Faults that DC.tc.DTF does not silence (section "Device-context fields", DTF).
_ALWAYS_RECORDED = (256, 257, 258, 259, 268, 272, 273)
#: ATS: causes of "Unsupported Request", and of a success without rights; others abort.
_UNSUPPORTED = (256, 257, 258, 259, 260)
_WITHOUT_RIGHTS = (12, 13, 15, 20, 21, 23, 262, 266)
_GUEST = (20, 21, 23)
#: log2 of the range answered to ATS requests where both stages are Bare.
BARE_SIZE = 30
#: Of system physical addresses (section "IOMMU data structures": PPNs of 44 bits).
SPA_BITS = 56


def _is_one_of(cause, values):
    return Cat(cause == value for value in values).any()


def by_access(request, read, write, execute):
    """The cause that fits the kind of access; ATS requests are reads or writes."""
    executes = request.exec & ~is_ats(request)
    return Mux(executes, execute, Mux(request.write, write, read))


def is_ats(request):
    """Whether a request is an ATS translation request."""
    return request.at == AddressType.ATS_REQUEST


def stages(request, context):
    """Whether the first and the second stage are on for a request, contexts merged."""
    first = (context.s_levels != 0) & (request.at != AddressType.TRANSLATED)
    return first, context.g_levels != 0


def lookup_key(held):
    """What a request's translation is kept under; contexts are merged."""
    request, context = held.request, held.context
    first, second = stages(request, context)
    fields = {
        "gv": second,
        "gscid": context.gscid,
        "pv": first,
        "pscid": Mux(first, context.pscid, 0),
        "vpn": request.iova[12:],
        "msi": context.msi & second,
    }
    return Cat(fields[name] for name in IotlbKey.as_shape().members)


def fault_response(m: Module, response, held, cause) -> None:
    """Drive a response that carries a fault (section "ATS", table of responses)."""
    m.d.comb += [
        response.tag.eq(held.request.tag),
        response.cause.eq(cause),
        response.size.eq(12),
        response.status.eq(fault_status(held.request, cause)),
    ]


def fault_status(request, cause):
    """The TranslationStatus that tells of a fault."""
    ats = is_ats(request)
    return Mux(
        ats & _is_one_of(cause, _WITHOUT_RIGHTS),
        TranslationStatus.SUCCESS,
        Mux(
            ats & ~_is_one_of(cause, _UNSUPPORTED),
            TranslationStatus.COMPLETER_ABORT,
            TranslationStatus.UNSUPPORTED_REQUEST,
        ),
    )


def is_recorded(held, cause, *, dtf=None):
    """Whether a cause is that of a fault which is to be stored."""
    silenced = (held.context.dtf if dtf is None else dtf) & ~_is_one_of(cause, _ALWAYS_RECORDED)
    quiet = is_ats(held.request) & _is_one_of(cause, _WITHOUT_RIGHTS)
    return (cause != 0) & ~silenced & ~quiet


def record_fields(m: Module, record, held, cause, *, gpa=0, implicit=0, implicit_write=0) -> None:
    """Drive a fault record."""
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
    m.d.comb += [
        record.cause.eq(cause),
        record.pid.eq(Mux(request.pv, request.process_id, 0)),
        record.pv.eq(request.pv),
        record.priv.eq(request.pv & request.priv),
        record.ttyp.eq(kind),
        record.did.eq(request.device_id),
        record.iotval.eq(request.iova),
    ]
    if not isinstance(gpa, int):
        value = Cat(implicit, implicit_write, gpa[2:])
        m.d.comb += record.iotval2.eq(Mux(_is_one_of(cause, _GUEST), value, 0))


def grant(m: Module, response, held, found, *, size, supervisor) -> None:
    """Drive a success from rights ``r w x u dirty glob pbmt`` of both stages together.

    ``supervisor``: the first stage has a say, for a privileged request.
    """
    request, context = held.request, held.context
    ats = is_ats(request)
    usable, executable = Signal(name="usable"), Signal(name="executable")
    read = Signal(name="granted_read")
    m.d.comb += [
        usable.eq(Mux(supervisor, ~found.u | context.sum, found.u)),
        executable.eq(Mux(supervisor, ~found.u, found.u)),
        read.eq(found.r & usable),
        response.tag.eq(request.tag),
        response.status.eq(TranslationStatus.SUCCESS),
        response.size.eq(size),
        response.r.eq(read),
        response.w.eq(found.w & found.dirty & usable & (request.write | ~ats)),
        response.x.eq(found.x & executable & ((read & request.exec) | ~ats)),
        response.priv.eq(ats & request.pv & request.priv),
        response.glob.eq(ats & found.glob & request.pv),
        response.pbmt.eq(found.pbmt),
        response.prpr.eq(context.prpr),
        response.dtf.eq(context.dtf),
        response.rcid.eq(context.rcid),
        response.mcid.eq(context.mcid),
    ]


class Judge(wiring.Component):
    """Answers one request from a walk's result, or from a fault known before.  Combinational.

    Specification, "ATS translation requests" and "Fault/Event-Queue".  The walk has judged its
    leader's rights, and those who joined it want the same.

    Members
    -------
    held : ``In(Held)``
        Who asks.
    result : ``In(WalkResult)``
        What the walk found.
    cause : ``In(12)``; bad : ``In(1)``
        This request's; it is not 0.
    dtf : ``In(1)``
        Of the device.
    response : ``Out(TranslationResponse)``; record : ``Out(FaultRecord)``; record_en : ``Out(1)``
        The answer.
    """

    held: In(Held)
    result: In(WalkResult)
    cause: In(12)
    bad: In(1)
    dtf: In(1)
    response: Out(TranslationResponse)
    record: Out(FaultRecord)
    record_en: Out(1)

    def elaborate(self, platform):
        m = Module()
        held, result, response = self.held, self.result, self.response
        request = held.request
        ats = is_ats(request)
        m.d.comb += self.record_en.eq(is_recorded(held, self.cause, dtf=self.dtf))
        record_fields(
            m,
            self.record,
            held,
            self.cause,
            gpa=result.gpa,
            implicit=result.implicit,
            implicit_write=result.implicit_write,
        )
        to_gpa = ats & (held.context.t2gpa | result.mrif)
        with m.If(self.bad):
            fault_response(m, response, held, self.cause)
        with m.Else():
            first, _ = stages(request, held.context)
            supervisor = request.pv & request.priv & first
            grant(m, response, held, result, size=result.size, supervisor=supervisor)
            m.d.comb += [
                response.u.eq(ats & result.mrif),
                response.mrif.eq(~ats & result.mrif),
                response.nid.eq(result.nid),
                response.notice_ppn.eq(result.notice_ppn),
            ]
            with m.If(to_gpa):
                m.d.comb += response.spa.eq(Cat(request.iova[:12], result.gpa[12:]))
            with m.Elif(result.mrif):
                m.d.comb += response.spa.eq(Cat(Const(0, 9), result.mrif_address))
            with m.Else():
                m.d.comb += response.spa.eq(Cat(request.iova[:12], result.ppn))
        return m
