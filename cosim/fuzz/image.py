"""Memory under construction: where tables go, and the stores that make them."""

import random

__all__ = ["Image"]

_PAGE = 4096
#: First page of tables.
_LOW = 0x10_0000


class Image:
    """Pages to give out, and every store in order.

    Parameters
    ----------
    rng : random.Random
    address_bits : int
        ``capabilities.PAS``; some pages come from its very end.
    high : bool
        Whether pages may be above 32-bit schemes' reach.
    """

    def __init__(self, rng: random.Random, address_bits: int, *, high: bool) -> None:
        self._rng, self._high = rng, high
        self._low, self._top = _LOW, 1 << address_bits
        self.contents: dict[tuple[int, int], int] = {}
        self.stores: list[list[int]] = []

    def page(self, pages: int = 1, *, low: bool = False) -> int:
        """Allocate naturally aligned pages."""
        size = pages * _PAGE
        if self._high and not low and self._rng.random() < 0.2:
            self._top = (self._top - size) & -size
            return self._top
        address = (self._low + size - 1) & -size
        self._low = address + size
        return address

    def put(self, address: int, value: int, size: int = 8, *, big: bool = False) -> None:
        """Store a number in the order that the IOMMU reads it in."""
        raw = value.to_bytes(size, "big" if big else "little")
        stored = int.from_bytes(raw, "little")
        self.contents[address, size] = stored
        self.stores.append([address, size, stored])

    def get(self, address: int, size: int = 8, *, big: bool = False) -> int:
        """Return what :meth:`put` stored last; 0 if it never did."""
        raw = self.contents.get((address, size), 0).to_bytes(size, "little")
        return int.from_bytes(raw, "big" if big else "little")

    def take(self) -> list[list[int]]:
        """Return the stores since the last call."""
        stores, self.stores = self.stores, []
        return stores
