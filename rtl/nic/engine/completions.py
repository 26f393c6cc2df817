"""What has come of the pieces of packets."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.nic.engine.records import PACKETS, Shapes
from rtl.nic.seams import DmaStatus

__all__ = ["Completions"]


class Completions(wiring.Component):
    """Counts the pieces of each packet that have ended, and keeps the first that did not end well.

    Latency
    -------
    2 cycles per piece.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ended : ``In(stream)`` of ``Shapes.ended``
    progress : ``Out(queues)``
        A piece of a queue of this direction has been counted.
    queue, packet : ``In``; outcome : ``Out``
        Reads a packet's outcome, a cycle later.
    clear, clear_packet : ``In``; cleared : ``Out(1)``
        Forgets the outcome of a packet of ``queue``, when ``cleared``.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        self.queues = config.data_queues // 2
        super().__init__(
            {
                "ended": In(stream.Signature(self.shapes.ended)),
                "progress": Out(self.queues),
                "queue": In(self.shapes.lane),
                "packet": In(self.shapes.packet),
                "outcome": Out(self.shapes.outcome),
                "clear": In(1),
                "clear_packet": In(self.shapes.packet),
                "cleared": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shapes = self.shapes
        outcomes = Memory(shape=shapes.outcome, depth=self.queues * PACKETS, init=[])
        m.submodules.outcomes = outcomes
        before, look, write = outcomes.read_port(), outcomes.read_port(), outcomes.write_port()
        held, counting = Signal(shapes.ended), Signal()
        piece, old = held.owner.piece, before.data
        failed = held.status != DmaStatus.OK
        first = failed & ((old.status == DmaStatus.OK) | (piece < old.piece))
        lane = self.ended.payload.owner.queue[1:]
        m.d.comb += [
            self.ended.ready.eq(~counting),
            before.addr.eq(Cat(self.ended.payload.owner.packet, lane)),
            look.addr.eq(Cat(self.packet, self.queue)),
            self.outcome.eq(look.data),
            self.cleared.eq(~counting),
            write.en.eq(counting | self.clear),
            write.addr.eq(Cat(self.clear_packet, self.queue)),
        ]
        m.d.sync += counting.eq(self.ended.valid & self.ended.ready)
        with m.If(self.ended.ready):
            m.d.sync += held.eq(self.ended.payload)
        with m.If(counting):
            m.d.comb += [
                write.addr.eq(Cat(held.owner.packet, held.owner.queue[1:])),
                write.data.count.eq(old.count + 1),
                write.data.status.eq(Mux(first, held.status, old.status)),
                write.data.piece.eq(Mux(first, piece, old.piece)),
                self.progress.eq(1 << held.owner.queue[1:]),
            ]
        return m
