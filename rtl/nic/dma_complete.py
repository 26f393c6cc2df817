"""Fourth pipeline of the DMA engine: segments end; their requests go on, end, or park."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.bus.stream import StreamArbiter
from rtl.nic.dma_count import Count
from rtl.nic.seams import DmaDone, DmaStatus, StatEvent
from rtl.nic.segments import TAG_BITS, Again, Begun, End, EndKind

__all__ = ["DmaComplete"]

#: How requests end whose segments end so.
_STATUS = {
    EndKind.MOVED: DmaStatus.OK,
    EndKind.REFUSED: DmaStatus.FAULT,
    EndKind.DISABLED: DmaStatus.FAULT,
    EndKind.CANCELLED: DmaStatus.CANCELLED,
    EndKind.ABSENT: DmaStatus.ABSENT,
}


class DmaComplete(wiring.Component):
    """Takes the ends of segments and frees their slots.

    Latency
    -------
    Two cycles; one segment per cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    begun : ``In(Begun)``; begun_en : ``In(1)``
    reads, writes, ended : ``In(stream.Signature(End))``
        From each direction, and those that did not move.
    tag, cancelled : ``Out(TAG_BITS)``, ``In(1)``
        Whether the tag's request is to end, in the same cycle.
    freed : ``Out(stream)`` of a slot; colour, yielded, yielded_read : ``Out(1)``
        Slots given back, with the colour of their segments; one of a segment that yields, and that
        was read.
    done : ``Out(stream.Signature(DmaDone))``
    again : ``Out(stream.Signature(Again))``; park : ``Out(stream)`` of a tag
        Requests that go on, and those that wait for a page.
    count : ``Out(stream.Signature(Count))``
        Bytes moved, ``which`` is set for writes.
    stat : ``Out(stream.Signature(StatEvent))``
        Faults.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "begun": In(Begun),
                "begun_en": In(1),
                "reads": In(stream.Signature(End)),
                "writes": In(stream.Signature(End)),
                "ended": In(stream.Signature(End)),
                "tag": Out(TAG_BITS),
                "cancelled": In(1),
                "freed": Out(stream.Signature(exact_log2(config.dma_slots))),
                "colour": Out(1),
                "yielded": Out(1),
                "yielded_read": Out(1),
                "done": Out(stream.Signature(DmaDone)),
                "again": Out(stream.Signature(Again)),
                "park": Out(stream.Signature(TAG_BITS)),
                "count": Out(stream.Signature(Count)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = self.config.dma_slots
        m.submodules.ends = ends = StreamArbiter(End, 3)
        for source, target in zip((self.reads, self.writes, self.ended), ends.inputs, strict=True):
            connect(m, flipped(source), target)
        m.submodules.segments = segments = memory.Memory(shape=Begun, depth=slots, init=[])
        read, write = segments.read_port(domain="comb"), segments.write_port()
        bits = exact_log2(slots)
        m.d.comb += [
            write.en.eq(self.begun_en),
            write.addr.eq(self.begun.slot[:bits]),
            write.data.eq(self.begun),
            read.addr.eq(ends.o.payload.slot[:bits]),
        ]
        self._act(m, ends.o, read.data)
        return m

    def _act(self, m: Module, end, begun) -> None:
        """One output, of several, takes note of the request."""
        kind, moved = end.payload.kind, Signal()
        follows, parks, faults = Signal(), Signal(), Signal()
        onward, fire, room = Signal(), Signal(), Signal()
        m.d.comb += [
            self.tag.eq(begun.tag),
            moved.eq(kind == EndKind.MOVED),
            follows.eq(moved & begun.more & ~self.cancelled),
            onward.eq(follows | (kind == EndKind.STALE)),
            parks.eq(kind == EndKind.PARKED),
            faults.eq((kind == EndKind.ERROR) | (kind == EndKind.REFUSED)),
            room.eq(
                Mux(onward, self.again.ready, Mux(parks, self.park.ready, self.done.ready))
                & (~moved | self.count.ready)
                & (~faults | ~self.stat.valid)
                & self.freed.ready
            ),
            fire.eq(end.valid & room),
            end.ready.eq(room),
            self.freed.valid.eq(fire),
            self.freed.payload.eq(end.payload.slot),
            self.colour.eq(begun.colour),
            self.yielded.eq(fire & begun.yields),
            self.yielded_read.eq(self.yielded & ~begun.write & (moved | (kind == EndKind.ERROR))),
            self.again.valid.eq(fire & onward),
            self.again.payload.tag.eq(begun.tag),
            self.again.payload.following.eq(follows),
            self.park.valid.eq(fire & parks),
            self.park.payload.eq(begun.tag),
            self.done.valid.eq(fire & ~onward & ~parks),
            self.count.valid.eq(fire & moved),
            self.count.payload.function.eq(begun.function),
            self.count.payload.which.eq(begun.write),
            self.count.payload.amount.eq(begun.length),
        ]
        self._report(m, kind, end.payload.cause, begun)
        with m.If(self.stat.ready):
            m.d.sync += self.stat.valid.eq(0)
        with m.If(fire & faults):
            m.d.sync += [
                self.stat.valid.eq(1),
                self.stat.payload.function.eq(begun.function),
                self.stat.payload.stat.eq(Stat.DMA_FAULTS),
                self.stat.payload.amount.eq(1),
            ]

    def _report(self, m: Module, kind, cause, begun) -> None:
        done = self.done.payload
        m.d.comb += done.tag.eq(begun.tag)
        with m.Switch(kind):
            for name, status in _STATUS.items():
                with m.Case(name):
                    m.d.comb += done.status.eq(status)
            with m.Case(EndKind.ERROR):  # without ATS it is the translation's
                m.d.comb += done.status.eq(Mux(begun.ats, DmaStatus.BUS, DmaStatus.FAULT))
        with m.If(kind == EndKind.REFUSED):
            m.d.comb += done.cause.eq(cause)
        with m.If((kind == EndKind.MOVED) & self.cancelled):
            m.d.comb += done.status.eq(DmaStatus.CANCELLED)
