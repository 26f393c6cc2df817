"""In-memory structures and encodings of the RISC-V IOMMU (v1.0), named as its sections are."""

from amaranth.lib import data, enum

__all__ = [
    "PAGE_SHIFT",
    "Atp",
    "AtsCommand",
    "Cause",
    "Command",
    "CommandFunc",
    "CommandOpcode",
    "DcTa",
    "DdtpMode",
    "DeviceContext",
    "DeviceContextBase",
    "FaultRecord",
    "GroupResponsePayload",
    "HpmEvent",
    "InvalidationPayload",
    "IoatpMode",
    "Iodir",
    "Iofence",
    "Iohgatp",
    "IohgatpMode",
    "Iotinval",
    "MsiPte",
    "MsiPteMrif",
    "MsiPteNotice",
    "Msiptp",
    "MsiptpMode",
    "NonLeafEntry",
    "PageRequestPayload",
    "PageRequestRecord",
    "PageResponse",
    "PdtpMode",
    "ProcessContext",
    "ProcessTa",
    "Pte",
    "TranslationControl",
    "Ttyp",
]

#: log2 of the smallest page.
PAGE_SHIFT = 12


class DdtpMode(enum.IntEnum, shape=4):
    """``ddtp.mode``."""

    OFF = 0
    BARE = 1
    LVL1 = 2
    LVL2 = 3
    LVL3 = 4


class IohgatpMode(enum.IntEnum, shape=4):
    """``DC.iohgatp.MODE`` (with ``fctl.GXL`` 0; 8 means Sv32x4 with GXL 1)."""

    BARE = 0
    SV39X4 = 8
    SV48X4 = 9
    SV57X4 = 10


class IoatpMode(enum.IntEnum, shape=4):
    """``DC.fsc`` and ``PC.fsc`` mode (with SXL 0; 8 means Sv32 with SXL 1)."""

    BARE = 0
    SV39 = 8
    SV48 = 9
    SV57 = 10


class PdtpMode(enum.IntEnum, shape=4):
    """``DC.fsc`` mode when ``DC.tc.PDTV`` is set."""

    BARE = 0
    PD8 = 1
    PD17 = 2
    PD20 = 3


class MsiptpMode(enum.IntEnum, shape=4):
    """``DC.msiptp.MODE``."""

    OFF = 0
    FLAT = 1


class TranslationControl(data.Struct):
    """``DC.tc`` (section "Translation control")."""

    v: 1
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
    reserved: 12
    custom: 8
    reserved2: 32


class Iohgatp(data.Struct):
    """``DC.iohgatp``: second stage."""

    ppn: 44
    gscid: 16
    mode: 4  # IohgatpMode; a plain integer, since software may store any encoding


class DcTa(data.Struct):
    """``DC.ta``: translation attributes."""

    reserved: 12
    pscid: 20
    reserved2: 8
    rcid: 12
    mcid: 12


class Atp(data.Struct):
    """``fsc`` as iosatp or pdtp: a mode and the page of a root table."""

    ppn: 44
    reserved: 16
    mode: 4  # IoatpMode or PdtpMode


class Msiptp(data.Struct):
    """``DC.msiptp``."""

    ppn: 44
    reserved: 16
    mode: 4  # MsiptpMode


class DeviceContextBase(data.Struct):
    """Device context in base format, 32 bytes (capabilities.MSI_FLAT 0)."""

    tc: TranslationControl
    iohgatp: Iohgatp
    ta: DcTa
    fsc: Atp


class DeviceContext(data.Struct):
    """Device context in extended format, 64 bytes (capabilities.MSI_FLAT 1)."""

    tc: TranslationControl
    iohgatp: Iohgatp
    ta: DcTa
    fsc: Atp
    msiptp: Msiptp
    msi_addr_mask: 64  # 51:0 used
    msi_addr_pattern: 64  # 51:0 used
    reserved: 64


class ProcessTa(data.Struct):
    """``PC.ta``."""

    v: 1
    ens: 1
    sum: 1
    reserved: 9
    pscid: 20
    reserved2: 32


class ProcessContext(data.Struct):
    """Process context, 16 bytes."""

    ta: ProcessTa
    fsc: Atp


class NonLeafEntry(data.Struct):
    """Non-leaf entry of the device and process directories."""

    v: 1
    reserved: 9
    ppn: 44
    reserved2: 10


class Pte(data.Struct):
    """Page-table entry of Sv39/48/57 and their x4 second stages."""

    v: 1
    r: 1
    w: 1
    x: 1
    u: 1
    g: 1
    a: 1
    d: 1
    rsw: 2
    ppn: 44
    reserved: 5
    rsw2: 2  # 60:59, for software with Svrsw60t59b, else reserved
    pbmt: 2
    n: 1


class MsiPte(data.Struct):
    """First doubleword of an MSI page-table entry in basic-translate mode (M=3)."""

    v: 1
    m: 2
    reserved: 7
    ppn: 44
    reserved2: 9
    c: 1


class MsiPteMrif(data.Struct):
    """First doubleword of an MSI page-table entry in MRIF mode (M=1; AIA, 9.5.2)."""

    v: 1
    m: 2
    reserved: 4
    address: 47  # of the MRIF, bits 55:9
    reserved2: 9
    c: 1


class MsiPteNotice(data.Struct):
    """Second doubleword of an MSI page-table entry in MRIF mode."""

    nid: 10  # notice identity, bits 9:0
    ppn: 44  # of the notice MSI
    reserved: 6
    nid_high: 1  # notice identity, bit 10
    reserved2: 3


class CommandOpcode(enum.IntEnum, shape=7):
    """``opcode`` of a command (section "Command-Queue")."""

    IOTINVAL = 1
    IOFENCE = 2
    IODIR = 3
    ATS = 4


class CommandFunc(enum.IntEnum, shape=3):
    """``func3``: meaning depends on the opcode."""

    VMA = 0
    GVMA = 1
    C = 0
    INVAL_DDT = 0
    INVAL_PDT = 1
    INVAL = 0
    PRGR = 1


class Command(data.Struct):
    """What all 16-byte commands share."""

    opcode: 7
    func3: 3
    operands: 54
    operands2: 64


class Iotinval(data.Struct):
    """IOTINVAL.VMA and IOTINVAL.GVMA."""

    opcode: 7
    func3: 3
    av: 1
    reserved: 1
    pscid: 20
    pscv: 1
    gv: 1
    nl: 1
    reserved2: 9
    gscid: 16
    reserved3: 4
    reserved4: 9
    s: 1
    addr: 52  # ADDR[63:12]
    reserved5: 2


class Iofence(data.Struct):
    """IOFENCE.C."""

    opcode: 7
    func3: 3
    av: 1
    wsi: 1
    pr: 1
    pw: 1
    reserved: 18
    data: 32
    addr: 62  # ADDR[63:2]
    reserved2: 2


class Iodir(data.Struct):
    """IODIR.INVAL_DDT and IODIR.INVAL_PDT."""

    opcode: 7
    func3: 3
    reserved: 2
    pid: 20
    reserved2: 1
    dv: 1
    reserved3: 6
    did: 24
    reserved4: 64


class AtsCommand(data.Struct):
    """ATS.INVAL and ATS.PRGR."""

    opcode: 7
    func3: 3
    reserved: 2
    pid: 20
    pv: 1
    dsv: 1
    reserved2: 6
    rid: 16
    dseg: 8
    payload: 64


class Ttyp(enum.IntEnum, shape=6):
    """``TTYP`` of a fault record: kind of the transaction."""

    NONE = 0
    UNTRANSLATED_EXECUTE = 1
    UNTRANSLATED_READ = 2
    UNTRANSLATED_WRITE = 3
    TRANSLATED_EXECUTE = 5
    TRANSLATED_READ = 6
    TRANSLATED_WRITE = 7
    ATS_REQUEST = 8
    MESSAGE = 9


class Cause(enum.IntEnum, shape=12):
    """``CAUSE`` of a fault record (section "Fault/Event-Queue")."""

    INSTRUCTION_ACCESS_FAULT = 1
    READ_ADDRESS_MISALIGNED = 4
    READ_ACCESS_FAULT = 5
    WRITE_ADDRESS_MISALIGNED = 6
    WRITE_ACCESS_FAULT = 7
    INSTRUCTION_PAGE_FAULT = 12
    READ_PAGE_FAULT = 13
    WRITE_PAGE_FAULT = 15
    INSTRUCTION_GUEST_PAGE_FAULT = 20
    READ_GUEST_PAGE_FAULT = 21
    WRITE_GUEST_PAGE_FAULT = 23
    ALL_INBOUND_DISALLOWED = 256
    DDT_ACCESS_FAULT = 257
    DDT_INVALID = 258
    DDT_MISCONFIGURED = 259
    TYPE_DISALLOWED = 260
    MSI_PTE_ACCESS_FAULT = 261
    MSI_PTE_INVALID = 262
    MSI_PTE_MISCONFIGURED = 263
    MRIF_ACCESS_FAULT = 264
    PDT_ACCESS_FAULT = 265
    PDT_INVALID = 266
    PDT_MISCONFIGURED = 267
    DDT_CORRUPTION = 268
    PDT_CORRUPTION = 269
    MSI_PT_CORRUPTION = 270
    MRIF_CORRUPTION = 271
    INTERNAL_ERROR = 272
    MSI_WRITE_ACCESS_FAULT = 273
    PT_CORRUPTION = 274


class FaultRecord(data.Struct):
    """One fault-queue entry, 32 bytes."""

    cause: 12
    pid: 20
    pv: 1
    priv: 1
    ttyp: 6
    did: 24
    custom: 32
    reserved: 32
    iotval: 64
    iotval2: 64


class PageRequestRecord(data.Struct):
    """One page-request-queue entry, 16 bytes."""

    reserved: 12
    pid: 20
    pv: 1
    priv: 1
    exec: 1
    reserved2: 5
    did: 24
    payload: 64  # PageRequestPayload


class PageRequestPayload(data.Struct):
    """``PAYLOAD`` of a page request (PCIe Page Request Message)."""

    r: 1
    w: 1
    last: 1
    index: 9
    address: 52


class GroupResponsePayload(data.Struct):
    """``PAYLOAD`` of ATS.PRGR (PCIe PRG Response Message)."""

    reserved: 32
    index: 9
    reserved2: 3
    code: 4  # PageResponse
    destination: 16


class PageResponse(enum.IntEnum, shape=4):
    """Response code of a page request group (PCIe 10.4.2.1)."""

    SUCCESS = 0
    INVALID = 1
    FAILURE = 15


class InvalidationPayload(data.Struct):
    """``PAYLOAD`` of ATS.INVAL (PCIe Invalidate Request Message body).

    ``s`` set: the range is NAPOT in ``address``; ``g``: global, PASID is ignored.
    """

    g: 1
    reserved: 10
    s: 1
    address: 52


class HpmEvent(enum.IntEnum, shape=15):
    """``iohpmevt.eventID`` (section "Performance-monitoring event selector").

    IDs from 16384 are for custom use; ``LOOKUP`` counts requests that look a translation up in
    the IOTLB: untranslated requests, ATS translation requests, and translated requests with T2GPA.
    """

    NONE = 0
    UNTRANSLATED_REQUEST = 1
    TRANSLATED_REQUEST = 2
    ATS_REQUEST = 3
    TLB_MISS = 4
    DDT_WALK = 5
    PDT_WALK = 6
    FIRST_STAGE_WALK = 7
    SECOND_STAGE_WALK = 8
    LOOKUP = 16384
