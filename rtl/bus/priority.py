"""Which of several bits is first."""

from amaranth.hdl import Cat, Module

__all__ = ["lowest", "lowest_bit", "number_of"]


def lowest(m: Module, bits, index) -> None:
    """Drive ``index`` with the number of the lowest bit that is set; 0 if none is."""
    for number in reversed(range(len(bits))):
        with m.If(bits[number]):
            m.d.comb += index.eq(number)


def lowest_bit(bits):
    """The lowest bit that is set, and no other, as a vector; 0 if none is."""
    return Cat(bit & ~bits[:number].any() for number, bit in enumerate(bits))


def number_of(onehot):
    """Position of the one bit that is set in a vector; 0 without one."""
    bits = range(max(1, (len(onehot) - 1).bit_length()))
    return Cat(Cat(bit for i, bit in enumerate(onehot) if i >> n & 1).any() for n in bits)
