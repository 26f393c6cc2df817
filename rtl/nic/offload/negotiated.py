"""What each function's driver has accepted of the offloads."""

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.nic.seams import Offloads, QueueCommand, QueueOp

__all__ = ["Negotiated"]


class Negotiated(wiring.Component):
    """Keeps the offloads of each function, as its queues were enabled.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    en, command : ``In``
        A command to the virtqueue engine has been given.
    function : ``In(8)``; offloads : ``Out(Offloads)``
        What a function's driver has accepted, in the same cycle.
    checking, segmenting : ``Out(functions)``
        Functions to which checksums are told; that may send what is to be segmented.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "en": In(1),
                "command": In(QueueCommand),
                "function": In(8),
                "offloads": Out(Offloads),
                "checking": Out(config.functions),
                "segmenting": Out(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        rows = Memory(shape=Offloads, depth=config.functions, init=[])
        m.submodules.rows = rows
        write, read = rows.write_port(), rows.read_port(domain="comb")
        functions = Array(
            Const(queue // (2 * config.queue_pairs), 8) for queue in range(config.data_queues)
        )
        function, given = Signal(8), self.command.offloads
        m.d.comb += [
            function.eq(functions[self.command.queue]),
            write.en.eq(self.en & (self.command.op == QueueOp.ENABLE)),
            write.addr.eq(function),
            write.data.eq(given),
            read.addr.eq(self.function),
            self.offloads.eq(read.data),
        ]
        with m.If(write.en):
            m.d.sync += [
                self.checking.bit_select(function, 1).eq(given.guest_csum),
                self.segmenting.bit_select(function, 1).eq(given.tso4 | given.tso6),
            ]
        return m
