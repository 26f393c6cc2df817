"""From descriptors to DMA: packets of one direction, what both have in common."""

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.bus.ram import BLOCK
from rtl.bus.turns import Turns
from rtl.nic.engine.records import (
    BUFFER,
    PACKETS,
    RECEIVE_BUFFER,
    RingKind,
    Shapes,
    Unit,
    accepted,
    without,
)
from rtl.nic.seams import FrameRef, LocalMemory, RxPop, StatEvent, TxFrame

__all__ = ["Build"]


class Build(wiring.Component):
    """Makes packets of the descriptors that wait: a job for each, then a record.

    A packet begins with a slot (transmit) or a frame (receive).  Header and frame are one string of
    bytes, in a slot as in the guest's buffers.  One whose chain is not all there yet is left open,
    and another queue's turn comes.  A queue that touches gets neither: of its one packet the piece
    that was not there is asked for, patiently.

    What each direction does with a descriptor is in its subclass.

    Latency
    -------
    3 cycles to take a queue up and put it back, 4 after a rest; a packet in one descriptor takes 2,
    a received one 5; each more descriptor 1, of a received one 2.  A queue's turn comes a cycle
    after it may.

    Parameters
    ----------
    config : NicConfig
    transmits : bool
        The direction.

    Members
    -------
    Queues are those of one direction.

    init : ``In(stream)`` of a queue
    able, draining : ``In(queues)``
        Queues that may go on; queues whose open packets are to be closed.
    cleaning : ``In(queues)``
        Queues all of whose frames are to be given back.
    rewound, unblock : ``In(queues)``
        Queues that begin again; queues of which a packet was committed a cycle before.
    touching : ``In(queues)``; touch_piece, patient_room : ``In``
        Queues that touch, and what ``queue`` does; when they may.
    available : ``In(queues)``
        Descriptors have been published.
    frames : ``In(queues)``; checking, segmenting : ``In(functions)``
        Frames have come for these queues; checksums are told to these functions; these may send
        what is to be cut.
    large_back : ``In(1)``
        The large buffer is free again.
    open, holding, visiting, left : ``Out(queues)``
        Queues with an open packet; with frames; whose turn it is; whose turn is over.
    takes, owing : ``Out(queues)``
        Queues that take a frame; those with frames that are in no packet, or may not be.
    unstall, content : ``Out(queues)``
        Buffers that are half empty; queues that touch and need no more descriptors for it.
    queue : ``Out``; published, done, committed, ring : ``In``
        Whose turn it is; up to where its buffer is filled, its packets are committed, its frames
        are; what its ring is like; all a cycle later.
    head_en, head : ``Out``
        Up to where the buffer has been used.
    fetch_at : ``Out``; entry : ``In``
        Reads the buffer of ``queue``; a cycle later.
    record_en, record_at, record, built : ``Out``
        A packet is complete.
    job : ``Out(stream)``
    tx_alloc : ``In(stream)`` of 8; rx_pop : ``Out(RxPop)``; release : ``Out(stream)`` of TxFrame
    stat : ``Out(stream)`` of StatEvent
        Frames that are given back unseen.
    """

    def __init__(self, config: NicConfig, *, transmits: bool):
        self.config, self.shapes, self.transmits = config, Shapes(config), transmits
        self.queues = queues = config.data_queues // 2
        shapes = self.shapes
        bits = {name: In(queues) for name in ("able", "draining", "cleaning", "rewound", "unblock")}
        super().__init__(
            bits
            | {
                "init": In(stream.Signature(shapes.lane)),
                "touching": In(queues),
                "patient_room": In(1),
                "touch_piece": In(shapes.piece),
                "available": In(queues),
                "frames": In(queues),
                "checking": In(config.functions),
                "segmenting": In(config.functions),
                "large_back": In(1),
                "open": Out(queues),
                "holding": Out(queues),
                "visiting": Out(queues),
                "left": Out(queues),
                "takes": Out(queues),
                "owing": Out(queues),
                "unstall": Out(queues),
                "content": Out(queues),
                "queue": Out(shapes.lane),
                "published": In(shapes.buffer + 1),
                "done": In(shapes.packet + 1),
                "committed": In(16),
                "ring": In(RingKind),
                "head_en": Out(1),
                "head": Out(shapes.buffer + 1),
                "fetch_at": Out(shapes.buffer),
                "entry": In(shapes.descriptor),
                "record_en": Out(1),
                "record_at": Out(shapes.packet),
                "record": Out(shapes.record),
                "built": Out(shapes.packet + 1),
                "job": Out(stream.Signature(shapes.job)),
                "tx_alloc": In(stream.Signature(8)),
                "rx_pop": Out(RxPop()),
                "release": Out(stream.Signature(TxFrame)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )
        self._state = data.StructLayout(
            {
                "head": shapes.buffer + 1,
                "built": shapes.packet + 1,
                "open": 1,
                "touch": 1,
                "drop": 1,
                "frame": FrameRef,
                "position": shapes.length,
                "seen": shapes.piece,  # pieces that were met
                "pieces": shapes.piece,  # pieces that were asked for
            }
            | self.kept()
        )

    def kept(self) -> dict[str, Any]:
        """What is kept of a packet in this direction alone."""
        raise NotImplementedError

    def absent(self) -> tuple[str, ...]:
        """What of it is not kept between turns, without the features that it is for."""
        return ()

    def prepare(self, m: Module) -> None:
        """Make what the states of this direction share."""
        raise NotImplementedError

    def states(self, m: Module) -> None:
        """Add the states of this direction to the machine that is being described."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        queues = self.queues
        self.row, self.kind = without(self._state, self.absent()), accepted(self.config, self.ring)
        m.submodules.states = states = Memory(
            shape=self.row, depth=max(2, queues), init=[], attrs=BLOCK
        )
        self.read, self.write = states.read_port(), states.write_port()
        self.s, self.mine = Signal(self._state), Signal(queues)
        self.ready_, self.blocked = Signal(queues), Signal(queues)
        # Begins again; then, with frames that it has.
        self.again, self.replaying = Signal(queues), Signal(queues)
        self.fresh = Signal(queues)
        self.block, self.clear = Signal(queues), Signal(queues)
        self.rearm, self.restarted, self.replayed = (Signal(queues) for _ in range(3))
        self.merges = Signal(queues)  # its frame goes on in the next chain
        visits, paid = Signal(), Signal(queues)
        m.d.sync += self.owing.eq(
            (self.owing & ~paid & ~self.fresh) | self.takes | (self.rewound & self.holding)
        )
        m.d.comb += [
            self.mine.eq(1 << self.queue),
            self.visiting.eq(Mux(visits, self.mine, 0)),
            self.read.addr.eq(self.queue),
            self.write.addr.eq(self.queue),
            *(self.write.data[name].eq(self.s[name]) for name in self.row.members),
            self.head.eq(self.s.head + 1),
            self.fetch_at.eq(self.s.head),
        ]
        pairs = self.config.queue_pairs
        functions = Array(Const(number // pairs, 8) for number in range(queues))
        self.function = functions[self.queue]
        self.second = Signal()  # another DMA of a descriptor, or of num_buffers
        self.takes_large = Signal()  # the packet has the large buffer, or takes it
        self.thirsty = Signal(queues)  # queues that wait for that
        self.suffices = Signal(queues)  # a packet that touches is complete
        self.prepare(m)
        self._wants(m)
        with m.FSM() as fsm:
            self._choose(m)
            with m.State("READ"):
                m.next = "TAKE"
            self._take(m)
            self._open(m)
            self.states(m)
            with m.State("SAVE"):
                m.d.comb += [self.write.en.eq(1), self.left.eq(self.mine)]
                with m.If(self.s.head != self.published):
                    m.d.comb += self.rearm.eq(self.mine)
                if not self.transmits:
                    with m.If(self.s.number == self.s.high):
                        m.d.comb += paid.eq(self.mine)
                m.next = "CHOOSE"
                with m.If(~self.init.valid):
                    self._turn(m)
        m.d.comb += visits.eq(~fsm.ongoing("CHOOSE"))
        m.d.comb += self.rx_pop.looks.eq(fsm.ongoing("OPEN"))
        return m

    def _wants(self, m: Module) -> None:
        """Whose turn may come."""
        queues = self.queues
        m.submodules.turns = self.turns = Turns(queues)
        normal = Signal(queues)
        self.chosen = Signal(queues)
        if self.transmits:
            source = self.touching | self.open | self.tx_alloc.valid.replicate(queues)
        else:
            # Frames for a queue; cleared when none was there.
            hungry = Signal(queues)
            self.fed, self.starved = Signal(queues), Signal(queues)
            m.d.sync += hungry.eq((hungry & ~self.starved) | self.frames | self.fed)
            source = self.open | self.replaying | hungry
        m.d.comb += [
            normal.eq(
                self.able
                & ~self.draining
                & self.ready_
                & ~self.blocked
                & ~self.thirsty
                & source
                & (~self.touching | self.patient_room.replicate(queues))
            ),
            self.turns.wants.eq(
                normal | (self.draining & self.open) | (self.cleaning & self.holding)
            ),
        ]
        m.d.sync += [
            self.ready_.eq(
                (self.ready_ & ~self.chosen & ~self.fresh) | self.available | self.rearm
            ),
            self.blocked.eq(
                (self.blocked & ~self.unblock & ~self.rewound & ~self.clear & ~self.fresh)
                | self.chosen
                | self.block
            ),
            self.again.eq((self.again & ~self.restarted & ~self.fresh) | self.rewound),
            self.content.eq((self.content & ~self.rewound & ~self.fresh) | self.suffices),
            self.replaying.eq(
                (self.replaying & ~self.replayed & ~self.fresh)
                | (self.rewound & self.holding)
                | self.merges
            ),
        ]

    def _choose(self, m: Module) -> None:
        init = self.init
        with m.State("CHOOSE"):
            with m.If(init.valid):
                m.d.comb += [
                    init.ready.eq(1),
                    self.write.addr.eq(init.payload),
                    self.write.data.eq(0),
                    self.write.en.eq(1),
                ]
                m.d.comb += self.fresh.eq(1 << init.payload)
                if not self.transmits:
                    m.d.comb += self.fed.eq(self.fresh)
            with m.Else():
                self._turn(m)

    def _turn(self, m: Module) -> None:
        with m.If(self.turns.any):
            m.d.comb += [self.turns.take.eq(1), self.chosen.eq(1 << self.turns.chosen)]
            m.d.sync += self.queue.eq(self.turns.chosen)
            m.next = "READ"

    def _take(self, m: Module) -> None:
        s, row = self.s, self.read.data
        draining = (self.draining & self.mine).any()
        with m.State("TAKE"):
            m.d.sync += [s[name].eq(row[name]) for name in self.row.members]
            m.d.comb += self.fetch_at.eq(row.head)
            m.next = "OPEN"
            with m.If(draining & row.open):
                m.next = "ABORT"
            with m.Elif(draining):  # since it was chosen
                m.d.comb += self.clear.eq(self.mine)
                m.next = "SAVE"
            if not self.transmits:
                with m.If((self.cleaning & self.mine).any() & ~row.open):
                    m.d.sync += s.number.eq(self.committed)
                    m.next = "CLEAN"
                with m.If((self.again & self.mine).any() & ~draining):
                    m.d.comb += self.restarted.eq(self.mine)
                    m.d.sync += [s.number.eq(self.committed), s.merging.eq(0)]
        with m.State("ABORT"):  # it is given back when its pieces have ended
            self.close(m, s.pieces)
            m.d.comb += self.clear.eq(self.mine)
            m.next = "SAVE"

    def _open(self, m: Module) -> None:
        """Begin the next packet, unless one is open."""
        s, mine = self.s, self.mine
        full = (s.built - self.done)[: self.shapes.packet + 1] == PACKETS
        touching = (self.touching & mine).any()
        others = touching & (s.built != self.done)
        fresh = [s.position.eq(0), s.seen.eq(0), s.drop.eq(0), s.touch.eq(touching)]
        if self.transmits:
            waits = full | others
            fresh += [s.pieces.eq(0)]
            if self.config.segmentation:
                fresh += [s.part.eq(0), s.large.eq(0)]
        else:
            waits = full | (others & ~s.merging)
            fresh += [s.chains.eq(0), s.places.eq(0), s.parted.eq(0), s.begun.eq(0)]
        with m.State("OPEN"):
            with m.If((s.head == self.published) | (self.draining & mine).any()):
                m.d.comb += self.clear.eq(mine)
                m.next = "SAVE"
            with m.Elif(s.open):
                m.d.comb += self.clear.eq(mine)
                m.next = "DESCRIPTOR"
            with m.Elif(waits):
                m.next = "SAVE"
            with m.Else():
                if self.transmits:
                    m.d.comb += self.clear.eq(mine)
                    m.next = "SAVE"
                    with m.If(touching | self.tx_alloc.valid):
                        m.d.comb += self.tx_alloc.ready.eq(~touching)
                        m.d.sync += fresh
                        m.d.sync += [
                            s.open.eq(1),
                            s.frame.memory.eq(LocalMemory.TX),
                            s.frame.slot.eq(self.tx_alloc.payload),
                            self.open.eq(self.open | mine),
                        ]
                        m.next = "DESCRIPTOR"
                else:
                    m.d.sync += [s.pieces.eq(0), s.least.eq(0)]
                    with m.If(~s.merging):
                        m.d.sync += fresh
                    with m.If(s.number != s.high):
                        m.d.comb += self.clear.eq(mine)
                        m.next = "HAND"
                    with m.Elif((s.high - self.committed)[:16] < self.shapes.window):
                        m.d.comb += self.clear.eq(mine)
                        m.d.comb += [self.rx_pop.en.eq(1), self.starved.eq(mine)]
                        m.d.comb += self.replayed.eq(mine)
                        m.next = "POP"
                    with m.Else():
                        m.next = "SAVE"
        pairs = self.config.queue_pairs
        numbers = Array(Const(number % pairs, 3) for number in range(self.queues))
        m.d.comb += self.rx_pop.pair.eq(numbers[self.queue])
        m.d.comb += self.rx_pop.function.eq(self.function)

    def close(self, m: Module, pieces, *, error=0, absent=0, drop=0, length=0, more=0) -> None:
        s, record = self.s, self.record
        m.d.comb += [
            self.record_en.eq(1),
            record.head.eq(self.entry.head),
            record.span.eq(self.entry.span),
            record.memory.eq(s.frame.memory),
            record.slot.eq(s.frame.slot),
            record.has_slot.eq(~s.touch),
            record.length.eq(length),
            record.large.eq(self.takes_large),
            record.more.eq(more),
            record.pieces.eq(pieces),
            record.drop.eq(drop),
            record.error.eq(error),
            record.absent.eq(absent),
            record.touch.eq(s.touch),
        ]
        m.d.comb += self.suffices.eq(Mux(more, 0, Mux(s.touch, self.mine, 0)))
        m.d.sync += [
            s.open.eq(0),
            self.open.eq(self.open & ~self.mine),
            s.built.eq(s.built + 1),
        ]

    def fill_job(self, m: Module) -> None:
        """What all jobs have in common."""
        s, job = self.s, self.job.payload
        m.d.comb += [
            self.record_at.eq(s.built),
            self.built.eq(s.built + 1),
            job.owner.unit.eq(Unit.TRANSMIT if self.transmits else Unit.RECEIVE),
            job.owner.queue.eq(self.queue << 1 | self.transmits),
            job.owner.packet.eq(s.built),
            job.owner.piece.eq(s.seen),
            job.write.eq(not self.transmits),
            job.patient.eq(s.touch),
        ]

    def asks(self, meets):
        """Whether a piece is asked for: of a packet that touches one is."""
        return meets & (~self.s.touch | (self.s.seen == self.touch_piece))

    def use(self, m: Module) -> None:
        """Be done with a descriptor."""
        s = self.s
        room = BUFFER if self.transmits else RECEIVE_BUFFER
        left = (self.published - s.head - 1)[: self.shapes.buffer + 1]
        m.d.comb += [
            self.head_en.eq(1),
            self.unstall.eq(Mux(left <= room // 2, self.mine, 0)),
            self.fetch_at.eq(s.head + 1),
        ]
        m.d.sync += s.head.eq(s.head + 1)
