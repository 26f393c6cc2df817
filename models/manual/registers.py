"""``docs/registers.md``."""

from models.manual.tables import Family, families, table
from models.spec import nic, virtio
from models.spec.iommu_registers import PAGE_BYTES
from models.spec.iommu_registers import REGISTERS as IOMMU
from models.spec.registers import Field, Register

__all__ = ["NIC_MAP", "registers"]

_OF_QUEUES = nic.queue_stat_offset(0, 0)
#: Where things are on the NIC's register port: name, place, what.
NIC_MAP = (
    ("BAR of function f", f"f x {nic.BAR_BYTES:#x}", "function 0 is the PF"),
    ("common configuration", f"BAR + {nic.COMMON_OFFSET:#x}", "below"),
    ("ISR status", f"BAR + {nic.ISR_OFFSET:#x}", "8 bits; reading clears it"),
    ("device configuration", f"BAR + {nic.DEVICE_OFFSET:#x}", "`NetConfig`, see records.md"),
    (
        "notify queue q",
        f"BAR + {nic.NOTIFY_OFFSET:#x} + {nic.NOTIFY_MULTIPLIER} q",
        "any write; a page of its own",
    ),
    (
        "MSI-X table entry v",
        f"BAR + {nic.MSIX_TABLE_OFFSET:#x} + {nic.MSIX_ENTRY_BYTES} v",
        "`MsixEntry`, see records.md; a page of its own",
    ),
    ("MSI-X pending bits", f"BAR + {nic.MSIX_PBA_OFFSET:#x}", "64 bits; a page of its own"),
    (
        "management of function f",
        f"{nic.MANAGEMENT_BASE:#x} + f x {nic.FUNCTION_BYTES:#x}",
        "for the PF's owner alone; below",
    ),
    (
        "PCI configuration space of function f",
        f"{nic.CONFIG_BASE:#x} + f x {nic.CONFIG_BYTES:#x}",
        "pci.md",
    ),
    (
        "reason why queue q stopped",
        f"management + {nic.queue_error_offset(0):#x} + 4 q",
        "`QueueError`, 32 bits, read-only",
    ),
    (
        "counter s",
        f"management + {nic.stat_offset(0):#x} + 8 s",
        "`Stat`, 48 bits, read-only; read the low half first",
    ),
    (
        "counter s of queue q",
        f"management + {_OF_QUEUES:#x} + {nic.queue_stat_offset(1, 0) - _OF_QUEUES:#x} q + 8 s",
        "`RxQueueStat` (even q) or `TxQueueStat`, likewise",
    ),
)

_HEAD = """# Registers

Made from `models/spec` by `make docs`; do not edit.  Bits that no field has are reserved: they read
0 and writes to them do nothing.  Reset values are 0 unless a table says otherwise; "configuration"
means that the value follows from the configuration (configurations.md).
"""
_IOMMU = f"""## IOMMU

One page of {PAGE_BYTES} bytes, little-endian.  Accesses of 4 bytes, or of 8 to registers of 64 bits
(and to two of 32 bits side by side), naturally aligned.  A register whose capability is absent
reads 0.
"""
_NIC = f"""## NIC

The register port has {nic.ADDRESS_BITS} address bits.
"""


def _bits(entry: Field) -> str:
    return f"{entry.high}:{entry.low}" if entry.high > entry.low else str(entry.low)


def _reset(entry: Field) -> str:
    return "configuration" if entry.reset is None else f"{entry.reset:#x}" if entry.reset else "0"


def _what(register: Register) -> str:
    if register.doc:
        return register.doc
    (entry,) = register.fields.values()
    return entry.doc


def _overview(found: list[Family]) -> list[str]:
    rows = []
    for family in found:
        name = f"`{family.name}`"
        if family.stride:
            name += f" n = {family.first} to {family.last}"
        rows.append((family.place(), name, str(family.register.width), _what(family.register)))
    return table(("Offset", "Register", "Bits", "What"), rows)


def _details(family: Family) -> list[str]:
    rows = [
        (_bits(entry), f"`{name}`", entry.access.value, _reset(entry), entry.doc)
        for name, entry in family.register.fields.items()
    ]
    title = f"### `{family.name}` at {family.place()}, {family.register.width} bits"
    return [title, "", *table(("Bits", "Field", "Access", "Reset", "Meaning"), rows)]


def _flat(found: list[Family]) -> list[str]:
    """Registers of one field each."""
    rows = []
    for family in found:
        (entry,) = family.register.fields.values()
        place, name = family.place(), f"`{family.name}`"
        rows.append((place, name, _bits(entry), entry.access.value, _reset(entry), entry.doc))
    return table(("Offset", "Register", "Bits", "Access", "Reset", "Meaning"), rows)


def registers() -> str:
    """Text of the document."""
    iommu = families(IOMMU)
    lines = [_HEAD, _IOMMU, *_overview(iommu)]
    for family in iommu:
        lines += _details(family)
    lines += [_NIC, *table(("What", "Address", ""), list(NIC_MAP))]
    lines += ["### Common configuration of a function (virtio 1.3, 4.1.4.3)", ""]
    lines += _flat(families(virtio.COMMON_CONFIG))
    lines += ["### Management of a function", "", *_flat(families(tuple(nic.MANAGEMENT.values())))]
    return "\n".join(lines).rstrip() + "\n"
