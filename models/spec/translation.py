"""The seams round the IOMMU: translation port, ATS and PRI messages, DMA sideband.

These are the project's own records.  They carry what PCIe's ATS, PRI and PASID carry, as on-chip
streams: a translation port is a stream of :class:`TranslationRequest` into the IOMMU and a stream
of :class:`TranslationResponse` out of it, in any order; the tag tells.
"""

from amaranth.lib import data, enum

__all__ = [
    "PAGE_REQUEST_MESSAGE",
    "TAG_BITS",
    "AddressType",
    "DmaUser",
    "GroupResponse",
    "InvalidationCompletion",
    "InvalidationRequest",
    "PageRequest",
    "TranslationRequest",
    "TranslationResponse",
    "TranslationStatus",
]

#: Bits of a request's tag.  Clients of a mux use the low ones, the mux puts its own on top.
TAG_BITS = 8

#: Message code of a Page Request Message (PCIe Base 6.0, F.1); ``iova`` of a ``MESSAGE`` request
#: and so ``iotval`` of its fault record.
PAGE_REQUEST_MESSAGE = 4


class AddressType(enum.IntEnum, shape=2):
    """Kind of request.  The first three are PCIe's AT field (Base 6.0, 10.2.1).

    ``MESSAGE`` is the IOMMU's own: look the device context up for a page request, translate
    nothing.
    """

    UNTRANSLATED = 0
    ATS_REQUEST = 1
    TRANSLATED = 2
    MESSAGE = 3


class TranslationStatus(enum.IntEnum, shape=3):
    """PCIe completion status (Base 6.0, 2.2.9)."""

    SUCCESS = 0
    UNSUPPORTED_REQUEST = 1
    COMPLETER_ABORT = 4


class TranslationRequest(data.Struct):
    """One address to translate.

    ``write`` is set for writes and AMOs, and for ATS requests whose no-write flag is clear;
    ``exec`` for reads for execute, and for ATS requests that ask for execute.  ``also_read`` with
    ``write``: both rights are wanted.  ``debug``: a translation-request of the debug registers,
    which must not get to a memory-resident interrupt file (cause 260).
    """

    tag: TAG_BITS
    at: AddressType
    device_id: 24
    process_id: 20
    pv: 1  # process_id is valid
    priv: 1
    exec: 1
    write: 1
    iova: 64
    also_read: 1
    debug: 1


class TranslationResponse(data.Struct):
    """One answer.

    ``cause`` is the fault's :class:`~models.spec.iommu.Cause`, 0 without one; it is also given
    when an ATS request succeeds without rights.  For untranslated and translated requests success
    means that the access may go to ``spa``.  For ATS requests ``r w x priv global u`` are the
    completion's bits, ``size`` is log2 of the answered range in bytes, and ``spa`` has the offset
    within the range from the request's IOVA.  ``prpr`` answers a ``MESSAGE``.

    ``rcid mcid`` are for the access itself (sections "Device-context fields" and "IOMMU QoS ID");
    ``dtf`` is the device context's, for faults that are found after the translation.
    """

    tag: TAG_BITS
    status: TranslationStatus
    cause: 12
    spa: 64  # with T2GPA a GPA, of up to 59 bits
    size: 6
    r: 1
    w: 1
    x: 1
    priv: 1
    glob: 1
    u: 1
    prpr: 1
    pbmt: 2
    mrif: 1  # spa is the MRIF's address; nid and notice_ppn say whom to notify
    nid: 11
    notice_ppn: 44
    dtf: 1
    rcid: 12
    mcid: 12


class DmaUser(data.Struct):
    """AxUSER of a DMA into the I/O bridge: whose access this is."""

    device_id: 24
    process_id: 20
    pv: 1
    priv: 1
    exec: 1
    at: AddressType


class PageRequest(data.Struct):
    """PCIe Page Request Message, device to IOMMU (Base 6.0, 10.4.1)."""

    device_id: 24
    process_id: 20
    pv: 1
    priv: 1
    exec: 1
    payload: 64  # models.spec.iommu.PageRequestPayload


class GroupResponse(data.Struct):
    """PCIe PRG Response Message, IOMMU to device (Base 6.0, 10.4.2)."""

    device_id: 24
    dsv: 1  # the upper 8 bits of device_id are a valid segment
    process_id: 20
    pv: 1
    payload: 64  # models.spec.iommu.GroupResponsePayload


class InvalidationRequest(data.Struct):
    """PCIe Invalidate Request Message, IOMMU to device (Base 6.0, 10.3.1)."""

    device_id: 24
    dsv: 1
    process_id: 20
    pv: 1
    itag: 5
    payload: 64  # models.spec.iommu.InvalidationPayload


class InvalidationCompletion(data.Struct):
    """PCIe Invalidate Completion Message, device to IOMMU (Base 6.0, 10.3.2)."""

    device_id: 24
    itag_vector: 32
    count: 3  # completions to expect for each tag; 0 means 8
