"""Which file has which text."""

from pathlib import Path

from models.manual.configurations import configurations
from models.manual.header import header
from models.manual.pci import pci
from models.manual.records import records
from models.manual.registers import registers

__all__ = ["ROOT", "texts"]

ROOT = Path(__file__).resolve().parent.parent.parent


def texts() -> dict[str, str]:
    """Text of every generated file, by its path in the project."""
    return {
        "docs/registers.md": registers(),
        "docs/records.md": records(),
        "docs/pci.md": pci(),
        "docs/configurations.md": configurations(),
        "include/iovirt.h": header(),
    }
