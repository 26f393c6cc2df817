"""INTx of the physical function (virtio 1.3, 4.1.4.5)."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.nic import Isr

__all__ = ["InterruptPin"]


class InterruptPin(wiring.Component):
    """ISR status of the PF, and its interrupt pin.

    With MSI-X disabled, used buffers are noted in the ISR status, and the pin is asserted while
    anything is; reading the status clears it.  VFs have no pin (PCIe 9.3.4.1.9).

    Latency
    -------
    A cycle from ``used`` or ``store`` to ``line``.

    Members
    -------
    used : ``In(1)``
        Buffers were used of which the PF's driver wants to know.
    by_pin : ``In(1)``
        MSI-X is disabled.
    enabled : ``In(1)``
        Interrupt Disable is clear.
    store : ``In(1)``; stored : ``In(8)``
        The status is written.  What is used in the same cycle is noted all the same.
    causes : ``Out(8)``
        ISR status.
    waiting : ``Out(1)``
        Interrupt Status of the configuration space.
    line : ``Out(1)``
    """

    used: In(1)
    by_pin: In(1)
    enabled: In(1)
    store: In(1)
    stored: In(8)
    causes: Out(8)
    waiting: Out(1)
    line: Out(1)

    def elaborate(self, platform):
        m = Module()
        bits = Signal(max(Isr).bit_length())
        m.d.comb += [
            self.causes.eq(bits),
            self.waiting.eq(self.by_pin & bits.any()),
            self.line.eq(self.waiting & self.enabled),
        ]
        with m.If(self.store):
            m.d.sync += bits.eq(self.stored)
        with m.If(self.used & self.by_pin):
            m.d.sync += bits[exact_log2(Isr.QUEUE)].eq(1)
        return m
