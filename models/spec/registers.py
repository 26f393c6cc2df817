"""Memory-mapped registers as tables.

Register file, drivers, models and manuals are all made from these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from amaranth.lib import data

__all__ = ["Access", "Field", "Register", "field_mask"]


class Access(Enum):
    """What software may do to a field."""

    RO = "read-only"
    RW = "read/write"
    RW1C = "read, write 1 to clear"
    RW1S = "read, write 1 to set"


@dataclass(frozen=True)
class Field:
    """One field, at ``high:low`` inclusive, as the specification prints it.

    ``reset`` is its value after reset, ``None`` if that depends on the configuration.
    """

    high: int
    low: int
    access: Access
    doc: str
    reset: int | None = 0

    @property
    def mask(self) -> int:
        """Bits of the field, in place."""
        return (1 << self.high + 1) - (1 << self.low)

    def extract(self, value: int) -> int:
        """Value of the field in a register value."""
        return (value & self.mask) >> self.low

    def insert(self, value: int) -> int:
        """Register value with this field alone set."""
        if value >> (self.high - self.low + 1):
            raise ValueError(f"Field has {self.high - self.low + 1} bits, too few for {value:#x}")
        return value << self.low


@dataclass(frozen=True, kw_only=True)
class Register:
    """One register, at a byte offset from the base of its page.

    Parameters
    ----------
    name : str
        Name in the specification, lower case.
    offset : int
        Byte offset, naturally aligned.
    width : int
        Bits: 8, 16, 32 or 64.
    fields : Mapping[str, Field]
        What the bits mean; the gaps are reserved and read 0.
    doc : str
        What it is for; a register of one field need not say.
    """

    name: str
    offset: int
    width: int
    fields: Mapping[str, Field] = field(default_factory=dict)
    doc: str = ""

    def __post_init__(self) -> None:
        if self.offset % (self.width // 8):
            raise ValueError(f"{self.name} is not naturally aligned: {self.offset:#x}")
        taken: dict[int, str] = {}
        for name, entry in self.fields.items():
            if not 0 <= entry.low <= entry.high < self.width:
                raise ValueError(f"{self.name}.{name} is outside of the register")
            for bit in range(entry.low, entry.high + 1):
                if bit in taken:
                    raise ValueError(f"{self.name}.{name} overlaps {taken[bit]}")
                taken[bit] = name

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.width // 8

    @property
    def layout(self) -> data.FlexibleLayout:
        """The fields as an Amaranth layout; the gaps between them are reserved bits."""
        return data.FlexibleLayout(
            self.width,
            {
                name: data.Field(entry.high - entry.low + 1, entry.low)
                for name, entry in self.fields.items()
            },
        )

    def mask(self, access: Access) -> int:
        """Bits whose fields have the given access."""
        return sum(entry.mask for entry in self.fields.values() if entry.access is access)


def field_mask(register: Register, *names: str) -> int:
    """Bits of the named fields of a register."""
    return sum(register[name].mask for name in names)
