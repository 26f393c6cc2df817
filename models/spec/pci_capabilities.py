"""PCI capabilities, before they have a place in a configuration space.

Each is made of registers at offsets from its own beginning; :mod:`models.spec.pci` places and links
them.  Sections are those of the PCI Express Base Specification 6.0 ("PCIe") and of virtio 1.3.
"""

from dataclasses import dataclass

from amaranth.lib import enum

from models.spec.config import NicConfig
from models.spec.nic import (
    BAR_BYTES,
    COMMON_OFFSET,
    DEVICE_OFFSET,
    FUNCTION_BYTES,
    ISR_OFFSET,
    NOTIFY_MULTIPLIER,
    NOTIFY_OFFSET,
)
from models.spec.registers import Access, Field, Register
from models.spec.virtio import COMMON_CONFIG, NetConfig

__all__ = [
    "FIRST_VF_OFFSET",
    "IOMMU_DEVICE",
    "IOMMU_VENDOR",
    "PAGE_SIZES",
    "VF_STRIDE",
    "VIRTIO_DEVICE_NET",
    "VIRTIO_VENDOR",
    "Capability",
    "CapabilityId",
    "ExtendedId",
    "VirtioStructure",
    "acs",
    "ari",
    "ats",
    "bar",
    "fixed",
    "management",
    "management_bytes",
    "msix",
    "page_request_capacity",
    "pasid",
    "pci_express",
    "power_management",
    "pri",
    "register",
    "sr_iov",
    "virtio_structures",
]

#: Vendor and device of the NIC: a virtio network device without legacy interface (4.1.2).
VIRTIO_VENDOR, VIRTIO_DEVICE_NET = 0x1AF4, 0x1041
IOMMU_VENDOR, IOMMU_DEVICE = 0x1EFD, 0x0008
#: Routing IDs of VFs: that of the PF and these.
FIRST_VF_OFFSET, VF_STRIDE = 1, 1
#: Supported page sizes, bit n for 4 KiB << n: those that every PF must have (PCIe 9.3.3.13).
PAGE_SIZES = 0x553
_RO, _RW, _RW1C, _RW1S = Access.RO, Access.RW, Access.RW1C, Access.RW1S


class CapabilityId(enum.IntEnum, shape=8):
    """Capabilities of the first 256 bytes (PCIe 7.5.3 and 7.7, PCI Code and ID Assignment)."""

    POWER_MANAGEMENT = 0x01
    VENDOR = 0x09
    PCI_EXPRESS = 0x10
    MSIX = 0x11


class ExtendedId(enum.IntEnum, shape=16):
    """Extended capabilities (PCIe 7.6 to 7.9)."""

    ACS = 0x000D
    ARI = 0x000E
    ATS = 0x000F
    SR_IOV = 0x0010
    PRI = 0x0013
    PASID = 0x001B


class VirtioStructure(enum.IntEnum, shape=8):
    """``cfg_type`` of a virtio capability (virtio 1.3, 4.1.4)."""

    COMMON = 1
    NOTIFY = 2
    ISR = 3
    DEVICE = 4
    PCI = 5
    VENDOR = 9


@dataclass(frozen=True)
class Capability:
    """One capability before it has a place: registers at offsets from its own beginning."""

    name: str
    id: int
    size: int
    registers: tuple[Register, ...]
    version: int = 1  # of extended ones


def fixed(name: str, offset: int, width: int, value: int, doc: str) -> Register:
    fields = {"value": Field(width - 1, 0, _RO, doc, value)}
    return Register(name=name, offset=offset, width=width, fields=fields)


def register(name: str, offset: int, width: int, doc: str, /, **fields: Field) -> Register:
    return Register(name=name, offset=offset, width=width, fields=fields, doc=doc)


def bar(name: str, offset: int, size: int) -> list[Register]:
    """Base address of ``size`` bytes of memory anywhere in 64 bits (PCIe 7.5.1.2.1)."""
    low = size.bit_length() - 1
    fields = {
        "io": Field(0, 0, _RO, "0: memory.", 0),
        "type": Field(2, 1, _RO, "2: 64 bits.", 2),
        "prefetchable": Field(3, 3, _RO, "0: reading has effects.", 0),
        "base": Field(31, low, _RW, f"Address bits 31:{low}."),
    }
    high = {"base": Field(31, 0, _RW, "Address bits 63:32.")}
    return [
        register(name, offset, 32, f"{size:#x} bytes, low half.", **fields),
        register(f"{name}_high", offset + 4, 32, "High half.", **high),
    ]


def power_management() -> Capability:
    """Power states D0 and D3hot (PCIe 7.5.2)."""
    control = {
        "power_state": Field(1, 0, _RW, "0: D0, 3: D3hot; writes of 1 and 2 do nothing."),
        "no_soft_reset": Field(3, 3, _RO, "1: D3hot to D0 keeps all state.", 1),
    }
    registers = (
        fixed("pm_capabilities", 2, 16, 3, "Version 3, no D1, no D2, no PME."),
        register("pm_control", 4, 16, "Power state.", **control),
    )
    return Capability("pm", CapabilityId.POWER_MANAGEMENT, 8, registers)


def pci_express(*, integrated: bool = False, virtual: bool = False) -> Capability:
    """PCI Express capability (PCIe 7.5.3); of a VF most controls are the PF's (9.3.5)."""
    control = {
        "correctable_enable": Field(0, 0, _RW, "Report correctable errors; there are none."),
        "nonfatal_enable": Field(1, 1, _RW, "Report non-fatal errors; there are none."),
        "fatal_enable": Field(2, 2, _RW, "Report fatal errors; there are none."),
        "unsupported_enable": Field(3, 3, _RW, "Report unsupported requests; there are none."),
        "max_read_request": Field(14, 12, _RW, "Largest read, 128 B << n.", 2),
    }
    flr = {"flr": Field(15, 15, _RW1S, "Function level reset; reads 0.")}
    link = {"speed": Field(3, 0, _RO, "2.5 GT/s.", 1), "width": Field(9, 4, _RO, "One lane.", 1)}
    capabilities = {
        "max_payload": Field(2, 0, _RO, "128 bytes.", 0),
        "role_based_errors": Field(15, 15, _RO, "Always 1.", 1),
        "flr": Field(28, 28, _RO, "Function level reset is there.", int(not integrated)),
    }
    express = {
        "version": Field(3, 0, _RO, "Of this structure.", 2),
        "type": Field(7, 4, _RO, "0 endpoint, 9 root complex integrated.", 9 if integrated else 0),
    }
    control = ({} if virtual else control) | ({} if integrated else flr)
    registers = [
        register("express_capabilities", 0x02, 16, "Kind of function.", **express),
        register("device_capabilities", 0x04, 32, "What it can do.", **capabilities),
        register("device_control", 0x08, 16, "Device control.", **control),
        fixed("device_status", 0x0A, 16, 0, "Device status: no errors, nothing pending."),
    ]
    if not integrated:
        registers += [
            register("link_capabilities", 0x0C, 32, "The link.", **link),
            register("link_status", 0x12, 16, "The link.", **link),
        ]
    timeout = {"disable": Field(4, 4, _RO, "The completion time-out can be disabled.", 1)}
    disable = {"disable": Field(4, 4, _RW, "Disable the completion time-out; there is none.")}
    registers.append(register("device_capabilities_2", 0x24, 32, "Time-out.", **timeout))
    if not virtual:
        registers.append(register("device_control_2", 0x28, 16, "Time-out.", **disable))
    return Capability("express", CapabilityId.PCI_EXPRESS, 0x3C, tuple(registers))


def msix(vectors: int, table: int, pending: int) -> Capability:
    """MSI-X, table and pending bits in BAR 0 (PCIe 7.7.2)."""
    control = {
        "table_size": Field(10, 0, _RO, "Vectors less 1.", vectors - 1),
        "function_mask": Field(14, 14, _RW, "Masks all vectors."),
        "enable": Field(15, 15, _RW, "Interrupts are messages; else a PF has its pin, a VF none."),
    }
    registers = (
        register("msix_control", 2, 16, "Message control.", **control),
        fixed("msix_table", 4, 32, table, "Offset of the table, in BAR 0."),
        fixed("msix_pba", 8, 32, pending, "Offset of the pending bits, in BAR 0."),
    )
    return Capability("msix", CapabilityId.MSIX, 12, registers)


def _virtio(
    kind: VirtioStructure, offset: int, length: int, more: tuple[Register, ...] = ()
) -> Capability:
    """Where a structure is, in BAR 0 (virtio 1.3, 4.1.4)."""
    name = f"virtio_{kind.name.lower()}"
    size = 16 + sum(extra.bytes for extra in more)
    access = _RW if kind is VirtioStructure.PCI else _RO
    registers = (
        fixed(f"{name}_length", 2, 8, size, "Bytes of this capability."),
        fixed(f"{name}_type", 3, 8, kind, "VirtioStructure."),
        register(f"{name}_bar", 4, 8, "BAR.", value=Field(7, 0, access, "BAR.")),
        register(
            f"{name}_offset",
            8,
            32,
            "Offset in the BAR.",
            value=Field(31, 0, access, "Offset in the BAR.", offset),
        ),
        register(f"{name}_bytes", 12, 32, "Bytes.", value=Field(31, 0, access, "Bytes.", length)),
        *more,
    )
    return Capability(name, CapabilityId.VENDOR, size, registers)


def virtio_structures(config: NicConfig) -> list[Capability]:
    """Virtio structures of a function, in the device's order of preference."""
    kind, last = VirtioStructure, COMMON_CONFIG[-1]
    multiplier = fixed("virtio_notify_multiplier", 16, 32, NOTIFY_MULTIPLIER, "Bytes per queue.")
    window = register(
        "virtio_pci_data",
        16,
        32,
        "Window on the BAR.",
        value=Field(31, 0, _RW, "What is at the offset, 1, 2 or 4 bytes."),
    )
    queues = NOTIFY_MULTIPLIER * config.queues_per_function
    return [
        _virtio(kind.COMMON, COMMON_OFFSET, last.offset + last.bytes),
        _virtio(kind.NOTIFY, NOTIFY_OFFSET, queues, (multiplier,)),
        _virtio(kind.ISR, ISR_OFFSET, 1),
        _virtio(kind.DEVICE, DEVICE_OFFSET, NetConfig.as_shape().size // 8),
        _virtio(kind.PCI, 0, 0, (window,)),
    ]


def management(config: NicConfig) -> Capability:
    """Where the management pages are; a vendor structure (virtio 1.3, 4.1.4.8)."""
    registers = (
        fixed("virtio_vendor_length", 2, 8, 16, "Bytes of this capability."),
        fixed("virtio_vendor_type", 3, 8, VirtioStructure.VENDOR, "VirtioStructure."),
        fixed("virtio_vendor_id", 4, 16, IOMMU_VENDOR, "Whose structure it is; not virtio's."),
        fixed("virtio_vendor_bar", 6, 8, 2, "BAR of the management pages."),
        fixed("virtio_vendor_bytes", 8, 32, management_bytes(config), "Their bytes."),
        fixed("virtio_vendor_block", 12, 32, FUNCTION_BYTES, "Bytes of a function's block."),
    )
    return Capability("virtio_vendor", CapabilityId.VENDOR, 16, registers)


def management_bytes(config: NicConfig) -> int:
    """Bytes of the BAR of the management pages."""
    return max(0x1000, 1 << (config.functions * FUNCTION_BYTES - 1).bit_length())


# Extended capabilities ---------------------------------------------------------------------------


def page_request_capacity(config: NicConfig) -> int:
    """Page requests outstanding: two of each DMA tag, one of which waits in vain."""
    return 2 * config.dma_tags


def ari() -> Capability:
    """Alternative routing-ID interpretation; no more functions but VFs (PCIe 7.8.8)."""
    fields = {"next": Field(15, 8, _RO, "Next function; 0: none.", 0)}
    return Capability(
        "ari", ExtendedId.ARI, 8, (register("ari_capability", 4, 16, "Functions.", **fields),)
    )


def acs() -> Capability:
    """Access control services: there is no path between functions to control (PCIe 7.7.11)."""
    registers = (fixed("acs_capability", 4, 16, 0, "Nothing to control."),)
    return Capability("acs", ExtendedId.ACS, 8, registers)


def ats(*, virtual: bool) -> Capability:
    """Address translation services (PCIe 10.5.1); smallest unit and queue of a VF are the PF's."""
    depth = 0 if virtual else 1
    capability = {
        "queue_depth": Field(4, 0, _RO, "Invalidations taken at once; 0: see the PF.", depth),
        "page_aligned": Field(5, 5, _RO, "Asks for whole pages.", 1),
    }
    unit = {"unit": Field(4, 0, _RW, "Smallest translation unit, 4 KiB << n.")}
    control = ({} if virtual else unit) | {"enable": Field(15, 15, _RW, "Ask for translations.")}
    registers = (
        register("ats_capability", 4, 16, "What it can do.", **capability),
        register("ats_control", 6, 16, "Control.", **control),
    )
    return Capability("ats", ExtendedId.ATS, 8, registers)


def pri(config: NicConfig) -> Capability:
    """Page request interface of the PF and its VFs (PCIe 10.5.2)."""
    control = {
        "enable": Field(0, 0, _RW, "Page requests may be sent."),
        "reset": Field(1, 1, _RW1S, "Forget requests that are outstanding; reads 0."),
    }
    status = {
        "failure": Field(0, 0, _RW1C, "A response said failure."),
        "unexpected": Field(1, 1, _RW1C, "A response that nobody waited for."),
        "stopped": Field(8, 8, _RO, "Disabled, and nothing outstanding.", 1),
    }
    limit = page_request_capacity(config)
    mask = {"value": Field(31, 0, _RW, "Page requests that may be outstanding.")}
    registers = (
        register("pri_control", 4, 16, "Control.", **control),
        register("pri_status", 6, 16, "Status.", **status),
        fixed("pri_capacity", 8, 32, limit, "Page requests that could be outstanding."),
        register("pri_allocation", 12, 32, "Page requests that may be outstanding.", **mask),
    )
    return Capability("pri", ExtendedId.PRI, 16, registers)


def pasid() -> Capability:
    """Process address spaces (PCIe 7.8.9); the NIC's own DMA names none."""
    fields = {"width": Field(12, 8, _RO, "Bits of a PASID.", 20)}
    control = {"enable": Field(0, 0, _RW, "PASIDs may be sent.")}
    registers = (
        register("pasid_capability", 4, 16, "What it can do.", **fields),
        register("pasid_control", 6, 16, "Control.", **control),
    )
    return Capability("pasid", ExtendedId.PASID, 8, registers)


def sr_iov(config: NicConfig) -> Capability:
    """Single-root I/O virtualization (PCIe 9.3.3)."""
    control = {
        "vf_enable": Field(0, 0, _RW, "The first num_vfs VFs are there."),
        "vf_memory": Field(3, 3, _RW, "Their BARs answer."),
        "ari": Field(4, 4, _RW, "The hierarchy is ARI capable."),
    }
    number = {"value": Field(15, 0, _RW, "VFs to be; keeps its value while vf_enable is 1.")}
    size = {"value": Field(31, 0, _RO, "Page sizes, 4 KiB << n.", PAGE_SIZES)}
    pages = {
        f"page_{4 << n}k": Field(n, n, _RW, f"Pages of {4 << n} KiB.", int(n == 0))
        for n in range(11)
        if PAGE_SIZES >> n & 1
    }
    device = config.device_id & 0xFF
    registers = (
        fixed("sriov_capabilities", 0x04, 32, 0, "No migration."),
        register("sriov_control", 0x08, 16, "Control.", **control),
        fixed("sriov_status", 0x0A, 16, 0, "No migration."),
        fixed("initial_vfs", 0x0C, 16, config.vfs, "VFs at first."),
        fixed("total_vfs", 0x0E, 16, config.vfs, "VFs at most."),
        register("num_vfs", 0x10, 16, "VFs wanted.", **number),
        fixed("dependency_link", 0x12, 8, device, "The PF's function number: none."),
        fixed("first_vf_offset", 0x14, 16, FIRST_VF_OFFSET, "From the PF's routing ID."),
        fixed("vf_stride", 0x16, 16, VF_STRIDE, "From VF to VF."),
        fixed("vf_device", 0x1A, 16, VIRTIO_DEVICE_NET, "Device ID of the VFs."),
        register("supported_page_sizes", 0x1C, 32, "Page sizes.", **size),
        register("system_page_size", 0x20, 32, "One of them; aligns VF BARs.", **pages),
        *bar("vf_bar0", 0x24, BAR_BYTES),
    )
    return Capability("sriov", ExtendedId.SR_IOV, 0x40, registers)
