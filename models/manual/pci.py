"""``docs/pci.md``, and what the C header says of PCI configuration spaces."""

from models.manual.tables import Family, table
from models.spec.config import CONFIGS
from models.spec.nic import CONFIG_BASE, CONFIG_BYTES
from models.spec.pci import ConfigSpace, iommu_space, pf_space, vf_space
from models.spec.registers import Access, Field, Register

__all__ = ["pci", "pci_families", "spaces"]

_HEAD = f"""# PCI configuration spaces

Made from `models/spec/pci.py` by `make docs`; do not edit.  {CONFIG_BYTES} bytes per function,
accesses of 1, 2 or 4 bytes, naturally aligned.  Function f of the NIC has its own at
`{CONFIG_BASE:#x} + {CONFIG_BYTES:#x} f` of the NIC's register port, the IOMMU has a port for its.
Bits that are not here are read-only 0.  Offsets are the same in all configurations, values are
those of `default`.
"""
_TITLES = {
    "pf": "Physical function",
    "vf": "Virtual function",
    "iommu": "IOMMU",
}


def spaces() -> tuple[ConfigSpace, ...]:
    """One space of each kind."""
    config = CONFIGS["default"].nic
    return pf_space(config), vf_space(config), iommu_space()


def pci_families(space: ConfigSpace) -> list[Family]:
    """Registers of a space, in the form in which documents need them."""
    return [Family(register, register.name) for register in space.registers]


def _meaning(register: Register, entry: Field) -> str:
    if entry.access is Access.RW1S:
        return f"{entry.doc} Writing 1 does it."
    return entry.doc if len(register.fields) > 1 or not register.doc else register.doc


def _rows(space: ConfigSpace) -> list[tuple[str, ...]]:
    rows = []
    for register in space.registers:
        for name, entry in register.fields.items():
            bits = f"{entry.high}:{entry.low}" if entry.high > entry.low else str(entry.low)
            shown = register.name if name == "value" else f"{register.name}.{name}"
            reset = f"{entry.reset:#x}" if entry.reset else "0"
            rows.append(
                (
                    f"{register.offset:#05x}",
                    f"`{shown}`",
                    bits,
                    entry.access.value,
                    reset,
                    _meaning(register, entry),
                )
            )
    return rows


def pci() -> str:
    """Text of the document."""
    lines = [_HEAD]
    for space in spaces():
        lines += [f"## {_TITLES[space.name]}", ""]
        places = [(name, f"{offset:#x}") for name, offset in space.capabilities.items()]
        lines += table(("Capability", "Offset"), places)
        lines += table(
            ("Offset", "Register and field", "Bits", "Access", "Reset", "Meaning"), _rows(space)
        )
    return "\n".join(lines).rstrip() + "\n"
