"""Streams: register slice, round-robin arbiter, FIFO."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.bus.priority import above, lowest
from rtl.bus.ram import BLOCK

__all__ = [
    "StreamArbiter",
    "StreamBypass",
    "StreamFifo",
    "StreamRegister",
    "StreamStage",
    "round_robin",
]


def round_robin(m: Module, requests, last, grant) -> None:
    """Drive ``grant`` with the next requester after ``last``, in turn.

    Without a request ``grant`` is ``last``.

    Parameters
    ----------
    requests : Value
        A bit per requester.
    last, grant : Signal
        Numbers of requesters; ``last`` is whoever was served last.
    """
    count = len(requests)
    asked, later, first = (Signal(count, name=name) for name in ("asked", "later", "first"))
    chosen = Signal.like(grant, name="chosen")
    lowest(m, first, chosen)
    m.d.comb += [
        asked.eq(requests),
        later.eq(asked & above(last, count)),
        first.eq(Mux(later.any(), later, asked)),
        grant.eq(Mux(asked.any(), chosen, last)),
    ]


class _Slice(wiring.Component):
    """What a stream passes on its way."""

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        self._shape = shape


class StreamRegister(_Slice):
    """Register slice of two places: no combinational path from either side to the other.

    Latency
    -------
    One cycle; one transfer per cycle.

    Parameters
    ----------
    shape : Shape-castable
        Payload.

    Members
    -------
    i : ``In(stream)``
    o : ``Out(stream)``
    """

    def elaborate(self, platform):
        m = Module()
        spare = Signal(self._shape)
        full = Signal()
        m.d.comb += self.i.ready.eq(~full)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(full | self.i.valid),
                self.o.payload.eq(Mux(full, spare, self.i.payload)),
                full.eq(0),
            ]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [spare.eq(self.i.payload), full.eq(1)]
        return m


class StreamStage(_Slice):
    """Register slice of one place: no combinational path from either side to the other, and no
    multiplexer, for what does not come every cycle.

    Latency
    -------
    One cycle; a transfer every other cycle.

    Parameters
    ----------
    shape : Shape-castable
        Payload.

    Members
    -------
    i : ``In(stream)``
    o : ``Out(stream)``
    """

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid)
        m.d.sync += self.o.valid.eq(Mux(self.o.valid, ~self.o.ready, self.i.valid))
        with m.If(~self.o.valid):
            m.d.sync += self.o.payload.eq(self.i.payload)
        return m


class StreamBypass(_Slice):
    """A place for what is not taken at once: ``i.ready`` depends on earlier cycles alone.

    Latency
    -------
    None; one transfer per cycle.

    Parameters
    ----------
    shape : Shape-castable
        Payload.

    Members
    -------
    i : ``In(stream)``
    o : ``Out(stream)``
    """

    def elaborate(self, platform):
        m = Module()
        kept, holds = Signal(self._shape), Signal()
        m.d.comb += [
            self.i.ready.eq(~holds),
            self.o.valid.eq(holds | self.i.valid),
            self.o.payload.eq(Mux(holds, kept, self.i.payload)),
        ]
        m.d.sync += holds.eq(self.o.valid & ~self.o.ready)
        with m.If(~holds):
            m.d.sync += kept.eq(self.i.payload)
        return m


class StreamArbiter(wiring.Component):
    """Merges streams, round robin, into a registered output.

    Latency
    -------
    One cycle; one transfer per cycle.  ``ready`` of the inputs depends on their ``valid``.

    Parameters
    ----------
    shape : Shape-castable
        Payload.
    count : int
        Inputs.

    Members
    -------
    i0, i1, ... : ``In(stream)``
    o : ``Out(stream)``
    source : ``Out(range(count))``
        Which input the payload on ``o`` came from.
    """

    def __init__(self, shape, count: int):
        if count < 2:
            raise ValueError(f"An arbiter needs at least 2 inputs, not {count!r}")
        self.count = count
        members = {f"i{n}": In(stream.Signature(shape)) for n in range(count)}
        members |= {"o": Out(stream.Signature(shape)), "source": Out(range(count))}
        super().__init__(members)

    @property
    def inputs(self) -> list:
        """The inputs in order."""
        return [getattr(self, f"i{n}") for n in range(self.count)]

    def elaborate(self, platform):
        m = Module()
        grant = Signal(range(self.count))
        valid = Cat(port.valid for port in self.inputs)
        room = Signal()
        m.d.comb += room.eq(~self.o.valid | self.o.ready)
        # ``source`` is whoever was served last.
        round_robin(m, valid, self.source, grant)
        with m.If(room):
            m.d.sync += self.o.valid.eq(valid.any())
            with m.If(valid.any()):
                m.d.sync += self.source.eq(grant)
            with m.Switch(grant):
                for n, port in enumerate(self.inputs):
                    with m.Case(n):
                        m.d.comb += port.ready.eq(1)
                        m.d.sync += self.o.payload.eq(port.payload)
        return m


class _BlockFifo(fifo.SyncFIFOBuffered):
    """One whose places are block RAM; none is read before the cycle after it was written."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.submodules.storage.attrs.update(BLOCK)
        return m


class StreamFifo(wiring.Component):
    """FIFO of payloads in distributed or block RAM, registered output.

    Parameters
    ----------
    shape : Shape-castable
        Payload.
    depth : int
        Places, at least 2.
    block : bool
        It is block RAM, though it may be shallow.

    Members
    -------
    i : ``In(stream)``
    o : ``Out(stream)``
    level : ``Out(range(depth + 1))``
    """

    def __init__(self, shape, depth: int, *, block: bool = False):
        if depth < 2:
            raise ValueError(f"A FIFO needs at least 2 places, not {depth!r}")
        self.depth, self._kind = depth, _BlockFifo if block else fifo.SyncFIFOBuffered
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = len(
            self.i.payload.as_value() if hasattr(self.i.payload, "as_value") else self.i.payload
        )
        m.submodules.fifo = queue = self._kind(width=width, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        out = self.o.payload
        m.d.comb += (out.as_value() if hasattr(out, "as_value") else out).eq(queue.r_data)
        return m
