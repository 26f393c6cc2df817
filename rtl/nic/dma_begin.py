"""First pipeline of the DMA engine: requests become segments."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamFifo
from rtl.nic.seams import DmaRequest, LocalMemory
from rtl.nic.segments import (
    BUS_BYTES,
    PAGE_BYTES,
    PATIENCE,
    TAG_BITS,
    Again,
    Cut,
    yielding_slots,
)
from rtl.nic.yielding import Yielding

__all__ = ["DmaBegin", "PositionRead"]


class _Position(data.Struct):
    """Where a request stands: all that is needed to go on, also after parking."""

    function: 8
    write: 1
    hurried: 1
    yields: 1
    iova: 64
    left: 16
    memory: LocalMemory
    offset: 24


class _Page(data.Struct):
    """The page that it is at, once more: for another reader, in fewer block RAMs."""

    function: 8
    write: 1
    page: 52


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
    page, or of a burst if the request yields.

    Those that yield wait until no other is ready, ``PATIENCE`` cycles at the most, and until few
    enough of them are under way.

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
    yielded : ``In(1)``
        A segment that yields has ended.
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
                "yielded": In(1),
                "position": In(PositionRead()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.config.dma_tags
        m.submodules.positions = positions = memory.Memory(
            shape=_Position, depth=tags, init=[], attrs=BLOCK
        )
        m.submodules.pages = pages = memory.Memory(shape=_Page, depth=tags, init=[], attrs=BLOCK)
        # Every tag has a place.
        m.submodules.ready = self.ready = StreamFifo(Again, tags)
        m.submodules.later = self.later = StreamFifo(Again, tags)
        m.submodules.yielding = self.yielding = memory.Memory(shape=1, depth=tags, init=[])
        self.read, self.write = positions.read_port(), positions.write_port()
        self.note = pages.write_port()
        self.advance, self.after = Signal(), Signal(_Position)
        self.tag = Signal(TAG_BITS)
        self._enter(m)
        self._look(m, pages.read_port())
        self._segment(m, *self._fetch(m))
        return m

    def _enter(self, m: Module) -> None:
        """Retries first, then requests that go on, then new ones."""
        entry, request, yields = Signal(Again), self.request.payload, Signal()
        known, note = self.yielding.read_port(domain="comb"), self.yielding.write_port()
        enters = Signal()
        m.d.comb += [
            enters.eq(self.request.valid & self.request.ready),
            entry.tag.eq(request.tag),
            yields.eq(request.yields),
            known.addr.eq(entry.tag),
            note.en.eq(enters & ~self.retry.valid & ~self.again.valid),
            note.addr.eq(request.tag),
            note.data.eq(request.yields),
            self.ready.i.valid.eq(enters & ~yields),
            self.later.i.valid.eq(enters & yields),
            self.ready.i.payload.eq(entry),
            self.later.i.payload.eq(entry),
            self.request.ready.eq(~self.advance & ~self.retry.valid & ~self.again.valid),
            self.retry.ready.eq(1),
            self.again.ready.eq(~self.retry.valid),
        ]
        with m.If(self.retry.valid):
            m.d.comb += [enters.eq(1), entry.tag.eq(self.retry.payload), yields.eq(known.data)]
        with m.Elif(self.again.valid):
            m.d.comb += [enters.eq(1), entry.eq(self.again.payload), yields.eq(known.data)]
        stored = self.write.data
        m.d.comb += [
            self.write.en.eq(self.advance | (self.request.valid & self.request.ready)),
            self.write.addr.eq(request.tag),
            stored.left.eq(request.length),
        ]
        for name in ("function", "write", "hurried", "yields", "iova", "memory", "offset"):
            m.d.comb += stored[name].eq(request[name])
        with m.If(self.advance):
            m.d.comb += [self.write.addr.eq(self.tag), stored.eq(self.after)]
        noted = self.note.data
        m.d.comb += [
            self.note.en.eq(self.write.en),
            self.note.addr.eq(self.write.addr),
            noted.function.eq(stored.function),
            noted.write.eq(stored.write),
            noted.page.eq(stored.iova[12:]),
        ]

    def _look(self, m: Module, read) -> None:
        port = self.position
        m.d.comb += [
            read.en.eq(port.en),
            read.addr.eq(port.tag),
            port.function.eq(read.data.function),
            port.write.eq(read.data.write),
            port.page.eq(read.data.page),
        ]

    def _fetch(self, m: Module):
        """Read the position of the next tag; returns whether there is one, and if it goes on."""
        valid, following, goes = Signal(), Signal(), Signal()
        m.submodules.order = order = Yielding(Again, PATIENCE)
        connect(m, self.ready.o, order.first)
        connect(m, self.later.o, order.second)
        head, most = order.payload, yielding_slots(self.config)
        under_way = Signal(range(most + 1))
        m.d.comb += [
            goes.eq(~valid | self.cut.ready),
            order.take.eq(goes),
            order.blocked.eq(under_way == most),
            self.read.en.eq(goes),
            self.read.addr.eq(head.tag),
        ]
        begins = order.second.valid & order.second.ready
        m.d.sync += under_way.eq(under_way + begins - self.yielded)
        with m.If(goes):
            m.d.sync += [
                valid.eq(order.valid),
                self.tag.eq(head.tag),
                following.eq(head.following),
            ]
        return valid, following

    def _segment(self, m: Module, valid, following) -> None:
        """Cut the segment; whoever takes it takes note of it."""
        position, after, cut = self.read.data, self.after, self.cut
        piece = self.config.max_burst_beats * BUS_BYTES
        low, yields = exact_log2(piece), position.yields
        room = Signal(13)
        m.d.comb += [
            room.eq(Mux(yields, piece - position.iova[:low], PAGE_BYTES - position.iova[:12])),
            after.eq(position),
        ]
        with m.If(following):
            within = position.iova[low:] | Mux(yields, 0, (PAGE_BYTES - 1) >> low)
            m.d.comb += [
                after.iova.eq(Cat(Const(0, low), within + 1)),
                after.left.eq(position.left - room),
                after.offset.eq(position.offset + room),
            ]
        left_here = Mux(following, Mux(yields, piece, PAGE_BYTES), room)
        m.d.comb += [
            cut.valid.eq(valid),
            cut.payload.tag.eq(self.tag),
            cut.payload.more.eq(after.left > left_here),
            cut.payload.length.eq(Mux(cut.payload.more, left_here, after.left)),
            self.advance.eq(valid & cut.ready & following),
        ]
        for name in ("function", "write", "hurried", "yields", "iova", "memory", "offset"):
            m.d.comb += cut.payload[name].eq(after[name])
