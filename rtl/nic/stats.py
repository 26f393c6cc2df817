"""Counters of every function."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.bus.ram import SETTLED
from rtl.bus.stream import StreamArbiter, StreamFifo
from rtl.nic.seams import StatEvent

__all__ = ["COUNTER_BITS", "StatRead", "Stats"]

#: Bits of a counter; it wraps.
COUNTER_BITS = 48
#: Events of one source that wait.
_PLACES = 4


class StatRead(wiring.Signature):
    """Reads a counter; ``value`` follows ``en`` by one cycle and stays."""

    def __init__(self):
        super().__init__({"en": Out(1), "function": Out(8), "stat": Out(Stat), "value": In(48)})


class Stats(wiring.Component):
    """Adds events to counters in RAM, one event per cycle; none is lost.

    After reset the counters are cleared, one per cycle; events wait meanwhile.

    Latency
    -------
    An event is in the counter at the latest ``3 + sources`` cycles after it was accepted, if no
    other source offers more than its share and nobody reads.

    Parameters
    ----------
    config : NicConfig
    sources : int
        Streams of events, at least 2.

    Members
    -------
    i0, i1, ... : ``In(stream)`` of StatEvent
        Events of functions that do not exist are dropped.
    read : ``In(StatRead)``
        Goes before events.
    """

    def __init__(self, config: NicConfig, sources: int):
        self.config, self.sources = config, sources
        members = {f"i{n}": In(stream.Signature(StatEvent)) for n in range(sources)}
        super().__init__(members | {"read": In(StatRead())})

    @property
    def inputs(self) -> list:
        """The event streams in order."""
        return [getattr(self, f"i{n}") for n in range(self.sources)]

    def elaborate(self, platform):
        m = Module()
        depth = self.config.functions << Shape.cast(Stat).width
        m.submodules.counters = counters = Memory(
            shape=COUNTER_BITS, depth=depth, init=[], attrs=SETTLED
        )
        load, store = counters.read_port(), counters.write_port()
        m.submodules.merged = merged = StreamArbiter(StatEvent, self.sources)
        for number, (source, target) in enumerate(zip(self.inputs, merged.inputs, strict=True)):
            m.submodules[f"queue{number}"] = queue = StreamFifo(StatEvent, _PLACES)
            connect(m, flipped(source), queue.i)
            connect(m, queue.o, target)

        cleared = Signal(range(depth + 1))
        event = merged.o
        accepted = Signal()
        m.d.comb += [
            event.ready.eq((cleared == depth) & ~self.read.en),
            accepted.eq(
                event.valid & event.ready & (event.payload.function < self.config.functions)
            ),
            load.en.eq(accepted | self.read.en),
            load.addr.eq(
                Mux(
                    self.read.en,
                    Cat(self.read.stat, self.read.function),
                    Cat(event.payload.stat, event.payload.function),
                )
            ),
        ]

        # Second cycle: add.  The counter read may have been written in the cycle of its read.
        adding, address, amount = Signal(), Signal.like(store.addr), Signal(32)
        stored, stored_address, value = Signal(), Signal.like(address), Signal(COUNTER_BITS)
        base = Signal(COUNTER_BITS)
        m.d.sync += [
            adding.eq(accepted),
            address.eq(load.addr),
            amount.eq(event.payload.amount),
            stored.eq(adding),
            stored_address.eq(address),
            value.eq(store.data),
        ]
        m.d.comb += base.eq(Mux(stored & (stored_address == address), value, load.data))
        with m.If(cleared != depth):
            m.d.sync += cleared.eq(cleared + 1)
            m.d.comb += [store.en.eq(1), store.addr.eq(cleared), store.data.eq(0)]
        with m.Else():
            m.d.comb += [store.en.eq(adding), store.addr.eq(address), store.data.eq(base + amount)]
        m.d.comb += self.read.value.eq(Mux(cleared == depth, base, 0))
        return m
