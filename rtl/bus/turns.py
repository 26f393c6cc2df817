"""Who is next."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.priority import above, lowest

__all__ = ["Turns"]


class Turns(wiring.Component):
    """Chooses one of several in turn.

    Who is next is known from a register, and that he still wants it from what he says now: neither
    path goes through both.

    Latency
    -------
    Who wants can be chosen in the next cycle, but for the one behind a turn that was taken.

    Parameters
    ----------
    count : int
        Of whom.

    Members
    -------
    wants : ``In(count)``
    any : ``Out(1)``; chosen : ``Out(range(count))``
        Whether somebody is chosen who wants, and who that is.
    take : ``In(1)``
        It is the turn of ``chosen``.
    """

    def __init__(self, count: int):
        self.count = count
        super().__init__(
            {
                "wants": In(count),
                "any": Out(1),
                "chosen": Out(range(max(2, count))),
                "take": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        behind, later, found = Signal(self.count), Signal(self.count), Signal()
        first, second = Signal.like(self.chosen), Signal.like(self.chosen)
        lowest(m, later, first)
        lowest(m, self.wants, second)
        m.d.comb += [
            later.eq(self.wants & behind),
            self.any.eq(found & self.wants.bit_select(self.chosen, 1)),
        ]
        m.d.sync += [
            found.eq(self.wants.any() & ~self.take),
            self.chosen.eq(Mux(later.any(), first, second)),
        ]
        with m.If(self.take):
            m.d.sync += behind.eq(above(self.chosen, self.count))
        return m
