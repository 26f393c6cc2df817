"""Functions that were disabled a short while ago."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Fallen"]


class Fallen(wiring.Component):
    """Remembers that a function was disabled until all tags have been swept since it is enabled
    again.

    Parameters
    ----------
    functions : int

    Members
    -------
    enabled : ``In(functions)``
    restart : ``In(1)``
        The next tag to be swept is the first.
    bits : ``Out(functions)``
        Set as soon as the function is not enabled.
    """

    def __init__(self, functions: int):
        self.functions = functions
        super().__init__({"enabled": In(functions), "restart": In(1), "bits": Out(functions)})

    def elaborate(self, platform):
        m = Module()
        fallen, swept = Signal(self.functions), Signal(self.functions)
        again = Signal()  # the first tag has been swept since the last sweep
        m.d.comb += self.bits.eq(fallen | ~self.enabled)
        m.d.sync += [fallen.eq(self.bits), swept.eq(swept & self.enabled), again.eq(self.restart)]
        with m.If(self.restart & ~again):  # swept: enabled all through the sweep that has ended
            m.d.sync += [
                fallen.eq(self.bits & ~(swept & self.enabled)),
                swept.eq(self.enabled),
            ]
        return m
