"""Who is next."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.priority import lowest

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
        above, later = Signal(self.count), Signal(self.count)
        first, following = Signal.like(self.chosen), Signal.like(self.chosen)
        lowest(m, self.wants, first)
        lowest(m, later, following)
        m.d.comb += [
            later.eq(self.wants & above),
            self.any.eq(self.wants.any()),
            self.chosen.eq(Mux(later.any(), following, first)),
        ]
        with m.If(self.take):
            m.d.sync += above.eq(~((2 << self.chosen) - 1))
        return m
