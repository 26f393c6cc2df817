"""Commands of the command queue: encoders, random operands, and what to call one."""

import random

from cosim.bench.ports import layout_fields
from models.spec.config import IommuConfig
from models.spec.iommu import (
    AtsCommand,
    Command,
    CommandFunc,
    CommandOpcode,
    Iodir,
    Iofence,
    Iotinval,
)

__all__ = [
    "Pool",
    "ats_command",
    "encode",
    "fence",
    "ginval",
    "inval",
    "iodir",
    "name",
    "random_command",
    "row",
    "rows",
]

_LAYOUTS = {
    CommandOpcode.IOTINVAL: Iotinval,
    CommandOpcode.IOFENCE: Iofence,
    CommandOpcode.IODIR: Iodir,
    CommandOpcode.ATS: AtsCommand,
}
_FIELDS = {
    opcode: {name: (place[0], place[1]) for name, place in layout_fields(layout).items()}
    for opcode, layout in _LAYOUTS.items()
}
_FUNC_SHIFT = layout_fields(Command)["func3"][0]
_NAMES: dict[tuple[int, int], str] = {
    (CommandOpcode.IOTINVAL, CommandFunc.VMA): "IOTINVAL.VMA",
    (CommandOpcode.IOTINVAL, CommandFunc.GVMA): "IOTINVAL.GVMA",
    (CommandOpcode.IOFENCE, CommandFunc.C): "IOFENCE.C",
    (CommandOpcode.IODIR, CommandFunc.INVAL_DDT): "IODIR.INVAL_DDT",
    (CommandOpcode.IODIR, CommandFunc.INVAL_PDT): "IODIR.INVAL_PDT",
    (CommandOpcode.ATS, CommandFunc.INVAL): "ATS.INVAL",
    (CommandOpcode.ATS, CommandFunc.PRGR): "ATS.PRGR",
}
#: Operands that make the rows of a command's table.
_OPERANDS = {
    "IOTINVAL.VMA": ("gv", "av", "pscv", "nl", "s"),
    "IOTINVAL.GVMA": ("gv", "av", "nl", "s"),
    "IOFENCE.C": ("av", "wsi", "pr", "pw"),
    "IODIR.INVAL_DDT": ("dv",),
    "IODIR.INVAL_PDT": (),
    "ATS.INVAL": ("pv", "dsv"),
    "ATS.PRGR": ("pv", "dsv"),
}


def encode(opcode: CommandOpcode, func: CommandFunc, **operands: int) -> int:
    """Return the 128 bits of a command."""
    value = int(opcode) | int(func) << _FUNC_SHIFT
    for operand, content in operands.items():
        offset, width = _FIELDS[opcode][operand]
        value |= (content & (1 << width) - 1) << offset
    return value


def inval(**operands: int) -> int:
    """Return an IOTINVAL.VMA."""
    return encode(CommandOpcode.IOTINVAL, CommandFunc.VMA, **operands)


def ginval(**operands: int) -> int:
    """Return an IOTINVAL.GVMA."""
    return encode(CommandOpcode.IOTINVAL, CommandFunc.GVMA, **operands)


def iodir(func: CommandFunc = CommandFunc.INVAL_DDT, **operands: int) -> int:
    """Return an IODIR."""
    return encode(CommandOpcode.IODIR, func, **operands)


def fence(**operands: int) -> int:
    """Return an IOFENCE.C."""
    return encode(CommandOpcode.IOFENCE, CommandFunc.C, **operands)


def _field(command: int, opcode: int, operand: str) -> int:
    offset, width = _FIELDS[CommandOpcode(opcode)][operand]
    return command >> offset & (1 << width) - 1


def name(command: int) -> str:
    """Name of a command; ``illegal`` if it has none."""
    return _NAMES.get((command & 0x7F, command >> 7 & 7), "illegal")


def row(command: int) -> str:
    """Name and operands that are valid: the row of its table."""
    called = name(command)
    if called == "illegal":
        return called
    given = [op for op in _OPERANDS[called] if _field(command, command & 0x7F, op)]
    return " ".join([called, *(op.upper() for op in given)])


def rows(config: IommuConfig) -> list[str]:
    """All rows that are legal in a configuration."""
    found = []
    for called, operands in _OPERANDS.items():
        if called.startswith("ATS") and not config.ats:
            continue
        if called == "IODIR.INVAL_PDT" and not config.pd8:
            continue
        for bits in range(1 << len(operands)):
            given = [op for n, op in enumerate(operands) if bits >> n & 1]
            if ("nl" in given and not config.nl) or ("s" in given and not config.s):
                continue
            if "wsi" in given and config.igs == 0:
                continue
            found.append(" ".join([called, *(op.upper() for op in given)]))
    return found


class Pool:
    """Values that random operands are drawn from, so that they meet what is there."""

    def __init__(self) -> None:
        self.devices: list[int] = [0]
        self.processes: list[int] = [0]
        self.gscids: list[int] = [0]
        self.pscids: list[int] = [0]
        self.pages: list[int] = [0]
        self.data: list[int] = [0]


def random_command(rng: random.Random, config: IommuConfig, pool: Pool, *, wsi: bool) -> int:
    """Draw a legal command; none has effects that anyone depends on."""
    kinds = ["vma", "gvma", "ddt", "fence", "fence"]
    kinds += ["pdt"] * config.pd8 + ["prgr"] * config.ats
    kind = rng.choice(kinds)

    def flip() -> int:
        return rng.randrange(2)

    if kind in ("vma", "gvma"):
        s, page = config.s and flip(), rng.choice(pool.pages)
        if s:
            page |= (1 << rng.randrange(10)) - 1
        operands = {
            "av": flip(), "gv": flip(), "nl": config.nl and flip(), "s": s, "addr": page,
            "gscid": rng.choice(pool.gscids), "pscid": rng.choice(pool.pscids),
        }  # fmt: skip
        if kind == "vma":
            return inval(pscv=flip(), **operands)
        return ginval(**operands)
    if kind == "ddt":
        return iodir(dv=flip(), did=rng.choice(pool.devices))
    if kind == "pdt":
        pid = rng.choice(pool.processes)
        return iodir(CommandFunc.INVAL_PDT, dv=1, did=rng.choice(pool.devices), pid=pid)
    if kind == "fence":
        av = flip()
        where = {"addr": rng.choice(pool.data) >> 2, "data": rng.getrandbits(32)} if av else {}
        return fence(av=av, pr=flip(), pw=flip(), wsi=wsi and flip(), **where)
    return ats_command(rng, pool, CommandFunc.PRGR)


def ats_command(rng: random.Random, pool: Pool, func: CommandFunc) -> int:
    """Draw an ATS command."""
    dsv = rng.randrange(2)
    return encode(
        CommandOpcode.ATS, func, pid=rng.choice(pool.processes), pv=rng.randrange(2), dsv=dsv,
        rid=rng.choice(pool.devices) & 0xFFFF, dseg=rng.randrange(3) if dsv else 0,
        payload=rng.getrandbits(64),
    )  # fmt: skip
