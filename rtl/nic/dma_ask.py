"""Second pipeline of the DMA engine: segments take slots and get, or ask for, translations."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl
from models.spec.translation import AddressType, TranslationRequest
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.atc_records import AtcLook
from rtl.nic.dma_count import Count
from rtl.nic.segments import Answer, AnswerKind, Begun, Cut

__all__ = ["DmaAsk", "FreeSlots"]


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


class DmaAsk(wiring.Component):
    """Gives each segment a slot, and its translation from the ATC, or asks for it.

    This is the one place that asks.  Segments whose translation is cached or that need none, and
    those of functions that are disabled, go on with an answer made here.

    Latency
    -------
    Segment to translation request: one cycle, with an ATC two; one segment per cycle.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    cut : ``In(stream.Signature(Cut))``
    freed : ``In(stream)`` of a slot
    look : ``Out(AtcLook())``
        Only with an ATC.
    translate : ``Out(stream.Signature(TranslationRequest))``
        ATS requests; tags are slots.
    answer : ``Out(stream.Signature(Answer))``
        Of segments that did not ask.
    begun : ``Out(Begun)``; begun_en, asks : ``Out(1)``
        A segment has taken its slot, and asks.
    colour : ``In(1)``
        The invalidator's.
    controls : ``In(ArrayLayout(FunctionControl))``
    count : ``Out(stream.Signature(Count))``
        Translations asked for; with ``which`` those that the ATC had.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        look = {"look": Out(AtcLook())} if config.atc_entries else {}
        super().__init__(
            {
                **look,
                "cut": In(stream.Signature(Cut)),
                "freed": In(stream.Signature(exact_log2(config.dma_slots))),
                "translate": Out(stream.Signature(TranslationRequest)),
                "answer": Out(stream.Signature(Answer)),
                "begun": Out(Begun),
                "begun_en": Out(1),
                "asks": Out(1),
                "colour": In(1),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "count": Out(stream.Signature(Count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.slots = self.slots = FreeSlots(self.config.dma_slots)
        connect(m, flipped(self.freed), self.slots.freed)
        self.valid, self.held, self.hit = Signal(), Signal(Cut), Signal()
        self.fire, self.control = Signal(), Signal(FunctionControl)
        m.d.comb += self.control.eq(self.controls[self.held.function])
        if self.config.atc_entries:
            self._look(m)
        else:
            m.d.comb += [
                self.valid.eq(self.cut.valid),
                self.held.eq(self.cut.payload),
                self.cut.ready.eq(self.fire),
            ]
        self._begin(m)
        self._ask(m)
        return m

    def _look(self, m: Module) -> None:
        """Look into the ATC while the segment takes a register."""
        cut, held, look = self.cut, self.held, self.look
        m.d.comb += [
            cut.ready.eq(~self.valid | self.fire),
            look.en.eq(cut.ready),
            look.next.function.eq(cut.payload.function),
            look.next.page.eq(cut.payload.iova[12:]),
            look.key.function.eq(held.function),
            look.key.page.eq(held.iova[12:]),
            look.write.eq(held.write),
            self.hit.eq(look.hit),
        ]
        with m.If(cut.ready):
            m.d.sync += [self.valid.eq(cut.valid), held.eq(cut.payload)]

    def _begin(self, m: Module) -> None:
        """Take a slot, when all that takes note of the segment has room."""
        begun, free = self.begun, self.slots.free
        m.d.comb += [
            begun.slot.eq(free.payload),
            begun.ats.eq(self.control.ats),
            begun.colour.eq(self.colour),
            self.begun_en.eq(self.fire),
            free.ready.eq(self.fire),
        ]
        for name in Cut.as_shape().members:
            m.d.comb += begun[name].eq(self.held[name])

    def _ask(self, m: Module) -> None:
        """Send the translation request, or an answer without one."""
        control, answer = self.control, self.answer
        m.submodules.out = out = StreamRegister(TranslationRequest)
        connect(m, out.o, flipped(self.translate))
        request, begun = out.i, self.begun
        begins, translates, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq(self.valid & self.slots.free.valid),
            translates.eq(control.enable & control.ats),
            self.asks.eq(translates & ~self.hit),
            # Of both, so that what was found is no part of it.
            taken.eq(request.ready & answer.ready & (~translates | self.count.ready)),
            self.fire.eq(begins & taken),
            self.count.valid.eq(self.fire & translates),
            self.count.payload.function.eq(begun.function),
            self.count.payload.which.eq(self.hit),
            self.count.payload.amount.eq(1),
            answer.valid.eq(self.fire & ~self.asks),
            answer.payload.slot.eq(begun.slot),
            answer.payload.kind.eq(AnswerKind.UNTRANSLATED),
        ]
        with m.If(~control.enable):
            m.d.comb += answer.payload.kind.eq(AnswerKind.DISABLED)
        if self.config.atc_entries:
            with m.Elif(control.ats):
                m.d.comb += [
                    answer.payload.kind.eq(AnswerKind.PAGE),
                    answer.payload.r.eq(1),
                    answer.payload.w.eq(1),  # it has what the segment takes
                    answer.payload.value.eq(self.look.page),
                ]
        m.d.comb += [
            request.valid.eq(self.fire & self.asks),
            request.payload.tag.eq(begun.slot),
            request.payload.at.eq(AddressType.ATS_REQUEST),
            request.payload.device_id.eq(self.config.device_id + begun.function),
            request.payload.write.eq(begun.write),
            request.payload.iova.eq(begun.iova),
        ]
