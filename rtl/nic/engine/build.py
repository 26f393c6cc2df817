"""From descriptors to DMA: packets of one direction."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import MERGED_BUFFERS, QueueError
from models.spec.virtio import NetHeader
from rtl.nic.engine.records import BUFFER, HEADER_BYTES, PACKETS, RingKind, Shapes, Unit
from rtl.nic.engine.turns import Turns
from rtl.nic.seams import CHECKED_BIT, FrameRef, LocalMemory, RxPop, TxFrame

__all__ = ["Build"]


#: What is kept of a frame that is received, beside that.
_RECEIVING = {
    "number": 16,  # of the frame
    "high": 16,  # of the next frame that is taken
    "merging": 1,  # the frame goes on in the next chain
    "chains": range(MERGED_BUFFERS + 1),  # of the frame, before this one
    "places": 16,  # of the ring, that these take
    "begun": 16,  # position at which the chain began
    "least": range(HEADER_BYTES + 1),  # bytes of the chain, at least
    "parted": 1,  # num_buffers is left out
    "first_byte": 64,  # address of its first byte
    "second_byte": 64,  # and of the second, unless that follows the first
    "joined": 1,
}
#: Place of num_buffers in a frame with its header.
_NUMBER = NetHeader.as_shape()["num_buffers"].offset // 8


class Build(wiring.Component):
    """Makes packets of the descriptors that wait: a job for each, then a record.

    A packet begins with a slot (transmit) or a frame (receive).  Header and frame are one string of
    bytes, in a slot as in the guest's buffers.  One whose chain is not all there yet is left open,
    and another queue's turn comes.  A queue that touches gets neither: of its one packet the piece
    that was not there is asked for, patiently.

    Frames are numbered, and kept until they are committed: after a rewind they go into the same
    chains.  A frame that is longer than its chain goes on in the next one, as another packet; how
    many it took is written into its header behind everything else (virtio 1.3, 5.1.6.4).

    Latency
    -------
    4 cycles to take a queue up and put it back; a packet in one descriptor takes 2, a received one
    4; each more descriptor 1.  With mergeable buffers, if not all of a frame fits into the first
    descriptor, 2 more.

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
    frames : ``In(queues)``; checking : ``In(functions)``
        Frames have come for these queues; checksums are told to these functions.
    open, holding, visiting, left : ``Out(queues)``
        Queues with an open packet; with frames; whose turn it is; whose turn is over.
    unstall : ``Out(queues)``
        Buffers that are half empty.
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
                "open": Out(queues),
                "holding": Out(queues),
                "visiting": Out(queues),
                "left": Out(queues),
                "unstall": Out(queues),
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
                "position": 16,
                "seen": shapes.piece,  # pieces that were met
                "pieces": shapes.piece,  # pieces that were asked for
            }
            | ({} if transmits else _RECEIVING)
        )

    def elaborate(self, platform):
        m = Module()
        queues = self.queues
        m.submodules.states = states = Memory(shape=self._state, depth=max(2, queues), init=[])
        self.read, self.write = states.read_port(), states.write_port()
        self.s, self.mine = Signal(self._state), Signal(queues)
        self.ready_, self.blocked = Signal(queues), Signal(queues)
        # Begins again; then, with frames that it has.
        self.again, self.replaying = Signal(queues), Signal(queues)
        self.block, self.clear = Signal(queues), Signal(queues)
        self.rearm, self.restarted, self.replayed = (Signal(queues) for _ in range(3))
        self.merges = Signal(queues)  # its frame goes on in the next chain
        self.more = Signal()  # descriptors are left
        self.cleanup = Signal()
        visits = Signal()
        m.d.comb += [
            self.mine.eq(1 << self.queue),
            self.visiting.eq(Mux(visits, self.mine, 0)),
            self.read.addr.eq(self.queue),
            self.write.addr.eq(self.queue),
            self.write.data.eq(self.s),
            self.head.eq(self.s.head + 1),
            self.fetch_at.eq(self.s.head),
        ]
        pairs = self.config.queue_pairs
        functions = Array(Const(number // pairs, 8) for number in range(queues))
        self.function = functions[self.queue]
        self.second = Signal()  # the second DMA of a descriptor, or of num_buffers
        if not self.transmits:
            self._hands(m)
        self._wants(m)
        with m.FSM() as fsm:
            self._choose(m)
            with m.State("READ"):
                m.next = "TAKE"
            self._take(m)
            self._open(m)
            if self.transmits:
                self._descriptor(m)
            else:
                self._receive_descriptor(m)
                self._number(m)
                self._pop(m)
                self._clean(m)
            with m.State("SAVE"):
                m.d.comb += [self.write.en.eq(1), self.left.eq(self.mine)]
                with m.If(self.s.head != self.published):
                    m.d.comb += self.rearm.eq(self.mine)
                m.next = "CHOOSE"
        m.d.comb += visits.eq(~fsm.ongoing("CHOOSE"))
        return m

    def _hands(self, m: Module) -> None:
        """Frames that each queue has, in a ring."""
        self.hand_bits = (self.shapes.window - 1).bit_length()
        depth = max(2, self.queues << self.hand_bits)
        m.submodules.hands = hands = Memory(shape=FrameRef, depth=depth, init=[])
        self.hand_read, self.hand_write = hands.read_port(), hands.write_port()
        at = self.queue << self.hand_bits
        mask = (1 << self.hand_bits) - 1
        m.d.comb += [
            self.hand_read.addr.eq(at | self.s.number & mask),
            self.hand_write.addr.eq(at | self.s.high & mask),
            self.hand_write.data.eq(self.rx_pop.frame),
        ]

    def _wants(self, m: Module) -> None:
        """Whose turn may come."""
        queues = self.queues
        m.submodules.turns = self.turns = Turns(queues)
        normal = Signal(queues)
        self.chosen, self.fresh = Signal(queues), Signal(queues)
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
            with m.Elif(self.turns.any):
                m.d.comb += [self.turns.take.eq(1), self.chosen.eq(1 << self.turns.chosen)]
                m.d.sync += self.queue.eq(self.turns.chosen)
                m.next = "READ"

    def _take(self, m: Module) -> None:
        s, row = self.s, self.read.data
        draining = (self.draining & self.mine).any()
        with m.State("TAKE"):
            m.d.sync += s.eq(row)
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
            self._close(m, s.pieces)
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

    def _pop(self, m: Module) -> None:
        s, mine = self.s, self.mine
        begin = [s.open.eq(1), self.open.eq(self.open | mine)]
        with m.State("POP"):
            m.d.sync += s.frame.eq(self.rx_pop.frame)
            m.next = "SAVE"
            with m.If(self.rx_pop.valid):
                m.d.comb += [self.hand_write.en.eq(1), self.fed.eq(mine)]
                m.d.sync += begin
                m.d.sync += [s.high.eq(s.high + 1), self.holding.eq(self.holding | mine)]
                m.next = "DESCRIPTOR"
        with m.State("HAND"):
            m.next = "HELD"
        with m.State("HELD"):
            m.d.sync += begin
            m.d.sync += [s.frame.eq(self.hand_read.data), s.merging.eq(0)]
            m.next = "DESCRIPTOR"

    def _clean(self, m: Module) -> None:
        """Give back all frames that are not committed."""
        s = self.s
        with m.State("CLEAN"):
            m.next = "CLEANED"
            with m.If(s.number == s.high):
                m.d.sync += self.holding.eq(self.holding & ~self.mine)
                m.next = "SAVE"
        with m.State("CLEANED"):
            m.d.comb += [
                self.release.valid.eq(1),
                self.release.payload.function.eq(self.function),
                self.release.payload.frame.eq(self.hand_read.data),
            ]
            with m.If(self.release.ready):
                m.d.sync += s.number.eq(s.number + 1)
                m.next = "CLEAN"

    def _close(self, m: Module, pieces, *, error=0, absent=0, drop=0, length=0, more=0) -> None:
        s, record = self.s, self.record
        m.d.comb += [
            self.record_en.eq(1),
            record.head.eq(self.entry.head),
            record.span.eq(self.entry.span),
            record.memory.eq(s.frame.memory),
            record.slot.eq(s.frame.slot),
            record.has_slot.eq(~s.touch),
            record.length.eq(length),
            record.more.eq(more),
            record.pieces.eq(pieces),
            record.drop.eq(drop),
            record.error.eq(error),
            record.absent.eq(absent),
            record.touch.eq(s.touch),
        ]
        m.d.sync += [
            s.open.eq(0),
            self.open.eq(self.open & ~self.mine),
            s.built.eq(s.built + 1),
        ]

    def _job(self, m: Module) -> None:
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

    def _asks(self, meets):
        """Whether a piece is asked for: of a packet that touches one is."""
        return meets & (~self.s.touch | (self.s.seen == self.touch_piece))

    def _use(self, m: Module) -> None:
        """Be done with a descriptor."""
        s = self.s
        left = (self.published - s.head - 1)[: self.shapes.buffer + 1]
        m.d.comb += [
            self.head_en.eq(1),
            self.unstall.eq(Mux(left <= BUFFER // 2, self.mine, 0)),
            self.fetch_at.eq(s.head + 1),
        ]
        m.d.sync += s.head.eq(s.head + 1)

    def _descriptor(self, m: Module) -> None:
        """Ask for what one descriptor of a chain to be sent says."""
        s, entry, job = self.s, self.entry, self.job.payload
        room, piece = Signal(17), Signal(16)
        overflows, drop, asks = Signal(), Signal(), Signal()
        position, pieces = Signal(16), Signal(self.shapes.piece)
        mark = (entry.error != QueueError.NONE) | entry.absent
        meets = ~mark & ~drop & (piece != 0)
        self._job(m)
        m.d.comb += [
            room.eq(HEADER_BYTES + self.config.frame_bytes - s.position),
            piece.eq(Mux(entry.length < room, entry.length, room)),
            overflows.eq((entry.length > room) & ~mark),
            drop.eq(s.drop | overflows),
            asks.eq(self._asks(meets)),
            position.eq(s.position + Mux(meets, piece, 0)),
            pieces.eq(s.pieces + asks),
            job.iova.eq(entry.address),
            job.length.eq(piece),
            job.memory.eq(Mux(s.touch, LocalMemory.NOWHERE, s.frame.memory)),
            job.offset.eq(self.shapes.slot_base(s.frame.slot) + 4 + s.position),
        ]
        with m.State("DESCRIPTOR"):
            with m.If(s.head == self.published):
                m.next = "SAVE"
            with m.Else():
                m.d.comb += self.job.valid.eq(asks)
                with m.If(~asks | self.job.ready):
                    self._use(m)
                    m.d.sync += [
                        s.position.eq(position),
                        s.seen.eq(s.seen + meets),
                        s.pieces.eq(pieces),
                        s.drop.eq(drop),
                    ]
                    with m.If(entry.last):
                        self._close(
                            m, pieces, error=entry.error, absent=entry.absent, drop=drop,
                            length=position,
                        )  # fmt: skip
                        m.d.comb += self.block.eq(self.mine)
                        m.next = "OPEN"

    def _receive_descriptor(self, m: Module) -> None:
        """Fill what one descriptor says, but for num_buffers if that is not known yet."""
        s, entry, job = self.s, self.entry, self.job.payload
        whole, room, piece, end = Signal(16), Signal(16), Signal(16), Signal(16)
        start, stop, step = Signal(16), Signal(16), Signal(range(HEADER_BYTES + 1))
        parted, head, again, asks = Signal(), Signal(), Signal(), Signal()
        pieces, least = Signal(self.shapes.piece), Signal(17)
        mark = entry.error != QueueError.NONE
        meets = ~mark & (stop > start)
        told = self.checking.bit_select(self.function, 1) << CHECKED_BIT
        self._job(m)
        m.d.comb += [
            whole.eq(HEADER_BYTES + s.frame.length),
            room.eq(whole - s.position),
            piece.eq(Mux(mark, 0, Mux(entry.length < room, entry.length, room))),
            end.eq(s.position + piece),
            parted.eq(Mux(s.position == 0, self.ring.mergeable & (piece != whole), s.parted)),
            head.eq(parted & (s.position < _NUMBER) & ~self.second),
            start.eq(Mux(parted & ~head & (s.position < HEADER_BYTES), HEADER_BYTES, s.position)),
            stop.eq(Mux(head & (end > _NUMBER), _NUMBER, end)),
            step.eq(start - s.position),
            again.eq(head & (end > HEADER_BYTES)),
            asks.eq(self._asks(meets)),
            pieces.eq(s.pieces + asks),
            least.eq(s.least + entry.length),
            job.iova.eq(entry.address + step),
            job.length.eq(stop - start),
            job.memory.eq(s.frame.memory),
            job.offset.eq(self.shapes.slot_base(s.frame.slot) + 4 + start + told),
        ]
        with m.State("DESCRIPTOR"):
            with m.If(s.head == self.published):
                m.next = "SAVE"
            with m.Else():
                m.d.comb += self.job.valid.eq(asks)
                with m.If(~asks | self.job.ready):
                    m.d.sync += [
                        s.seen.eq(s.seen + meets),
                        s.pieces.eq(pieces),
                        self.second.eq(again),
                    ]
                    with m.If(~again):
                        m.d.sync += [
                            s.position.eq(end),
                            s.parted.eq(parted),
                            s.least.eq(Mux(least < HEADER_BYTES, least, HEADER_BYTES)),
                        ]
                        self._note_number(m, end)
                        self._end_descriptor(m, end, whole, parted, least, pieces)

    def _note_number(self, m: Module, end) -> None:
        """Note where num_buffers goes."""
        s, entry = self.s, self.entry
        with m.If((s.position <= _NUMBER) & (end > _NUMBER)):
            m.d.sync += [
                s.first_byte.eq(entry.address + (_NUMBER - s.position)[:4]),
                s.joined.eq(end > _NUMBER + 1),
            ]
        with m.If((s.position == _NUMBER + 1) & (end > _NUMBER + 1)):
            m.d.sync += s.second_byte.eq(entry.address)

    def _end_descriptor(self, m: Module, end, whole, parted, least, pieces) -> None:
        """Go on with the chain, the next chain of the frame, or the next frame."""
        s, entry, ring = self.s, self.entry, self.ring
        short, more, error = Signal(), Signal(), Signal(QueueError)
        used_up = (s.chains == MERGED_BUFFERS - 1) | (s.places + entry.span >= ring.size)
        m.d.comb += [
            short.eq(
                ((end != whole) & (~ring.mergeable | used_up))
                | (ring.mergeable & (least < HEADER_BYTES))
            ),
            error.eq(entry.error),
            more.eq((error == QueueError.NONE) & (end != whole)),
        ]
        with m.If((entry.error == QueueError.NONE) & short):
            m.d.comb += error.eq(QueueError.BAD_LENGTH)
        with m.If(entry.last & (error == QueueError.NONE) & ~more & parted):
            m.next = "NUMBER"
        with m.Else():
            self._use(m)
            with m.If(entry.last):
                self._close(m, pieces, error=error, length=end - s.begun, more=more)
                m.d.sync += s.merging.eq(more)
                with m.If(more):
                    m.d.comb += self.merges.eq(self.mine)
                    m.d.sync += [
                        s.chains.eq(s.chains + 1),
                        s.places.eq(s.places + entry.span),
                        s.begun.eq(end),
                    ]
                with m.Else():
                    m.d.sync += s.number.eq(s.number + 1)
                m.d.comb += self.block.eq(self.mine)
                m.next = "OPEN"

    def _number(self, m: Module) -> None:
        """Say in the header how many chains the frame took, behind everything else."""
        s, job, asks, pieces = self.s, self.job.payload, Signal(), Signal(self.shapes.piece)
        m.d.comb += pieces.eq(s.pieces + asks)
        with m.State("NUMBER"):
            m.d.comb += [
                asks.eq(self._asks(1)),
                self.job.valid.eq(asks),
                job.iova.eq(Mux(self.second, s.second_byte, s.first_byte)),
                job.length.eq(1 + s.joined),
                job.memory.eq(LocalMemory.NOWHERE),
                job.offset.eq(Cat((_NUMBER + self.second)[:4], s.chains + 1)),
            ]
            with m.If(~asks | self.job.ready):
                m.d.sync += [s.seen.eq(s.seen + 1), s.pieces.eq(pieces), self.second.eq(1)]
                with m.If(s.joined | self.second):
                    m.d.sync += [self.second.eq(0), s.number.eq(s.number + 1)]
                    self._use(m)
                    self._close(m, pieces, length=s.position - s.begun)
                    m.d.comb += self.block.eq(self.mine)
                    m.next = "OPEN"
