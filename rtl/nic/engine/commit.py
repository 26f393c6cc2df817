"""Packets of one direction in the order of their chains."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import QueueError, Stat
from models.spec.virtio import DescriptorFlag, NetHeaderFlag, UsedElement
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.bus.turns import Turns
from rtl.nic.engine.records import (
    BATCH,
    HEADER_BYTES,
    SHORTEST,
    USED_PLACES,
    RingKind,
    Shapes,
    accepted,
    advance,
)
from rtl.nic.offload.checker import Finding
from rtl.nic.seams import (
    DmaStatus,
    ErrorReport,
    LocalMemory,
    SentFrame,
    StatEvent,
    TxFrame,
    receive_queue,
    transmit_queue,
)

__all__ = ["Commit"]

#: Flags of a used descriptor while the wrap counter is 1.
_WRAPPED = int(DescriptorFlag.AVAIL | DescriptorFlag.USED)


class Commit(wiring.Component):
    """Takes each queue's oldest packet when its DMA has ended: hands it on, returns its chain.

    A frame that takes several chains is as many packets.  They fare alike, as the first of them
    whose DMA did not end well, and are committed at once when all of them have ended.

    A frame that met a page that is not there drains its queue: what is under way is taken out
    without effect; then the queue begins again with that frame's first chain, touching the piece,
    and then once more.  A frame that cannot be ends its queue, after the chains before it have been
    returned.

    Latency
    -------
    3 cycles to take a queue up, 3 per packet, 1 more per packet of a frame of several.

    Parameters
    ----------
    config : NicConfig
    transmits : bool
        The direction.

    Members
    -------
    Queues are those of one direction.

    init : ``In(stream)`` of a queue
    progress : ``In(queues)``
        Something of the queue has ended or changed.
    draining, settled : ``In(queues)``
        Queues whose packets have no effect; queues that have no packet open nor about to be.
    drained, rewind, fail : ``Out(queues)``
        Nothing of a queue that drains is left; it is to begin again, or to end.
    rests : ``Out(queues)``
        A queue that does not drain has no packet, and all its used elements are written.
    touch, touch_piece : ``Out``
        With ``rewind``: whether it then touches; a piece to touch of ``queue``, with ``touch``.
    flushing : ``In(queues)``; urgent : ``Out(queues)``
        Used elements are being written; are to be written now.
    queue : ``Out``; built, flushed : ``In``
        Whose turn it is; up to where its packets are complete, its used elements are written.
    packet : ``Out``; record, outcome : ``In``; clear, clear_packet : ``Out``; cleared : ``In``
        Reads a packet; a cycle later.  Forgets the outcome of a packet.
    header_memory, header_at : ``Out``; header : ``In``
        ``flags`` and ``gso_type`` of the header in a TX slot; of a frame to receive what has been
        found of its checksum.  A cycle later.
    checking : ``In(functions)``
        Functions to which checksums are told.
    place : ``In``; move_en, move_queue, moved : ``Out``
        What of ``queue`` is committed, a cycle later; what is now.
    used_en, used_at, used, used_span, used_flags : ``Out``
        A used element; in a packed ring also the places it takes, and flags.
    ring : ``In(RingKind)``
        What the ring of ``queue`` is like, a cycle later.
    cut : ``In(1)``; large_back : ``Out(1)``
        A frame that was to be cut into segments has been, or will not be; the large buffer was a
        dropped frame's.
    error, release, tx_frame, stat : ``Out(stream)``
    """

    def __init__(self, config: NicConfig, *, transmits: bool):
        self.config, self.shapes, self.transmits = config, Shapes(config), transmits
        self.queues = queues = config.data_queues // 2
        shapes = self.shapes
        super().__init__(
            {
                "init": In(stream.Signature(shapes.lane)),
                "progress": In(queues),
                "draining": In(queues),
                "settled": In(queues),
                "drained": Out(queues),
                "rests": Out(queues),
                "rewind": Out(queues),
                "fail": Out(queues),
                "touch": Out(1),
                "touch_piece": Out(shapes.piece),
                "flushing": In(queues),
                "urgent": Out(queues),
                "queue": Out(shapes.lane),
                "built": In(shapes.packet + 1),
                "flushed": In(16),
                "packet": Out(shapes.packet),
                "record": In(shapes.record),
                "outcome": In(shapes.outcome),
                "clear": Out(1),
                "clear_packet": Out(shapes.packet),
                "cleared": In(1),
                "header_memory": Out(LocalMemory),
                "header_at": Out(8),
                "checking": In(config.functions),
                "header": In(16),
                "place": In(shapes.place),
                "move_en": Out(1),
                "move_queue": Out(shapes.lane),
                "moved": Out(shapes.place),
                "used_en": Out(1),
                "used_at": Out(range(USED_PLACES)),
                "used": Out(UsedElement),
                "used_span": Out(16),
                "used_flags": Out(16),
                "ring": In(RingKind),
                "cut": In(1),
                "large_back": Out(1),
                "error": Out(stream.Signature(ErrorReport)),
                "release": Out(stream.Signature(TxFrame)),
                "tx_frame": Out(stream.Signature(SentFrame)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        queues = self.queues
        m.submodules.stats = self.stats = StreamFifo(StatEvent, 4)
        m.submodules.frames = self.frames = StreamRegister(SentFrame)
        m.submodules.releases = self.releases = StreamRegister(TxFrame)
        m.submodules.errors = self.errors = StreamRegister(ErrorReport)
        for queue, port in ((self.stats, self.stat), (self.frames, self.tx_frame),
                            (self.releases, self.release), (self.errors, self.error)):  # fmt: skip
            connect(m, queue.o, flipped(port))
        self.s, self.mine = Signal(self.shapes.place), Signal(queues)
        #: The frame goes on in the next chain.
        self.more = self.record.more if self.config.mergeable else Const(0)
        self.kind = accepted(self.config, self.ring)
        pairs = self.config.queue_pairs
        functions = Array(Const(number // pairs, 8) for number in range(queues))
        pair = Array(Const(number % pairs, 3) for number in range(queues))[self.queue]
        queue_of = transmit_queue if self.transmits else receive_queue
        self.function = functions[self.queue]
        self.returns = Signal()  # the packet's chain goes back
        self.dropped = Signal()
        self.found = Signal(Finding)
        # Of the frame: what has come of it, that it is decided, a packet behind the first.
        self.error, self.status = Signal(QueueError), Signal(DmaStatus)
        self.piece, self.decided = Signal(self.shapes.piece), Signal()
        self.ahead = Signal(self.shapes.packet + 1)
        self.last = Signal()
        calm = Signal()
        self.size = Signal(self.shapes.length)  # of the frame
        given, sent = self.releases.i.payload, self.frames.i.payload
        m.d.comb += [
            self.mine.eq(1 << self.queue),
            self.move_queue.eq(self.queue),
            self.moved.done.eq(self.s.done + 1),
            self.moved.chains.eq(self.s.chains + self.returns),
            self.moved.frames.eq(self.s.frames + (self.returns & ~self.more)),
            self.last.eq(~self.returns | ~self.more),
            self.packet.eq(self.s.done),
            self.header_memory.eq(self.record.memory),
            self.header_at.eq(self.record.slot),
            self.size.eq(self.record.length - Mux(self.decided, 0, HEADER_BYTES)),
            sent.function.eq(self.function),
            sent.pair.eq(pair),
            sent.frame.memory.eq(self.record.memory),
            sent.frame.slot.eq(self.record.slot),
            sent.frame.length.eq(self.size),
            sent.over.eq(self.size[16:]),
            sent.large.eq(self.record.large),
            sent.needs_csum.eq((self.header & NetHeaderFlag.NEEDS_CSUM).any()),
            sent.gso_type.eq(self.header[8:]),
            given.function.eq(sent.function),
            given.frame.eq(sent.frame),
            self.stats.i.payload.function.eq(self.function),
            self.stats.i.payload.queue.eq(queue_of(pair)),
            self.stats.i.payload.queued.eq(1),
            self.used_at.eq(self.s.chains),
            calm.eq(
                (self.stats.level <= 2)
                & self.frames.i.ready
                & self.releases.i.ready
                & self.errors.i.ready
            ),
        ]
        if self.config.packed:
            further = advance(self.s.index, self.record.span, self.kind)
            m.d.comb += self.moved.index.eq(Mux(self.returns, further, self.s.index))
        m.submodules.turns = turns = Turns(queues)
        chosen, pending, again = Signal(queues), Signal(queues), Signal(queues)
        self.again = again
        self._cutting(m)
        m.d.sync += pending.eq((pending & ~chosen) | self.progress | again | self.resumes)
        m.d.comb += turns.wants.eq(pending)
        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(self.init.valid):
                    m.d.comb += [
                        self.init.ready.eq(1),
                        self.move_queue.eq(self.init.payload),
                        self.moved.eq(0),
                        self.move_en.eq(1),
                    ]
                with m.Elif(turns.any):
                    m.d.comb += [turns.take.eq(1), chosen.eq(1 << turns.chosen)]
                    m.d.sync += self.queue.eq(turns.chosen)
                    m.next = "READ"
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += self.s.eq(self.place)
                m.d.comb += self.packet.eq(self.place.done)
                m.next = "CHECK"
            with m.State("CHECK"):
                self._check(m, calm)
            if not self.transmits and self.config.mergeable:
                with m.State("AHEAD"):
                    self._look_ahead(m)
            with m.State("ACT"):
                self._act(m)
            with m.State("MOVE"):
                self._move(m)
            if not self.transmits:
                with m.State("FOUND"):
                    self._count_found(m)
        return m

    def _cutting(self, m: Module) -> None:
        """One frame at a time is cut; what its queue has behind it waits, so that order stays."""
        self.resumes, self.held = Signal(self.queues), Signal(self.queues)
        self.busy, self.begins, self.waits = Signal(), Signal(), Signal()
        waiting, last = Signal(self.queues), self.cut.replicate(self.queues)
        if not (self.transmits and self.config.segmentation):
            return
        self.gso = self.record.has_slot & self.header[8:].any()
        m.d.sync += [
            self.busy.eq((self.busy & ~self.cut) | self.begins),
            self.held.eq((self.held & ~last) | Mux(self.begins, self.mine, 0)),
            waiting.eq((waiting & ~last) | Mux(self.waits, self.mine, 0)),
        ]
        m.d.comb += [
            self.resumes.eq((self.held | waiting) & last),
            self.large_back.eq(self.releases.i.valid & self.record.large),
        ]

    def _check(self, m: Module, calm) -> None:
        """See whether the oldest packet is complete, and has room for what it becomes."""
        s, mine, record, outcome = self.s, self.mine, self.record, self.outcome
        self.waiting = waiting = (s.chains - self.flushed)[:16]
        draining = (self.draining & mine).any()
        with m.If(~self.decided):
            m.d.sync += [self.returns.eq(0), self.dropped.eq(0)]
            m.d.sync += [
                self.error.eq(record.error),
                self.status.eq(outcome.status),
                self.piece.eq(outcome.piece),
                self.ahead.eq(s.done + 1),
            ]
        with m.If(self.decided):
            with m.If(calm):
                m.next = "ACT"
        with m.Elif(s.done == self.built):
            m.next = "CHOOSE"
            with m.If(draining & (self.settled & mine).any()):
                m.d.comb += self.drained.eq(mine)
            with m.Elif(waiting != 0):
                m.d.comb += self.urgent.eq(mine)
            with m.Elif(~draining):
                m.d.comb += self.rests.eq(mine)
        with m.Elif((outcome.count != record.pieces) | (~draining & (self.held & mine).any())):
            m.next = "CHOOSE"
        with m.Elif(~draining & (waiting >= USED_PLACES)):
            m.d.comb += self.urgent.eq(mine)
            m.next = "CHOOSE"
        with m.Elif(calm):
            m.next = "ACT"
            if not self.transmits and self.config.mergeable:
                with m.If(self.more & ~draining):
                    m.d.comb += self.packet.eq(s.done + 1)
                    m.next = "AHEAD"

    def _look_ahead(self, m: Module) -> None:
        """See whether the frame's other packets are complete, and what has come of them."""
        s, record, outcome, ahead = self.s, self.record, self.outcome, self.ahead
        count = (ahead - s.done)[: self.shapes.packet + 1]  # packets before this one
        m.d.comb += self.packet.eq(ahead + 1)
        m.d.sync += ahead.eq(ahead + 1)
        with m.If(self.status == DmaStatus.OK):
            m.d.sync += [self.status.eq(outcome.status), self.piece.eq(outcome.piece)]
        with m.If((ahead == self.built) | (outcome.count != record.pieces)):
            m.next = "CHOOSE"
        with m.Elif(~self.more):
            m.d.sync += self.error.eq(record.error)
            m.d.comb += self.packet.eq(s.done)
            m.next = "ACT"
            with m.If(self.waiting + count >= USED_PLACES):
                m.d.comb += self.urgent.eq(self.mine)
                m.next = "CHOOSE"

    def _verdict(self, m: Module):
        """Whether the queue ends with the frame, and why."""
        error = Signal(QueueError)
        with m.If(self.error != QueueError.NONE):
            m.d.comb += error.eq(self.error)
        with m.Else():
            with m.Switch(self.status):
                with m.Case(DmaStatus.FAILURE):
                    m.d.comb += error.eq(QueueError.PAGE_REQUEST_FAILED)
                with m.Case(DmaStatus.BUS):
                    m.d.comb += error.eq(QueueError.BUS)
                with m.Case(DmaStatus.FAULT, DmaStatus.CANCELLED):
                    m.d.comb += error.eq(QueueError.BUFFER_ADDRESS)
        return error

    def _act(self, m: Module) -> None:
        s, mine, record, status = self.s, self.mine, self.record, self.status
        error = self._verdict(m)
        absent = record.absent | (status == DmaStatus.ABSENT)
        whole = self.error == QueueError.NONE
        fields = self.errors.i.payload
        m.d.comb += [
            fields.queue.eq(self.queue << 1 | self.transmits),
            fields.error.eq(error),
        ]
        with m.If(self.decided):
            self._merge(m)
            m.next = "MOVE"
        with m.Elif((self.draining & mine).any()):
            if self.transmits:
                m.d.comb += self.releases.i.valid.eq(record.has_slot)
            m.next = "MOVE"
        with m.Elif(absent & whole):
            m.d.comb += [
                self.rewind.eq(mine),
                self.touch.eq(1),
                self.touch_piece.eq(Mux(record.absent, -1, self.piece)),
                self.again.eq(mine),
            ]
            m.next = "CHOOSE"
        with m.Elif(error != QueueError.NONE):
            m.next = "CHOOSE"
            with m.If((s.chains == self.flushed) & ~(self.flushing & mine).any()):
                m.d.comb += [
                    self.errors.i.valid.eq(1),
                    self.fail.eq(mine),
                    self.again.eq(mine),
                ]
            with m.Else():
                m.d.comb += self.urgent.eq(mine)
        with m.Else():
            m.d.comb += self.rewind.eq(Mux(record.touch, mine, 0))
            with m.If(record.touch & (status == DmaStatus.OK)):
                m.next = "MOVE"
            with m.Elif(self._must_wait()):
                m.d.comb += self.waits.eq(1)
                m.next = "CHOOSE"
            with m.Else():
                m.d.sync += self.returns.eq(1)
                m.next = "MOVE"
                self._hand_on(m, status == DmaStatus.INVALID)

    def _must_wait(self):
        """Whether the frame is to be cut, and another is being cut."""
        if not (self.transmits and self.config.segmentation):
            return 0
        return self.gso & self.busy & ~self.cut

    def _hand_on(self, m: Module, refused) -> None:
        """To the switch, or back to where the frame came from; count packets."""
        record, stat = self.record, self.stats.i
        short = record.length < HEADER_BYTES + SHORTEST
        drop = record.drop | refused
        if self.transmits:
            drop |= short
            if self.config.segmentation:
                drop |= record.large & ~self.gso
                m.d.comb += self.begins.eq(~drop & self.gso)
            m.d.comb += [
                self.frames.i.valid.eq(~drop),
                self.releases.i.valid.eq(drop & record.has_slot),
            ]
            good, bad = Stat.TX_PACKETS, Stat.TX_DROPPED
        else:
            m.d.comb += self.releases.i.valid.eq(1)
            good = Stat.RX_PACKETS
            bad = Mux(record.drop, Stat.RX_DROPPED_BUFFER, Stat.RX_DROPPED_REFUSED)
            told = self.checking.bit_select(self.function, 1)
            m.d.sync += self.found.eq(Mux(told, self.header[:2], Finding.NONE))
        m.d.sync += self.dropped.eq(drop)
        m.d.comb += [
            # What is sent offloads and switch count.
            stat.valid.eq(drop if self.transmits else 1),
            stat.payload.stat.eq(Mux(drop, bad, good)),
            stat.payload.amount.eq(1),
        ]

    def _merge(self, m: Module) -> None:
        """Count a chain that a frame takes beyond its first."""
        stat = self.stats.i
        m.d.comb += [
            stat.valid.eq(~self.dropped),
            stat.payload.stat.eq(Stat.RX_MERGED),
            stat.payload.amount.eq(1),
        ]

    def _move(self, m: Module) -> None:
        """Return the chain, count bytes, go on to the next packet."""
        record, stat = self.record, self.stats.i
        size = self.size
        written = 0 if self.transmits else Mux(self.dropped, 0, record.length)
        m.d.comb += [
            self.used.id.eq(record.head),
            self.used.len.eq(written),
            self.used_span.eq(record.span),
            self.clear.eq(1),
            self.clear_packet.eq(self.s.done),
        ]
        if self.config.packed:
            m.d.comb += self.used_flags.eq(
                Mux(self.s.index[15], 0, _WRAPPED)
                | Mux(self.used.len.any(), int(DescriptorFlag.WRITE), 0)
            )
        with m.If(self.cleared):
            m.d.comb += [
                self.move_en.eq(self.last),
                self.used_en.eq(self.returns),
                self.packet.eq(self.s.done + 1),
            ]
            m.d.sync += [self.s.eq(self.moved), self.decided.eq(~self.last)]
            with m.If(self.last & ((self.moved.chains - self.flushed)[:16] >= BATCH)):
                m.d.comb += self.urgent.eq(self.mine)
            with m.If(self.returns & ~self.dropped):
                m.d.comb += [
                    stat.valid.eq(not self.transmits),
                    stat.payload.stat.eq(Stat.RX_BYTES),
                    stat.payload.amount.eq(size),
                ]
            if self.transmits:
                refused = self.status == DmaStatus.INVALID
                with m.If(self.returns & self.dropped):
                    m.d.comb += [
                        stat.valid.eq(1),
                        stat.payload.stat.eq(
                            Mux(refused, Stat.TX_DROPPED_REFUSED, Stat.TX_DROPPED_LENGTH)
                        ),
                        stat.payload.amount.eq(1),
                    ]
            m.next = "CHECK"
            if not self.transmits:
                with m.If(self.returns & (self.found != Finding.NONE)):
                    m.next = "FOUND"

    def _count_found(self, m: Module) -> None:
        """Count what has been found of a received frame's checksum."""
        stat, good = self.stats.i, self.found == Finding.GOOD
        m.d.comb += [
            stat.valid.eq(1),
            stat.payload.stat.eq(Mux(good, Stat.RX_CHECKSUM_GOOD, Stat.RX_CHECKSUM_BAD)),
            stat.payload.amount.eq(1),
        ]
        with m.If(stat.ready):
            m.d.sync += self.found.eq(Finding.NONE)  # once for all of the frame's chains
            m.next = "CHECK"
