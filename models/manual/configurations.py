"""``docs/configurations.md``."""

import inspect
import re
from dataclasses import fields

from models.manual.tables import first_line, table
from models.spec.config import CAPABILITY_BITS, CONFIGS, IommuConfig, NicConfig

__all__ = ["configurations", "descriptions"]

_PURPOSES = {
    "tiny": "proofs, Icarus, tests of small and odd sizes",
    "default": "demonstration, FPGA, benches",
    "full": "conformance: every capability of the IOMMU, every feature of the NIC",
    "complete": "every feature of the NIC, in fewer functions",
    "wide": "sharing between many functions, in simulation",
    "hyper": "hyper-tenant measurements, in simulation",
}
_HEAD = """# Configurations

Made from `models/spec/config.py` by `make docs`; do not edit.  A system is two frozen dataclasses,
one per block; RTL, models, drivers and benches read the same object.  What a configuration leaves
out reads as absent in `capabilities` and costs no logic.
"""


def descriptions(cls: type) -> dict[str, str]:
    """What the docstring's "Parameters" section says of each parameter."""
    found: dict[str, str] = {}
    names: list[str] = []
    section = (inspect.getdoc(cls) or "").partition("Parameters\n----------\n")[2]
    for line in section.splitlines():
        if match := re.match(r"^(\w[\w, ]*) : ", line):
            names = match[1].split(", ")
            found.update(dict.fromkeys(names, ""))
        elif line.startswith("    "):
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, int) and value >= 1 << 16 and not value & (value - 1):
        return f"2^{value.bit_length() - 1}"
    return str(value)


def _plain(text: str) -> str:
    """Sphinx's roles and double quotes as Markdown has them."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`")


def _block(name: str, cls: type, *, described: bool, only: tuple[str, ...]) -> list[str]:
    docs = descriptions(cls)
    rows = []
    for parameter in only:
        cells = [_value(getattr(getattr(system, name), parameter)) for system in CONFIGS.values()]
        doc = (_plain(docs[parameter]),) if described else ()
        rows.append((f"`{parameter}`", *cells, *doc))
    head = ("Parameter", *(f"`{system}`" for system in CONFIGS))
    return table(head + (("What",) if described else ()), rows)


def configurations() -> str:
    """Text of the document."""
    rows = [(f"`{name}`", _PURPOSES[name]) for name in CONFIGS]
    sizes = tuple(f.name for f in fields(IommuConfig) if f.name not in CAPABILITY_BITS)
    nic = tuple(f.name for f in fields(NicConfig))
    lines = [
        _HEAD,
        *table(("Name", "For"), rows),
        "## IOMMU: capabilities",
        "",
        "Each is the bit of that name in `capabilities` (registers.md).",
        "",
        *_block("iommu", IommuConfig, described=False, only=CAPABILITY_BITS),
        "## IOMMU: sizes",
        "",
        f"{first_line(IommuConfig)}",
        "",
        *_block("iommu", IommuConfig, described=True, only=sizes),
        "## NIC",
        "",
        *_block("nic", NicConfig, described=True, only=nic),
    ]
    return "\n".join(lines).rstrip() + "\n"
