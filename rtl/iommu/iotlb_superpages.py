"""Translations larger than 4 KiB: associative entries of the IOTLB."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbKey
from rtl.iommu.iotlb_entry import (
    SMALL,
    covers_page,
    covers_space,
    entry_layout,
    matches_page,
    packed,
    page_span,
    same_space,
)

__all__ = ["IotlbSuperpages"]


class IotlbSuperpages(wiring.Component):
    """Entries of any size above 4 KiB, replaced in turn.

    Members
    -------
    key : ``In(IotlbKey)``
        What is looked up.
    matches : ``Out(superpages)``; entries, masks, sizes
        Who matches, in the same cycle, and attributes with the entries' registers.
    fill_en : ``In(1)``; fill : ``In(IotlbFill)``
        Take a translation in.
    invalidate_en : ``In(1)``; invalidate : ``In(IotlbInvalidate)``
        Remove what is covered; not with a fill in the same cycle.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        count = config.iotlb_superpages
        layout = entry_layout(config)
        width = layout["vpn"].width
        self.entries = [Signal(layout, name=f"super{i}") for i in range(count)]
        self.sizes = [Signal(6, name=f"size{i}") for i in range(count)]
        # Page-number bits within the range.
        self.masks = [Signal(width, name=f"mask{i}") for i in range(count)]
        super().__init__(
            {
                "key": In(IotlbKey),
                "matches": Out(count),
                "fill_en": In(1),
                "fill": In(IotlbFill),
                "invalidate_en": In(1),
                "invalidate": In(IotlbInvalidate),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count, fill, op = self.config.iotlb_superpages, self.fill, self.invalidate
        layout = entry_layout(self.config)
        width = layout["vpn"].width
        pointer = Signal(range(max(2, count)))
        free, same, chosen = Signal(count), Signal(count), Signal(count)
        span, fill_mask = Signal(52), Signal(width)
        m.d.comb += [
            span.eq(page_span(self.config, op)),
            fill_mask.eq((Const(1, width + 1) << (fill.size - SMALL)[:6]) - 1),
        ]
        for i, (entry, size, mask) in enumerate(
            zip(self.entries, self.sizes, self.masks, strict=True)
        ):
            covered = covers_space(
                op,
                gv=entry.gv,
                gscid=entry.gscid,
                pv=entry.pv,
                pscid=entry.pscid,
                glob=entry.glob,
            ) & covers_page(op, span, entry.vpn, mask, piece=entry.piece)
            m.d.comb += [
                self.matches[i].eq(
                    same_space(entry, self.key) & matches_page(entry, self.key.vpn, mask)
                ),
                free[i].eq(~entry.valid),
                same[i].eq(
                    same_space(entry, fill.key)
                    & (entry.glob == fill.glob)
                    & (size == fill.size)
                    & (((entry.vpn ^ fill.key.vpn[:width]) & ~mask) == 0)
                ),
            ]
            with m.If(self.invalidate_en & covered):
                m.d.sync += entry.valid.eq(0)
            with m.If(self.fill_en & chosen[i]):
                m.d.sync += [
                    entry.eq(packed(layout, fill)),
                    size.eq(fill.size),
                    mask.eq(fill_mask),
                ]
        lowest = free & (~free + 1)[:count]
        victim = (Const(1, count) << pointer)[:count]
        first = same & (~same + 1)[:count]
        m.d.comb += chosen.eq(Mux(same.any(), first, Mux(free.any(), lowest, victim)))
        with m.If(self.fill_en & ~same.any() & ~free.any()):
            m.d.sync += pointer.eq(Mux(pointer == count - 1, 0, pointer + 1))
        return m
