"""Slow path of the DMA engine: requests that wait for a page, and what ends their waiting."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.iommu import PageResponse
from models.spec.nic import FunctionControl, Stat
from models.spec.translation import GroupResponse, PageRequest
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.dma_begin import PositionRead
from rtl.nic.fallen import Fallen
from rtl.nic.page_messages import PageMessages
from rtl.nic.seams import DmaDone, DmaStatus, StatEvent
from rtl.nic.segments import TAG_BITS

__all__ = ["DmaParking"]


class _Owed(data.Struct):
    """A page request that has not been answered, maybe of a request that has ended since."""

    valid: 1
    function: 8


class _Record(data.Struct):
    """What is kept per tag."""

    parked: 1
    asked: 1  # by a page request of this generation; else it waits for an index, and asks then
    generation: 1
    stamp: 32  # cycle of parking
    owed: data.ArrayLayout(_Owed, 2)  # per generation


class _Event(enum.IntEnum, shape=2):
    """What is attended to."""

    CANCEL = 0
    RESPONSE = 1  # of a page request group
    PARK = 2
    SCAN = 3  # look at a tag's age


class DmaParking(wiring.Component):
    """Parks requests in RAM, sends their page requests, and ends their waiting: by the answer, by a
    cancel, or in time.  Between any two events it looks at one tag.

    A page request's group index is the tag and a generation.  While an answer is owed the function
    does not use its index again: a tag asks with the other generation, and with both owed waits for
    an answer before it asks.  Answers are owed to functions; another function's do not count, and a
    function that was disabled is owed nothing any more.

    Latency
    -------
    Two cycles per event, three with two counts.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    cancel : ``In(stream)`` of a tag
        The tag's request, if it is parked, ends.
    park : ``In(stream)`` of a tag
        The tag's request is to wait.
    tag, cancelled : ``Out(TAG_BITS)``, ``In(1)``
        Whether the tag's request is to end, in the same cycle.
    position : ``Out(PositionRead())``
        Where it is.
    retry : ``Out(stream)`` of a tag
    done : ``Out(stream.Signature(DmaDone))``
    page_request, group_response : streams
    controls : ``In(ArrayLayout(FunctionControl))``; page_timeout : ``In(32)``
    stat : ``Out(stream.Signature(StatEvent))``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "cancel": In(stream.Signature(TAG_BITS)),
                "park": In(stream.Signature(TAG_BITS)),
                "tag": Out(TAG_BITS),
                "cancelled": In(1),
                "position": Out(PositionRead()),
                "retry": Out(stream.Signature(TAG_BITS)),
                "done": Out(stream.Signature(DmaDone)),
                "page_request": Out(stream.Signature(PageRequest)),
                "group_response": In(stream.Signature(GroupResponse)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
                "page_timeout": In(32),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tags = self.config.dma_tags
        m.submodules.arrivals = self.arrivals = StreamFifo(TAG_BITS, tags)
        m.submodules.messages = self.messages = messages = PageMessages(self.config)
        connect(m, messages.page_request, flipped(self.page_request))
        connect(m, flipped(self.group_response), messages.group_response)
        m.submodules.stats = self.stats = StreamRegister(StatEvent)
        m.submodules.fallen = self.fallen = Fallen(self.config.functions)
        m.submodules.records = records = memory.Memory(shape=_Record, depth=tags, init=[])
        self.read, self.write = records.read_port(), records.write_port()
        connect(m, flipped(self.park), self.arrivals.i)
        connect(m, self.stats.o, flipped(self.stat))
        self.event, self.answered = Signal(_Event), Signal()
        self.code, self.generation, self.device = Signal(4), Signal(), Signal(24)
        self.now, self.scan = Signal(32), Signal(range(tags))
        enabled = Cat(control.enable for control in self.controls)
        m.d.comb += [
            self.fallen.enabled.eq(enabled),
            self.fallen.restart.eq(self.scan == 0),
            self.done.payload.tag.eq(self.tag),
            self.retry.payload.eq(self.tag),
            self.read.addr.eq(self.position.tag),
            self.read.en.eq(self.position.en),
            self.write.addr.eq(self.tag),
        ]
        m.d.sync += self.now.eq(self.now + 1)
        second = Signal(Stat)
        with m.FSM():
            with m.State("CHOOSE"):
                self._choose(m)
                m.next = "ACT"
            with m.State("ACT"):
                # Whatever an event needs room for is there before it is acted upon.
                with m.If(self.done.ready & self.retry.ready & self.stats.i.ready):
                    self._act(m, second)
                    m.next = "CHOOSE"
                    with m.If(self.answered):
                        m.next = "COUNT"
            with m.State("COUNT"):  # a second count of the same event
                self._stat(m, second, 1)
                with m.If(self.stats.i.ready):
                    m.next = "CHOOSE"
        return m

    def _choose(self, m: Module) -> None:
        """Cancels first: no request that is younger than one may be here before it."""
        position, response = self.position, self.messages.answer
        group = response.payload
        scans = Signal()  # the last event was no scan
        m.d.comb += [position.en.eq(1), position.tag.eq(self.scan)]
        m.d.sync += [
            self.event.eq(_Event.SCAN),
            scans.eq(1),
            self.code.eq(group.code),
            self.generation.eq(group.index[8]),
            self.device.eq(group.device_id),
            self.tag.eq(position.tag),
        ]
        with m.If(self.cancel.valid):
            m.d.comb += [position.tag.eq(self.cancel.payload), self.cancel.ready.eq(1)]
            # Cancels that come one after another leave every second event to the others.
            m.d.sync += [self.event.eq(_Event.CANCEL), scans.eq(scans)]
        with m.Elif(scans):
            m.d.sync += scans.eq(0)
        with m.Elif(response.valid):
            m.d.comb += [position.tag.eq(group.index), response.ready.eq(1)]
            with m.If(group.index[:TAG_BITS] < self.config.dma_tags):
                m.d.sync += self.event.eq(_Event.RESPONSE)
            with m.Else():  # of nobody
                m.d.comb += position.tag.eq(self.scan)
        with m.Elif(self.arrivals.o.valid & self.messages.ask.ready):
            m.d.comb += position.tag.eq(self.arrivals.o.payload)
            m.d.sync += self.event.eq(_Event.PARK)

    def _act(self, m: Module, second) -> None:
        """Act on the event; record and position are at the read ports."""
        record, after = self.read.data, self.write.data
        m.d.comb += after.eq(record)
        with m.Switch(self.event):
            with m.Case(_Event.CANCEL):
                with m.If(record.parked):
                    m.d.comb += [after.parked.eq(0), self.write.en.eq(1)]
                    self._finish(m, DmaStatus.CANCELLED)
            with m.Case(_Event.RESPONSE):
                self._response(m, record, after, second)
            with m.Case(_Event.PARK):
                self._park(m, record, after)
            with m.Case(_Event.SCAN):
                self._scan(m, record, after, second)

    def _response(self, m: Module, record, after, second) -> None:
        """Nobody believes an answer that is not its own."""
        for generation, owed in enumerate(record.owed):
            expected = Signal(name=f"expected{generation}")
            m.d.comb += expected.eq(
                owed.valid
                & (self.generation == generation)
                & (self.device == self._device(owed.function))
            )
            same = record.generation == generation
            with m.If(expected):
                m.d.comb += [after.owed[generation].valid.eq(0), self.write.en.eq(1)]
                with m.If(record.parked & (same | ~record.asked)):
                    code = Mux(record.asked, self.code, PageResponse.SUCCESS)
                    self._answered(m, record, after, code, second)

    def _park(self, m: Module, record, after) -> None:
        """Ask for the page and wait; without an index that is free, wait for one."""
        position, request = self.position, self.messages.ask
        taken, generation = Signal(2), Signal()
        enabled = Signal()
        m.d.comb += [
            enabled.eq(self.controls[position.function].enable),
            taken.eq(
                Cat(owed.valid & (owed.function == position.function) for owed in record.owed)
            ),
            # Rather an index that nobody uses than one that another function does.
            generation.eq(Mux(taken.any(), taken[0], record.owed[0].valid)),
            request.payload.function.eq(position.function),
            request.payload.write.eq(position.write),
            request.payload.index.eq(Cat(self.tag, generation)),
            request.payload.page.eq(position.page),
        ]
        with m.If(self.cancelled | ~enabled):
            m.d.comb += self.arrivals.o.ready.eq(1)
            self._finish(m, Mux(self.cancelled, DmaStatus.CANCELLED, DmaStatus.FAULT))
        with m.Elif(~self.fallen.bits.bit_select(position.function, 1)):
            m.d.comb += [
                self.arrivals.o.ready.eq(1),
                self.write.en.eq(1),
                after.parked.eq(1),
                after.asked.eq(~taken.all()),
                after.generation.eq(generation),
                after.stamp.eq(self.now),
                request.valid.eq(after.asked),
            ]
            with m.If(after.asked):
                for number in range(2):
                    with m.If(generation == number):
                        m.d.comb += [
                            after.owed[number].valid.eq(1),
                            after.owed[number].function.eq(position.function),
                        ]
                self._stat(m, Stat.PAGE_REQUESTS, 1)

    def _scan(self, m: Module, record, after, second) -> None:
        """Forget what functions are owed that were disabled; end what has waited too long."""
        m.d.comb += self.write.en.eq(1)
        m.d.sync += self.scan.eq(Mux(self.scan == self.config.dma_tags - 1, 0, self.scan + 1))
        for generation, owed in enumerate(record.owed):
            waits = record.parked & record.asked & (record.generation == generation)
            with m.If(self.fallen.bits.bit_select(owed.function, 1) & ~waits):
                m.d.comb += after.owed[generation].valid.eq(0)
        owed = [record.owed[generation].valid for generation in range(2)]
        late = (self.now - record.stamp)[:32] >= self.page_timeout
        with m.If(record.parked):
            with m.If(~record.asked & ~(owed[0] & owed[1])):
                self._answered(m, record, after, PageResponse.SUCCESS, second)
            with m.Elif(late & (self.page_timeout != 0)):
                self._answered(m, record, after, PageResponse.FAILURE, second)

    def _answered(self, m: Module, record, after, code, second) -> None:
        """The request does not wait any longer."""
        m.d.comb += [after.parked.eq(0), self.answered.eq(1)]
        self._stat(m, Stat.PARKED_CYCLES, (self.now - record.stamp)[:32])
        m.d.sync += second.eq(Stat.DMA_FAULTS)
        with m.If(code == PageResponse.SUCCESS):
            m.d.comb += self.retry.valid.eq(1)
            m.d.sync += second.eq(Stat.PAGE_RETRIES)
        with m.Elif(code == PageResponse.INVALID):
            self._finish(m, DmaStatus.INVALID)
        with m.Else():
            self._finish(m, DmaStatus.FAILURE)

    def _finish(self, m: Module, status) -> None:
        m.d.comb += [self.done.valid.eq(1), self.done.payload.status.eq(status)]

    def _stat(self, m: Module, stat, amount) -> None:
        m.d.comb += [
            self.stats.i.valid.eq(1),
            self.stats.i.payload.function.eq(self.position.function),
            self.stats.i.payload.stat.eq(stat),
            self.stats.i.payload.amount.eq(amount),
        ]

    def _device(self, function):
        return self.config.device_id + function
