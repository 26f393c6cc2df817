"""PCI configuration space of the NIC's functions and of the IOMMU, from one definition.

Sections are those of the PCI Express Base Specification 6.0 ("PCIe").  Every function has 4 KiB;
each capability follows the one before it, and what links them is computed.  Bits that are not
defined are read-only 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

from models.spec.config import NicConfig
from models.spec.iommu_registers import MSI_CFG_TBL_ENTRIES, PAGE_BYTES, msi_addr
from models.spec.nic import BAR_BYTES, CONFIG_BYTES, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET
from models.spec.pci_capabilities import (
    IOMMU_DEVICE,
    IOMMU_VENDOR,
    VIRTIO_DEVICE_NET,
    VIRTIO_VENDOR,
    Capability,
    acs,
    ari,
    ats,
    bar,
    fixed,
    management,
    management_bytes,
    msix,
    pasid,
    pci_express,
    power_management,
    pri,
    register,
    sr_iov,
    virtio_structures,
)
from models.spec.registers import Access, Field, Register

__all__ = [
    "EXTENDED_BASE",
    "IOMMU_DEVICE",
    "IOMMU_VENDOR",
    "ConfigSpace",
    "Word",
    "iommu_space",
    "nic_space",
    "pf_space",
    "vf_space",
]

#: Where capabilities begin, and extended ones.
_FIRST_CAPABILITY, EXTENDED_BASE = 0x40, 0x100
#: Vendor and device of a VF are those of the SR-IOV capability (PCIe 9.3.4.1.1).
_NOT_HERE = 0xFFFF
_NET_CLASS, _IOMMU_CLASS = 0x02_0000, 0x08_0600
#: Subsystem of a virtio device: any of its vendor's (4.1.2.1).
_NET_SUBSYSTEM = (VIRTIO_VENDOR, 0x1100)
_RO, _RW, _RW1C = Access.RO, Access.RW, Access.RW1C


@dataclass(frozen=True)
class Word:
    """32 bits of configuration space: after reset, and which of them software may change."""

    reset: int = 0
    writable: int = 0
    clearable: int = 0  # by writing 1


@dataclass(frozen=True)
class ConfigSpace:
    """Configuration space of one kind of function.

    Parameters
    ----------
    name : str
    registers : tuple of Register
        In the order of their offsets.
    capabilities : Mapping[str, int]
        Offset of each capability.
    """

    name: str
    registers: tuple[Register, ...]
    capabilities: Mapping[str, int]

    @cached_property
    def by_name(self) -> Mapping[str, Register]:
        """Registers by name."""
        return MappingProxyType({entry.name: entry for entry in self.registers})

    def __getitem__(self, name: str) -> Register:
        return self.by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    @cached_property
    def words(self) -> Mapping[int, Word]:
        """What there is in each 32-bit word that is not read-only 0, by its offset."""
        found: dict[int, Word] = {}
        for entry in self.registers:
            place, shift = entry.offset & ~3, 8 * (entry.offset & 3)
            word = found.get(place, Word())
            reset = sum(f.insert(f.reset or 0) for f in entry.fields.values())
            found[place] = Word(
                word.reset | reset << shift,
                word.writable | entry.mask(_RW) << shift,
                word.clearable | entry.mask(_RW1C) << shift,
            )
        return MappingProxyType({p: w for p, w in sorted(found.items()) if w != Word()})


def _header(
    vendor: int,
    device: int,
    kind: int,
    subsystem: tuple[int, int],
    bars: list[Register],
    *,
    pin: bool = False,
) -> list[Register]:
    """Type 0 header (PCIe 7.5.1), with an interrupt ``pin`` or without; what is not here is
    read-only 0.
    """
    virtual = vendor == _NOT_HERE
    command = {"bus_master": Field(2, 2, _RW, "DMA and messages are allowed.")}
    if not virtual:
        command |= {
            "memory": Field(1, 1, _RW, "BARs answer."),
            "parity": Field(6, 6, _RW, "Note parity errors; there are none."),
            "serr": Field(8, 8, _RW, "Report errors; there are none."),
        }
    status = {"capabilities": Field(4, 4, _RO, "There is a list of capabilities.", 1)}
    if pin:
        command["interrupt_disable"] = Field(10, 10, _RW, "The interrupt pin is not asserted.")
        status["interrupt"] = Field(3, 3, _RO, "An interrupt waits, by pin.", 0)
    kept = {"value": Field(7, 0, _RW, "Kept for software.")}
    registers = [
        fixed("vendor_id", 0x00, 16, vendor, "Vendor; FFFFh of VFs."),
        fixed("device_id", 0x02, 16, device, "Device; FFFFh of VFs."),
        register("command", 0x04, 16, "Command.", **command),
        register("status", 0x06, 16, "Status.", **status),
        fixed("revision", 0x08, 8, 1, "Revision."),
        register("class_code", 0x09, 8, "Interface.", value=Field(7, 0, _RO, "0.", kind & 0xFF)),
        fixed("subclass", 0x0A, 8, kind >> 8 & 0xFF, "Subclass."),
        fixed("base_class", 0x0B, 8, kind >> 16, "Base class."),
        *bars,
        fixed("subsystem_vendor", 0x2C, 16, subsystem[0], "Subsystem vendor."),
        fixed("subsystem_id", 0x2E, 16, subsystem[1], "Subsystem."),
        fixed("capabilities_pointer", 0x34, 8, _FIRST_CAPABILITY, "First capability."),
    ]
    if not virtual:
        registers += [
            register("cache_line", 0x0C, 8, "Cache line size.", **kept),
            register("interrupt_line", 0x3C, 8, "Interrupt line.", **kept),
        ]
    if pin:
        registers.append(fixed("interrupt_pin", 0x3D, 8, 1, "INTA, while MSI-X is disabled."))
    return registers


def _space(
    name: str,
    header: list[Register],
    capabilities: Iterable[Capability],
    extended: Iterable[Capability] = (),
) -> ConfigSpace:
    """Place capabilities one behind the other, and link them."""
    registers, places = list(header), {}
    for first, found, wide in (
        (_FIRST_CAPABILITY, tuple(capabilities), False),
        (EXTENDED_BASE, tuple(extended), True),
    ):
        base = first
        for position, capability in enumerate(found):
            following = base + (capability.size + 3 & ~3)
            link = following if position + 1 < len(found) else 0
            if wide:
                fields = {
                    "id": Field(15, 0, _RO, "ExtendedId.", int(capability.id)),
                    "version": Field(19, 16, _RO, "Version.", capability.version),
                    "next": Field(31, 20, _RO, "Next capability; 0: none.", link),
                }
            else:
                fields = {
                    "id": Field(7, 0, _RO, "CapabilityId.", int(capability.id)),
                    "next": Field(15, 8, _RO, "Next capability; 0: none.", link),
                }
            width, title = (32, "Extended capability.") if wide else (16, "Capability.")
            registers.append(register(f"{capability.name}_header", base, width, title, **fields))
            registers += [replace(r, offset=base + r.offset) for r in capability.registers]
            places[capability.name] = base
            base = following
        if base > (CONFIG_BYTES if wide else EXTENDED_BASE):
            raise ValueError(f"Capabilities of {name} end at {base:#x}: there is no room for them")
    registers.sort(key=lambda entry: entry.offset)
    return ConfigSpace(name, tuple(registers), MappingProxyType(places))


@lru_cache
def pf_space(config: NicConfig) -> ConfigSpace:
    """Configuration space of the PF."""
    bars = [*bar("bar0", 0x10, BAR_BYTES), *bar("bar2", 0x18, management_bytes(config))]
    ids = (VIRTIO_VENDOR, VIRTIO_DEVICE_NET)
    header = _header(*ids, _NET_CLASS, _NET_SUBSYSTEM, bars, pin=True)
    capabilities = [
        power_management(),
        pci_express(),
        msix(config.msix_vectors, MSIX_TABLE_OFFSET, MSIX_PBA_OFFSET),
        *virtio_structures(config),
        management(config),
    ]
    extended = [ari(), sr_iov(config), ats(virtual=False), pri(config), pasid(), acs()]
    return _space("pf", header, capabilities, extended)


@lru_cache
def vf_space(config: NicConfig) -> ConfigSpace:
    """Configuration space of a VF (PCIe 9.3.4 and 9.3.5)."""
    header = _header(_NOT_HERE, _NOT_HERE, _NET_CLASS, _NET_SUBSYSTEM, [])
    capabilities = [
        pci_express(virtual=True),
        msix(config.msix_vectors, MSIX_TABLE_OFFSET, MSIX_PBA_OFFSET),
        *virtio_structures(config),
    ]
    return _space("vf", header, capabilities, [ari(), ats(virtual=True), acs()])


def nic_space(config: NicConfig, function: int) -> ConfigSpace:
    """Configuration space of a function of the NIC; 0 is the PF."""
    return vf_space(config) if function else pf_space(config)


@lru_cache
def iommu_space() -> ConfigSpace:
    """Configuration space of the IOMMU: a system peripheral of the root complex."""
    header = _header(
        IOMMU_VENDOR,
        IOMMU_DEVICE,
        _IOMMU_CLASS,
        (IOMMU_VENDOR, IOMMU_DEVICE),
        bar("bar0", 0x10, PAGE_BYTES),
    )
    table = msi_addr(0).offset
    capabilities = [
        power_management(),
        pci_express(integrated=True),
        msix(MSI_CFG_TBL_ENTRIES, table, table + 16 * MSI_CFG_TBL_ENTRIES),
    ]
    return _space("iommu", header, capabilities)
