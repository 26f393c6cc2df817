"""Commands as 128-bit numbers, as software writes them."""

from models.spec.iommu import (
    AtsCommand,
    CommandFunc,
    CommandOpcode,
    Iodir,
    Iofence,
    Iotinval,
)

__all__ = ["ats_inval", "inval_ddt", "inval_pdt", "iofence", "iotinval", "prgr"]


def iotinval(func: CommandFunc = CommandFunc.VMA, **fields) -> int:
    """IOTINVAL.VMA or .GVMA."""
    return Iotinval.const({"opcode": CommandOpcode.IOTINVAL, "func3": func} | fields).as_bits()


def iofence(addr: int | None = None, data: int = 0, **fields) -> int:
    """IOFENCE.C, with AV if there is an address."""
    if addr is not None:
        fields |= {"av": 1, "addr": addr >> 2, "data": data}
    return Iofence.const(
        {"opcode": CommandOpcode.IOFENCE, "func3": CommandFunc.C} | fields
    ).as_bits()


def inval_ddt(**fields) -> int:
    """IODIR.INVAL_DDT."""
    return Iodir.const(
        {"opcode": CommandOpcode.IODIR, "func3": CommandFunc.INVAL_DDT} | fields
    ).as_bits()


def inval_pdt(**fields) -> int:
    """IODIR.INVAL_PDT."""
    return Iodir.const(
        {"opcode": CommandOpcode.IODIR, "func3": CommandFunc.INVAL_PDT} | fields
    ).as_bits()


def ats_inval(**fields) -> int:
    """ATS.INVAL."""
    return AtsCommand.const(
        {"opcode": CommandOpcode.ATS, "func3": CommandFunc.INVAL} | fields
    ).as_bits()


def prgr(**fields) -> int:
    """ATS.PRGR."""
    return AtsCommand.const(
        {"opcode": CommandOpcode.ATS, "func3": CommandFunc.PRGR} | fields
    ).as_bits()
