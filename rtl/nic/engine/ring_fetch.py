"""Reads of rings and descriptor tables (virtio 1.3, 2.7 and 2.8)."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import QueueError
from rtl.bus.ram import BLOCK
from rtl.bus.stream import StreamFifo
from rtl.bus.turns import Turns
from rtl.nic.engine.chains import Chains
from rtl.nic.engine.records import (
    EVENT_BEAT,
    HEADS,
    INNER_BEAT,
    INNER_WINDOW,
    SCRATCH_BEATS,
    TABLE_BEAT,
    WINDOW,
    FetchPhase,
    QueueSetup,
    Shapes,
    Unit,
    accepted,
    without,
)
from rtl.nic.seams import DmaStatus, LocalMemory

__all__ = ["RingFetch"]

_AVAIL_BEAT, _HEADS_BEAT = 0, 2


class _Kind(enum.IntEnum, shape=2):
    """Why a queue's turn has come."""

    WAKE = 0
    ENDED = 1
    REWIND = 2


class RingFetch(wiring.Component):
    """Follows every queue's available ring and puts its descriptors into its buffer, in order.

    A queue has one DMA at a time.  In turn come the available index, up to ``HEADS`` entries and,
    as often as needed, up to ``WINDOW`` descriptors from the next one on: those that neighbouring
    heads and links need as well are not read again.  A chain is published when it is whole; only if
    it is longer than its buffer, as far as it goes.

    With EVENT_IDX a queue does not rest before ``avail_event``, or a packed ring's device event
    suppression structure, asks for the next entry, and the index, or that entry, has been read once
    more (2.7.10, 2.8.14).

    A page that is not there is read again patiently.  But if part of a transmitter's chain has been
    published, there is a slot with it; then a mark is published instead that ends the chain, and
    what follows is a rewind.  Nor does a queue wait for one that touches others and then begins
    again in any case: what it has touched could be gone by then.

    Latency
    -------
    2 cycles to take a queue up, 3 after a rest, 1 more if of the entries that were read the last
    third is left, 2 per descriptor, 1 to put it back; to find neighbours when descriptors are to be
    read 2 if all are at one distance, else up to ``HEADS``.  A queue's turn comes a cycle after it
    may.

    Fairness
    --------
    Between two ends of DMA one queue of those that wait has its turn, so that nobody waits for all
    that others have; among them it is round robin.

    Errors
    ------
    What is wrong is published as a mark, behind what was right.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    init : ``In(stream)`` of a queue
        Begins at index 0 with an empty buffer.
    wake, unstall : ``In(queues)``
        There may be new entries; the buffer has room again.
    able : ``In(queues)``; quiet : ``In(queues)``
        Queues that may go on; queues whose ends of DMA mean nothing any more.
    rewind : ``In(queues)``; rewound : ``Out(queues)``; index : ``In(16)``
        Queues to begin again from position ``index``, that of ``queue``, with an empty buffer; and
        when.
    touching, content : ``In(queues)``
        Queues that take no slots; of these those that have all descriptors that they need.
    busy : ``Out(queues)``
        Queues with a DMA or whose turn it is.
    patient_room : ``In(1)``; job : ``Out(stream)``; ended : ``In(stream)``
    queue : ``Out``; setup : ``In(QueueSetup)``; head : ``In``
        Whose turn it is; its rings, and up to where its buffer has been used, a cycle later.
    scratch_addr, scratch_data
        Scratch memory; data follow by one cycle.
    event_en, event : ``Out``
        avail_event of ``queue``, or of a packed ring offset and wrap counter, to be written by DMA.
    put, put_at, put_entry; publish, publish_to
        Stores a descriptor into the buffer of ``queue``; publishes all before ``publish_to``.
    """

    def __init__(self, config: NicConfig):
        self.config, self.shapes = config, Shapes(config)
        queues, shapes = config.data_queues, self.shapes
        super().__init__(
            {
                "init": In(stream.Signature(shapes.queue)),
                "wake": In(queues),
                "unstall": In(queues),
                "able": In(queues),
                "quiet": In(queues),
                "rewind": In(queues),
                "rewound": Out(queues),
                "index": In(16),
                "touching": In(queues),
                "content": In(queues),
                "busy": Out(queues),
                "patient_room": In(1),
                "job": Out(stream.Signature(shapes.job)),
                "ended": In(stream.Signature(shapes.ended)),
                "queue": Out(shapes.queue),
                "setup": In(QueueSetup),
                "head": In(shapes.buffer + 1),
                "scratch_addr": Out(range(queues * SCRATCH_BEATS)),
                "scratch_data": In(128),
                "event_en": Out(1),
                "event": Out(16),
                "put": Out(1),
                "put_at": Out(shapes.buffer),
                "put_entry": Out(shapes.descriptor),
                "publish": Out(1),
                "publish_to": Out(shapes.buffer + 1),
            }
        )
        self._state = data.StructLayout(
            {
                "phase": FetchPhase,
                "patient": 1,  # the DMA of the phase is to be asked for again
                "dead": 1,  # after an error
                "error": QueueError,  # to be published
                "seen": 16,  # available index
                "next": 16,  # position of the next entry to be read
                "asked": 16,  # position at which the driver was asked to notify
                "left": range(HEADS + 1),  # entries that were read and not taken yet
                "taken": range(HEADS + 1),  # those that were; all are in scratch memory
                "base": 16,  # what there is of the table: the first
                "window": range(WINDOW + 1),  # and how many
                "fresh": 1,  # read since the queue was woken
                "linked": 1,  # within a chain
                "inner": 1,  # within an indirect table
                "table": 64,
                "entries": 17,  # of that table
                "inner_base": 16,  # what there is of that table
                "inner_window": range(INNER_WINDOW + 1),
                "exposed": 1,  # part of which has been published
                "link": 16,  # where it goes on
                "head": 16,
                "count": 16,
                "tail": shapes.buffer + 1,
                "published": shapes.buffer + 1,
            }
        )

    def _kept(self) -> data.StructLayout:
        """The state as it is between turns: without what belongs to features that are not there."""
        absent: list[str] = []
        if not self.config.packed:
            absent += ["fresh"]
        if not self.config.event_idx:
            absent += ["asked"]
        if not self.config.indirect:
            absent += ["inner", "table", "entries", "inner_base", "inner_window"]
        return without(self._state, absent)

    def elaborate(self, platform):
        m = Module()
        queues = self.config.data_queues
        self.row, self.ring = self._kept(), accepted(self.config, self.setup)
        m.submodules.states = states = Memory(shape=self.row, depth=queues, init=[], attrs=BLOCK)
        self.read, self.write = states.read_port(), states.write_port()
        m.submodules.ends = self.ends = StreamFifo(self.shapes.ended, max(2, queues), block=True)
        connect(m, flipped(self.ended), self.ends.i)
        self.s = Signal(self._state)
        self.kind, self.status = Signal(_Kind), Signal(DmaStatus)
        # Per queue: looks at its ring, has a DMA, waits for room, waits to be patient.
        self.pending, self.flying = Signal(queues), Signal(queues)
        self.stalled, self.patience = Signal(queues), Signal(queues)
        self.mine, self.visiting = Signal(queues), Signal()
        self.again = Signal()  # to be woken once more
        # Woken since its index was last asked for: it is read before the queue rests.
        self.rung, self.asks = Signal(queues), Signal(queues)
        self.mask = Signal(16)
        #: Entries that were read: the next, and one behind it.
        self.heads, self.scan_at = Signal(16 * HEADS), Signal(range(HEADS))
        self.entry = self.heads.word_select(self.s.taken, 16)
        self.further = self.heads.word_select(self.scan_at, 16)
        self.gathers = Signal()  # the second beat of them comes
        m.d.sync += self.gathers.eq(0)
        with m.If(self.gathers):
            m.d.sync += self.heads[128:].eq(self.scratch_data)
        self.scan, self.others = Signal(16), Signal(range(HEADS + 1))
        m.d.comb += [
            self.mine.eq(1 << self.queue),
            self.mask.eq(self.ring.size - 1),
            self.read.addr.eq(self.queue),
            self.write.addr.eq(self.queue),
            *(self.write.data[name].eq(self.s[name]) for name in self.row.members),
            self.busy.eq(self.flying | Mux(self.visiting, self.mine, 0)),
            self.put_at.eq(self.s.tail),
            # A position's wrap counter is 1 in the first lap.
            self.event.eq(self.s.next ^ (self.ring.packed << 15)),
        ]
        self.transmits = self.queue[0]
        with m.FSM() as self.fsm:
            self._choose(m)
            with m.State("READ"):
                m.next = "TAKE"
            self._take(m)
            self._start(m)
            self._ended(m)
            self._issue(m)
            Chains(self).add(m)
            with m.State("SAVE"):
                m.d.comb += self.write.en.eq(1)
                m.next = "CHOOSE"
                with m.If(~self.init.valid):
                    self._turn(m)
        m.d.comb += self.visiting.eq(~self.fsm.ongoing("CHOOSE"))
        return m

    def _choose(self, m: Module) -> None:
        queues, init = self.config.data_queues, self.init
        m.submodules.turns = self.turns = turns = Turns(queues)
        m.submodules.rewinds = self.rewinds = rewinds = Turns(queues)
        self.woken, self.clear, set_ = (Signal(queues) for _ in range(3))
        # Ends go first, but in turn with others: so many DMAs may be under way that they never end.
        self.hungry = Signal()  # somebody wants a turn
        m.d.comb += [
            turns.wants.eq(
                self.pending
                & self.able
                & ~self.flying
                & (~self.patience | self.patient_room.replicate(queues))
            ),
            rewinds.wants.eq(self.rewind & ~self.flying),
            set_.eq(self.wake | (self.unstall & self.stalled) | Mux(self.again, self.mine, 0)),
        ]
        m.d.sync += [
            self.hungry.eq(turns.any | rewinds.any),
            self.pending.eq((self.pending & ~self.clear) | set_ | self.woken),
            self.stalled.eq(self.stalled & ~self.unstall),
            self.rung.eq((self.rung & ~self.asks) | self.wake),
        ]
        with m.State("CHOOSE"):
            with m.If(init.valid):
                m.d.comb += [
                    init.ready.eq(1),
                    self.write.addr.eq(init.payload),
                    self.write.data.eq(0),
                    self.write.en.eq(1),
                    self.woken.eq(1 << init.payload),
                ]
                m.d.sync += self.patience.eq(self.patience & ~self.woken)
            with m.Else():
                self._turn(m)

    def _turn(self, m: Module) -> None:
        """Take the next queue up, if there is one."""
        turns, rewinds, ends = self.turns, self.rewinds, self.ends.o
        m.d.sync += self.status.eq(ends.payload.status)
        with m.If(ends.valid & ~(self.hungry & (self.kind == _Kind.ENDED))):
            ended = 1 << ends.payload.owner.queue
            m.d.comb += ends.ready.eq(1)
            m.d.sync += [
                self.kind.eq(_Kind.ENDED),
                self.queue.eq(ends.payload.owner.queue),
                self.flying.eq(self.flying & ~ended),
            ]
            m.next = "READ"
        with m.Elif(rewinds.any):
            m.d.comb += rewinds.take.eq(1)
            m.d.sync += [self.kind.eq(_Kind.REWIND), self.queue.eq(rewinds.chosen)]
            m.next = "READ"
        with m.Elif(turns.any):
            m.d.comb += [turns.take.eq(1), self.clear.eq(1 << turns.chosen)]
            m.d.sync += [
                self.kind.eq(_Kind.WAKE),
                self.queue.eq(turns.chosen),
                self.patience.eq(self.patience & ~self.clear),
            ]
            m.next = "READ"

    def beat(self, m: Module, beat) -> None:
        """Read a beat of the queue's scratch memory."""
        m.d.comb += self.scratch_addr.eq(self.queue * SCRATCH_BEATS + beat)

    def _take(self, m: Module) -> None:
        """The state comes from RAM; with it, the beat that an end of DMA is about."""
        s, row = self.s, self.read.data
        with m.State("TAKE"):
            m.d.sync += [s[name].eq(row[name]) for name in self.row.members]
            self.beat(m, Mux(row.phase == FetchPhase.AVAIL, _AVAIL_BEAT, _HEADS_BEAT))
            with m.Switch(self.kind):
                with m.Case(_Kind.WAKE):
                    m.next = "START"
                with m.Case(_Kind.ENDED):
                    m.next = "ENDED"
                with m.Case(_Kind.REWIND):
                    m.d.comb += [self.rewound.eq(self.mine), self.again.eq(1)]
                    m.d.sync += [
                        s.eq(0),
                        s.seen.eq(self.index),
                        s.next.eq(self.index),
                        s.asked.eq(row.asked if self.config.event_idx else 0),
                        s.tail.eq(self.head),
                        s.published.eq(self.head),
                        self.patience.eq(self.patience & ~self.mine),
                    ]
                    m.d.comb += [self.publish.eq(1), self.publish_to.eq(self.head)]
                    m.next = "SAVE"

    def _start(self, m: Module) -> None:
        s = self.s
        with m.State("START"):
            self._gather(m)
            m.d.sync += s.fresh.eq(0)
            with m.If(s.patient):
                m.next = "ISSUE"
            with m.Elif(s.dead):
                m.next = "SAVE"
            with m.Elif(s.linked | (s.left != 0) | (s.error != QueueError.NONE) | self.ring.packed):
                self._go_on(m)
            with m.Elif(s.seen != s.next):
                self.read_heads(m)
            with m.Else():
                self.read_index(m)

    def _gather(self, m: Module) -> None:
        """The first beat of the entries that were read is there; the second is a cycle later."""
        self.beat(m, _HEADS_BEAT + 1)
        m.d.sync += [self.heads[:128].eq(self.scratch_data), self.gathers.eq(1)]

    def _go_on(self, m: Module) -> None:
        """Parse, when the next entry is there."""
        s = self.s
        m.next = "PARSE"
        with m.If((s.left != 0) & s.taken[3]):
            m.next = "HEADS"

    def read_index(self, m: Module) -> None:
        """Read up to where there are entries."""
        m.d.comb += self.asks.eq(self.mine)
        m.d.sync += self.s.phase.eq(FetchPhase.AVAIL)
        m.next = "ISSUE"

    def read_heads(self, m: Module) -> None:
        """Read entries up to the index, the ring's end, or as many as there is room for."""
        s = self.s
        ahead, room, least = Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            ahead.eq(s.seen - s.next),
            room.eq(self.ring.size - (s.next & self.mask)),
            least.eq(Mux(ahead < room, ahead, room)),
        ]
        m.d.sync += [
            s.phase.eq(FetchPhase.HEADS),
            s.left.eq(Mux(least < HEADS, least, HEADS)),
            s.taken.eq(0),
        ]
        m.next = "ISSUE"

    def ask(self, m: Module) -> None:
        """Ask the driver to notify of the next entry, unless it was asked to.

        A queue that touches begins again in any case: it asks then.
        """
        touches = (self.touching & self.mine).any()
        with m.If(self.ring.event_idx & (self.s.asked != self.s.next) & ~touches):
            m.d.comb += self.event_en.eq(1)
            m.d.sync += self.s.phase.eq(FetchPhase.EVENT)
            m.next = "ISSUE"

    def fail(self, m: Module, error) -> None:
        """Publish an error behind what was right."""
        m.d.sync += self.s.error.eq(error)
        m.next = "PARSE"

    def _ended(self, m: Module) -> None:
        s, status = self.s, self.status
        index, ahead = self.scratch_data[16:32], Signal(16)
        m.d.comb += ahead.eq(index - s.next)
        quiet = (self.quiet & self.mine).any()
        holds = self.transmits & s.exposed & ~(self.touching & self.mine).any()
        with m.State("ENDED"):
            self._gather(m)
            with m.If(quiet):
                m.next = "SAVE"
                with m.If((s.phase == FetchPhase.EVENT) & (status == DmaStatus.OK)):
                    m.d.sync += s.asked.eq(s.next)
            with m.Elif((status == DmaStatus.ABSENT) & holds):
                m.d.comb += [
                    self.put.eq(1),
                    self.put_entry.absent.eq(1),
                    self.put_entry.last.eq(1),
                    self.publish.eq(1),
                    self.publish_to.eq(s.tail + 1),
                ]
                m.d.sync += [s.tail.eq(s.tail + 1), s.published.eq(s.tail + 1), s.dead.eq(1)]
                m.d.sync += [s.linked.eq(0), s.left.eq(0)]
                m.next = "SAVE"
            with m.Elif((status == DmaStatus.ABSENT) & (self.content & self.mine).any()):
                m.d.sync += s.dead.eq(1)
                m.next = "SAVE"
            with m.Elif(status == DmaStatus.ABSENT):
                m.d.comb += self.again.eq(1)
                m.d.sync += [s.patient.eq(1), self.patience.eq(self.patience | self.mine)]
                m.next = "SAVE"
            with m.Elif(status == DmaStatus.FAILURE):
                self.fail(m, QueueError.PAGE_REQUEST_FAILED)
            with m.Elif(status == DmaStatus.BUS):
                self.fail(m, QueueError.BUS)
            with m.Elif(status != DmaStatus.OK):
                self.fail(m, QueueError.RING_ADDRESS)
            with m.Elif(s.phase == FetchPhase.TABLE):
                with m.If(~s.inner):
                    m.d.sync += s.fresh.eq(1)
                self._go_on(m)
            with m.Elif(s.phase == FetchPhase.HEADS):
                m.d.sync += s.next.eq(s.next + s.left)
                m.next = "PARSE"
            with m.Elif((s.phase == FetchPhase.AVAIL) & (ahead > self.ring.size)):
                self.fail(m, QueueError.BAD_INDEX)
            with m.Elif(s.phase == FetchPhase.EVENT):
                m.d.sync += [s.asked.eq(s.next), s.phase.eq(FetchPhase.AVAIL)]
                m.next = "ISSUE"
                with m.If(self.ring.packed):
                    self._go_on(m)
            with m.Elif(ahead == 0):
                m.next = "SAVE"
                self.ask(m)
            with m.Else():
                # What has been read of the table may be older than these entries.
                m.d.sync += [s.seen.eq(index), s.window.eq(0)]
                m.next = "START"
        with m.State("HEADS"):
            m.next = "PARSE"

    def _issue(self, m: Module) -> None:
        """Ask for the DMA of the phase."""
        s, job, setup = self.s, self.job.payload, self.ring
        beat, base, offset = Signal(range(SCRATCH_BEATS)), Signal(64), Signal(21)
        with m.State("ISSUE"):
            m.d.comb += [
                self.job.valid.eq(1),
                job.owner.unit.eq(Unit.FETCH),
                job.owner.queue.eq(self.queue),
                job.patient.eq(s.patient),
                job.memory.eq(LocalMemory.SCRATCH),
                job.offset.eq((self.queue * SCRATCH_BEATS + beat) << 4),
                base.eq(setup.driver),
                job.iova.eq(base + offset),
            ]
            with m.Switch(s.phase):
                with m.Case(FetchPhase.AVAIL):
                    m.d.comb += [job.length.eq(4), beat.eq(_AVAIL_BEAT)]
                with m.Case(FetchPhase.HEADS):
                    m.d.comb += [
                        offset.eq(((s.next & self.mask) + 2) << 1),
                        job.length.eq(s.left << 1),
                        beat.eq(_HEADS_BEAT),
                    ]
                with m.Case(FetchPhase.TABLE):
                    m.d.comb += [
                        base.eq(setup.desc),
                        offset.eq(s.base << 4),
                        job.length.eq(s.window << 4),
                        beat.eq(TABLE_BEAT),
                    ]
                    with m.If(s.inner):
                        m.d.comb += [
                            base.eq(s.table),
                            offset.eq(s.inner_base << 4),
                            job.length.eq(s.inner_window << 4),
                            beat.eq(INNER_BEAT),
                        ]
                if self.config.event_idx:
                    with m.Case(FetchPhase.EVENT):
                        m.d.comb += [
                            job.write.eq(1),
                            base.eq(setup.device),
                            offset.eq(Mux(setup.packed, 0, setup.size << 3 | 4)),
                            job.length.eq(Mux(setup.packed, 4, 2)),
                            beat.eq(EVENT_BEAT),
                        ]
            with m.If(self.job.ready):
                m.d.sync += [s.patient.eq(0), self.flying.eq(self.flying | self.mine)]
                m.next = "SAVE"
