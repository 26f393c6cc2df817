"""First pipeline of the DMA engine: requests become segments, segments ask for translations."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl
from models.spec.translation import AddressType, TranslationRequest
from rtl.bus.stream import StreamFifo
from rtl.nic.dma_count import Count
from rtl.nic.seams import DmaRequest, LocalMemory
from rtl.nic.segments import PAGE_BYTES, TAG_BITS, Answer, AnswerKind, Begun

__all__ = ["DmaBegin", "FreeSlots", "PositionRead"]


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


class FreeSlots(wiring.Component):
    """Slots that no segment has; all of them after reset.

    Parameters
    ----------
    slots : int
        A power of two.

    Members
    -------
    free : ``Out(stream)``
        A slot to take.
    freed : ``In(stream)``
        Takes a slot back, at any time.
    """

    def __init__(self, slots: int):
        self.slots = slots
        bits = exact_log2(slots)
        super().__init__({"free": Out(stream.Signature(bits)), "freed": In(stream.Signature(bits))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = StreamFifo(exact_log2(self.slots), self.slots)
        connect(m, flipped(self.freed), queue.i)
        fresh = Signal(range(self.slots + 1))  # slots from here on were never taken
        unused = fresh != self.slots
        m.d.comb += [
            self.free.valid.eq(unused | queue.o.valid),
            self.free.payload.eq(Mux(unused, fresh, queue.o.payload)),
            queue.o.ready.eq(self.free.ready & ~unused),
        ]
        with m.If(self.free.ready & unused):
            m.d.sync += fresh.eq(fresh + 1)
        return m


class DmaBegin(wiring.Component):
    """Keeps the position of every request; cuts its next segment, at most to the end of the page,
    takes a slot for it and asks for its translation.

    This is the one place that asks.  Segments that need no translation, and those of functions that
    are disabled, go on with an answer made here.

    Latency
    -------
    Request to translation request: five cycles; one segment per cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    request : ``In(stream.Signature(DmaRequest))``
        No cancels.
    following, retry : ``In(stream)`` of a tag
        Go on with the next page, or with the same one again.
    freed : ``In(stream)`` of a slot
    translate : ``Out(stream.Signature(TranslationRequest))``
        ATS requests; tags are slots.
    answer : ``Out(stream.Signature(Answer))``
        Of segments that did not ask.
    begun : ``Out(Begun)``; begun_en : ``Out(1)``
        A segment has taken its slot.
    colour : ``In(1)``
        The invalidator's.
    position : ``In(PositionRead())``
    controls : ``In(ArrayLayout(FunctionControl))``
    count : ``Out(stream.Signature(Count))``
        Translations asked for.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        slots = exact_log2(config.dma_slots)
        super().__init__(
            {
                "request": In(stream.Signature(DmaRequest)),
                "following": In(stream.Signature(TAG_BITS)),
                "retry": In(stream.Signature(TAG_BITS)),
                "freed": In(stream.Signature(slots)),
                "translate": Out(stream.Signature(TranslationRequest)),
                "answer": Out(stream.Signature(Answer)),
                "begun": Out(Begun),
                "begun_en": Out(1),
                "colour": In(1),
                "position": In(PositionRead()),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "count": Out(stream.Signature(Count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.config.dma_tags
        m.submodules.positions = positions = memory.Memory(shape=_Position, depth=tags, init=[])
        m.submodules.slots = self.slots = FreeSlots(self.config.dma_slots)
        connect(m, flipped(self.freed), self.slots.freed)
        # Every tag has a place.
        entry = data.StructLayout({"tag": TAG_BITS, "following": 1})
        m.submodules.ready = self.ready = StreamFifo(entry, tags)
        self.read, self.write = positions.read_port(), positions.write_port()
        self.advance, self.after = Signal(), Signal(_Position)
        self.tag, self.fire = Signal(TAG_BITS), Signal()
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
            self.request.ready.eq(~self.advance & ~self.retry.valid & ~self.following.valid),
            self.retry.ready.eq(1),
            self.following.ready.eq(~self.retry.valid),
        ]
        with m.If(self.retry.valid):
            m.d.comb += [entry.valid.eq(1), entry.payload.tag.eq(self.retry.payload)]
        with m.Elif(self.following.valid):
            m.d.comb += [
                entry.valid.eq(1),
                entry.payload.tag.eq(self.following.payload),
                entry.payload.following.eq(1),
            ]
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
            head.ready.eq(~valid | self.fire),
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
        """Cut the segment, when all that takes note of it has room."""
        position, begun, free = self.read.data, self.begun, self.slots.free
        room, after = Signal(13), self.after
        control = Signal(FunctionControl)
        m.d.comb += [
            control.eq(self.controls[position.function]),
            room.eq(PAGE_BYTES - position.iova[:12]),
            after.eq(position),
        ]
        with m.If(following):
            m.d.comb += [
                after.iova.eq(Cat(Const(0, 12), position.iova[12:] + 1)),
                after.left.eq(position.left - room),
                after.offset.eq(position.offset + room),
            ]
        left_here = Mux(following, PAGE_BYTES, room)
        m.d.comb += [
            begun.slot.eq(free.payload),
            begun.tag.eq(self.tag),
            begun.more.eq(after.left > left_here),
            begun.length.eq(Mux(begun.more, left_here, after.left)),
            begun.ats.eq(control.ats),
            begun.colour.eq(self.colour),
            self.begun_en.eq(self.fire),
            self.advance.eq(self.fire & following),
            free.ready.eq(self.fire),
        ]
        for name in ("function", "write", "hurried", "iova", "memory", "offset"):
            m.d.comb += begun[name].eq(after[name])
        self._ask(m, valid, control)

    def _ask(self, m: Module, valid, control) -> None:
        """Send the translation request, or an answer without one."""
        asks, taken = Signal(), Signal()
        request, answer, begun = self.translate, self.answer, self.begun
        m.d.comb += [
            asks.eq(control.enable & control.ats),
            taken.eq(Mux(asks, (~request.valid | request.ready) & self.count.ready, answer.ready)),
            self.fire.eq(valid & self.slots.free.valid & taken),
            self.count.valid.eq(self.fire & asks),
            self.count.payload.function.eq(begun.function),
            self.count.payload.amount.eq(1),
            answer.valid.eq(valid & self.slots.free.valid & ~asks),
            answer.payload.slot.eq(begun.slot),
            answer.payload.kind.eq(
                Mux(control.enable, AnswerKind.UNTRANSLATED, AnswerKind.DISABLED)
            ),
        ]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(self.fire & asks):
            m.d.sync += [
                request.valid.eq(1),
                request.payload.tag.eq(begun.slot),
                request.payload.at.eq(AddressType.ATS_REQUEST),
                request.payload.device_id.eq(self.config.device_id + begun.function),
                request.payload.write.eq(begun.write),
                request.payload.iova.eq(begun.iova),
            ]
