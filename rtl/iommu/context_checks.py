"""What device and process contexts may hold, and what of them steers translation.

Sections "Device-context configuration checks", "Process-context configuration checks" and step 7
of "Process to translate an IOVA".  Rules come as lists of single bits, any of which condemns the
context, so that their user can put a register before the last gates.
"""

from amaranth.hdl import Cat, Const, Mux, Value

from models.spec.config import IommuConfig
from models.spec.iommu import IoatpMode, IohgatpMode, MsiptpMode, PdtpMode
from models.spec.translation import AddressType

__all__ = [
    "device_context",
    "device_rules",
    "gpa_bits",
    "needs_process",
    "pointer_rules",
    "process_rules",
    "process_state",
    "refused",
    "wants_process",
]

_SV32 = 8  # mode of iosatp with SXL 1, and of iohgatp with GXL 1
#: Bits of process_id by levels of the process directory.
_PROCESS_ID_BITS = {1: 8, 2: 17, 3: 20}


def gpa_bits(config: IommuConfig) -> int:
    """Largest width of guest physical addresses (section "MSI address mask and pattern")."""
    widths = ((config.sv57x4, 59), (config.sv48x4, 50), (config.sv39x4, 41), (config.sv32x4, 34))
    return next((width for there, width in widths if there), config.pas)


def _gxl_is_writable(config: IommuConfig) -> bool:
    return config.sv32x4 and (config.sv39x4 or config.sv48x4 or config.sv57x4)


def _first_stage(config: IommuConfig, mode, sxl) -> dict[int, Value]:
    """Whether a mode of iosatp stands for so many levels, by levels there are."""
    wide = {
        3: (config.sv39, IoatpMode.SV39),
        4: (config.sv48, IoatpMode.SV48),
        5: (config.sv57, IoatpMode.SV57),
    }
    found = {n: ~sxl & (mode == code.value) for n, (there, code) in wide.items() if there}
    return found | ({2: sxl & (mode == _SV32)} if config.sv32 else {})


def _second_stage(config: IommuConfig, mode, gxl) -> dict[int, Value]:
    """Likewise of iohgatp."""
    wide = {
        3: (config.sv39x4, IohgatpMode.SV39X4),
        4: (config.sv48x4, IohgatpMode.SV48X4),
        5: (config.sv57x4, IohgatpMode.SV57X4),
    }
    found = {n: ~gxl & (mode == code.value) for n, (there, code) in wide.items() if there}
    return found | ({2: gxl & (mode == _SV32)} if config.sv32x4 else {})


def _process_directory(config: IommuConfig, mode) -> dict[int, Value]:
    """Likewise of pdtp."""
    depths = {
        1: (config.pd8, PdtpMode.PD8),
        2: (config.pd17, PdtpMode.PD17),
        3: (config.pd20, PdtpMode.PD20),
    }
    return {n: mode == code.value for n, (there, code) in depths.items() if there}


def _known(mode, found: dict[int, Value]) -> Value:
    """Whether a mode is Bare or one of ``found``."""
    return (mode == 0) | Cat(found.values()).any()


def _levels(found: dict[int, Value]) -> Value:
    """Levels that a mode stands for, 0 for Bare."""
    levels = Const(0, 1)
    for count, there in found.items():
        levels = levels | Mux(there, count, 0)
    return levels


def pointer_rules(entry) -> list[Value]:
    """Rules that a valid NonLeafEntry breaks."""
    return [entry.reserved.any(), entry.reserved2.any()]


def device_rules(config: IommuConfig, dc, *, be, gxl) -> list[Value]:
    """Rules that a valid device context breaks."""
    tc, hgatp, ta, fsc = dc.tc, dc.iohgatp, dc.ta, dc.fsc
    bare = hgatp.mode == IohgatpMode.BARE.value
    first = _first_stage(config, fsc.mode, tc.sxl)
    process = _process_directory(config, fsc.mode)
    rules = [
        tc.reserved.any(),
        tc.reserved2.any(),
        ta.reserved.any(),
        ta.reserved2.any(),
        fsc.reserved.any(),
        tc.en_pri & ~tc.en_ats,
        tc.prpr & ~tc.en_pri,
        tc.t2gpa & (~tc.en_ats | bare),
        tc.dpe & ~tc.pdtv,
        tc.pdtv & ~_known(fsc.mode, process),
        ~tc.pdtv & ~_known(fsc.mode, first),
        ~_known(hgatp.mode, _second_stage(config, hgatp.mode, gxl)),
        ~bare & hgatp.ppn[:2].any(),
    ]
    # With GXL 0, SXL may be 1 if GXL might have been.
    rules.append(gxl & ~tc.sxl if _gxl_is_writable(config) else tc.sxl != gxl)
    if not config.ats:
        rules.append(tc.en_ats | tc.en_pri | tc.prpr)
    if not config.t2gpa:
        rules.append(tc.t2gpa)
    if not config.amo_hwad:
        rules.append(tc.gade | tc.sade)
    if not config.end:
        rules.append(tc.sbe != be)
    if not config.qosid:
        rules.append(ta.rcid.any() | ta.mcid.any())
    if config.msi_flat:
        high = gpa_bits(config) - 12
        off = dc.msiptp.mode == MsiptpMode.OFF.value
        rules += [
            ~off & (bare | (dc.msiptp.mode != MsiptpMode.FLAT.value)),
            dc.msiptp.reserved.any(),
            dc.msi_addr_mask[high:].any(),
            dc.msi_addr_pattern[high:].any(),
            dc.reserved.any(),
        ]
    return rules


def process_rules(config: IommuConfig, pc, *, sxl) -> list[Value]:
    """Rules that a valid process context breaks."""
    return [
        pc.ta.reserved.any(),
        pc.ta.reserved2.any(),
        pc.fsc.reserved.any(),
        ~_known(pc.fsc.mode, _first_stage(config, pc.fsc.mode, sxl)),
    ]


def device_context(config: IommuConfig, dc, *, gxl) -> dict[str, Value]:
    """Members of a Context that a good device context gives; those missing are 0."""
    tc = dc.tc
    g_levels = _levels(_second_stage(config, dc.iohgatp.mode, gxl))
    s_levels = _levels(_first_stage(config, dc.fsc.mode, tc.sxl))
    s_levels = Mux(tc.pdtv, 0, s_levels)
    made = {
        "dtf": tc.dtf,
        "pdtv": tc.pdtv,
        "g_levels": g_levels,
        "gscid": Mux(g_levels != 0, dc.iohgatp.gscid, 0),
        "g_ppn": dc.iohgatp.ppn,
        "s_levels": s_levels,
        "pscid": Mux(s_levels != 0, dc.ta.pscid, 0),
        "s_ppn": dc.fsc.ppn,
    }
    if config.ats:
        made |= {"en_ats": tc.en_ats, "en_pri": tc.en_pri, "prpr": tc.prpr}
    if config.t2gpa:
        made |= {"t2gpa": tc.t2gpa}
    if config.amo_hwad:
        made |= {"gade": tc.gade, "sade": tc.sade}
    if config.end:
        made |= {"sbe": tc.sbe}
    if config.sv32 or config.sv32x4:
        made |= {"sxl": tc.sxl}
    if config.pd8:
        levels = _levels(_process_directory(config, dc.fsc.mode))
        made |= {"dpe": tc.dpe, "pd_levels": Mux(tc.pdtv, levels, 0)}
    if config.qosid:
        made |= {"rcid": dc.ta.rcid, "mcid": dc.ta.mcid}
    if config.msi_flat:
        made |= {
            "msi": dc.msiptp.mode == MsiptpMode.FLAT.value,
            "msi_ppn": dc.msiptp.ppn,
            "msi_mask": dc.msi_addr_mask[: gpa_bits(config) - 12],
            "msi_pattern": dc.msi_addr_pattern[: gpa_bits(config) - 12],
        }
    return made


def process_state(config: IommuConfig, pc, *, sxl) -> dict[str, Value]:
    """Members of a ProcessState that a good process context gives."""
    levels = _levels(_first_stage(config, pc.fsc.mode, sxl))
    return {
        "ens": pc.ta.ens,
        "sum": pc.ta.sum,
        "pscid": Mux(levels != 0, pc.ta.pscid, 0),
        "s_levels": levels,
        "s_ppn": pc.fsc.ppn,
    }


def refused(request, context) -> Value:
    """Whether the device context alone makes a request a disallowed one (cause 260).

    ``request`` has ``at``, ``process_id`` and ``pv``; ``context`` is a Context of the device.
    """
    by_ats = (request.at == AddressType.TRANSLATED) | (request.at == AddressType.ATS_REQUEST)
    wide = 0
    for levels, bits in _PROCESS_ID_BITS.items():
        wide = wide | ((context.pd_levels == levels) & request.process_id[bits:].any())
    return (by_ats & ~context.en_ats) | (request.pv & (~context.pdtv | wide))


def needs_process(request, context) -> Value:
    """Whether a request, not refused, needs a process context (steps 8 to 14).

    Without ``pv`` it is that of process 0.
    """
    return wants_process(request, context) & ~refused(request, context)


def wants_process(request, context) -> Value:
    """Whether it would, were it not refused."""
    first_stage = (request.at == AddressType.UNTRANSLATED) | (request.at == AddressType.ATS_REQUEST)
    return first_stage & context.pdtv & (request.pv | context.dpe) & (context.pd_levels != 0)
