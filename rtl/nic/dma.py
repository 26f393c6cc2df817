"""DMA engine of the NIC: translates by ATS, parks what is not present, retries, invalidates."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.iommu import GroupResponsePayload, PageRequestPayload, PageResponse
from models.spec.nic import FunctionControl, Stat
from models.spec.translation import (
    AddressType,
    DmaUser,
    GroupResponse,
    InvalidationCompletion,
    InvalidationRequest,
    PageRequest,
    TranslationStatus,
)
from rtl.bus.axi import Axi4
from rtl.bus.stream import StreamFifo
from rtl.iommu.seams import TranslationPort
from rtl.nic.dma_read import DmaRead
from rtl.nic.dma_write import DmaWrite
from rtl.nic.invalidator import Invalidator
from rtl.nic.seams import (
    DmaDone,
    DmaRequest,
    DmaStatus,
    LoadPort,
    LocalMemory,
    MsiWrite,
    StatEvent,
    StorePort,
)
from rtl.nic.segments import SLOT_BITS

__all__ = ["Dma", "DmaPosition"]

_PAGE = 4096


class DmaPosition(data.Struct):
    """Where a request stands: all that is needed to go on, also after parking."""

    function: 8
    write: 1
    hurried: 1
    iova: 64
    left: 16
    memory: LocalMemory
    offset: 24
    stamp: 32  # cycle of parking
    asked: 1  # by a page request of this generation; else it waits for any answer, and asks then
    generation: 1


class _Event(enum.IntEnum, shape=3):
    """What the sequencer attends to, most urgent first."""

    COMPLETE = 0  # a segment's data have moved
    TRANSLATED = 1
    RESPONSE = 2  # of a page request group
    REQUEST = 3
    CANCEL = 4
    READY = 5  # a tag may begin its next segment
    EXPIRE = 6  # look at a parked tag's age


class Dma(wiring.Component):
    """Moves data between guest memory and the NIC's memories, many requests at once.

    A request is cut at page boundaries into segments.  Each segment takes a slot, asks for its
    translation, moves its data in bursts, and gives the slot back; a request without rights gives
    its slot back too and waits, parked in RAM, for the answer to its page request.  One sequencer
    takes an event of some tag at a time: it reads the tag's position, acts, and writes it back.

    Latency
    -------
    3 cycles of the sequencer per event, 3 events per segment of at most 4 KiB.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    request : ``In(stream.Signature(DmaRequest))``; done : ``Out(stream.Signature(DmaDone))``
        One request per tag at a time, and cancels of them, in order.
    message : ``In(stream.Signature(MsiWrite))``
        MSI-X messages, written untranslated.
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
        self.slots = config.dma_slots
        self.id_width = self.slots.bit_length()
        self.tags = config.dma_tags
        self.tag_bits = (self.tags - 1).bit_length()
        super().__init__(
            {
                "request": In(stream.Signature(DmaRequest)),
                "done": Out(stream.Signature(DmaDone)),
                "message": In(stream.Signature(MsiWrite)),
                "store": Out(StorePort()),
                "load": Out(LoadPort()),
                "translate": Out(TranslationPort()),
                "page_request": Out(stream.Signature(PageRequest)),
                "group_response": In(stream.Signature(GroupResponse)),
                "invalidation": In(stream.Signature(InvalidationRequest)),
                "invalidation_completion": Out(stream.Signature(InvalidationCompletion)),
                "bus": Out(
                    Axi4(addr_width=64, data_width=128, id_width=self.id_width, user=DmaUser)
                ),
                "stat": Out(stream.Signature(StatEvent)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "page_timeout": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._parts(m)
        # Per tag: whether it has a request, is parked, is to be cancelled.
        queues = self.tags
        self.active, self.parked = Signal(queues), Signal(queues)
        self.cancelled = Signal(queues)
        # Per tag and generation: a page request has not been answered.  One whose request has ended
        # may be answered long after; its index is not used before.
        self.owed = [Signal(queues, name=f"owed{generation}") for generation in range(2)]
        # Per slot: the tag, and the bytes of its segment.
        self.busy = Signal(self.slots)
        self.now, self.scan = Signal(32), Signal(self.tag_bits)
        m.d.sync += self.now.eq(self.now + 1)
        self.event, self.tag = Signal(_Event), Signal(self.tag_bits)
        self.slot = Signal(range(max(2, self.slots)))
        self.bad = Signal()  # of the bus, with COMPLETE
        self.held_request = Signal(DmaRequest)
        self.answer_status, self.answer_cause = Signal(3), Signal(12)
        self.answer_rights, self.answer_spa = Signal(3), Signal(64)
        self.answer_code, self.answer_generation = Signal(4), Signal()
        self.answer_device = Signal(24)
        self.answered_now = Signal()
        self.completed_length = Signal(13)
        self._complete_slots(m)
        self._choose(m)
        self._forget(m)
        return m

    def _parts(self, m: Module) -> None:
        """Instantiate what surrounds the sequencer, and connect the bus."""
        config = self.config
        m.submodules.reads = self.reads = DmaRead(config, self.id_width)
        m.submodules.writes = self.writes = DmaWrite(config, self.id_width)
        m.submodules.invalidator = self.invalidator = Invalidator(config)
        m.submodules.ready = self.ready = fifo.SyncFIFOBuffered(
            width=self.tag_bits, depth=self.tags
        )
        m.submodules.stats = self.stats = fifo.SyncFIFOBuffered(
            width=StatEvent.as_shape().size, depth=16
        )
        m.submodules.dones = self.dones = fifo.SyncFIFOBuffered(
            width=DmaDone.as_shape().size, depth=self.tags
        )
        m.submodules.positions = positions = memory.Memory(
            shape=DmaPosition, depth=self.tags, init=[]
        )
        self.position_read = positions.read_port()
        self.position_write = positions.write_port()
        layout = data.StructLayout({"tag": self.tag_bits, "length": 13})
        m.submodules.slot_table = slot_table = memory.Memory(
            shape=layout, depth=1 << self.id_width, init=[]
        )
        self.slot_read = slot_table.read_port(domain="comb")
        self.slot_write = slot_table.write_port()
        # Responses are taken whatever page requests wait for, and page requests wait apart from the
        # sequencer: an IOMMU that answers itself takes none before its answer has been taken.
        m.submodules.responses = self.responses = StreamFifo(GroupResponse, self.tags)
        m.submodules.asking = self.asking = StreamFifo(PageRequest, self.tags)
        connect(m, flipped(self.group_response), self.responses.i)
        connect(m, self.asking.o, flipped(self.page_request))
        for name in ("ar", "r"):
            connect(m, getattr(self.reads.bus, name), flipped(getattr(self.bus, name)))
        for name in ("aw", "w", "b"):
            connect(m, getattr(self.writes.bus, name), flipped(getattr(self.bus, name)))
        connect(m, self.reads.store, flipped(self.store))
        connect(m, self.writes.load, flipped(self.load))
        connect(m, flipped(self.invalidation), self.invalidator.request)
        connect(m, self.invalidator.completion, flipped(self.invalidation_completion))
        m.d.comb += [
            self.stat.payload.eq(self.stats.r_data),
            self.stat.valid.eq(self.stats.r_rdy),
            self.stats.r_en.eq(self.stat.ready),
            self.done.payload.eq(self.dones.r_data),
            self.done.valid.eq(self.dones.r_rdy),
            self.dones.r_en.eq(self.done.ready),
        ]

    def _forget(self, m: Module) -> None:
        """A function that is disabled is as after a reset: no answer is owed to it any more."""
        request = self.request.payload
        for tag in range(self.tags):
            function = Signal(8, name=f"function{tag}")
            with m.If(self.request.valid & ~request.cancel & (request.tag == tag)):
                m.d.sync += function.eq(request.function)
            idle = ~self.parked[tag] & ~self.active[tag]
            with m.If(~self.controls[function].enable & idle):
                for owed in self.owed:
                    m.d.sync += owed[tag].eq(0)

    def _complete_slots(self, m: Module) -> None:
        """Take segment completions of both directions; a message's only frees its ID
        and is counted if it failed.
        """
        reads, writes = self.reads.done, self.writes.done
        self.complete, self.complete_slot = Signal(), Signal(SLOT_BITS)
        self.complete_error, self.complete_taken = Signal(), Signal()
        is_message = writes.valid & (writes.payload.slot == self.slots)
        self.message_done = Signal()
        m.d.comb += [
            self.message_done.eq(is_message),
            self.complete.eq(reads.valid | (writes.valid & ~is_message)),
            self.complete_slot.eq(Mux(reads.valid, reads.payload.slot, writes.payload.slot)),
            self.complete_error.eq(Mux(reads.valid, reads.payload.error, writes.payload.error)),
            reads.ready.eq(self.complete_taken),
            writes.ready.eq(is_message | (self.complete_taken & ~reads.valid)),
        ]

    def _choose(self, m: Module) -> None:
        """The sequencer: choose an event, read its tag's position, act."""
        response = self.responses.o
        answer_valid, answer, take_answer = self._answers(m)
        free = Signal(range(max(2, self.slots)))
        for i in reversed(range(self.slots)):
            with m.If(~self.busy[i]):
                m.d.comb += free.eq(i)
        group = data.View(GroupResponsePayload, response.payload.payload)
        response_tag = group.index[: self.tag_bits]
        m.d.comb += [
            self.slot_read.addr.eq(Mux(self.complete, self.complete_slot, answer.tag)),
            self.position_read.addr.eq(self.tag),
        ]
        # Whatever an event needs room for must be there before it is begun.
        calm = (self.stats.w_level <= 12) & self.dones.w_rdy
        message_free, message_failed = Signal(init=1), Signal()
        message_function = Signal(8)
        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(calm):
                    m.next = "READ"
                    m.d.sync += self.completed_length.eq(self.slot_read.data.length)
                    with m.If(message_failed):
                        self._stat(m, message_function, Stat.DMA_FAULTS, 1)
                        m.d.comb += self.stats.w_en.eq(1)
                        m.d.sync += [message_failed.eq(0), message_free.eq(1)]
                        m.next = "CHOOSE"
                    with m.Elif(self.complete):
                        m.d.comb += self.complete_taken.eq(1)
                        m.d.sync += [
                            self.event.eq(_Event.COMPLETE),
                            self.tag.eq(self.slot_read.data.tag),
                            self.slot.eq(self.complete_slot),
                            self.bad.eq(self.complete_error),
                        ]
                    with m.Elif(
                        answer_valid
                        & self.asking.i.ready
                        & self.reads.segment.ready
                        & self.writes.segment.ready
                    ):
                        m.d.comb += take_answer.eq(1)
                        m.d.sync += [
                            self.event.eq(_Event.TRANSLATED),
                            self.tag.eq(self.slot_read.data.tag),
                            self.slot.eq(answer.tag),
                            self.answer_status.eq(answer.status),
                            self.answer_cause.eq(answer.cause),
                            self.answer_rights.eq(Cat(answer.r, answer.w, answer.u)),
                            self.answer_spa.eq(answer.spa),
                        ]
                    with m.Elif(response.valid):
                        m.d.comb += response.ready.eq(1)
                        m.d.sync += [
                            self.event.eq(_Event.RESPONSE),
                            self.tag.eq(response_tag),
                            self.answer_code.eq(group.code),
                            self.answer_generation.eq(group.index[8]),
                            self.answer_device.eq(response.payload.device_id),
                        ]
                        owed = Mux(group.index[8], self.owed[1], self.owed[0])
                        bit = Signal(name="response_owed")
                        m.d.comb += bit.eq(owed.bit_select(response_tag, 1))
                        with m.If((group.index[:8] >= self.tags) | ~bit):
                            m.next = "CHOOSE"  # nobody waits for this one
                    with m.Elif(self.request.valid):
                        m.d.comb += self.request.ready.eq(1)
                        m.d.sync += [
                            self.event.eq(
                                Mux(self.request.payload.cancel, _Event.CANCEL, _Event.REQUEST)
                            ),
                            self.tag.eq(self.request.payload.tag),
                            self.held_request.eq(self.request.payload),
                        ]
                    with m.Elif(self.message.valid & message_free & self.writes.segment.ready):
                        m.d.comb += self.message.ready.eq(1)
                        m.d.sync += [
                            message_free.eq(0),
                            message_function.eq(self.message.payload.function),
                        ]
                        self._message(m)
                        m.next = "CHOOSE"
                    with m.Elif(
                        self.ready.r_rdy
                        & ~self.busy.all()
                        & ~self.translate.request.valid
                        & self.reads.segment.ready
                        & self.writes.segment.ready
                    ):
                        m.d.comb += self.ready.r_en.eq(1)
                        m.d.sync += [
                            self.event.eq(_Event.READY),
                            self.tag.eq(self.ready.r_data),
                            self.slot.eq(free),
                        ]
                    with m.Elif(self.parked.any() & (self.page_timeout != 0)):
                        m.d.sync += [
                            self.event.eq(_Event.EXPIRE),
                            self.tag.eq(self.scan),
                            self.scan.eq(Mux(self.scan == self.tags - 1, 0, self.scan + 1)),
                        ]
                    with m.Else():
                        m.next = "CHOOSE"
            with m.State("READ"):
                m.next = "ACT"
            with m.State("ACT"):
                self._act(m)
                m.next = "CHOOSE"
                with m.If(self.answered_now):
                    m.next = "COUNT"
            with m.State("COUNT"):  # a second count of the same event
                parked = self.position_read.data
                waited = (self.now - parked.stamp)[:32]
                self._stat(m, parked.function, Stat.PARKED_CYCLES, waited)
                m.d.comb += self.stats.w_en.eq(1)
                m.next = "CHOOSE"
        with m.If(self.message_done):
            m.d.sync += [
                message_failed.eq(self.writes.done.payload.error),
                message_free.eq(~self.writes.done.payload.error),
            ]
        m.d.comb += self.invalidator.busy.eq(self.busy)

    def _answers(self, m: Module):
        """Queue translations: each slot has one at most, so the IOMMU is never kept waiting."""
        kept = data.StructLayout(
            {"tag": SLOT_BITS, "status": 3, "cause": 12, "r": 1, "w": 1, "u": 1, "spa": 56}
        )
        m.submodules.answers = queue = fifo.SyncFIFOBuffered(width=kept.size, depth=self.slots)
        stored, response = data.View(kept, queue.w_data), self.translate.response
        for name in kept.members:
            m.d.comb += stored[name].eq(response.payload[name])
        m.d.comb += [queue.w_en.eq(response.valid), response.ready.eq(queue.w_rdy)]
        with m.If(self.translate.request.ready):
            m.d.sync += self.translate.request.valid.eq(0)
        return queue.r_rdy, data.View(kept, queue.r_data), queue.r_en

    def _device(self, function):
        return self.config.device_id + function

    def _message(self, m: Module) -> None:
        """Send an MSI-X message."""
        segment, message = self.writes.segment, self.message.payload
        m.d.comb += [
            segment.valid.eq(1),
            segment.payload.slot.eq(self.slots),
            segment.payload.address.eq(message.address),
            segment.payload.length.eq(4),
            segment.payload.user.device_id.eq(self._device(message.function)),
            segment.payload.user.at.eq(AddressType.UNTRANSLATED),
            segment.payload.inline.eq(1),
            segment.payload.value.eq(message.data),
        ]

    def _act(self, m: Module) -> None:
        """Act on the event; the tag's position is at the read port."""
        position = self.position_read.data
        after = Signal(DmaPosition)
        m.d.comb += [
            after.eq(position),
            self.position_write.addr.eq(self.tag),
            self.position_write.data.eq(after),
        ]
        mine = Signal(self.tags)
        m.d.comb += mine.eq(1 << self.tag)
        self.mine = mine
        function = position.function
        control = Signal(FunctionControl)
        m.d.comb += control.eq(self.controls[function])
        stopped = (self.cancelled & mine).any()
        with m.Switch(self.event):
            with m.Case(_Event.REQUEST):
                request = self.held_request
                m.d.comb += [
                    after.function.eq(request.function),
                    after.write.eq(request.write),
                    after.hurried.eq(request.hurried),
                    after.iova.eq(request.iova),
                    after.left.eq(request.length),
                    after.memory.eq(request.memory),
                    after.offset.eq(request.offset),
                    self.position_write.en.eq(1),
                ]
                m.d.sync += self.active.eq(self.active | mine)
                self._again(m)
            with m.Case(_Event.READY):
                with m.If(stopped):
                    self._finish(m, DmaStatus.CANCELLED, 0)
                with m.Elif(~control.enable):
                    self._finish(m, DmaStatus.FAULT, 0)
                with m.Else():
                    self._begin(m, position, control)
            with m.Case(_Event.TRANSLATED):
                self._translated(m, position, after, stopped)
            with m.Case(_Event.COMPLETE):
                self._completed(m, position, after, stopped, control)
            with m.Case(_Event.RESPONSE):
                same = self.answer_generation == position.generation
                with m.If(self.answer_device == self._device(position.function)):
                    for generation, owed in enumerate(self.owed):
                        with m.If(self.answer_generation == generation):
                            m.d.sync += owed.eq(owed & ~mine)
                    with m.If((self.parked & mine).any() & (same | ~position.asked)):
                        code = Mux(position.asked, self.answer_code, PageResponse.SUCCESS)
                        self._answered(m, position, code, stopped)
            with m.Case(_Event.CANCEL):
                with m.If((self.parked & mine).any()):
                    m.d.sync += self.parked.eq(self.parked & ~mine)
                    self._finish(m, DmaStatus.CANCELLED, 0)
                with m.Elif((self.active & mine).any()):
                    m.d.sync += self.cancelled.eq(self.cancelled | mine)
            with m.Case(_Event.EXPIRE):
                late = (self.now - position.stamp)[:32] >= self.page_timeout
                with m.If((self.parked & mine).any() & late):
                    self._answered(m, position, PageResponse.FAILURE, stopped)

    def _again(self, m: Module) -> None:
        m.d.comb += [self.ready.w_data.eq(self.tag), self.ready.w_en.eq(1)]

    def _finish(self, m: Module, status, cause) -> None:
        """Report the end of the tag's request."""
        done = data.View(DmaDone, self.dones.w_data)
        m.d.comb += [
            done.tag.eq(self.tag),
            done.status.eq(status),
            done.cause.eq(cause),
            self.dones.w_en.eq(1),
        ]
        m.d.sync += [
            self.active.eq(self.active & ~self.mine),
            self.cancelled.eq(self.cancelled & ~self.mine),
        ]

    def _stat(self, m: Module, function, stat, amount) -> None:
        event = data.View(StatEvent, self.stats.w_data)
        m.d.comb += [
            event.function.eq(function),
            event.stat.eq(stat),
            event.amount.eq(amount),
            self.stats.w_en.eq(1),
        ]

    def _free(self, m: Module) -> None:
        m.d.sync += self.busy.eq(self.busy & ~(1 << self.slot)[: self.slots])

    def _begin(self, m: Module, position, control) -> None:
        """Take a slot for the next segment; ask for its translation, or go without."""
        room, length = Signal(13), Signal(13)
        request = self.translate.request
        m.d.comb += [
            room.eq(_PAGE - position.iova[:12]),
            length.eq(Mux(position.left < room, position.left, room)),
            self.slot_write.addr.eq(self.slot),
            self.slot_write.data.tag.eq(self.tag),
            self.slot_write.data.length.eq(length),
            self.slot_write.en.eq(1),
        ]
        m.d.sync += self.busy.eq(self.busy | (1 << self.slot)[: self.slots])
        with m.If(control.ats):
            m.d.sync += [
                request.valid.eq(1),
                request.payload.tag.eq(self.slot),
                request.payload.at.eq(AddressType.ATS_REQUEST),
                request.payload.device_id.eq(self._device(position.function)),
                request.payload.write.eq(position.write),
                request.payload.iova.eq(position.iova),
            ]
            self._stat(m, position.function, Stat.TRANSLATIONS, 1)
        with m.Else():
            self._move(m, position, length, position.iova, AddressType.UNTRANSLATED)

    def _move(self, m: Module, position, length, address, at) -> None:
        """Hand the segment to the direction it goes in."""
        for segments, wanted in ((self.reads.segment, ~position.write),
                                 (self.writes.segment, position.write)):  # fmt: skip
            payload = segments.payload
            m.d.comb += [
                segments.valid.eq(wanted),
                payload.slot.eq(self.slot),
                payload.address.eq(address),
                payload.length.eq(length),
                payload.user.device_id.eq(self._device(position.function)),
                payload.user.at.eq(at),
                payload.memory.eq(position.memory),
                payload.offset.eq(position.offset),
            ]

    def _translated(self, m: Module, position, after, stopped) -> None:
        """The segment's translation has come."""
        r, w, u = self.answer_rights
        right = Mux(position.write, w, r)
        room, length = Signal(13), Signal(13)
        m.d.comb += [
            room.eq(_PAGE - position.iova[:12]),
            length.eq(Mux(position.left < room, position.left, room)),
        ]
        refused = self.answer_status != TranslationStatus.SUCCESS
        with m.If(stopped):
            self._free(m)
            self._finish(m, DmaStatus.CANCELLED, 0)
        with m.Elif(refused):
            self._free(m)
            self._finish(m, DmaStatus.FAULT, self.answer_cause)
            self._stat(m, position.function, Stat.DMA_FAULTS, 1)
        with m.Elif(u):
            self._move(m, position, length, position.iova, AddressType.UNTRANSLATED)
        with m.Elif(right):
            self._move(m, position, length, self.answer_spa, AddressType.TRANSLATED)
        with m.Elif(position.hurried):
            self._free(m)
            self._finish(m, DmaStatus.ABSENT, 0)
        with m.Else():
            self._free(m)
            self._park(m, position, after)

    def _park(self, m: Module, position, after) -> None:
        """Ask for the page and wait; without an index that is free, wait for one."""
        request = self.asking.i
        payload = data.View(PageRequestPayload, request.payload.payload)
        generation, tag = Signal(), Signal(8, name="group_tag")
        taken = [(owed & self.mine).any() for owed in self.owed]
        asks = ~(taken[0] & taken[1])
        m.d.comb += [generation.eq(taken[0]), tag.eq(self.tag)]
        m.d.sync += self.parked.eq(self.parked | self.mine)
        for number, owed in enumerate(self.owed):
            with m.If(generation == number):
                m.d.sync += owed.eq(owed | self.mine)
        m.d.comb += [
            request.valid.eq(asks),
            request.payload.device_id.eq(self._device(position.function)),
            payload.r.eq(~position.write),
            payload.w.eq(position.write),
            payload.last.eq(1),
            payload.index.eq(Cat(tag, generation)),
            payload.address.eq(position.iova[12:]),
        ]
        m.d.comb += [
            after.stamp.eq(self.now),
            after.generation.eq(generation),
            after.asked.eq(asks),
            self.position_write.en.eq(1),
        ]
        with m.If(asks):
            self._stat(m, position.function, Stat.PAGE_REQUESTS, 1)

    def _completed(self, m: Module, position, after, stopped, control) -> None:
        """The segment's data have moved."""
        length = Signal(13)
        m.d.comb += length.eq(self.completed_length)
        left = position.left - length
        m.d.comb += [
            after.left.eq(left),
            after.iova.eq(position.iova + length),
            after.offset.eq(position.offset + length),
            self.position_write.en.eq(1),
        ]
        self._free(m)
        with m.If(self.bad):
            self._finish(m, Mux(control.ats, DmaStatus.BUS, DmaStatus.FAULT), 0)
            self._stat(m, position.function, Stat.DMA_FAULTS, 1)
        with m.Else():
            with m.If(stopped):
                self._finish(m, DmaStatus.CANCELLED, 0)
            with m.Elif(left[:16] == 0):
                self._finish(m, DmaStatus.OK, 0)
            with m.Else():
                self._again(m)
            self._stat(
                m,
                position.function,
                Mux(position.write, Stat.DMA_WRITE_BYTES, Stat.DMA_READ_BYTES),
                length,
            )

    def _answered(self, m: Module, position, code, stopped) -> None:
        """The page request has been answered."""
        m.d.sync += self.parked.eq(self.parked & ~self.mine)
        m.d.comb += self.answered_now.eq(1)
        with m.If(stopped):
            self._finish(m, DmaStatus.CANCELLED, 0)
        with m.Elif(code == PageResponse.SUCCESS):
            self._again(m)
            self._stat(m, position.function, Stat.PAGE_RETRIES, 1)
        with m.Elif(code == PageResponse.INVALID):
            self._finish(m, DmaStatus.INVALID, 0)
            self._stat(m, position.function, Stat.DMA_FAULTS, 1)
        with m.Else():
            self._finish(m, DmaStatus.FAILURE, 0)
            self._stat(m, position.function, Stat.DMA_FAULTS, 1)
