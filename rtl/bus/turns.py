"""Who is next."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.priority import above, lowest

__all__ = ["Turns"]


class Turns(wiring.Component):
    """Chooses one of several in turn, combinationally.

    Parameters
    ----------
    count : int
        Of whom.

    Members
    -------
    wants : ``In(count)``
    any : ``Out(1)``; chosen : ``Out(range(count))``
        Whether anybody wants, and who is next.
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
        behind, later, first = Signal(self.count), Signal(self.count), Signal(self.count)
        lowest(m, first, self.chosen)
        m.d.comb += [
            later.eq(self.wants & behind),
            first.eq(Mux(later.any(), later, self.wants)),
            self.any.eq(self.wants.any()),
        ]
        with m.If(self.take):
            m.d.sync += behind.eq(above(self.chosen, self.count))
        return m
