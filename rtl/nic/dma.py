"""DMA engine of the NIC: translates by ATS, parks what is not present, retries, invalidates."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl, Stat
from models.spec.translation import (
    DmaUser,
    GroupResponse,
    InvalidationCompletion,
    InvalidationRequest,
    PageRequest,
)
from rtl.bus.axi import Axi4
from rtl.bus.stream import StreamArbiter, StreamBypass, StreamFifo, StreamRegister, StreamStage
from rtl.iommu.seams import TranslationPort
from rtl.nic.atc import Atc
from rtl.nic.dma_ask import DmaAsk
from rtl.nic.dma_begin import DmaBegin
from rtl.nic.dma_complete import DmaComplete
from rtl.nic.dma_count import DmaCount
from rtl.nic.dma_messages import DmaMessages
from rtl.nic.dma_parking import DmaParking
from rtl.nic.dma_read import DmaRead
from rtl.nic.dma_translated import DmaTranslated
from rtl.nic.dma_write import DmaWrite
from rtl.nic.invalidator import Invalidator
from rtl.nic.seams import DmaDone, DmaRequest, LoadPort, MsiWrite, StatEvent, StorePort
from rtl.nic.segments import TAG_BITS, Again, Answer, Cut, End

__all__ = ["Dma"]


class Dma(wiring.Component):
    """Moves data between guest memory and the NIC's memories, many requests at once.

    A request is cut at page boundaries into segments, one after the other.  Each takes a slot,
    asks for its translation, moves its data in bursts, and gives the slot back; a request without
    rights gives its slot back too and waits, parked in RAM, for the answer to its page request.

    ::

        request --> DmaBegin --> DmaAsk --> translate --> DmaTranslated --> DmaRead, DmaWrite --.
                    ^    ^        |  ^                    ^     |                               v
                    |    |        v  |                    |     '-- refused --> DmaComplete --> done
                    |    |        Atc --------------------'                      |  |
                    |    '---------- next page ----------------------------------'  |
                    '--- DmaParking <------------- no rights -----------------------'

    Latency
    -------
    Without waiting for the IOMMU and memory: 19 cycles from request to ``done``, 20 with an ATC.
    Every pipeline takes a segment per cycle, so the bus limits what is longer than a beat, given
    slots enough.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    request : ``In(stream.Signature(DmaRequest))``; done : ``Out(stream.Signature(DmaDone))``
        One request per tag at a time, and cancels of them, in order.  Ends come in any order, and
        wait for whoever takes them without holding others up.
    message : ``In(stream.Signature(MsiWrite))``
        MSI-X messages, written untranslated.
    fenced, pushed : ``Out(1)``
        A fence among them, of a reset or of a read, has met no message under way.
    store : ``Out(StorePort())``; load : ``Out(LoadPort())``
        Local memories.
    translate : ``Out(TranslationPort())``
        ATS requests; tags are slots.
    page_request, group_response, invalidation, invalidation_completion
        ATS and PRI messages.
    bus : ``Out(Axi4)``
        DMA, with whose it is at the sideband.
    stat : ``Out(stream.Signature(StatEvent))``
        Counts.
    controls : ``In(data.ArrayLayout(FunctionControl, functions))``; page_timeout : ``In(32)``
        Settings; a time-out of 0 cycles is none.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        #: AXI IDs: slots, and one more for messages.
        self.id_width = config.dma_slots.bit_length()
        bus = {"addr_width": 64, "data_width": 128, "id_width": self.id_width, "user": DmaUser}
        super().__init__(
            {
                "request": In(stream.Signature(DmaRequest)),
                "done": Out(stream.Signature(DmaDone)),
                "message": In(stream.Signature(MsiWrite)),
                "fenced": Out(1),
                "pushed": Out(1),
                "store": Out(StorePort()),
                "load": Out(LoadPort()),
                "translate": Out(TranslationPort()),
                "page_request": Out(stream.Signature(PageRequest)),
                "group_response": In(stream.Signature(GroupResponse)),
                "invalidation": In(stream.Signature(InvalidationRequest)),
                "invalidation_completion": Out(stream.Signature(InvalidationCompletion)),
                "bus": Out(Axi4(**bus)),
                "stat": Out(stream.Signature(StatEvent)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "page_timeout": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.begin = begin = DmaBegin(config)
        m.submodules.ask = ask = DmaAsk(config)
        m.submodules.translated = translated = DmaTranslated(config)
        m.submodules.reads = reads = DmaRead(config, self.id_width)
        m.submodules.writes = writes = DmaWrite(config, self.id_width)
        m.submodules.complete = complete = DmaComplete(config)
        m.submodules.parking = parking = DmaParking(config)

        # Segments
        # Between the pipelines registers: no path goes through several.
        for name, register, source, target in (
            ("cuts", StreamRegister(Cut), begin.cut, ask.cut),
            ("onward", StreamRegister(Again), complete.again, begin.again),
            ("read_ends", StreamRegister(End), reads.done, complete.reads),
            ("write_ends", StreamRegister(End), writes.done, complete.writes),
            ("others", StreamStage(End), translated.ended, complete.ended),
            ("retries", StreamStage(TAG_BITS), parking.retry, begin.retry),
        ):
            m.submodules[name] = register
            connect(m, source, register.i)
            connect(m, register.o, target)
        connect(m, ask.translate, flipped(self.translate.request))
        connect(m, flipped(self.translate.response), translated.response)
        # Who asks does not wait for what is answered.
        m.submodules.answers = answers = StreamBypass(Answer)
        connect(m, ask.answer, answers.i)
        connect(m, answers.o, translated.answer)
        connect(m, translated.reads, reads.segment)
        connect(m, translated.later_reads, reads.later)
        connect(m, translated.writes, writes.segment)
        connect(m, translated.later_writes, writes.later)
        m.d.comb += reads.yielded.eq(complete.yielded_read)
        connect(m, complete.freed, ask.freed)
        m.d.comb += begin.yielded.eq(complete.yielded)
        for block in (translated, complete):
            m.d.comb += [block.begun.eq(ask.begun), block.begun_en.eq(ask.begun_en)]

        # Pages that are not there
        connect(m, complete.park, parking.park)
        connect(m, parking.position, begin.position)
        connect(m, flipped(self.group_response), parking.group_response)
        connect(m, parking.page_request, flipped(self.page_request))
        m.d.comb += [
            ask.controls.eq(self.controls),
            parking.controls.eq(self.controls),
            parking.page_timeout.eq(self.page_timeout),
        ]

        # Data
        connect(m, reads.store, flipped(self.store))
        connect(m, writes.load, flipped(self.load))
        for name in ("ar", "r"):
            connect(m, getattr(reads.bus, name), flipped(getattr(self.bus, name)))
        for name in ("aw", "w", "b"):
            connect(m, getattr(writes.bus, name), flipped(getattr(self.bus, name)))

        self._requests(m, begin, parking, (translated, complete, parking))
        self._ends(m, complete, parking)
        messages = self._messages(m, writes)
        invalidator = self._invalidations(m, ask, complete)
        if config.atc_entries:
            self._atc(m, ask, translated, invalidator)
        self._counts(m, ask, complete, (complete, parking, messages, invalidator))
        return m

    def _requests(self, m: Module, begin, parking, asking) -> None:
        """Requests begin, cancels are noted for those ``asking``, and end what is parked."""
        request = self.request
        m.submodules.cancelled = cancelled = memory.Memory(
            shape=1, depth=self.config.dma_tags, init=[]
        )
        note = cancelled.write_port()
        m.d.comb += [
            begin.request.valid.eq(request.valid & ~request.payload.cancel),
            begin.request.payload.eq(request.payload),
            parking.cancel.valid.eq(request.valid & request.payload.cancel),
            parking.cancel.payload.eq(request.payload.tag),
            request.ready.eq(
                Mux(request.payload.cancel, parking.cancel.ready, begin.request.ready)
            ),
            note.en.eq(request.valid & request.ready),
            note.addr.eq(request.payload.tag),
            note.data.eq(request.payload.cancel),
        ]
        for block in asking:
            read = cancelled.read_port(domain="comb")
            m.d.comb += [read.addr.eq(block.tag), block.cancelled.eq(read.data)]

    def _ends(self, m: Module, complete, parking) -> None:
        """Every tag has a place for its end.  The slow path's goes first."""
        m.submodules.dones = dones = StreamFifo(DmaDone, self.config.dma_tags, block=True)
        m.submodules.slow = slow = StreamStage(DmaDone)
        connect(m, parking.done, slow.i)
        connect(m, dones.o, flipped(self.done))
        m.d.comb += [
            dones.i.valid.eq(complete.done.valid | slow.o.valid),
            dones.i.payload.eq(Mux(slow.o.valid, slow.o.payload, complete.done.payload)),
            slow.o.ready.eq(dones.i.ready),
            complete.done.ready.eq(dones.i.ready & ~slow.o.valid),
        ]

    def _messages(self, m: Module, writes):
        m.submodules.messages = messages = DmaMessages(self.config)
        # Who has a message does not see the bus.
        m.submodules.message = message = StreamStage(MsiWrite)
        connect(m, flipped(self.message), message.i)
        connect(m, message.o, messages.message)
        connect(m, messages.segment, writes.message)
        m.d.comb += [
            writes.value.eq(messages.value),
            messages.done.eq(writes.message_done),
            messages.error.eq(writes.message_error),
            self.fenced.eq(messages.fenced),
            self.pushed.eq(messages.pushed),
        ]
        return messages

    def _invalidations(self, m: Module, ask, complete):
        m.submodules.invalidator = invalidator = Invalidator(self.config)
        connect(m, flipped(self.invalidation), invalidator.request)
        connect(m, invalidator.completion, flipped(self.invalidation_completion))
        m.d.comb += [
            ask.colour.eq(invalidator.colour),
            invalidator.begun.eq(ask.begun_en),
            invalidator.ended.eq(complete.freed.valid),
            invalidator.ended_colour.eq(complete.colour),
        ]
        return invalidator

    def _atc(self, m: Module, ask, translated, invalidator) -> None:
        m.submodules.atc = atc = Atc(self.config)
        connect(m, ask.look, atc.look)
        connect(m, translated.atc, atc.answer)
        connect(m, invalidator.forget, atc.forget)
        m.d.comb += [
            atc.begun.eq(ask.begun),
            atc.asks.eq(ask.begun_en & ask.asks),
            atc.controls.eq(self.controls),
        ]

    def _counts(self, m: Module, ask, complete, others) -> None:
        """What happens with every segment is summed up, the rest goes out as it is."""
        m.submodules.asked = asked = DmaCount(self.config, (Stat.TRANSLATIONS, Stat.ATC_HITS))
        m.submodules.moved = moved = DmaCount(
            self.config, (Stat.DMA_READ_BYTES, Stat.DMA_WRITE_BYTES)
        )
        connect(m, ask.count, asked.count)
        connect(m, complete.count, moved.count)
        sources = (asked, moved, *others)
        m.submodules.events = events = StreamArbiter(StatEvent, len(sources))
        connect(m, events.o, flipped(self.stat))
        for source, target in zip(sources, events.inputs, strict=True):
            connect(m, source.stat, target)
