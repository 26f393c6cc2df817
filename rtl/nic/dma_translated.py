"""Third pipeline of the DMA engine: translated segments go to the bus, others end."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.iommu import PAGE_SHIFT
from models.spec.translation import TranslationResponse, TranslationStatus
from rtl.bus.stream import StreamFifo
from rtl.nic.atc_records import LARGE, AtcAnswer
from rtl.nic.segments import (
    TAG_BITS,
    Answer,
    AnswerKind,
    Begun,
    End,
    EndKind,
    Segment,
    yielding_slots,
)

__all__ = ["DmaTranslated"]


class DmaTranslated(wiring.Component):
    """Takes translations in any order; each slot has one at most, so the IOMMU never waits for
    more than an answer made by :class:`~rtl.nic.dma_ask.DmaAsk`.

    Latency
    -------
    Answer to segment offered: five cycles; one answer per cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    begun : ``In(Begun)``; begun_en : ``In(1)``
    response : ``In(stream.Signature(TranslationResponse))``
    answer : ``In(stream.Signature(Answer))``
        Goes after ``response``.
    tag, cancelled : ``Out(TAG_BITS)``, ``In(1)``
        Whether the tag's request is to end, in the same cycle.
    reads, writes : ``Out(stream.Signature(Segment))``
        Of each direction, with room for all slots: neither waits for the other.
    later_reads, later_writes : ``Out(stream.Signature(Segment))``
        Those that yield.
    ended : ``Out(stream.Signature(End))``
        Segments that will not move.
    atc : ``Out(AtcAnswer())``
        Only with an ATC: what has been answered.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        atc = {"atc": Out(AtcAnswer())} if config.atc_entries else {}
        super().__init__(
            {
                **atc,
                "begun": In(Begun),
                "begun_en": In(1),
                "response": In(stream.Signature(TranslationResponse)),
                "answer": In(stream.Signature(Answer)),
                "tag": Out(TAG_BITS),
                "cancelled": In(1),
                "reads": Out(stream.Signature(Segment)),
                "writes": Out(stream.Signature(Segment)),
                "later_reads": Out(stream.Signature(Segment)),
                "later_writes": Out(stream.Signature(Segment)),
                "ended": Out(stream.Signature(End)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = self.config.dma_slots
        m.submodules.answers = answers = StreamFifo(Answer, slots)
        m.submodules.segments = segments = memory.Memory(shape=Begun, depth=slots, init=[])
        to_read = self._queues(m, "read", self.reads, self.later_reads)
        to_write = self._queues(m, "write", self.writes, self.later_writes)
        self._collect(m, answers.i)

        read, write = segments.read_port(), segments.write_port()
        valid, answer, fire = Signal(), Signal(Answer), Signal()
        bits = exact_log2(slots)
        m.d.comb += [
            write.en.eq(self.begun_en),
            write.addr.eq(self.begun.slot[:bits]),
            write.data.eq(self.begun),
            answers.o.ready.eq(~valid | fire),
            read.en.eq(answers.o.ready),
            read.addr.eq(answers.o.payload.slot[:bits]),
        ]
        with m.If(answers.o.ready):
            m.d.sync += [valid.eq(answers.o.valid), answer.eq(answers.o.payload)]
        self._decide(m, valid, answer, read.data, fire, to_read, to_write)
        return m

    def _queues(self, m: Module, name: str, *ways):
        """Segments on their way to a direction of the bus; returns where they go in."""
        depths = self.config.dma_slots, max(2, yielding_slots(self.config))
        queues = [StreamFifo(Segment, depth) for depth in depths]
        m.submodules[f"to_{name}"], m.submodules[f"{name}_later"] = queues
        for queue, way in zip(queues, ways, strict=True):
            connect(m, queue.o, flipped(way))
        return [queue.i for queue in queues]

    def _collect(self, m: Module, target) -> None:
        """Translations, and the answers of those who did not ask."""
        response, answer = self.response, self.answer
        found = target.payload
        m.d.comb += [
            target.valid.eq(response.valid | answer.valid),
            response.ready.eq(target.ready),
            answer.ready.eq(target.ready & ~response.valid),
            found.eq(answer.payload),
        ]
        with m.If(response.valid):
            refused = response.payload.status != TranslationStatus.SUCCESS
            m.d.comb += [
                found.slot.eq(response.payload.tag),
                found.kind.eq(
                    Mux(
                        refused,
                        AnswerKind.REFUSED,
                        Mux(response.payload.u, AnswerKind.UNTRANSLATED, AnswerKind.PAGE),
                    )
                ),
                found.r.eq(response.payload.r),
                found.w.eq(response.payload.w),
                found.large.eq(response.payload.size >= PAGE_SHIFT + LARGE),
                found.value.eq(Mux(refused, response.payload.cause, response.payload.spa[12:])),
            ]

    def _decide(self, m: Module, valid, answer, begun, fire, to_read, to_write) -> None:
        """To the bus with the rights that it takes; without them, or length, the segment ends."""
        paged, moves = Signal(), Signal()
        segment, ended = Signal(Segment), self.ended
        m.d.comb += [
            self.tag.eq(begun.tag),
            paged.eq(answer.kind == AnswerKind.PAGE),
            ended.payload.slot.eq(answer.slot),
            ended.payload.cause.eq(answer.value),
        ]
        stale = self.atc.stale if self.config.atc_entries else 0
        with m.If(self.cancelled):
            m.d.comb += ended.payload.kind.eq(EndKind.CANCELLED)
        with m.Elif(stale):
            m.d.comb += ended.payload.kind.eq(EndKind.STALE)
        with m.Elif(answer.kind == AnswerKind.DISABLED):
            m.d.comb += ended.payload.kind.eq(EndKind.DISABLED)
        with m.Elif(answer.kind == AnswerKind.REFUSED):
            m.d.comb += ended.payload.kind.eq(EndKind.REFUSED)
        with m.Elif(paged & ~Mux(begun.write, answer.w, answer.r)):
            m.d.comb += ended.payload.kind.eq(Mux(begun.hurried, EndKind.ABSENT, EndKind.PARKED))
        with m.Else():
            m.d.comb += moves.eq(begun.length != 0)
        m.d.comb += [
            segment.slot.eq(answer.slot),
            segment.address.eq(Cat(begun.iova[:12], Mux(paged, answer.value, begun.iova[12:]))),
            segment.translated.eq(paged),
            ended.valid.eq(valid & ~moves),
            # There is a place for every segment.
            fire.eq(valid & (moves | ended.ready)),
        ]
        for write, queues in enumerate((to_read, to_write)):
            for yields, queue in enumerate(queues):
                goes = (begun.write == write) & (begun.yields == yields)
                m.d.comb += [queue.payload.eq(segment), queue.valid.eq(valid & moves & goes)]
        for name in ("length", "function", "memory", "offset"):
            m.d.comb += segment[name].eq(begun[name])
        if self.config.atc_entries:
            self._fill(m, answer, begun, fire)

    def _fill(self, m: Module, answer, begun, fire) -> None:
        """Show the ATC what it may keep."""
        atc = self.atc
        paged = answer.kind == AnswerKind.PAGE
        m.d.comb += [
            atc.slot.eq(answer.slot),
            atc.answered.eq(fire),
            atc.fills.eq(fire & paged & (answer.r | answer.w)),
            atc.fill.key.function.eq(begun.function),
            atc.fill.key.page.eq(begun.iova[PAGE_SHIFT:]),
        ]
        for name in ("large", "r", "w", "value"):
            m.d.comb += atc.fill[name].eq(answer[name])
