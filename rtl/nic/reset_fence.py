"""When no interrupt of what is reset is under way any more."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.bus.priority import lowest
from rtl.nic.control_queues import function_of_queue

__all__ = ["ResetFence"]

#: Cycles until whoever raises interrupts has heard of a reset, and ``held`` says so.
_SETTLES = 8


class _State(enum.Enum):
    NONE = 0
    WANTED = 1
    SENT = 2
    BACK = 3
    ENDED = 4


class ResetFence(wiring.Component):
    """Sends a fence behind the last interrupt of a function before its reset, or that of a queue of
    it, ends: a device that has been reset sends no notification (virtio 1.3, 2.4.1, 2.6.1).

    One fence at a time, functions first.  Nothing more is raised of what is in reset.

    Latency
    -------
    From a reset to its ``back``: eleven cycles, and the fence's way; from ``ended`` to the next
    choice, two.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    functions : ``In(functions)``, queues : ``In(queues)``
        Resets that may end but for this, as they were a cycle ago; each held until it has ended.
    ending : ``Out(8)``, ending_queue : ``Out(range(queues))``, whole : ``Out(1)``
        Function whose fence it is; the queue, if it is not that of all of the function.
    held : ``In(1)``
        Somebody has an interrupt of that function that might come behind the fence.
    goes : ``Out(1)``, sent : ``In(1)``
        The fence is to be sent; it is.
    fenced : ``In(1)``
        What was before it has come where it went to.
    back : ``Out(1)``, ended : ``In(1)``
        The reset may end; it has, in this cycle.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "functions": In(config.functions),
                "queues": In(config.queues),
                "ending": Out(8),
                "ending_queue": Out(range(config.queues)),
                "whole": Out(1),
                "held": In(1),
                "goes": Out(1),
                "sent": In(1),
                "fenced": In(1),
                "back": Out(1),
                "ended": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, state = self.config, Signal(_State)
        function, queue = Signal(8), Signal.like(self.ending_queue)
        lowest(m, self.functions, function)
        lowest(m, self.queues, queue)
        whole, left = self.functions.any(), Signal(range(_SETTLES + 1))
        m.d.comb += [
            self.goes.eq((state == _State.WANTED) & (left == 0)),
            self.back.eq(state == _State.BACK),
        ]
        with m.Switch(state):
            with m.Case(_State.NONE):
                m.d.sync += [
                    self.whole.eq(whole),
                    self.ending.eq(Mux(whole, function, function_of_queue(config, queue))),
                    self.ending_queue.eq(queue),
                    left.eq(_SETTLES),
                ]
                with m.If(whole | self.queues.any()):
                    m.d.sync += state.eq(_State.WANTED)
            with m.Case(_State.WANTED):
                with m.If(self.sent):
                    m.d.sync += state.eq(_State.SENT)
                with m.Elif(left > 1):
                    m.d.sync += left.eq(left - 1)
                with m.Else():
                    m.d.sync += left.eq(self.held)
            with m.Case(_State.SENT):
                with m.If(self.fenced):
                    m.d.sync += state.eq(_State.BACK)
            with m.Case(_State.BACK):
                with m.If(self.ended):
                    m.d.sync += state.eq(_State.ENDED)
            with m.Case(_State.ENDED):  # what may end is known anew
                m.d.sync += state.eq(_State.NONE)
        return m
