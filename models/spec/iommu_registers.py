"""Registers of the RISC-V IOMMU (v1.0, "Memory-mapped register interface")."""

from models.spec.registers import Access, Field, Register

__all__ = [
    "CAPABILITIES",
    "CQB",
    "CQCSR",
    "CQH",
    "CQT",
    "DDTP",
    "FCTL",
    "FQB",
    "FQCSR",
    "FQH",
    "FQT",
    "HPM_COUNTERS_MAX",
    "ICVEC",
    "IOCOUNTINH",
    "IOCOUNTOVF",
    "IOHPMCTR",
    "IOHPMCYCLES",
    "IOHPMEVT",
    "IOMMU_QOSID",
    "IPSR",
    "MSI_CFG_TBL_ENTRIES",
    "PAGE_BYTES",
    "PQB",
    "PQCSR",
    "PQH",
    "PQT",
    "REGISTERS",
    "TR_REQ_CTL",
    "TR_REQ_IOVA",
    "TR_RESPONSE",
    "VERSION_1_0",
    "iohpmctr",
    "iohpmevt",
    "msi_addr",
    "msi_data",
    "msi_vec_ctl",
]

#: The register page occupies this many bytes.
PAGE_BYTES = 4096
#: ``capabilities.version`` of a v1.0 IOMMU.
VERSION_1_0 = 0x10
#: Programmable event counters that the page has room for.
HPM_COUNTERS_MAX = 31
#: Entries of ``msi_cfg_tbl``.
MSI_CFG_TBL_ENTRIES = 16

_RO, _RW, _RW1C, _RW1S = Access.RO, Access.RW, Access.RW1C, Access.RW1S


def _flag(bit: int, access: Access, doc: str) -> Field:
    return Field(bit, bit, access, doc)


def _capability(high: int, low: int, doc: str) -> Field:
    return Field(high, low, _RO, doc, None)


CAPABILITIES = Register(
    name="capabilities",
    offset=0,
    width=64,
    doc="What this IOMMU can do.",
    fields={
        "version": Field(7, 0, _RO, "Specification version, 0x10 for 1.0.", VERSION_1_0),
        "sv32": _capability(8, 8, "Sv32 first stage."),
        "sv39": _capability(9, 9, "Sv39 first stage."),
        "sv48": _capability(10, 10, "Sv48 first stage."),
        "sv57": _capability(11, 11, "Sv57 first stage."),
        "svrsw60t59b": _capability(14, 14, "PTE bits 60:59 are for software."),
        "svpbmt": _capability(15, 15, "Page-based memory types."),
        "sv32x4": _capability(16, 16, "Sv32x4 second stage."),
        "sv39x4": _capability(17, 17, "Sv39x4 second stage."),
        "sv48x4": _capability(18, 18, "Sv48x4 second stage."),
        "sv57x4": _capability(19, 19, "Sv57x4 second stage."),
        "amo_mrif": _capability(21, 21, "Atomic updates of MRIFs."),
        "msi_flat": _capability(22, 22, "MSI translation, flat mode."),
        "msi_mrif": _capability(23, 23, "MSI translation, MRIF mode."),
        "amo_hwad": _capability(24, 24, "Atomic updates of A and D bits."),
        "ats": _capability(25, 25, "PCIe ATS and PRI."),
        "t2gpa": _capability(26, 26, "ATS may return guest physical addresses."),
        "end": _capability(27, 27, "Both endiannesses."),
        "igs": _capability(29, 28, "Interrupts: 0 MSI, 1 wired, 2 both."),
        "hpm": _capability(30, 30, "Hardware performance monitor."),
        "dbg": _capability(31, 31, "Translation-request registers."),
        "pas": _capability(37, 32, "Physical address bits."),
        "pd8": _capability(38, 38, "One-level PDT."),
        "pd17": _capability(39, 39, "Two-level PDT."),
        "pd20": _capability(40, 40, "Three-level PDT."),
        "qosid": _capability(41, 41, "QoS identifiers."),
        "nl": _capability(42, 42, "Non-leaf PTE invalidation."),
        "s": _capability(43, 43, "Address-range invalidation."),
    },
)
FCTL = Register(
    name="fctl",
    offset=8,
    width=32,
    doc="Features under software's control; to be changed only with ddtp Off and all queues off.",
    fields={
        "be": _flag(0, _RW, "Big-endian accesses to in-memory structures."),
        "wsi": Field(1, 1, _RW, "Wired interrupts in place of MSIs.", None),
        "gxl": _flag(2, _RW, "32-bit second stage."),
    },
)
DDTP = Register(
    name="ddtp",
    offset=16,
    width=64,
    doc="Device directory: mode and root.",
    fields={
        "mode": Field(3, 0, _RW, "DdtpMode."),
        "busy": _flag(4, _RO, "A write is still taking effect."),
        "ppn": Field(53, 10, _RW, "Root page of the DDT."),
    },
)
_QUEUES = {"cq": "Command", "fq": "Fault", "pq": "Page-request"}
_THERE = {"cq": "", "fq": "", "pq": "; with ATS"}


def _queue_base(name: str, offset: int) -> Register:
    return Register(
        name=name,
        offset=offset,
        width=64,
        doc=f"{_QUEUES[name[:2]]} queue: base and size{_THERE[name[:2]]}.",
        fields={
            "log2szm1": Field(4, 0, _RW, "log2 of the number of entries, minus one."),
            "ppn": Field(53, 10, _RW, "Page of the queue."),
        },
    )


def _queue_index(name: str, offset: int, access: Access) -> Register:
    fields = {"index": Field(31, 0, access, "Entry number.")}
    what = "head, read next" if name.endswith("h") else "tail, written next"
    doc = f"{_QUEUES[name[:2]]} queue: {what}{_THERE[name[:2]]}."
    return Register(name=name, offset=offset, width=32, fields=fields, doc=doc)


CQB, CQH, CQT = _queue_base("cqb", 24), _queue_index("cqh", 32, _RO), _queue_index("cqt", 36, _RW)
FQB, FQH, FQT = _queue_base("fqb", 40), _queue_index("fqh", 48, _RW), _queue_index("fqt", 52, _RO)
PQB, PQH, PQT = _queue_base("pqb", 56), _queue_index("pqh", 64, _RW), _queue_index("pqt", 68, _RO)
CQCSR = Register(
    name="cqcsr",
    offset=72,
    width=32,
    doc="Command queue: control and status.",
    fields={
        "cqen": _flag(0, _RW, "Command-queue enable."),
        "cie": _flag(1, _RW, "Command-queue interrupt enable."),
        "cqmf": _flag(8, _RW1C, "A command fetch or its memory access met a fault."),
        "cmd_to": _flag(9, _RW1C, "An ATS invalidation timed out."),
        "cmd_ill": _flag(10, _RW1C, "Illegal or unsupported command."),
        "fence_w_ip": _flag(11, _RW1C, "An IOFENCE.C asked for a wired interrupt."),
        "cqon": _flag(16, _RO, "The queue is on."),
        "busy": _flag(17, _RO, "A write is still taking effect."),
    },
)


def _report_csr(name: str, offset: int, prefix: str) -> Register:
    what = _QUEUES[prefix]
    return Register(
        name=name,
        offset=offset,
        width=32,
        doc=f"{what} queue: control and status{_THERE[prefix]}.",
        fields={
            f"{prefix}en": _flag(0, _RW, f"{what}-queue enable."),
            "fie" if prefix == "fq" else "pie": _flag(1, _RW, f"{what}-queue interrupt enable."),
            f"{prefix}mf": _flag(8, _RW1C, "Storing a record met a fault."),
            f"{prefix}of": _flag(9, _RW1C, "A record was dropped because the queue was full."),
            f"{prefix}on": _flag(16, _RO, "The queue is on."),
            "busy": _flag(17, _RO, "A write is still taking effect."),
        },
    )


FQCSR = _report_csr("fqcsr", 76, "fq")
PQCSR = _report_csr("pqcsr", 80, "pq")
IPSR = Register(
    name="ipsr",
    offset=84,
    width=32,
    doc="Interrupts pending; a cause that persists sets its bit again.",
    fields={
        "cip": _flag(0, _RW1C, "Command queue."),
        "fip": _flag(1, _RW1C, "Fault queue."),
        "pmip": _flag(2, _RW1C, "Performance monitor."),
        "pip": _flag(3, _RW1C, "Page-request queue."),
    },
)
IOCOUNTOVF = Register(
    name="iocountovf",
    offset=88,
    width=32,
    doc="Overflow bits of all counters together; with HPM.",
    fields={
        "cy": _flag(0, _RO, "Overflow of iohpmcycles."),
        "hpm": Field(31, 1, _RO, "Overflow of iohpmctr1 to 31."),
    },
)
IOCOUNTINH = Register(
    name="iocountinh",
    offset=92,
    width=32,
    doc="Counters that stand still; with HPM.",
    fields={
        "cy": _flag(0, _RW, "Stops iohpmcycles."),
        "hpm": Field(31, 1, _RW, "Stops iohpmctr1 to 31."),
    },
)
IOHPMCYCLES = Register(
    name="iohpmcycles",
    offset=96,
    width=64,
    doc="Cycle counter; with HPM.",
    fields={
        "counter": Field(62, 0, _RW, "Cycles."),
        "of": _flag(63, _RW, "Overflow."),
    },
)


def iohpmctr(index: int) -> Register:
    """Event counter ``index``, 1 to 31."""
    if not 1 <= index <= HPM_COUNTERS_MAX:
        raise ValueError(f"Event counters are numbered 1 to {HPM_COUNTERS_MAX}, not {index!r}")
    fields = {"counter": Field(63, 0, _RW, "Events.")}
    return Register(
        name=f"iohpmctr{index}",
        offset=104 + 8 * (index - 1),
        width=64,
        fields=fields,
        doc="Event counter; with HPM.",
    )


def iohpmevt(index: int) -> Register:
    """Event selector of counter ``index``, 1 to 31."""
    if not 1 <= index <= HPM_COUNTERS_MAX:
        raise ValueError(f"Event selectors are numbered 1 to {HPM_COUNTERS_MAX}, not {index!r}")
    return Register(
        name=f"iohpmevt{index}",
        offset=352 + 8 * (index - 1),
        width=64,
        doc="Events that the counter of the same number counts; with HPM.",
        fields={
            "eventid": Field(14, 0, _RW, "HpmEvent; 0 counts nothing."),
            "dmask": _flag(15, _RW, "DID_GSCID is matched partially."),
            "pid_pscid": Field(35, 16, _RW, "process_id, or PSCID if IDT."),
            "did_gscid": Field(59, 36, _RW, "device_id, or GSCID if IDT."),
            "pv_pscv": _flag(60, _RW, "PID_PSCID is a filter."),
            "dv_gscv": _flag(61, _RW, "DID_GSCID is a filter."),
            "idt": _flag(62, _RW, "Filters are PSCID and GSCID."),
            "of": _flag(63, _RW, "Overflow."),
        },
    )


IOHPMCTR = tuple(iohpmctr(index) for index in range(1, HPM_COUNTERS_MAX + 1))
IOHPMEVT = tuple(iohpmevt(index) for index in range(1, HPM_COUNTERS_MAX + 1))
TR_REQ_IOVA = Register(
    name="tr_req_iova",
    offset=600,
    width=64,
    doc="Address of a debug translation; with DBG.",
    fields={"vpn": Field(63, 12, _RW, "Page number of the IOVA.")},
)
TR_REQ_CTL = Register(
    name="tr_req_ctl",
    offset=608,
    width=64,
    doc="Control of a debug translation; with DBG.",
    fields={
        "go_busy": _flag(0, _RW1S, "Starts a translation; reads 1 until it is done."),
        "priv": _flag(1, _RW, "Privileged."),
        "exe": _flag(2, _RW, "Execute."),
        "nw": _flag(3, _RW, "No write."),
        "pid": Field(31, 12, _RW, "process_id."),
        "pv": _flag(32, _RW, "process_id is valid."),
        "did": Field(63, 40, _RW, "device_id."),
    },
)
TR_RESPONSE = Register(
    name="tr_response",
    offset=616,
    width=64,
    doc="Answer of a debug translation; with DBG.",
    fields={
        "fault": _flag(0, _RO, "The translation met a fault."),
        "pbmt": Field(8, 7, _RO, "Memory type."),
        "s": _flag(9, _RO, "The range is larger than 4 KiB, NAPOT in ppn."),
        "ppn": Field(53, 10, _RO, "Physical page number."),
    },
)
IOMMU_QOSID = Register(
    name="iommu_qosid",
    offset=624,
    width=32,
    doc="QoS identifiers of directory, queue and MSI accesses; with QOSID.",
    fields={
        "rcid": Field(11, 0, _RW, "Resource control."),
        "mcid": Field(27, 16, _RW, "Monitoring."),
    },
)
ICVEC = Register(
    name="icvec",
    offset=760,
    width=64,
    doc="Which vector each cause of an interrupt uses.",
    fields={
        "civ": Field(3, 0, _RW, "Vector of the command queue."),
        "fiv": Field(7, 4, _RW, "Vector of the fault queue."),
        "pmiv": Field(11, 8, _RW, "Vector of the performance monitor."),
        "piv": Field(15, 12, _RW, "Vector of the page-request queue."),
    },
)


def _vector(name: str, offset: int, width: int, fields: dict[str, Field], doc: str) -> Register:
    doc += "; unless IGS is wired alone."
    return Register(name=name, offset=offset, width=width, fields=fields, doc=doc)


def msi_addr(index: int) -> Register:
    """Address of vector ``index`` in msi_cfg_tbl."""
    fields = {"addr": Field(55, 2, _RW, "Address bits 55:2.")}
    return _vector(
        f"msi_addr_{index}", 768 + 16 * index, 64, fields, "Address that a vector writes"
    )


def msi_data(index: int) -> Register:
    """Data of vector ``index`` in msi_cfg_tbl."""
    fields = {"data": Field(31, 0, _RW, "Data written.")}
    return _vector(f"msi_data_{index}", 776 + 16 * index, 32, fields, "Data that a vector writes")


def msi_vec_ctl(index: int) -> Register:
    """Control of vector ``index`` in msi_cfg_tbl."""
    fields = {"m": _flag(0, _RW, "Masked.")}
    return _vector(f"msi_vec_ctl_{index}", 780 + 16 * index, 32, fields, "Mask of a vector")


REGISTERS = (
    *(CAPABILITIES, FCTL, DDTP, CQB, CQH, CQT, FQB, FQH, FQT, PQB, PQH, PQT, CQCSR, FQCSR, PQCSR),
    *(IPSR, IOCOUNTOVF, IOCOUNTINH, IOHPMCYCLES, *IOHPMCTR, *IOHPMEVT),
    *(TR_REQ_IOVA, TR_REQ_CTL, TR_RESPONSE, IOMMU_QOSID, ICVEC),
    *(make(index) for index in range(16) for make in (msi_addr, msi_data, msi_vec_ctl)),
)
