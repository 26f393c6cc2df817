"""Counts of what happens often, added up before they go to the counters."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import StatEvent

__all__ = ["Count", "DmaCount"]


class Count(data.Struct):
    """Adds to one of the counters that a :class:`DmaCount` is for."""

    function: 8
    which: 1
    amount: 13


class DmaCount(wiring.Component):
    """Sums per function and counter.  A count is taken in every cycle; in cycles without one, the
    sums are sent on in turn, so that what is often costs few events.

    Parameters
    ----------
    config : NicConfig
    stats : tuple of two Stat
        The counters.

    Members
    -------
    count : ``In(stream.Signature(Count))``
        Always taken, and added a cycle later.
    stat : ``Out(stream.Signature(StatEvent))``
    """

    def __init__(self, config: NicConfig, stats: tuple[Stat, Stat]):
        self.config, self.stats = config, stats
        super().__init__(
            {"count": In(stream.Signature(Count)), "stat": Out(stream.Signature(StatEvent))}
        )

    def elaborate(self, platform):
        m = Module()
        depth = 2 * self.config.functions
        m.submodules.sums = sums = memory.Memory(shape=32, depth=depth, init=[])
        read, write = sums.read_port(domain="comb"), sums.write_port()
        counts, count, stat = Signal(), Signal(Count), self.stat.payload
        m.d.sync += [counts.eq(self.count.valid), count.eq(self.count.payload)]
        scan = Signal(range(depth))
        sends = Signal()
        m.d.comb += [
            self.count.ready.eq(1),
            read.addr.eq(scan),
            sends.eq(~counts & ~self.stat.valid & (read.data != 0)),
            write.addr.eq(read.addr),
            write.en.eq(counts | sends),
        ]
        with m.If(counts):
            m.d.comb += [
                read.addr.eq(Cat(count.which, count.function)),
                write.data.eq(read.data + count.amount),
            ]
        with m.Else():
            m.d.sync += scan.eq(scan + 1)
            with m.If(scan == depth - 1):
                m.d.sync += scan.eq(0)
        with m.If(self.stat.ready):
            m.d.sync += self.stat.valid.eq(0)
        with m.If(sends):
            m.d.sync += [
                self.stat.valid.eq(1),
                stat.function.eq(scan >> 1),
                stat.amount.eq(read.data),
            ]
            for which, name in enumerate(self.stats):
                with m.If(scan[0] == which):
                    m.d.sync += stat.stat.eq(name)
        return m
