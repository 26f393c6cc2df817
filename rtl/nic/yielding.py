"""Of two streams the second goes when there is room."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Yielding"]


class Yielding(wiring.Component):
    """Takes what comes at ``first``, and what comes at ``second`` while nothing does, or when it
    has waited for ``patience`` cycles.

    It chooses in the cycle in which something is taken: the output is no stream, what it shows
    changes until ``take``.

    Parameters
    ----------
    shape : Shape-castable
        Payload.
    patience : int
        Cycles.

    Members
    -------
    first, second : ``In(stream)``
    blocked : ``In(1)``
        Nothing of ``second`` is taken.
    take : ``In(1)``; valid, payload : ``Out``
        What there is is taken.
    """

    def __init__(self, shape, patience: int):
        self.patience = patience
        side = stream.Signature(shape)
        super().__init__(
            {
                "first": In(side),
                "second": In(side),
                "blocked": In(1),
                "take": In(1),
                "valid": Out(1),
                "payload": Out(shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        first, second = self.first, self.second
        waited, chosen = Signal(range(self.patience + 1)), Signal()  # 1: the second
        late, waits = waited == self.patience, second.valid & ~self.blocked
        m.d.comb += [
            chosen.eq(waits & (late | ~first.valid)),
            self.valid.eq(first.valid | waits),
            self.payload.eq(Mux(chosen, second.payload, first.payload)),
            first.ready.eq(self.take & ~chosen),
            second.ready.eq(self.take & chosen),  # so not while it is blocked
        ]
        with m.If(~waits | second.ready):
            m.d.sync += waited.eq(0)
        with m.Elif(~late):
            m.d.sync += waited.eq(waited + 1)
        return m
