"""Translations that have been asked for, and which of them are too old."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.nic.atc_records import LARGE, PAGE_BITS, AtcKey, AtcRange

__all__ = ["AtcAsks"]


class AtcAsks(wiring.Component):
    """Keeps the page that each slot has asked for.  A scan marks those that a range covers: what
    they are answered may be older than the invalidation, and is neither used nor kept.

    Latency
    -------
    A scan takes a cycle per slot.

    Parameters
    ----------
    slots : int
        A power of two.

    Members
    -------
    en : ``In(1)``; ask : ``In(AtcKey)``; slot : ``In``
        A slot asks; it has no mark.
    answered : ``In(1)``; of : ``In``
        A slot does not ask any more.
    asked, stale, near : ``Out(1)``
        Of the slot at ``of``: it asks; it has been marked; something in its 2 MiB has been covered.
    scan : ``In(1)``; at : ``In``; range : ``In(AtcRange)``
        Mark the slot if it is covered.
    """

    def __init__(self, slots: int):
        self.slots = slots
        bits = exact_log2(slots)
        super().__init__(
            {
                "en": In(1),
                "ask": In(AtcKey),
                "slot": In(bits),
                "answered": In(1),
                "of": In(bits),
                "asked": Out(1),
                "stale": Out(1),
                "near": Out(1),
                "scan": In(1),
                "at": In(bits),
                "range": In(AtcRange),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pages = pages = memory.Memory(shape=AtcKey, depth=self.slots, init=[])
        write, read = pages.write_port(), pages.read_port(domain="comb")
        asking, stale, near = (Signal(self.slots, name=name) for name in ("asks", "old", "about"))
        page, key = read.data, self.range.key
        apart = Signal(PAGE_BITS)
        m.d.comb += [
            write.en.eq(self.en),
            write.addr.eq(self.slot),
            write.data.eq(self.ask),
            read.addr.eq(self.at),
            apart.eq((page.page ^ key.page) & ~self.range.open),
            self.asked.eq(asking.bit_select(self.of, 1)),
            self.stale.eq(stale.bit_select(self.of, 1)),
            self.near.eq(near.bit_select(self.of, 1)),
        ]
        with m.If(self.scan & (page.function == key.function) & ~apart[LARGE:].any()):
            m.d.sync += near.bit_select(self.at, 1).eq(1)
            with m.If(~apart.any()):
                m.d.sync += stale.bit_select(self.at, 1).eq(1)
        with m.If(self.answered):
            m.d.sync += asking.bit_select(self.of, 1).eq(0)
        with m.If(self.en):
            for bits, value in ((asking, 1), (stale, 0), (near, 0)):
                m.d.sync += bits.bit_select(self.slot, 1).eq(value)
        return m
