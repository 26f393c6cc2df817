"""Notifications that the virtqueue engine has not taken yet."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.bus.turns import Turns
from rtl.nic.seams import Doorbell

__all__ = ["Doorbells"]


class Doorbells(wiring.Component):
    """One bit per queue: rung and not served.  Rings of a queue that waits become one.

    Queues are served in turn, only while they may run; a ring of a queue that may not yet is kept.

    Latency
    -------
    Two cycles from a ring to its doorbell offered, one doorbell every two cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ring : ``In(1)``
        Rings ``queue``; may happen every cycle.
    queue : ``In(range(data_queues))``
    able : ``In(data_queues)``
        Queues that may run.
    forget : ``In(data_queues)``
        Clears the bits of these queues.
    doorbell : ``Out(stream)`` of Doorbell
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "ring": In(1),
                "queue": In(range(config.data_queues)),
                "able": In(config.data_queues),
                "forget": In(config.data_queues),
                "doorbell": Out(stream.Signature(Doorbell)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.config.data_queues
        rung, served = Signal(count), Signal(count)
        m.submodules.turns = turns = Turns(count)
        out = self.doorbell
        m.d.comb += turns.wants.eq(rung & self.able & ~self.forget)
        with m.If(~out.valid & turns.any):
            m.d.comb += [turns.take.eq(1), served.eq(1 << turns.chosen)]
            m.d.sync += [out.valid.eq(1), out.payload.queue.eq(turns.chosen)]
        with m.Elif(out.ready):
            m.d.sync += out.valid.eq(0)
        # A ring in the cycle in which the queue is served counts as a later one.
        m.d.sync += rung.eq((rung & ~served & ~self.forget) | (self.ring << self.queue))
        return m
