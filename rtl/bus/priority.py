"""Which of several bits is first."""

from amaranth.hdl import Cat, Const, Module, Mux

__all__ = ["above", "lowest", "lowest_bit", "number_of"]


def lowest(m: Module, bits, index) -> None:
    """Drive ``index`` with the number of the lowest bit that is set; 0 if none is.

    A tree: mapped for few LUTs, a chain of decisions stays one, with a level for each bit.
    """
    m.d.comb += index.eq(_lowest(bits)[1])


def _lowest(bits):
    """Whether any bit is set, and the number of the lowest; 0 if none is."""
    if len(bits) == 1:
        return bits[0], Const(0, 0)
    half = 1 << (len(bits) - 1).bit_length() - 1
    (low, low_number), (high, high_number) = _lowest(bits[:half]), _lowest(bits[half:])
    return low | high, Mux(low, low_number, Mux(high, high_number | half, 0))


def above(index, count: int):
    """A bit for each of ``count`` numbers: whether it is greater than ``index``.

    A few LUTs per bit; subtracting from a shifted one would take a carry chain beside.
    """
    bits = [Const(0, 1)]
    for bit in index:
        bits = [~bit & more for more in bits] + [~bit | more for more in bits]
    return Cat(bits[:count])


def lowest_bit(bits):
    """The lowest bit that is set, and no other, as a vector; 0 if none is."""
    return Cat(bit & ~bits[:number].any() for number, bit in enumerate(bits))


def number_of(onehot):
    """Position of the one bit that is set in a vector; 0 without one."""
    bits = range(max(1, (len(onehot) - 1).bit_length()))
    return Cat(Cat(bit for i, bit in enumerate(onehot) if i >> n & 1).any() for n in bits)
