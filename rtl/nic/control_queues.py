"""Which queues are control queues (virtio 1.3, 5.1.2), and how queues are numbered."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.virtio import Feature
from models.spec.virtio_net import control_queue

__all__ = ["ControlQueues", "function_of_queue"]


def function_of_queue(config: NicConfig, queue):
    """Function of a queue, by its number among all."""
    per = config.queues_per_function
    return Array(Const(number // per, 8) for number in range(config.queues))[queue]


class ControlQueues(wiring.Component):
    """Tells control queues from those that the engine serves.

    Number 2 of a function is its control queue if its driver has accepted neither MQ nor RSS; with
    one of these it is the queue behind all pairs.  That one the engine never serves.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    function : ``In(8)``; features : ``In(64)``
        A function, and what its driver has accepted.
    there : ``Out(1)``; index : ``Out``
        Whether it has a control queue, and that queue's number within the function.
    ready : ``In(1)``
        The driver of ``function`` sets DRIVER_OK.  ``function`` stays for another cycle.
    forget : ``In(functions)``
        Functions that are reset.
    queue : ``In``; is_control : ``Out(1)``
        Whether a queue of ``function``, which is ready, is its control queue.
    enabled : ``In(queues)``; live : ``In(functions)``
    queues : ``Out(queues)``
        Queues that the engine does not serve.
    accepted : ``Out(functions)``; control : ``Out(queues)``
        Functions that are ready with a control queue; and that queue of each of them.
    controlled, second : ``Out(functions)``
        Functions whose control queue may be notified; whose control queue is number 2 of more.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.per, self.data_per = config.queues_per_function, 2 * config.queue_pairs
        super().__init__(
            {
                "function": In(8),
                "features": In(64),
                "there": Out(1),
                "index": Out(range(max(2, self.per))),
                "ready": In(1),
                "forget": In(config.functions),
                "queue": In(range(config.queues)),
                "is_control": Out(1),
                "enabled": In(config.queues),
                "live": In(config.functions),
                "queues": Out(config.queues),
                "accepted": Out(config.functions),
                "control": Out(config.queues),
                "controlled": Out(config.functions),
                "second": Out(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if not self.config.control_queue:
            return m
        config, per, last = self.config, self.per, self.data_per
        several = self.features[Feature.NET_MQ] | self.features[Feature.NET_RSS]
        first, accepted = Signal(range(max(2, config.queues))), self.accepted
        mine = 1 << self.function
        # A cycle later, as for what the driver has accepted a word of its is decoded.
        ready, of_several, with_control = Signal(), Signal(), Signal()
        m.d.sync += [ready.eq(self.ready), of_several.eq(several), with_control.eq(self.there)]
        bases = Array(Const(number * per, len(first)) for number in range(config.functions))
        at_two = Signal()
        if config.queue_pairs > 1:
            with m.If(ready):
                m.d.sync += self.second.eq(
                    (self.second & ~mine) | Mux(of_several, 0, mine)[: config.functions]
                )
            with m.Elif(self.forget.any()):
                m.d.sync += self.second.eq(self.second & ~self.forget)
            m.d.comb += at_two.eq(self.second.bit_select(self.function, 1))
        with m.If(ready):
            there = Mux(with_control, mine, 0)[: config.functions]
            m.d.sync += accepted.eq((accepted & ~mine) | there)
        with m.Elif(self.forget.any()):
            m.d.sync += accepted.eq(accepted & ~self.forget)
        m.d.comb += [
            self.there.eq(self.features[Feature.NET_CTRL_VQ]),
            self.index.eq(Mux(several, last, control_queue(1))),
            first.eq(bases[self.function]),
            self.is_control.eq(
                accepted.bit_select(self.function, 1)
                & (self.queue == first + Mux(at_two, control_queue(1), last))
            ),
        ]
        for number in range(config.functions):
            base, two = number * per, number * per + control_queue(1)
            enabled = self.enabled[base + last]
            if config.queue_pairs > 1:
                second = self.second[number] & accepted[number]
                m.d.comb += [self.queues[two].eq(second), self.control[two].eq(second)]
                enabled = Mux(second, self.enabled[two], enabled)
            m.d.comb += [
                self.queues[base + last].eq(1),
                self.control[base + last].eq(accepted[number] & ~self.second[number]),
                self.controlled[number].eq(accepted[number] & self.live[number] & enabled),
            ]
        return m

    # Numbers

    def data(self, queues):
        """Of a bit per queue, those of queues that frames go through."""
        functions = range(self.config.functions)
        return Cat(queues[f * self.per : f * self.per + self.data_per] for f in functions)

    def is_data(self, queue):
        """Whether frames may go through a queue."""
        return Array(Const(n % self.per < self.data_per) for n in range(self.config.queues))[queue]

    def function_of(self, queue):
        """Function of a queue."""
        return function_of_queue(self.config, queue)

    def function_of_data(self, queue):
        """Likewise, by its number among those that frames go through."""
        return Array(Const(n // self.data_per, 8) for n in range(self.config.data_queues))[queue]

    def data_of(self, queue):
        """Number of a queue among those that frames go through."""
        return (queue - self.function_of(queue) * (self.per - self.data_per))[:16]

    def registers_of(self, queue):
        """Number of a queue among all, from that among those that frames go through."""
        return (queue + self.function_of_data(queue) * (self.per - self.data_per))[: self._bits]

    @property
    def _bits(self) -> int:
        return max(1, (self.config.queues - 1).bit_length())
