"""Used elements and used index, or used descriptors, in batches (virtio 1.3, 2.7.8 and 2.8)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.nic import QueueError
from models.spec.virtio import AVAIL_F_NO_INTERRUPT, EventFlags, EventSuppression
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.bus.turns import Turns
from rtl.nic.engine.records import (
    ELEMENT_BEAT,
    FLAGS_BEAT,
    INDEX_BEAT,
    SCRATCH_BEATS,
    USED_PLACES,
    QueueSetup,
    Shapes,
    Unit,
    accepted,
    advance,
    without,
)
from rtl.nic.seams import DmaStatus, ErrorReport, LocalMemory, UsedBuffers

__all__ = ["UsedRing"]

#: Cycles that fewer wait at most.
_TICK = 64


class _Phase(enum.IntEnum, shape=3):
    """What a queue's DMA is for."""

    REST = 0
    ELEMENTS = 1
    FIRST = 2  # packed: the first element, behind all others
    INDEX = 3
    #: The driver's, or its used_event: read after the index is visible, so that no interrupt is
    #: missed.
    FLAGS = 4


class UsedRing(wiring.Component):
    """Writes what has been committed into each queue's used ring, and says so.

    A batch goes when it has 4 elements, when it is urgent, or within 64 cycles; what is committed
    meanwhile is the next one.  It is written in one DMA, or several where the ring or scratch
    memory ends or a packed chain is longer than one descriptor.  The driver sees all of it at once:
    in a split ring by the index; in a packed one, where frames may take several chains, the first
    element goes last.

    With IN_ORDER one element, the last, stands for all of a transmitter's batch, since nothing is
    written to its chains (2.7.9, 2.8.9); in a packed ring for those of one lap.  What is received
    fills few chains completely: its elements are all written.

    Latency
    -------
    3 cycles to take a queue up, 1 or 2 to put it back, 4 times per batch, once more for each more
    DMA.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    init : ``In(stream)`` of a queue
    committed, urgent : ``In(queues)``
        An element has been stored; those that are stored are to be written now.
    able : ``In(queues)``
        Queues that may begin a batch or go on with it.
    busy : ``Out(queues)``
        Queues with a DMA or whose turn it is.
    moved, fail : ``Out(queues)``
        There are no more elements, or fewer; the ring cannot be reached.
    patient_room : ``In(1)``; job : ``Out(stream)``; ended : ``In(stream)``
    queue : ``Out``; setup : ``In(QueueSetup)``; chains : ``In(16)``
        Whose turn it is; its rings, and up to where chains are committed, a cycle later.
    span_at : ``Out``; span : ``In(16)``
        Places of the ring that a used element takes; a cycle later.
    flags : ``In(16)``
        What has been read last of the driver's flags, or used_event, or of a packed ring the event
        suppression structure, of ``queue``; a cycle later.
    number_en, number : ``Out``
        A used index of ``queue``, to be written by DMA.
    flushed_en, flushed_queue, flushed : ``Out``
        Up to where elements have been written.
    used : ``Out(stream)`` of UsedBuffers; error : ``Out(stream)`` of ErrorReport
        Function of ``queue``.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        queues, shapes = config.data_queues, self.shapes
        super().__init__(
            {
                "init": In(stream.Signature(shapes.queue)),
                "committed": In(queues),
                "urgent": In(queues),
                "able": In(queues),
                "busy": Out(queues),
                "moved": Out(queues),
                "fail": Out(queues),
                "patient_room": In(1),
                "job": Out(stream.Signature(shapes.job)),
                "ended": In(stream.Signature(shapes.ended)),
                "queue": Out(shapes.queue),
                "setup": In(QueueSetup),
                "chains": In(16),
                "span_at": Out(range(USED_PLACES)),
                "span": In(16),
                "flags": In(32),
                "number_en": Out(1),
                "number": Out(16),
                "flushed_en": Out(1),
                "flushed_queue": Out(shapes.queue),
                "flushed": Out(16),
                "used": Out(stream.Signature(UsedBuffers)),
                "error": Out(stream.Signature(ErrorReport)),
            }
        )
        self._state = data.StructLayout(
            {
                "phase": _Phase,
                "patient": 1,
                "flushed": 16,  # chains that the driver has been told of
                "target": 16,  # up to where the batch goes
                "written": 16,  # up to where its elements are written
                "count": range(USED_PLACES + 1),  # elements of the batch
                "amount": range(USED_PLACES + 1),  # of the DMA
                "deferred": 1,  # packed: the first element waits for the others
                "first": 16,  # packed: position of the first of the batch
                "total": 16,  # packed: places of the batch
                "place": 16,  # packed: position of ``written``
                "places": 16,  # packed: of the DMA
            }
        )

    def _kept(self) -> data.StructLayout:
        """The state as it is between turns: without what belongs to features that are not there."""
        packed = ["deferred", "first", "total", "place", "places"]
        return without(self._state, [] if self.config.packed else packed)

    def elaborate(self, platform):
        m = Module()
        queues = self.config.data_queues
        row, self.ring = self._kept(), accepted(self.config, self.setup)
        m.submodules.states = states = Memory(shape=row, depth=queues, init=[], attrs=BLOCK)
        self.read, self.write = states.read_port(), states.write_port()
        m.submodules.ends = self.ends = StreamFifo(self.shapes.ended, max(2, queues), block=True)
        m.submodules.notices = self.notices = StreamRegister(UsedBuffers)
        m.submodules.errors = self.errors = StreamRegister(ErrorReport)
        connect(m, flipped(self.ended), self.ends.i)
        connect(m, self.notices.o, flipped(self.used))
        connect(m, self.errors.o, flipped(self.error))
        self.s, self.mine = Signal(self._state), Signal(queues)
        self.skips = self.ring.in_order & self.queue[0]  # all but the last element
        self.woken, self.status = Signal(), Signal(DmaStatus)
        self.flying, self.patience = Signal(queues), Signal(queues)
        self.again, visiting = Signal(), Signal()
        self.raises = Signal()
        m.d.comb += [
            self.mine.eq(1 << self.queue),
            self.read.addr.eq(self.queue),
            self.write.addr.eq(self.queue),
            *(self.write.data[name].eq(self.s[name]) for name in row.members),
            self.busy.eq(self.flying | Mux(visiting, self.mine, 0)),
            self.flushed_queue.eq(self.queue),
            self.flushed.eq(self.s.target),
            self.number.eq(self.s.target),
        ]
        self._wanted(m)
        with m.FSM() as fsm:
            self._choose(m)
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [self.s[name].eq(self.read.data[name]) for name in row.members]
                m.next = "ENDED"
                with m.If(self.woken):
                    m.next = "START"
            self._start(m)
            self._ended(m)
            self._issue(m)
            with m.State("SAVE"):
                m.d.comb += self.write.en.eq(1)
                m.next = "CHOOSE"
                with m.If(~self.init.valid):
                    self._turn(m)
        m.d.comb += visiting.eq(~fsm.ongoing("CHOOSE"))
        return m

    def _choose(self, m: Module) -> None:
        queues, init = self.config.data_queues, self.init
        m.submodules.turns = self.turns = turns = Turns(queues)
        waiting, due, again = Signal(queues), Signal(queues), Signal(queues)
        self.clear, tick = Signal(queues), Signal(range(_TICK))
        m.d.comb += [
            again.eq(Mux(self.again, self.mine, 0)),
            turns.wants.eq(
                due
                & self.able
                & ~self.flying
                & (~self.patience | self.patient_room.replicate(queues))
            ),
        ]
        m.d.sync += [
            tick.eq(tick + 1),
            waiting.eq((waiting & ~self.clear) | self.committed),
            due.eq((due & ~self.clear) | again | self.urgent | Mux(tick == 0, waiting, 0)),
        ]
        with m.State("CHOOSE"):
            with m.If(init.valid):
                m.d.comb += [
                    init.ready.eq(1),
                    self.clear.eq(1 << init.payload),
                    self.write.addr.eq(init.payload),
                    self.write.data.eq(0),
                    self.write.en.eq(1),
                    self.flushed_en.eq(1),
                    self.flushed_queue.eq(init.payload),
                    self.flushed.eq(0),
                ]
                m.d.sync += self.patience.eq(self.patience & ~self.clear)
            with m.Else():
                self._turn(m)

    def _turn(self, m: Module) -> None:
        """Take the next queue up, if there is one: batches that are begun are ended first, so that
        others are larger.
        """
        turns, ends = self.turns, self.ends.o
        m.d.sync += self.status.eq(ends.payload.status)
        with m.If(ends.valid):
            m.d.comb += ends.ready.eq(1)
            m.d.sync += [
                self.queue.eq(ends.payload.owner.queue),
                self.flying.eq(self.flying & ~(1 << ends.payload.owner.queue)),
                self.woken.eq(0),
            ]
            m.next = "READ"
        with m.Elif(turns.any):
            m.d.comb += [turns.take.eq(1), self.clear.eq(1 << turns.chosen)]
            m.d.sync += [
                self.queue.eq(turns.chosen),
                self.patience.eq(self.patience & ~self.clear),
                self.woken.eq(1),
            ]
            m.next = "READ"

    def _start(self, m: Module) -> None:
        """Begin a batch: all that is committed."""
        s, waiting = self.s, Signal(16)
        merges = self.ring.packed & self.ring.mergeable & ~self.queue[0]
        m.d.comb += waiting.eq(self.chains - s.flushed)
        with m.State("START"):
            with m.If(s.patient):
                m.next = "ISSUE"
            with m.Elif(waiting == 0):
                m.d.comb += self.moved.eq(self.mine)
                m.next = "CHOOSE"
            with m.Else():
                m.d.sync += [
                    s.target.eq(self.chains),
                    s.written.eq(s.flushed),
                    s.count.eq(waiting),
                    s.first.eq(s.place),
                    s.total.eq(0),
                    s.deferred.eq(merges & (waiting != 1)),
                ]
                m.next = "SEGMENT"
        self._segment(m)

    def _segment(self, m: Module) -> None:
        """Take elements that lie one behind another, in the ring and in scratch memory."""
        s, setup, size = self.s, self.ring, self.ring.size
        left, room, least = Signal(16), Signal(16), Signal(16)
        place, most = Signal(range(USED_PLACES + 1)), Signal(range(USED_PLACES + 1))
        m.d.comb += [
            left.eq(s.target - s.written),
            room.eq(size - (s.written & (size - 1))),  # of a split ring
            place.eq(USED_PLACES - (s.written & (USED_PLACES - 1))),
            least.eq(Mux((left < room) | setup.packed | self.skips, left, room)),
            most.eq(Mux((least < place) | self.skips, least, place)),
            self.span_at.eq(s.written + s.amount),
        ]
        with m.State("SEGMENT"):
            m.d.sync += [s.phase.eq(_Phase.ELEMENTS), s.amount.eq(most), s.places.eq(0)]
            m.next = "ISSUE"
            if self.config.packed:
                with m.If(setup.packed):
                    m.d.sync += s.amount.eq(0)
                    m.next = "LOOK"
        if self.config.packed:
            self._spans(m, most)

    def _spans(self, m: Module, most) -> None:
        """Take elements of a packed ring, one after another, as far as they take one place each.

        At the end of a page it is enough: of what has moved when the next page turns out not to be
        there nothing may be written again, for it is the driver's (2.8.15).
        """
        s, setup, size = self.s, self.ring, self.ring.size
        behind = s.place[:15] + s.places + self.span
        in_page = (setup.desc[4:12] + behind)[:8]
        ends = (behind >= size) | ((in_page == 0) & ~self.skips)
        skipped = s.deferred & (s.written == s.flushed)
        with m.State("LOOK"):
            m.next = "SPAN"
        with m.State("SPAN"):
            m.d.sync += s.total.eq(s.total + self.span)
            with m.If(skipped):
                m.d.sync += [
                    s.written.eq(s.written + 1),
                    s.place.eq(advance(s.place, self.span, setup)),
                ]
                m.next = "SEGMENT"
            with m.Else():
                m.d.sync += [s.amount.eq(s.amount + 1), s.places.eq(s.places + self.span)]
                m.next = "LOOK"
                with m.If((s.amount + 1 == most) | ((self.span != 1) & ~self.skips) | ends):
                    m.next = "ISSUE"

    def _wanted(self, m: Module) -> None:
        """Whether the driver has asked for an interrupt at what was just written."""
        s, event, size = self.s, data.View(EventSuppression, self.flags), self.ring.size
        passed, ahead, met = Signal(16), Signal(16), Signal()
        same_lap = event.wrap != s.first[15]
        m.d.comb += [
            passed.eq(self.flags - s.flushed + s.count),
            ahead.eq(event.offset + Mux(same_lap, 0, size) - s.first[:15]),
            met.eq(
                (event.offset < size)
                & ~(same_lap & (event.offset < s.first[:15]))
                & (ahead < s.total)
            ),
        ]
        with m.If(self.ring.packed):  # 2.8.14
            at_one = (event.flags == EventFlags.DESC) & self.ring.event_idx
            enabled = event.flags != EventFlags.DISABLE
            m.d.comb += self.raises.eq(Mux(at_one, met, enabled))
        with m.Elif(self.ring.event_idx):  # 2.7.7.2
            m.d.comb += self.raises.eq(passed < s.count)
        with m.Else():
            m.d.comb += self.raises.eq(~(self.flags & AVAIL_F_NO_INTERRUPT).any())

    def _ended(self, m: Module) -> None:
        s, status = self.s, self.status
        able = (self.able & self.mine).any()
        raises, written = self.raises, Signal(16)
        error = self.errors.i.payload

        def told():
            m.d.comb += self.flushed_en.eq(1)
            m.d.sync += [s.flushed.eq(s.target), s.phase.eq(_Phase.FLAGS)]
            m.next = "ISSUE"

        m.d.comb += [
            written.eq(s.written + s.amount),
            error.queue.eq(self.queue),
            error.error.eq(QueueError.RING_ADDRESS),
            self.notices.i.payload.queue.eq(self.queue),
            self.notices.i.payload.amount.eq(s.count),
            self.notices.i.payload.wanted.eq(raises),
        ]
        with m.State("ENDED"):
            m.next = "SAVE"
            with m.If(~able):
                m.d.sync += s.phase.eq(_Phase.REST)
            with m.Elif(status == DmaStatus.ABSENT):
                m.d.comb += self.again.eq(1)
                m.d.sync += [s.patient.eq(1), self.patience.eq(self.patience | self.mine)]
            with m.Elif(status != DmaStatus.OK):
                m.d.comb += [self.errors.i.valid.eq(1), self.fail.eq(self.mine)]
                with m.If(status == DmaStatus.FAILURE):
                    m.d.comb += error.error.eq(QueueError.PAGE_REQUEST_FAILED)
                with m.If(status == DmaStatus.BUS):
                    m.d.comb += error.error.eq(QueueError.BUS)
                with m.If(~self.errors.i.ready):
                    m.d.comb += self.fail.eq(0)
                    m.next = "ENDED"
            with m.Elif(s.phase == _Phase.ELEMENTS):
                m.d.sync += [
                    s.written.eq(written),
                    s.place.eq(advance(s.place, s.places, self.ring)),
                ]
                with m.If(written != s.target):
                    m.next = "SEGMENT"
                with m.Elif(~self.ring.packed):
                    m.d.comb += self.number_en.eq(1)
                    m.d.sync += s.phase.eq(_Phase.INDEX)
                    m.next = "ISSUE"
                with m.Elif(s.deferred):
                    m.d.sync += s.phase.eq(_Phase.FIRST)
                    m.next = "ISSUE"
                with m.Else():
                    told()
            with m.Elif((s.phase == _Phase.INDEX) | (s.phase == _Phase.FIRST)):
                told()
            with m.Else():
                m.d.sync += s.phase.eq(_Phase.REST)
                m.d.comb += [self.notices.i.valid.eq(1), self.moved.eq(self.mine)]
                with m.If(s.flushed != self.chains):
                    m.d.comb += self.again.eq(1)
                with m.If(~self.notices.i.ready):
                    m.d.sync += s.phase.eq(s.phase)
                    m.d.comb += [self.moved.eq(0), self.again.eq(0)]
                    m.next = "ENDED"

    def _issue(self, m: Module) -> None:
        """Ask for the DMA of the phase."""
        s, job, setup = self.s, self.job.payload, self.ring
        beat, low, base, offset = Signal(range(SCRATCH_BEATS)), Signal(4), Signal(64), Signal(20)
        at, source = s.written & (setup.size - 1), Signal(exact_log2(USED_PLACES))
        elements = Mux(self.skips, 1, s.amount)
        m.d.comb += source.eq(s.written + Mux(self.skips, s.amount - 1, 0))
        with m.State("ISSUE"):
            m.d.comb += [
                self.job.valid.eq(1),
                job.owner.unit.eq(Unit.USED),
                job.owner.queue.eq(self.queue),
                job.patient.eq(s.patient),
                job.write.eq(s.phase != _Phase.FLAGS),
                job.memory.eq(LocalMemory.SCRATCH),
                job.offset.eq(((self.queue * SCRATCH_BEATS + beat) << 4) + low),
                base.eq(setup.device),
                job.iova.eq(base + offset),
            ]
            with m.Switch(s.phase):
                with m.Case(_Phase.ELEMENTS):
                    m.d.comb += [
                        offset.eq(at << 3 | 4),
                        job.length.eq(elements << 3),
                        beat.eq(ELEMENT_BEAT + source[1:]),
                        low.eq(source[0] << 3),
                    ]
                    with m.If(setup.packed):
                        m.d.comb += [
                            base.eq(setup.desc),
                            offset.eq(s.place[:15] << 4),
                            job.length.eq(elements << 4),
                            beat.eq(ELEMENT_BEAT + source),
                            low.eq(0),
                        ]
                if self.config.packed:
                    with m.Case(_Phase.FIRST):
                        m.d.comb += [
                            base.eq(setup.desc),
                            offset.eq(s.first[:15] << 4),
                            job.length.eq(16),
                            beat.eq(ELEMENT_BEAT + s.flushed[:4]),
                        ]
                with m.Case(_Phase.INDEX):
                    m.d.comb += [
                        offset.eq(2),
                        job.length.eq(2),
                        beat.eq(INDEX_BEAT),
                    ]
                with m.Default():
                    event = setup.event_idx & ~setup.packed
                    m.d.comb += [
                        base.eq(setup.driver),
                        offset.eq(Mux(event, (setup.size + 2) << 1, 0)),
                        job.length.eq(Mux(setup.packed, 4, 2)),
                        beat.eq(FLAGS_BEAT),
                    ]
            with m.If(self.job.ready):
                m.d.sync += [s.patient.eq(0), self.flying.eq(self.flying | self.mine)]
                m.next = "SAVE"
