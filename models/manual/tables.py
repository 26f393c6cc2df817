"""What the tables of the specification room say, in the form in which documents need it."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.lib import data

from models.spec.registers import Register

__all__ = ["Bits", "Family", "comments", "families", "fields_of", "first_line", "table"]

_MEMBER = re.compile(r"^    (\w+)\b *[:=][^#]*(?:#\s*(.*))?$")
_INDEXED = re.compile(r"^(.*?)_?(\d+)$")


@dataclass(frozen=True)
class Family:
    """A register, or several alike that are numbered.

    ``stride`` is 0 for a single one.
    """

    register: Register
    name: str
    first: int = 0
    count: int = 1
    stride: int = 0

    @property
    def last(self) -> int:
        """Number of the last one."""
        return self.first + self.count - 1

    def place(self) -> str:
        """Offset, as a formula in ``n`` if there are several."""
        offset = f"{self.register.offset:#x}"
        if not self.stride:
            return offset
        index = f"(n - {self.first})" if self.first else "n"
        return f"{offset} + {self.stride:#x} {index}"


def families(registers: tuple[Register, ...]) -> list[Family]:
    """Registers by offset, those that are numbered joined."""
    members: dict[str, list[tuple[int, Register]]] = {}
    for register in sorted(registers, key=lambda register: register.offset):
        match = _INDEXED.match(register.name)
        name, index = (match[1], int(match[2])) if match else (register.name, 0)
        members.setdefault(name, []).append((index, register))
    found = []
    for name, numbered in members.items():
        (first, register), count = numbered[0], len(numbered)
        if count == 1:
            found.append(Family(register, register.name))
            continue
        stride = numbered[1][1].offset - register.offset
        for place, (index, other) in enumerate(numbered):
            if index != first + place or other.offset != register.offset + place * stride:
                raise ValueError(f"{other.name} is not in line with {register.name}")
        found.append(Family(register, name, first, count, stride))
    return found


@dataclass(frozen=True)
class Bits:
    """One field of a record: the record's own names joined with dots, and where it is."""

    name: str
    low: int
    width: int
    doc: str

    @property
    def high(self) -> int:
        """Highest bit."""
        return self.low + self.width - 1

    @property
    def reserved(self) -> bool:
        """Whether it is a gap."""
        return self.name.rpartition(".")[2].startswith("reserved")


def comments(cls: type) -> dict[str, str]:
    """What is written beside the members of a class."""
    found = {}
    for line in inspect.getsource(cls).splitlines():
        if match := _MEMBER.match(line):
            found[match[1]] = match[2] or ""
    return found


def first_line(cls: type) -> str:
    """First paragraph of a class's docstring."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def fields_of(cls: type[data.Struct], prefix: str = "", base: int = 0) -> Iterator[Bits]:
    """Fields of a record, those of records in it in their place."""
    docs = comments(cls)
    for name, field in cls.as_shape():
        shape, low = field.shape, base + field.offset
        if isinstance(shape, type) and issubclass(shape, data.Struct):
            yield from fields_of(shape, f"{prefix}{name}.", low)
        else:
            doc = docs.get(name, "")
            if isinstance(shape, type) and not doc:
                doc = shape.__name__
            yield Bits(prefix + name, low, field.width, doc)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    lines = [head, ("---",) * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]
