"""Records of a request on its way through the translator: contexts, walks, their results."""

from amaranth.lib import data, enum

from models.spec.translation import TranslationRequest

__all__ = [
    "Again",
    "Context",
    "Guest",
    "Held",
    "Lane",
    "ProcessState",
    "QosId",
    "WalkResult",
    "WalkStart",
]


class QosId(data.Struct):
    """AxUSER of the IOMMU's own accesses (section "IOMMU QoS ID"); 0 without capabilities.QOSID."""

    rcid: 12
    mcid: 12


class Context(data.Struct):
    """What of a device context steers translation, with its process context merged in.

    Stages are given by their levels: 0 Bare, 2 Sv32, 3 Sv39, 4 Sv48, 5 Sv57, and likewise x4.  IDs
    are 0 if their stage is off.  Of a device with PDTV, before a process context is merged in,
    ``s_levels`` is 0 and ``s_ppn`` is the root of the process directory of ``pd_levels`` levels
    (0: pdtp is Bare).
    """

    en_ats: 1
    en_pri: 1
    t2gpa: 1
    dtf: 1
    pdtv: 1
    prpr: 1
    gade: 1
    sade: 1
    dpe: 1
    sbe: 1
    sxl: 1
    pd_levels: 2
    ens: 1  # of the process context
    sum: 1  # of the process context
    g_levels: 3
    gscid: 16
    g_ppn: 44
    s_levels: 3
    pscid: 20
    s_ppn: 44
    rcid: 12
    mcid: 12
    msi: 1  # msiptp.MODE is Flat
    msi_ppn: 44
    msi_mask: 52
    msi_pattern: 52


class ProcessState(data.Struct):
    """What of a process context is merged into :class:`Context`."""

    ens: 1
    sum: 1
    pscid: 20
    s_levels: 3
    s_ppn: 44


class Guest(data.Struct):
    """Second stage of a walk that the directory asks for, to reach a process directory."""

    gade: 1
    g_levels: 3
    gscid: 16
    g_ppn: 44
    rcid: 12
    mcid: 12


class Lane(enum.IntEnum, shape=2):
    """Where a request waited for an entry of the miss table (:mod:`rtl.iommu.backlog`)."""

    NONE = 0
    OWN = 1  # behind others of its device, which had its share
    COMMON = 2


class Again(data.Struct):
    """A request that passes the pipeline again since there is an entry for it."""

    request: TranslationRequest
    epoch: 1
    lane: Lane
    counted: 1


class Held(data.Struct):
    """A request on its way through the translator."""

    request: TranslationRequest
    context: Context
    lane: Lane
    counted: 1  # as a request, and as a hit or miss
    epoch: 1  # for drains
    replay: 1  # passes the pipeline again, with entry
    entry: 8


class WalkStart(data.Struct):
    """A walk to begin.  ``index`` is the miss table's entry, which holds the request.

    ``directory`` set: the directory's own walk of a process directory's address ``gpa``, by the
    second stage alone, as a read whose faults have the access type of the entry's request.
    """

    index: 8
    directory: 1
    gpa: 64


class WalkResult(data.Struct):
    """A walk's end: a cause, or both stages together.

    ``r w x`` are the rights that both stages give, whoever asks; ``u`` is the first stage's (1
    without one).  ``dirty``: W may be granted without an update of a D bit.  ``size`` is log2 of
    the range that maps alike; ``ppn`` holds the 4 KiB page of the IOVA.  With ``mrif`` the target
    is a memory-resident interrupt file.
    """

    index: 8
    directory: 1
    cause: 12  # 0 for success; by the kind of access of the request
    implicit: 1  # a guest page fault met a table's address; iotval2[0]
    implicit_write: 1  # to update A or D there; iotval2[1]
    gpa: 64  # of a guest page fault; on success the address after the first stage
    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1
    pbmt: 2
    ppn: 44
    size: 6
    piece: 1  # the first stage's page is larger than ``size``
    mrif: 1
    mrif_address: 47  # bits 55:9
    nid: 11
    notice_ppn: 44
    cacheable: 1  # the IOTLB may keep it
