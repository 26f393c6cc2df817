"""One stream to several."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Gives each payload to everybody, and takes the next when all have it.

    Parameters
    ----------
    shape : Shape-castable
        Payload.
    count : int
        Outputs.

    Members
    -------
    i : ``In(stream)``
    o0, o1, ... : ``Out(stream)``
    """

    def __init__(self, shape, count: int):
        self.count = count
        outputs = {f"o{number}": Out(stream.Signature(shape)) for number in range(count)}
        super().__init__({"i": In(stream.Signature(shape))} | outputs)

    @property
    def outputs(self) -> list:
        """The outputs in order."""
        return [getattr(self, f"o{number}") for number in range(self.count)]

    def elaborate(self, platform):
        m = Module()
        given, giving = Signal(self.count), Signal(self.count)
        for number, port in enumerate(self.outputs):
            m.d.comb += [
                port.payload.eq(self.i.payload),
                port.valid.eq(self.i.valid & ~given[number]),
                giving[number].eq(given[number] | port.ready),
            ]
        m.d.comb += self.i.ready.eq(given.all())
        with m.If(self.i.valid):
            m.d.sync += given.eq(Mux(given.all(), 0, giving))
        return m
