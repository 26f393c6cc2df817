"""Page-table entries as both stages see them: byte order, width, geometry, encodings."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import IommuConfig
from models.spec.iommu import Pte
from rtl.iommu.endian import in_order

__all__ = ["Entry", "largest_levels", "ordered"]

_PBMT_RESERVED = 3
_NAPOT_64K = 0b1000
_A, _D = 6, 7


def largest_levels(config: IommuConfig) -> int:
    """Levels of the deepest scheme of either stage."""
    if config.sv57 or config.sv57x4:
        return 5
    return 4 if config.sv48 or config.sv48x4 else 3


def ordered(config: IommuConfig, word, form):
    """The entry in what memory gave, by its byte order and by which half it is."""
    entry = in_order(word, form.big) if config.end else word
    if config.sv32 or config.sv32x4:
        half = Mux(form.upper ^ form.big, entry[32:], entry[:32])
        entry = Mux(form.narrow, half, entry)
    return entry


class Entry:
    """An entry that was read, at a level, for the page of an address.  Combinational.

    Parameters
    ----------
    word : Value
        64 bits as memory gave them.
    pte : Value
        What :func:`ordered` makes of them.
    big, narrow : Value
        Its byte order; whether it is one of 32 bits.
    level : Value
    page : Value
        Bits 55:12 of the address that is translated.
    """

    def __init__(self, m: Module, config: IommuConfig, *, word, pte, big, narrow, level, page):
        self._config, self._word, self._big, self._narrow = config, word, big, narrow
        self._level = level
        self._short = config.sv32 or config.sv32x4
        self.pte = data.View(Pte, pte)
        pte = self.pte
        self.leaf = pte.r | pte.x
        self.low, self.size = Signal(44, name="low"), Signal(6, name="entry_size")
        self._geometry(m)
        self.page = Signal(44, name="entry_page")
        m.d.comb += self.page.eq((pte.ppn & ~self.low) | (page & self.low))

    def _geometry(self, m: Module) -> None:
        """Size of a leaf, and the bits of the page that are the address's (none without one)."""
        pte, leaf, level = self.pte, self.leaf, self._level
        for number in range(largest_levels(self._config)):
            with m.If(level == number):
                m.d.comb += self.size.eq(12 + 9 * number)
            if number:
                above = leaf & (level >= number)
                m.d.comb += self.low[9 * number - 9 : 9 * number].eq(above.replicate(9))
        if self._short:
            with m.If(self._narrow & (level == 1)):
                m.d.comb += [self.size.eq(22), self.low[9].eq(leaf)]
        with m.If(pte.n):
            m.d.comb += [self.size.eq(16), self.low[:4].eq(leaf.replicate(4))]

    @property
    def rights(self):
        """:class:`~rtl.iommu.walk_records.Rights` of a leaf, as bits."""
        pte = self.pte
        return Cat(pte.r, pte.w, pte.x, pte.u, pte.d, pte.pbmt)

    @property
    def misplaced(self):
        """Whether a leaf is not where its size demands."""
        pte, low = self.pte, self.low
        napot = (self._level != 0) | (pte.ppn[:4] != _NAPOT_64K)
        return Mux(pte.n, napot, (pte.ppn & low).any())

    @property
    def reserved(self):
        """Encodings that no entry may have."""
        config, pte = self._config, self.pte
        pbmt = pte.pbmt == _PBMT_RESERVED if config.svpbmt else pte.pbmt.any()
        software = Const(0, 1) if config.svrsw60t59b else pte.rsw2.any()
        clear = Cat(pte.a, pte.d, pte.u, pte.n, pte.pbmt).any() | (self._level == 0)
        return (
            ~pte.v | pte.reserved.any() | (pte.w & ~pte.r) | pbmt | software | (~self.leaf & clear)
        )

    def updated(self, accessed, dirty):
        """The word with A and D set where memory has them.

        Of the two halves that hold an entry of 32 bits each, both are changed: one is stored.
        """
        big, bits = self._big, Cat(Const(0, _A), accessed, dirty)
        lanes = {0: ~big, 7: big}
        if self._short:
            lanes |= {3: self._narrow & big, 4: self._narrow & ~big}
        return self._word | Cat(
            bits & lanes[lane].replicate(8) if lane in lanes else Const(0, 8) for lane in range(8)
        )
