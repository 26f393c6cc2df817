"""MSI page tables (section "Process to translate addresses of MSIs")."""

from models.iommu.access import PhysicalMemory
from models.iommu.directory import DeviceContext
from models.iommu.parameters import Capabilities
from models.iommu.records import Fault, Mrif, bits_of, extractor
from models.iommu.walk import UNLIMITED
from models.spec.iommu import (
    PAGE_SHIFT,
    Cause,
    MsiPte,
    MsiPteMrif,
    MsiPteNotice,
    MsiptpMode,
)

__all__ = ["extract", "is_interrupt_file", "range_without_files", "translate_msi"]

_V, _M, _C = (extractor(MsiPte, name) for name in "vmc")
_PPN = extractor(MsiPte, "ppn")
_BASIC_RESERVED = bits_of(MsiPte, "reserved", "reserved2")
_MRIF_ADDRESS = extractor(MsiPteMrif, "address")
_MRIF_RESERVED = bits_of(MsiPteMrif, "reserved", "reserved2")
_NID_LOW, _NID_HIGH = extractor(MsiPteNotice, "nid"), extractor(MsiPteNotice, "nid_high")
_NOTICE_PPN = extractor(MsiPteNotice, "ppn")
_NOTICE_RESERVED = bits_of(MsiPteNotice, "reserved", "reserved2")
_MODE_MRIF, _MODE_BASIC = 1, 3
_MRIF_SHIFT, _NID_LOW_BITS = 9, 10


def extract(value: int, mask: int) -> int:
    """Pack the bits of ``value`` under the ones of ``mask`` at the low end, order kept."""
    result = position = 0
    while mask:
        bit = mask & -mask
        result |= bool(value & bit) << position
        position += 1
        mask ^= bit
    return result


def is_interrupt_file(context: DeviceContext, gpa: int) -> bool:
    """Whether the page is a virtual interrupt file's (section "MSI address mask and pattern")."""
    if context.msi_mode == MsiptpMode.OFF:
        return False
    return (gpa >> PAGE_SHIFT) & ~context.msi_mask == context.msi_pattern & ~context.msi_mask


def range_without_files(context: DeviceContext, gpa: int, size_log2: int) -> int:
    """Shrink the range round ``gpa``, itself no interrupt file, until it has none at all."""
    if context.msi_mode == MsiptpMode.OFF:
        return size_log2
    different = ((gpa >> PAGE_SHIFT) ^ context.msi_pattern) & ~context.msi_mask
    # Every bit of the page number above the range must keep it apart from the pattern.
    highest = different.bit_length() - 1
    return min(size_log2, PAGE_SHIFT + highest, UNLIMITED)


def translate_msi(
    memory: PhysicalMemory,
    capabilities: Capabilities,
    context: DeviceContext,
    gpa: int,
    *,
    execute: bool,
    big_endian: bool,
) -> int | Mrif:
    """Translate the address of an interrupt file to an SPA, or to an MRIF."""
    number = extract(gpa >> PAGE_SHIFT, context.msi_mask)
    first, second = memory.load(
        context.msi_root | number * 16,
        16,
        access_fault=lambda: Fault(Cause.MSI_PTE_ACCESS_FAULT),
        corruption=Cause.MSI_PT_CORRUPTION,
        big_endian=big_endian,
    )
    if not _V(first):
        raise Fault(Cause.MSI_PTE_INVALID)
    # C=1 is for implementations to define; here it is no valid encoding.
    if _C(first) or _M(first) not in (_MODE_MRIF, _MODE_BASIC):
        raise Fault(Cause.MSI_PTE_MISCONFIGURED)
    if _M(first) == _MODE_BASIC:
        if first & _BASIC_RESERVED:
            raise Fault(Cause.MSI_PTE_MISCONFIGURED)
        target: int | Mrif = _PPN(first) << PAGE_SHIFT | gpa & (1 << PAGE_SHIFT) - 1
    else:
        if not capabilities.msi_mrif or first & _MRIF_RESERVED or second & _NOTICE_RESERVED:
            raise Fault(Cause.MSI_PTE_MISCONFIGURED)
        target = Mrif(
            _MRIF_ADDRESS(first) << _MRIF_SHIFT,
            _NID_HIGH(second) << _NID_LOW_BITS | _NID_LOW(second),
            _NOTICE_PPN(second) << PAGE_SHIFT,
        )
    # The rights are those of a second-stage PTE with R=W=U=1 and X=0.
    if execute:
        raise Fault(Cause.INSTRUCTION_ACCESS_FAULT)
    return target
