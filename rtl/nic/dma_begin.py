"""First pipeline of the DMA engine: requests become segments."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.bus.stream import StreamFifo
from rtl.nic.seams import DmaRequest, LocalMemory
from rtl.nic.segments import PAGE_BYTES, TAG_BITS, Again, Cut

__all__ = ["DmaBegin", "PositionRead"]


class _Position(data.Struct):
    """Where a request stands: all that is needed to go on, also after parking."""

    function: 8
    write: 1
    hurried: 1
    iova: 64
    left: 16
    memory: LocalMemory
    offset: 24


class PositionRead(wiring.Signature):
    """Looks at the page that a request is at.

    ``en`` with ``tag`` in cycle n; the rest from cycle n + 1, and stays.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "tag": Out(TAG_BITS),
                "function": In(8),
                "write": In(1),
                "page": In(52),
            }
        )


class DmaBegin(wiring.Component):
    """Keeps the position of every request and cuts its next segment, at most to the end of the
    page.

    Latency
    -------
    Request to segment: four cycles; one segment per cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    request : ``In(stream.Signature(DmaRequest))``
        No cancels.
    again : ``In(stream.Signature(Again))``; retry : ``In(stream)`` of a tag
        Requests whose segment has ended, and those that had parked.
    cut : ``Out(stream.Signature(Cut))``
    position : ``In(PositionRead())``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "request": In(stream.Signature(DmaRequest)),
                "again": In(stream.Signature(Again)),
                "retry": In(stream.Signature(TAG_BITS)),
                "cut": Out(stream.Signature(Cut)),
                "position": In(PositionRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.config.dma_tags
        m.submodules.positions = positions = memory.Memory(shape=_Position, depth=tags, init=[])
        # Every tag has a place.
        m.submodules.ready = self.ready = StreamFifo(Again, tags)
        self.read, self.write = positions.read_port(), positions.write_port()
        self.advance, self.after = Signal(), Signal(_Position)
        self.tag = Signal(TAG_BITS)
        self._enter(m)
        self._look(m, positions.read_port())
        self._segment(m, *self._fetch(m))
        return m

    def _enter(self, m: Module) -> None:
        """Retries first, then requests that go on, then new ones."""
        entry, request = self.ready.i, self.request.payload
        m.d.comb += [
            entry.valid.eq(self.request.valid & self.request.ready),
            entry.payload.tag.eq(request.tag),
            self.request.ready.eq(~self.advance & ~self.retry.valid & ~self.again.valid),
            self.retry.ready.eq(1),
            self.again.ready.eq(~self.retry.valid),
        ]
        with m.If(self.retry.valid):
            m.d.comb += [entry.valid.eq(1), entry.payload.tag.eq(self.retry.payload)]
        with m.Elif(self.again.valid):
            m.d.comb += [entry.valid.eq(1), entry.payload.eq(self.again.payload)]
        stored = self.write.data
        m.d.comb += [
            self.write.en.eq(self.advance | (self.request.valid & self.request.ready)),
            self.write.addr.eq(request.tag),
            stored.left.eq(request.length),
        ]
        for name in ("function", "write", "hurried", "iova", "memory", "offset"):
            m.d.comb += stored[name].eq(request[name])
        with m.If(self.advance):
            m.d.comb += [self.write.addr.eq(self.tag), stored.eq(self.after)]

    def _look(self, m: Module, read) -> None:
        port = self.position
        m.d.comb += [
            read.en.eq(port.en),
            read.addr.eq(port.tag),
            port.function.eq(read.data.function),
            port.write.eq(read.data.write),
            port.page.eq(read.data.iova[12:]),
        ]

    def _fetch(self, m: Module):
        """Read the position of the next tag; returns whether there is one, and if it goes on."""
        valid, following = Signal(), Signal()
        head = self.ready.o
        m.d.comb += [
            head.ready.eq(~valid | self.cut.ready),
            self.read.en.eq(head.ready),
            self.read.addr.eq(head.payload.tag),
        ]
        with m.If(head.ready):
            m.d.sync += [
                valid.eq(head.valid),
                self.tag.eq(head.payload.tag),
                following.eq(head.payload.following),
            ]
        return valid, following

    def _segment(self, m: Module, valid, following) -> None:
        """Cut the segment; whoever takes it takes note of it."""
        position, after, cut = self.read.data, self.after, self.cut
        room = Signal(13)
        m.d.comb += [room.eq(PAGE_BYTES - position.iova[:12]), after.eq(position)]
        with m.If(following):
            m.d.comb += [
                after.iova.eq(Cat(Const(0, 12), position.iova[12:] + 1)),
                after.left.eq(position.left - room),
                after.offset.eq(position.offset + room),
            ]
        left_here = Mux(following, PAGE_BYTES, room)
        m.d.comb += [
            cut.valid.eq(valid),
            cut.payload.tag.eq(self.tag),
            cut.payload.more.eq(after.left > left_here),
            cut.payload.length.eq(Mux(cut.payload.more, left_here, after.left)),
            self.advance.eq(valid & cut.ready & following),
        ]
        for name in ("function", "write", "hurried", "iova", "memory", "offset"):
            m.d.comb += cut.payload[name].eq(after[name])
