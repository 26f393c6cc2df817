"""Which of several bits is first."""

from amaranth.hdl import Module

__all__ = ["lowest"]


def lowest(m: Module, bits, index) -> None:
    """Drive ``index`` with the number of the lowest bit that is set; 0 if none is."""
    for number in reversed(range(len(bits))):
        with m.If(bits[number]):
            m.d.comb += index.eq(number)
