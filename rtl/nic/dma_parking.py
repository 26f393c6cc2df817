"""Slow path of the DMA engine: requests that wait for a page, and what ends their waiting."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.iommu import PageResponse
from models.spec.nic import FunctionControl, Stat
from models.spec.translation import GroupResponse, PageRequest
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.dma_begin import PositionRead
from rtl.nic.fallen import Fallen
from rtl.nic.page_messages import PageMessages
from rtl.nic.parking_records import PAGE_BITS, ParkedRecord, Wait
from rtl.nic.seams import DmaDone, DmaStatus, StatEvent
from rtl.nic.segments import TAG_BITS

__all__ = ["BACK_OFF", "RECENT", "DmaParking"]

#: Whose page is not there although it was said to be, less than so many cycles ago, asks again
#: ``BACK_OFF << times`` cycles later.
RECENT, BACK_OFF = 1024, 64


class _Event(enum.IntEnum, shape=2):
    """What is attended to."""

    CANCEL = 0
    RESPONSE = 1  # of a page request group
    PARK = 2
    SCAN = 3  # look at a tag's age


class _Wanted(data.Struct):
    """The page for which a request parks."""

    function: 8
    write: 1
    page: 52


class _Leader(data.Struct):
    """What of a record is to be known to those who wait for its answer."""

    asking: 1
    generation: 1


class DmaParking(wiring.Component):
    """Parks requests in RAM, sends their page requests, and ends their waiting: by the answer, by a
    cancel, or in time.  Between any two events it looks at one tag.

    A page request's group index is the tag and a generation.  While an answer is owed the function
    does not use its index again: a tag asks with the other generation, and with both owed waits for
    an answer before it asks.  Answers are owed to functions; another function's do not count, and a
    function that was disabled is owed nothing any more.

    For a page that another request of the function has asked for no second page request goes out:
    the request waits for the end of the other one's waiting, and is retried.  So is, after a while,
    one whose page is still not there right after the answer Success, which is also how the IOMMU
    answers while its queue is full: each time it waits longer before it asks again.

    Latency
    -------
    Three cycles per event, four to park or with two counts; one more, and one per tag, to park
    while others wait for answers.

    Parameters
    ----------
    config : NicConfig
    back_off : int
        Cycles, ``BACK_OFF`` but where a proof looks at few.

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

    def __init__(self, config: NicConfig, *, back_off: int = BACK_OFF):
        self.config, self.back_off = config, back_off
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
        # None is looked at while it is written: each event reads first, and writes later.
        m.submodules.records = records = memory.Memory(
            shape=ParkedRecord, depth=tags, init=[], attrs=BLOCK
        )
        self.read, self.write = records.read_port(), records.write_port()
        self.record = Signal(ParkedRecord)  # what was read, with its age
        # Once more what those look at who wait for another's answer.
        leaders = memory.Memory(shape=_Leader, depth=tags, init=[])
        m.submodules.leaders = leaders
        self.leader, lead = leaders.read_port(), leaders.write_port()
        connect(m, flipped(self.park), self.arrivals.i)
        connect(m, self.stats.o, flipped(self.stat))
        self.event, self.answered = Signal(_Event), Signal()
        self.code, self.generation, self.device = Signal(4), Signal(), Signal(24)
        self.now, self.scan = Signal(32), Signal(range(tags))
        self.age = Signal(32)  # of the record, in the cycle before
        self.asking = Signal(range(tags + 1))  # requests that wait for an answer
        self.wanted, self.place = Signal(_Wanted), Signal(range(tags))
        self.parks, self.follows = Signal(), Signal()
        self.found, self.other, self.other_generation = Signal(), Signal(TAG_BITS), Signal()
        enabled = Cat(control.enable for control in self.controls)
        m.d.comb += [
            self.fallen.enabled.eq(enabled),
            self.fallen.restart.eq(self.scan == 0),
            self.done.payload.tag.eq(self.tag),
            self.retry.payload.eq(self.tag),
            self.read.addr.eq(self.position.tag),
            self.read.en.eq(self.position.en),
            self.write.addr.eq(self.tag),
            self.leader.addr.eq(self.read.data.leader),
            lead.en.eq(self.write.en),
            lead.addr.eq(self.write.addr),
            lead.data.asking.eq(self.write.data.asking),
            lead.data.generation.eq(self.write.data.generation),
        ]
        m.d.sync += [
            self.now.eq(self.now + 1),
            self.record.eq(self.read.data),
            self.age.eq(self.now - self.read.data.stamp),
        ]
        second, room = Signal(Stat), Signal()
        # As it was a cycle ago: nobody else takes any, and between two events there are two cycles.
        m.d.sync += room.eq(self.done.ready & self.retry.ready & self.stats.i.ready)
        with m.FSM():
            with m.State("CHOOSE"):
                self._choose(m)
                m.next = "AGE"
            with m.State("AGE"):  # which is long to reckon from what the RAM has just given
                m.next = "ACT"
            with m.State("ACT"):
                # Whatever an event needs room for is there before it is acted upon.
                with m.If(room):
                    self._act(m, second)
                    m.next = "CHOOSE"
                    with m.If(self.answered):
                        m.next = "COUNT"
                    with m.If(self.parks):
                        m.next = "ASK"
                        with m.If(self.asking != 0):
                            m.next = "SEARCH"
                    with m.If(self.follows):
                        m.next = "OTHER"
            with m.State("SEARCH"):
                with m.If(self._search(m)):
                    m.next = "RETURN"
            with m.State("RETURN"):  # to the record of the one that parks, and its age
                m.next = "ASK"
            with m.State("ASK"):
                with m.If(room):
                    self._ask(m)
                    m.next = "CHOOSE"
            with m.State("OTHER"):
                with m.If(room):
                    self._other(m, second)
                    m.next = "CHOOSE"
                    with m.If(self.answered):
                        m.next = "COUNT"
            with m.State("COUNT"):  # a second count of the same event
                self._stat(m, second, 1)
                with m.If(self.stats.i.ready):
                    m.next = "CHOOSE"
        self._count_asking(m)
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
        """Act on the event; record and position are known."""
        record, after = self.record, self.write.data
        m.d.comb += after.eq(record)
        with m.Switch(self.event):
            with m.Case(_Event.CANCEL):
                with m.If(record.parked):
                    m.d.comb += [after.parked.eq(0), self.write.en.eq(1)]
                    self._finish(m, DmaStatus.CANCELLED)
            with m.Case(_Event.RESPONSE):
                self._response(m, record, after, second)
            with m.Case(_Event.PARK):
                self._park(m)
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
            own = (record.wait == Wait.ANSWER) & (record.generation == generation)
            with m.If(expected):
                m.d.comb += [after.owed[generation].valid.eq(0), self.write.en.eq(1)]
                with m.If(record.parked & (own | (record.wait == Wait.INDEX))):
                    code = Mux(own, self.code, PageResponse.SUCCESS)
                    self._answered(m, record, after, code, second)

    def _park(self, m: Module) -> None:
        """End what is not to wait; look whether another one has asked for the page of the rest."""
        position = self.position
        with m.If(self.cancelled | ~self.controls[position.function].enable):
            m.d.comb += self.arrivals.o.ready.eq(1)
            self._finish(m, Mux(self.cancelled, DmaStatus.CANCELLED, DmaStatus.FAULT))
        with m.Elif(~self.fallen.bits.bit_select(position.function, 1)):
            m.d.comb += self.parks.eq(1)
            m.d.sync += [
                self.wanted.function.eq(position.function),
                self.wanted.write.eq(position.write),
                self.wanted.page.eq(position.page),
                self.found.eq(0),
                self.place.eq(0),
            ]

    def _search(self, m: Module):
        """Look at one tag after another; returns whether that was all."""
        position, record, wanted, ends = self.position, self.read.data, self.wanted, Signal()
        looked, at = Signal(), Signal.like(self.place)  # what is at the ports
        same = (
            record.asking
            & (position.function == wanted.function)
            & (position.page == wanted.page)
            & (position.write | ~wanted.write)
        )
        m.d.comb += [
            position.en.eq(1),
            position.tag.eq(Mux(ends, self.tag, self.place)),
            ends.eq(looked & (same | (at == self.config.dma_tags - 1))),
        ]
        m.d.sync += [self.place.eq(self.place + 1), at.eq(self.place), looked.eq(~ends)]
        with m.If(looked & same):
            m.d.sync += [
                self.found.eq(1),
                self.other.eq(at),
                self.other_generation.eq(record.generation),
            ]
        return ends

    def _ask(self, m: Module) -> None:
        """Ask for the page and wait, or wait without."""
        record, after = self.record, self.write.data
        position, request = self.position, self.messages.ask
        taken, generation, again, page = Signal(2), Signal(), Signal(), Signal(PAGE_BITS)
        m.d.comb += [
            after.eq(record),
            taken.eq(
                Cat(owed.valid & (owed.function == position.function) for owed in record.owed)
            ),
            # Rather an index that nobody uses than one that another function does, and not the
            # same one twice: an answer may still come of which nobody knows any more.
            generation.eq(
                Mux(taken.any(), taken[0],
                    Mux(record.owed[0].valid | record.owed[1].valid, record.owed[0].valid,
                        ~record.generation))
            ),
            page.eq(position.page),
            again.eq(record.retried & (record.page == page) & (self.age < RECENT)),
            request.payload.function.eq(position.function),
            request.payload.write.eq(position.write),
            request.payload.index.eq(Cat(self.tag, generation)),
            request.payload.page.eq(position.page),
        ]  # fmt: skip
        with m.If(~self.fallen.bits.bit_select(position.function, 1)):
            m.d.comb += [
                self.arrivals.o.ready.eq(1),
                self.write.en.eq(1),
                after.parked.eq(1),
                after.leader.eq(self.other),
                after.leader_generation.eq(self.other_generation),
                after.page.eq(page),
                after.stamp.eq(self.now),
            ]
            with m.If(~again):
                m.d.comb += after.times.eq(0)
            with m.If(self.found):
                m.d.comb += after.wait.eq(Wait.OTHER)
            with m.Elif(again & (record.wait != Wait.TIME)):
                m.d.comb += after.wait.eq(Wait.TIME)
                with m.If(~record.times.all()):
                    m.d.comb += after.times.eq(record.times + 1)
            with m.Elif(taken.all()):
                m.d.comb += after.wait.eq(Wait.INDEX)
            with m.Else():
                m.d.comb += [
                    request.valid.eq(1),
                    after.wait.eq(Wait.ANSWER),
                    after.generation.eq(generation),
                ]
                for number in range(2):
                    with m.If(generation == number):
                        m.d.comb += [
                            after.owed[number].valid.eq(1),
                            after.owed[number].function.eq(position.function),
                        ]
            self._stat(m, Mux(request.valid, Stat.PAGE_REQUESTS, Stat.PAGE_WAITS), 1)

    def _count_asking(self, m: Module) -> None:
        before, after = self.record.asking, self.write.data.asking
        with m.If(self.write.en):
            m.d.sync += self.asking.eq(self.asking + after - before)

    def _scan(self, m: Module, record, after, second) -> None:
        """End what has waited long enough, or too long."""
        m.d.sync += self.scan.eq(Mux(self.scan == self.config.dma_tags - 1, 0, self.scan + 1))
        age, owed = self.age, record.owed
        late = (age >= self.page_timeout) & (self.page_timeout != 0)
        index = (record.wait == Wait.INDEX) & ~(owed[0].valid & owed[1].valid)
        time = (record.wait == Wait.TIME) & (age >= (self.back_off << record.times))
        with m.If(record.parked & (record.wait == Wait.OTHER) & ~late):
            m.d.comb += self.follows.eq(1)
        with m.Else():
            m.d.comb += self.write.en.eq(1)
            self._forget(m, record, after)
            with m.If(record.parked & (index | time)):
                self._answered(m, record, after, PageResponse.SUCCESS, second)
            with m.Elif(record.parked & late):
                self._answered(m, record, after, PageResponse.FAILURE, second)

    def _other(self, m: Module, second) -> None:
        """Look whether the request that has asked waits on."""
        record, after, leader = self.record, self.write.data, self.leader.data
        m.d.comb += [after.eq(record), self.write.en.eq(1)]
        self._forget(m, record, after)
        with m.If(~leader.asking | (leader.generation != record.leader_generation)):
            self._answered(m, record, after, PageResponse.SUCCESS, second)

    def _forget(self, m: Module, record, after) -> None:
        """Forget what functions are owed that were disabled."""
        for generation, owed in enumerate(record.owed):
            waits = record.asking & (record.generation == generation)
            with m.If(self.fallen.bits.bit_select(owed.function, 1) & ~waits):
                m.d.comb += after.owed[generation].valid.eq(0)

    def _answered(self, m: Module, record, after, code, second) -> None:
        """The request does not wait any longer."""
        m.d.comb += [
            after.parked.eq(0),
            self.answered.eq(1),
            after.stamp.eq(self.now),
            after.retried.eq(
                (code == PageResponse.SUCCESS)
                & (record.wait != Wait.INDEX)
                & (record.wait != Wait.OTHER)
            ),
        ]
        self._stat(m, Stat.PARKED_CYCLES, self.age)
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
