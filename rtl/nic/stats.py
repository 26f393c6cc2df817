"""Counters of every function and of every queue."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from models.spec.config import NicConfig
from models.spec.nic import RxQueueStat, Stat, queue_stat_of
from rtl.bus.ram import BLOCK, SETTLED
from rtl.bus.stream import StreamArbiter, StreamFifo
from rtl.nic.seams import StatEvent

__all__ = ["COUNTER_BITS", "StatRead", "Stats"]

#: Bits of a counter; it wraps.
COUNTER_BITS = 48
#: Events of one source that wait.
_PLACES = 4
_STAT_BITS, _QUEUE_STAT_BITS = (Shape.cast(kind).width for kind in (Stat, RxQueueStat))


class StatRead(wiring.Signature):
    """Reads a counter of a function, or with ``queued`` of one of its queues.

    ``value`` follows ``en`` by two cycles, in which the other members stay.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "function": Out(8),
                "queue": Out(4),
                "queued": Out(1),
                "stat": Out(_STAT_BITS),  # Stat, or RxQueueStat or TxQueueStat
                "value": In(COUNTER_BITS),
            }
        )


class Stats(wiring.Component):
    """Adds events to counters in RAM; none is lost.

    One memory is of functions, the other of queues: an event adds to both at once.  It does so in
    two cycles, and an event for the same counter waits for it; so no counter is read while it is
    being written.  After reset the counters are cleared, one per cycle: events wait meanwhile, and
    nobody may read.

    Latency
    -------
    One event per cycle, of one counter every second one.  An event is in the counter at the latest
    ``3 + 2 * sources`` cycles after it was accepted, if no other source offers more than its share
    and nobody reads; a read takes two cycles.

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
        self.queue_bits = ceil_log2(2 * config.queue_pairs)

    @property
    def inputs(self) -> list:
        """The event streams in order."""
        return [getattr(self, f"i{n}") for n in range(self.sources)]

    def elaborate(self, platform):
        m = Module()
        functions, read = self.config.functions, self.read
        depth = functions << _STAT_BITS
        queue_depth = functions << (self.queue_bits + _QUEUE_STAT_BITS)
        m.submodules.counters = counters = Memory(
            shape=COUNTER_BITS, depth=depth, init=[], attrs=SETTLED
        )
        m.submodules.queue_counters = queue_counters = Memory(
            shape=COUNTER_BITS, depth=queue_depth, init=[], attrs=BLOCK
        )
        m.submodules.merged = merged = StreamArbiter(StatEvent, self.sources)
        for number, (source, target) in enumerate(zip(self.inputs, merged.inputs, strict=True)):
            m.submodules[f"queue{number}"] = queue = StreamFifo(StatEvent, _PLACES)
            connect(m, flipped(source), queue.i)
            connect(m, queue.o, target)

        # First cycle: the counters are read.
        event, counted = merged.o, merged.o.payload
        self.cleared = cleared = Signal(range(max(depth, queue_depth) + 1))
        done = cleared == max(depth, queue_depth)
        reading, accepted, adding, of_queue = (Signal() for _ in range(4))
        known, kind = self._queue_stat(m, counted)
        address = Cat(counted.stat, counted.function)
        queue_address = Cat(kind, counted.queue[: self.queue_bits], counted.function)
        read_address = Cat(read.stat, read.function)
        queue_read = Cat(read.stat[:_QUEUE_STAT_BITS], read.queue[: self.queue_bits], read.function)
        where, queue_where = (Signal(len(place)) for place in (address, queue_address))
        self.amount = Signal(32)
        m.d.comb += [
            event.ready.eq(done & ~read.en & ~reading & ~(adding & (where == address))),
            accepted.eq(event.valid & event.ready & (counted.function < functions)),
        ]
        m.d.sync += [
            reading.eq(read.en),
            adding.eq(accepted),
            of_queue.eq(accepted & known),
            where.eq(address),
            queue_where.eq(queue_address),
            self.amount.eq(counted.amount),
        ]
        with m.If(~done):
            m.d.sync += cleared.eq(cleared + 1)

        # Second cycle: they are written.
        place, queue_place = (
            Mux(reading, *both) for both in ((read_address, address), (queue_read, queue_address))
        )
        value = self._add(m, counters, place, adding, where)
        queue_value = self._add(m, queue_counters, queue_place, of_queue, queue_where)
        m.d.comb += read.value.eq(Mux(read.queued, queue_value, value))
        return m

    @staticmethod
    def _queue_stat(m: Module, event):
        """Whether an event is counted for its queue, and as which of the queue's counters."""
        known, kind = Signal(), Signal(_QUEUE_STAT_BITS)
        with m.Switch(event.stat):
            for stat in Stat:
                kinds = {queue_stat_of(stat, queue) for queue in (0, 1)} - {None}
                if kinds:
                    (number,) = {int(each) for each in kinds if each is not None}
                    with m.Case(stat):
                        m.d.comb += [known.eq(event.queued), kind.eq(number)]
        return known, kind

    def _add(self, m: Module, counters, place, adding, where):
        """Read a counter, and add to the one that was read before; returns what has been read."""
        load, store, clearing = counters.read_port(), counters.write_port(), Signal()
        m.d.comb += [
            clearing.eq(self.cleared < counters.depth),
            load.addr.eq(place),
            store.en.eq(clearing | adding),
            store.addr.eq(Mux(clearing, self.cleared, where)),
            store.data.eq(Mux(clearing, 0, load.data + self.amount)),
        ]
        return load.data
