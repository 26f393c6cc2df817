"""Starts and ends of queues."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.bus.priority import lowest
from rtl.nic.engine.records import QueueSetup, Shapes
from rtl.nic.seams import QueueCommand, QueueOp

__all__ = ["Lifecycle"]


class Lifecycle(wiring.Component):
    """Takes commands; ends queues that are disabled or have failed, when nothing of them is left.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    command : ``In(stream)`` of QueueCommand; stopped : ``Out(stream)`` of 16
    failed, quiet : ``In(queues)``
        Queues that have failed; queues of which nothing is under way.
    enabled, halted : ``Out(queues)``
        Queues that run or are being ended; queues that are being ended.
    over : ``Out(queues)``
        Queues that end in this cycle.
    init : ``Out(stream)`` of a queue
        Everybody makes a queue as new.
    setup_en, setup : ``Out``
        With it, how it is set up.
    cancel : ``Out(stream)`` of a queue
        Its DMA is to be cancelled.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        queues, queue = config.data_queues, stream.Signature(self.shapes.queue)
        super().__init__(
            {
                "command": In(stream.Signature(QueueCommand)),
                "stopped": Out(stream.Signature(16)),
                "failed": In(queues),
                "quiet": In(queues),
                "enabled": Out(queues),
                "halted": Out(queues),
                "over": Out(queues),
                "init": Out(queue),
                "setup_en": Out(1),
                "setup": Out(QueueSetup),
                "cancel": Out(queue),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queues = self.config.data_queues
        command, order = self.command, self.command.payload
        queue, chosen = Signal(self.shapes.queue), Signal(queues)
        stopping, failing, ending = Signal(queues), Signal(queues), Signal(queues)
        first_failing, first_ending = Signal.like(queue), Signal.like(queue)
        started, stops, halts, ends = Signal(), Signal(), Signal(), Signal()
        lowest(m, failing, first_failing)
        lowest(m, ending, first_ending)
        m.d.comb += [
            chosen.eq(1 << queue),
            failing.eq(self.failed & self.enabled & ~self.halted),
            ending.eq(self.quiet & self.halted),
            self.init.payload.eq(queue),
            self.cancel.payload.eq(queue),
            self.stopped.payload.eq(queue),
        ]
        m.d.comb += [self.setup[name].eq(order[name]) for name in QueueSetup.as_shape().members]
        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(failing.any()):
                    m.d.sync += queue.eq(first_failing)
                    m.next = "HALT"
                with m.Elif(ending.any()):
                    m.d.sync += queue.eq(first_ending)
                    m.next = "END"
                with m.Elif(command.valid):
                    m.d.sync += queue.eq(order.queue)
                    m.next = "DISABLE"
                    with m.If(order.op == QueueOp.ENABLE):
                        m.next = "ENABLE"
            with m.State("ENABLE"):
                m.d.comb += [self.init.valid.eq(1), self.setup_en.eq(1)]
                with m.If(self.init.ready):
                    m.d.comb += [command.ready.eq(1), started.eq(1)]
                    m.next = "CHOOSE"
            with m.State("DISABLE"):
                with m.If((self.enabled & chosen).any()):
                    m.d.comb += [command.ready.eq(1), stops.eq(1)]
                    m.next = "HALT"
                with m.Else():
                    m.d.comb += [self.stopped.valid.eq(1), command.ready.eq(self.stopped.ready)]
                    with m.If(self.stopped.ready):
                        m.next = "CHOOSE"
            with m.State("HALT"):
                m.d.comb += halts.eq(1)
                m.next = "CANCEL"
            with m.State("CANCEL"):
                m.d.comb += self.cancel.valid.eq(1)
                with m.If(self.cancel.ready):
                    m.next = "CHOOSE"
            with m.State("END"):
                m.d.comb += self.stopped.valid.eq((stopping & chosen).any())
                with m.If(~self.stopped.valid | self.stopped.ready):
                    m.d.comb += [ends.eq(1), self.over.eq(chosen)]
                    m.next = "CHOOSE"
        for bits, set_ in ((self.enabled, started), (self.halted, halts), (stopping, stops)):
            with m.If(set_):
                m.d.sync += bits.eq(bits | chosen)
            with m.Elif(ends):
                m.d.sync += bits.eq(bits & ~chosen)
        return m
