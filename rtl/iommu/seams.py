"""Records between the halves of the IOMMU: the translator and the control side."""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.translation import TranslationRequest, TranslationResponse
from rtl.iommu.requests import QosId

__all__ = [
    "PIPELINE_DEPTH",
    "DirectoryControl",
    "Drain",
    "Event",
    "Invalidate",
    "InvalidateKind",
    "TranslationPort",
]

#: Entries of the miss table beyond ``config.misses``: room for what the pipeline holds, so that it
#: never has to wait for an entry and hits are not held up by misses.
PIPELINE_DEPTH = 4


class TranslationPort(wiring.Signature):
    """Translation port as its client sees it; flip it for the IOMMU's side."""

    def __init__(self):
        super().__init__(
            {
                "request": Out(stream.Signature(TranslationRequest)),
                "response": In(stream.Signature(TranslationResponse)),
            }
        )


class DirectoryControl(data.Struct):
    """Registers that steer translation; constant but for writes by software."""

    mode: 4  # DdtpMode
    ppn: 44
    be: 1
    gxl: 1
    qos: QosId  # iommu_qosid


class InvalidateKind(enum.IntEnum, shape=2):
    """Which caches an invalidation is for."""

    VMA = 0
    GVMA = 1
    DDT = 2
    PDT = 3


class Invalidate(data.Struct):
    """An IOTINVAL or IODIR command, decoded and checked.

    From the transfer on, no request accepted later is answered from what it covers.
    """

    kind: InvalidateKind
    av: 1
    pscv: 1
    gv: 1
    nl: 1
    s: 1
    dv: 1
    pscid: 20  # process_id for PDT
    gscid: 16
    did: 24
    addr: 52


class Drain(wiring.Signature):
    """Asks a block to finish what it had accepted.

    ``request`` rises; when everything accepted before that cycle has been answered, ``done`` rises
    and stays until ``request`` falls.  Later work goes on meanwhile and must not delay it for ever.
    """

    def __init__(self):
        super().__init__({"request": Out(1), "done": In(1)})


class Event(data.Struct):
    """What the performance counters may count in a cycle, with whom it concerns.

    One bit per HpmEvent; several may be set.
    """

    valid: 1
    untranslated: 1
    translated: 1
    ats: 1
    tlb_miss: 1
    lookup: 1
    ddt_walk: 1
    pdt_walk: 1
    first_stage_walk: 1
    second_stage_walk: 1
    device_id: 24
    process_id: 20
    pv: 1
    gscid: 16
    gscv: 1
    pscid: 20
    pscv: 1
