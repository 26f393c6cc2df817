"""Byte order of what the IOMMU reads and writes."""

from amaranth.hdl import Cat, Mux

__all__ = ["in_order", "reversed_bytes"]


def reversed_bytes(value):
    """The bytes of a value from last to first."""
    return Cat(value.word_select(n, 8) for n in reversed(range(len(value) // 8)))


def in_order(value, big_endian):
    """A value as the bus carries it in little-endian lanes, and back."""
    return Mux(big_endian, reversed_bytes(value), value)
