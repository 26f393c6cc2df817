"""Device and process contexts: locating them and judging them.

Sections "Process to locate the Device-context", "Device-context configuration checks", "Process to
locate the Process-context" and "Process-context configuration checks".
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.iommu.access import PhysicalMemory
from models.iommu.parameters import Capabilities, Parameters
from models.iommu.records import Fault, bits_of, extractor
from models.spec.iommu import (
    Atp,
    Cause,
    DcTa,
    DdtpMode,
    IoatpMode,
    Iohgatp,
    IohgatpMode,
    Msiptp,
    MsiptpMode,
    NonLeafEntry,
    PdtpMode,
    ProcessTa,
    TranslationControl,
)
from models.spec.iommu_registers import FCTL

__all__ = ["MODE_SV32", "DeviceContext", "ProcessContext", "locate_device", "locate_process"]

#: ``iosatp.MODE`` of Sv32 with SXL 1, and ``iohgatp.MODE`` of Sv32x4 with GXL 1.
MODE_SV32 = 8

_TC = {
    name: extractor(TranslationControl, name)
    for name in ("v", "en_ats", "en_pri", "t2gpa", "dtf", "pdtv", "prpr", "gade", "sade", "dpe")
}
_SBE, _SXL = extractor(TranslationControl, "sbe"), extractor(TranslationControl, "sxl")
_TC_RESERVED = bits_of(TranslationControl, "reserved", "reserved2")
_HGATP_PPN, _HGATP_MODE = extractor(Iohgatp, "ppn"), extractor(Iohgatp, "mode")
_GSCID = extractor(Iohgatp, "gscid")
_DC_PSCID = extractor(DcTa, "pscid")
_DC_TA_RESERVED = bits_of(DcTa, "reserved", "reserved2")
_DC_QOS = bits_of(DcTa, "rcid", "mcid")
_RCID, _MCID = extractor(DcTa, "rcid"), extractor(DcTa, "mcid")
_ATP_PPN, _ATP_MODE = extractor(Atp, "ppn"), extractor(Atp, "mode")
_ATP_RESERVED = bits_of(Atp, "reserved")
_MSIPTP_PPN, _MSIPTP_MODE = extractor(Msiptp, "ppn"), extractor(Msiptp, "mode")
_MSIPTP_RESERVED = bits_of(Msiptp, "reserved")
_NL_V, _NL_PPN = extractor(NonLeafEntry, "v"), extractor(NonLeafEntry, "ppn")
_NL_RESERVED = bits_of(NonLeafEntry, "reserved", "reserved2")
_PC_V, _PC_ENS = extractor(ProcessTa, "v"), extractor(ProcessTa, "ens")
_PC_SUM, _PC_PSCID = extractor(ProcessTa, "sum"), extractor(ProcessTa, "pscid")
_PC_TA_RESERVED = bits_of(ProcessTa, "reserved", "reserved2")

#: Bits of device_id that index each level, lowest first, in base and extended format.
_DDI_BASE, _DDI_EXTENDED = (7, 9, 8), (6, 9, 9)
#: Bits of process_id that index each level, lowest first.
_PDI = (8, 9, 3)
_LEVELS = {DdtpMode.LVL1: 1, DdtpMode.LVL2: 2, DdtpMode.LVL3: 3}
_PDT_LEVELS = {PdtpMode.PD8: 1, PdtpMode.PD17: 2, PdtpMode.PD20: 3}


@dataclass(frozen=True, kw_only=True)
class DeviceContext:
    """A valid device context, decoded."""

    v: int
    en_ats: int
    en_pri: int
    t2gpa: int
    dtf: int
    pdtv: int
    prpr: int
    gade: int
    sade: int
    dpe: int
    sbe: int
    sxl: int
    second_stage: int  # IohgatpMode
    second_stage_root: int
    gscid: int
    pscid: int
    fsc_mode: int  # IoatpMode or PdtpMode
    fsc_root: int
    rcid: int = 0
    mcid: int = 0
    msi_mode: int = MsiptpMode.OFF
    msi_root: int = 0
    msi_mask: int = 0
    msi_pattern: int = 0

    @property
    def process_id_bits(self) -> int | None:
        """Width of process_ids in the process directory; ``None`` if there is no directory."""
        levels = _PDT_LEVELS.get(PdtpMode(self.fsc_mode)) if self.pdtv else None
        return None if levels is None else sum(_PDI[:levels])


@dataclass(frozen=True)
class ProcessContext:
    """A valid process context, decoded."""

    ens: int
    sum: int
    pscid: int
    fsc_mode: int
    fsc_root: int


def _index(number: int, bits: tuple[int, ...], level: int) -> int:
    return number >> sum(bits[:level]) & (1 << bits[level]) - 1


def locate_device(
    memory: PhysicalMemory,
    parameters: Parameters,
    *,
    mode: DdtpMode,
    root: int,
    fctl: int,
    device_id: int,
) -> DeviceContext:
    """Steps 3 to 6 of the process to translate an IOVA: width, walk, checks."""
    extended = bool(parameters.capabilities.msi_flat)
    bits, size = (_DDI_EXTENDED, 64) if extended else (_DDI_BASE, 32)
    levels = _LEVELS[mode]
    if device_id >> sum(bits[:levels]):
        raise Fault(Cause.TYPE_DISALLOWED)
    big = bool(FCTL["be"].extract(fctl))

    def load(address: int, size: int) -> list[int]:
        return memory.load(
            address,
            size,
            access_fault=lambda: Fault(Cause.DDT_ACCESS_FAULT),
            corruption=Cause.DDT_CORRUPTION,
            big_endian=big,
        )

    # Steps 1 to 7: non-leaf entries.
    address = root
    for level in range(levels - 1, 0, -1):
        (entry,) = load(address + 8 * _index(device_id, bits, level), 8)
        if not _NL_V(entry):
            raise Fault(Cause.DDT_INVALID)
        if entry & _NL_RESERVED:
            raise Fault(Cause.DDT_MISCONFIGURED)
        address = _NL_PPN(entry) << 12
    # Steps 8 to 11: the context.
    words = load(address + size * _index(device_id, bits, 0), size)
    if not _TC["v"](words[0]):
        raise Fault(Cause.DDT_INVALID)
    context = _decode(words)
    if _misconfigured(words, context, parameters, fctl):
        raise Fault(Cause.DDT_MISCONFIGURED)
    return context


def _decode(words: list[int]) -> DeviceContext:
    tc, hgatp, ta, fsc = words[:4]
    msi = {}
    if len(words) > 4:
        msi = {
            "msi_mode": _MSIPTP_MODE(words[4]),
            "msi_root": _MSIPTP_PPN(words[4]) << 12,
            "msi_mask": words[5],
            "msi_pattern": words[6],
        }
    return DeviceContext(
        **{name: take(tc) for name, take in _TC.items()},
        sbe=_SBE(tc),
        sxl=_SXL(tc),
        second_stage=_HGATP_MODE(hgatp),
        second_stage_root=_HGATP_PPN(hgatp) << 12,
        gscid=_GSCID(hgatp),
        pscid=_DC_PSCID(ta),
        rcid=_RCID(ta),
        mcid=_MCID(ta),
        fsc_mode=_ATP_MODE(fsc),
        fsc_root=_ATP_PPN(fsc) << 12,
        **msi,
    )


def _first_stage_modes(capabilities: Capabilities, sxl: int) -> set[int]:
    """Tables "Encodings of iosatp.MODE field" for both values of DC.tc.SXL."""
    supported = {
        IoatpMode.SV39: capabilities.sv39,
        IoatpMode.SV48: capabilities.sv48,
        IoatpMode.SV57: capabilities.sv57,
    }
    if sxl:
        supported = {MODE_SV32: capabilities.sv32}
    return {int(IoatpMode.BARE)} | {int(mode) for mode, there in supported.items() if there}


def _second_stage_modes(capabilities: Capabilities, gxl: int) -> set[int]:
    """Tables "Encodings of iohgatp.MODE field" for both values of fctl.GXL."""
    supported = {
        IohgatpMode.SV39X4: capabilities.sv39x4,
        IohgatpMode.SV48X4: capabilities.sv48x4,
        IohgatpMode.SV57X4: capabilities.sv57x4,
    }
    if gxl:
        supported = {MODE_SV32: capabilities.sv32x4}
    return {int(IohgatpMode.BARE)} | {int(mode) for mode, there in supported.items() if there}


def _process_directory_modes(capabilities: Capabilities) -> set[int]:
    supported = {
        PdtpMode.PD8: capabilities.pd8,
        PdtpMode.PD17: capabilities.pd17,
        PdtpMode.PD20: capabilities.pd20,
    }
    return {int(PdtpMode.BARE)} | {int(mode) for mode, there in supported.items() if there}


def _reserved_bits(words: list[int], capabilities: Capabilities) -> bool:
    tc, _, ta, fsc = words[:4]
    reserved = tc & _TC_RESERVED or ta & _DC_TA_RESERVED or fsc & _ATP_RESERVED
    if not capabilities.qosid:
        reserved = reserved or ta & _DC_QOS
    if len(words) > 4:
        too_high = ~((1 << capabilities.gpa_bits - 12) - 1)
        reserved = reserved or words[4] & _MSIPTP_RESERVED or words[7]
        reserved = reserved or (words[5] | words[6]) & too_high
    return bool(reserved)


def _misconfigured(
    words: list[int], context: DeviceContext, parameters: Parameters, fctl: int
) -> bool:
    """Section "Device-context configuration checks", in its order."""
    capabilities = parameters.capabilities
    bare = context.second_stage == IohgatpMode.BARE
    be, gxl = FCTL["be"].extract(fctl), FCTL["gxl"].extract(fctl)
    be_writable = bool(parameters.fctl_writable & FCTL["be"].mask)
    gxl_writable = bool(parameters.fctl_writable & FCTL["gxl"].mask)
    fsc_modes = (
        _process_directory_modes(capabilities)
        if context.pdtv
        else _first_stage_modes(capabilities, context.sxl)
    )
    return any(
        (
            _reserved_bits(words, capabilities),
            not capabilities.ats and (context.en_ats or context.en_pri or context.prpr),
            not context.en_ats and (context.t2gpa or context.en_pri),
            not context.en_pri and context.prpr,
            not capabilities.t2gpa and context.t2gpa,
            context.t2gpa and bare,
            context.fsc_mode not in fsc_modes,
            not context.pdtv and context.dpe,
            context.second_stage not in _second_stage_modes(capabilities, gxl),
            context.msi_mode not in (MsiptpMode.OFF, MsiptpMode.FLAT),
            not bare and context.second_stage_root % 0x4000,
            not capabilities.amo_hwad and (context.sade or context.gade),
            not (capabilities.end and be_writable) and context.sbe != be,
            context.sxl != gxl and not (gxl_writable and not gxl),
            bare and context.msi_mode != MsiptpMode.OFF,
        )
    )


def locate_process(
    memory: PhysicalMemory,
    capabilities: Capabilities,
    context: DeviceContext,
    process_id: int,
    *,
    translate: Callable[[int], int],
) -> ProcessContext:
    """Locate a process context; ``translate`` is the second stage for implicit reads."""
    levels = _PDT_LEVELS[PdtpMode(context.fsc_mode)]

    def load(address: int, size: int) -> list[int]:
        return memory.load(
            translate(address),
            size,
            access_fault=lambda: Fault(Cause.PDT_ACCESS_FAULT),
            corruption=Cause.PDT_CORRUPTION,
            big_endian=bool(context.sbe),
        )

    address = context.fsc_root
    for level in range(levels - 1, 0, -1):
        (entry,) = load(address + 8 * _index(process_id, _PDI, level), 8)
        if not _NL_V(entry):
            raise Fault(Cause.PDT_INVALID)
        if entry & _NL_RESERVED:
            raise Fault(Cause.PDT_MISCONFIGURED)
        address = _NL_PPN(entry) << 12
    ta, fsc = load(address + 16 * _index(process_id, _PDI, 0), 16)
    if not _PC_V(ta):
        raise Fault(Cause.PDT_INVALID)
    # Section "Process-context configuration checks".
    if ta & _PC_TA_RESERVED or fsc & _ATP_RESERVED:
        raise Fault(Cause.PDT_MISCONFIGURED)
    if _ATP_MODE(fsc) not in _first_stage_modes(capabilities, context.sxl):
        raise Fault(Cause.PDT_MISCONFIGURED)
    return ProcessContext(
        _PC_ENS(ta), _PC_SUM(ta), _PC_PSCID(ta), _ATP_MODE(fsc), _ATP_PPN(fsc) << 12
    )
