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

    v: 1  # valid
    en_ats: 1  # ATS translation requests, and translated requests
    en_pri: 1  # page requests
    t2gpa: 1  # ATS answers are guest physical addresses
    dtf: 1  # faults are not reported, but those of the directory
    pdtv: 1  # fsc is pdtp
    prpr: 1  # PASID in page request group responses
    gade: 1  # second stage: A and D bits are set by hardware
    sade: 1  # first stage: A and D bits are set by hardware
    dpe: 1  # requests without process_id have process_id 0
    sbe: 1  # first stage and process directory are big-endian
    sxl: 1  # first stage is Sv32
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
    pscid: 20  # address space of the first stage, if PDTV is 0
    reserved2: 8
    rcid: 12  # QoS: resource control
    mcid: 12  # QoS: monitoring


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

    v: 1  # valid
    ens: 1  # supervisor requests are allowed
    sum: 1  # supervisor may access user pages
    reserved: 9
    pscid: 20  # address space of the first stage
    reserved2: 32


class ProcessContext(data.Struct):
    """Process context, 16 bytes."""

    ta: ProcessTa
    fsc: Atp


class NonLeafEntry(data.Struct):
    """Non-leaf entry of the device and process directories."""

    v: 1  # valid
    reserved: 9
    ppn: 44  # page of the next level
    reserved2: 10


class Pte(data.Struct):
    """Page-table entry of Sv39/48/57 and their x4 second stages."""

    v: 1  # valid
    r: 1  # readable
    w: 1  # writable
    x: 1  # executable
    u: 1  # user
    g: 1  # global
    a: 1  # accessed
    d: 1  # dirty
    rsw: 2  # for software
    ppn: 44  # page, or page of the next level
    reserved: 5
    rsw2: 2  # 60:59, for software with Svrsw60t59b, else reserved
    pbmt: 2  # memory type, with Svpbmt
    n: 1  # NAPOT: 64 KiB


class MsiPte(data.Struct):
    """First doubleword of an MSI page-table entry in basic-translate mode (M=3)."""

    v: 1  # valid
    m: 2  # 3
    reserved: 7
    ppn: 44  # page of the interrupt file
    reserved2: 9
    c: 1  # custom


class MsiPteMrif(data.Struct):
    """First doubleword of an MSI page-table entry in MRIF mode (M=1; AIA, 9.5.2)."""

    v: 1  # valid
    m: 2  # 1
    reserved: 4
    address: 47  # of the MRIF, bits 55:9
    reserved2: 9
    c: 1  # custom


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
    av: 1  # ADDR is valid
    reserved: 1
    pscid: 20
    pscv: 1  # PSCID is valid
    gv: 1  # GSCID is valid
    nl: 1  # non-leaf entries as well
    reserved2: 9
    gscid: 16
    reserved3: 4
    reserved4: 9
    s: 1  # ADDR is a range, NAPOT
    addr: 52  # ADDR[63:12]
    reserved5: 2


class Iofence(data.Struct):
    """IOFENCE.C."""

    opcode: 7
    func3: 3
    av: 1  # store DATA at ADDR
    wsi: 1  # raise fence_w_ip
    pr: 1  # earlier reads are over
    pw: 1  # earlier writes are visible
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
    dv: 1  # DID is valid
    reserved3: 6
    did: 24
    reserved4: 64


class AtsCommand(data.Struct):
    """ATS.INVAL and ATS.PRGR."""

    opcode: 7
    func3: 3
    reserved: 2
    pid: 20  # PASID
    pv: 1  # PID is valid
    dsv: 1  # DSEG is valid
    reserved2: 6
    rid: 16  # requester
    dseg: 8  # segment
    payload: 64  # InvalidationPayload or GroupResponsePayload


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

    cause: 12  # Cause
    pid: 20  # process_id
    pv: 1  # PID is valid
    priv: 1  # supervisor request
    ttyp: 6  # Ttyp
    did: 24  # device_id
    custom: 32
    reserved: 32
    iotval: 64  # address of the request, or code of the message
    iotval2: 64  # guest physical address of a guest page fault; bits 1:0 say how it was implicit


class PageRequestRecord(data.Struct):
    """One page-request-queue entry, 16 bytes."""

    reserved: 12
    pid: 20  # PASID
    pv: 1  # PID is valid
    priv: 1  # supervisor access
    exec: 1  # execute access
    reserved2: 5
    did: 24  # device_id
    payload: 64  # PageRequestPayload


class PageRequestPayload(data.Struct):
    """``PAYLOAD`` of a page request (PCIe Page Request Message)."""

    r: 1  # read
    w: 1  # write
    last: 1  # last of its group
    index: 9  # group
    address: 52


class GroupResponsePayload(data.Struct):
    """``PAYLOAD`` of ATS.PRGR (PCIe PRG Response Message)."""

    reserved: 32
    index: 9  # group
    reserved2: 3
    code: 4  # PageResponse
    destination: 16  # requester


class PageResponse(enum.IntEnum, shape=4):
    """Response code of a page request group (PCIe 10.4.2.1)."""

    SUCCESS = 0
    INVALID = 1
    FAILURE = 15


class InvalidationPayload(data.Struct):
    """``PAYLOAD`` of ATS.INVAL (PCIe Invalidate Request Message body).

    ``s`` set: the range is NAPOT in ``address``; ``g``: global, PASID is ignored.
    """

    g: 1  # in all address spaces
    reserved: 10
    s: 1  # the range is more than a page
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
