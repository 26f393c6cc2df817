"""Bursts that the I/O bridge refuses before translation."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import PAGE_SHIFT
from models.spec.translation import AddressType
from rtl.bus.axi import Burst

__all__ = ["BurstCheck"]


class BurstCheck(wiring.Component):
    """Finds bursts that are refused before translation; combinational.

    These are bursts of more than ``beats`` beats, bursts that cross a 4 KiB boundary (IHI 0022
    forbids them), and address types other than translated and untranslated.

    Parameters
    ----------
    layout : StructLayout
        Payload of ``aw`` or ``ar`` with a DmaUser.
    beats : int
        Beats of the longest burst.

    Members
    -------
    address : ``In(layout)``
    malformed : ``Out(1)``
    """

    def __init__(self, layout, *, beats: int):
        self._beats = beats
        super().__init__({"address": In(layout), "malformed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        address, at = self.address, self.address.user.at
        begin = Signal(PAGE_SHIFT)
        length = Signal(PAGE_SHIFT + 4)  # 256 beats of up to 128 bytes
        m.d.comb += [
            begin.eq((address.addr[:PAGE_SHIFT] >> address.size) << address.size),
            length.eq((address.len + 1) << address.size),
            self.malformed.eq(
                (address.len >= self._beats)
                | ((address.burst == Burst.INCR) & (begin + length > 1 << PAGE_SHIFT))
                | ((at != AddressType.UNTRANSLATED) & (at != AddressType.TRANSLATED))
            ),
        ]
        return m
