"""The backup rings' share of the bus."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.nic.seams import DmaRequest
from rtl.nic.segments import BUS_BYTES

__all__ = ["Pace"]


class Pace(wiring.Component):
    """Lets DMA requests through as fast as the bus has room for them.

    After a request of n bytes the next waits ``n / BUS_BYTES`` cycles in which nobody else writes,
    or ``n / rate`` in which somebody does, or a mixture of these: what others receive is not
    delayed by bursts from the rings, and the rings get ``rate`` bytes per cycle whatever others do.

    Latency
    -------
    None for a request that need not wait.

    Parameters
    ----------
    rate : int
        Bytes per cycle while others write, at most ``BUS_BYTES``.

    Members
    -------
    i : ``In(stream)`` of DmaRequest; o : ``Out(stream)`` of DmaRequest
    pressed : ``In(1)``
        Writes keep the bus busy.
    """

    def __init__(self, rate: int):
        if not 0 < rate <= BUS_BYTES:
            raise ValueError(f"A bus of {BUS_BYTES} bytes has no {rate} bytes per cycle")
        self.rate = rate
        super().__init__(
            {
                "i": In(stream.Signature(DmaRequest)),
                "o": Out(stream.Signature(DmaRequest)),
                "pressed": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        owed = Signal.like(self.i.payload.length)
        less = Mux(self.pressed, self.rate, BUS_BYTES)
        opens = owed == 0
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & opens),
            self.i.ready.eq(self.o.ready & opens),
        ]
        m.d.sync += owed.eq(Mux(owed < less, 0, owed - less))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += owed.eq(self.i.payload.length)
        return m
