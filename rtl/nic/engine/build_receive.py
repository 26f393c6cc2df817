"""From descriptors to DMA: frames that are received (virtio 1.3, 5.1.6.4)."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import MACS_BYTES, VLAN_TAG_BYTES
from models.spec.nic import MERGED_BUFFERS, QueueError
from models.spec.virtio import NetHeader
from rtl.bus.ram import SETTLED
from rtl.nic.engine.build import Build
from rtl.nic.engine.records import HEADER_BYTES
from rtl.nic.seams import CHECKED_BIT, FrameForm, FrameRef, LocalMemory, lost

__all__ = ["ReceiveBuild"]

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
#: What of it is for frames that go on in the next chain.
_MERGING = (
    *("merging", "chains", "places", "begun", "least", "parted"),
    *("first_byte", "second_byte", "joined"),
)
#: Place of num_buffers in a frame with its header.
_NUMBER = NetHeader.as_shape()["num_buffers"].offset // 8
#: Place of a VLAN tag, and of what is behind it.
_TAG = HEADER_BYTES + MACS_BYTES
assert not _TAG % VLAN_TAG_BYTES
_BEHIND_TAG = _TAG + VLAN_TAG_BYTES
#: Place of the header in a slot, behind that of the slot's tag, as DMA sees it.
_FIRST = VLAN_TAG_BYTES


class ReceiveBuild(Build):
    """Frames into descriptors.

    Frames are numbered, and kept until they are committed: after a rewind they go into the same
    chains.  A frame that is longer than its chain goes on in the next one, as another packet; how
    many it took is written into its header behind everything else (virtio 1.3, 5.1.6.4).  What is
    before the place of a tag and what is behind it are DMAs of their own if the tag is left out; if
    one is added, it is, too (FrameForm).

    Latency
    -------
    With mergeable buffers, if not all of a frame fits into the first descriptor, 2 cycles more; 1
    if a tag is left out, 2 if one is added.

    Parameters and members are those of :class:`Build`.
    """

    def __init__(self, config: NicConfig):
        super().__init__(config, transmits=False)

    def kept(self) -> dict[str, Any]:
        """What is kept of a frame that is received."""
        return _RECEIVING

    def absent(self) -> tuple[str, ...]:
        """What mergeable buffers alone need."""
        return () if self.config.mergeable else _MERGING

    def prepare(self, m: Module) -> None:
        """Make the ring of frames, and find where each DMA begins and ends."""
        self._hands(m)
        self._parts(m)
        self._tag(m)

    def states(self, m: Module) -> None:
        """Add the states."""
        self._receive_descriptor(m)
        if self.config.mergeable:
            self._number(m)
        self._pop(m)
        self._clean(m)

    def _hands(self, m: Module) -> None:
        """Frames that each queue has, in a ring."""
        self.hand_bits = (self.shapes.window - 1).bit_length()
        depth = max(2, self.queues << self.hand_bits)
        m.submodules.hands = hands = Memory(shape=FrameRef, depth=depth, init=[], attrs=SETTLED)
        self.hand_read, self.hand_write = hands.read_port(), hands.write_port()
        at = self.queue << self.hand_bits
        mask = (1 << self.hand_bits) - 1
        m.d.comb += [
            self.hand_read.addr.eq(at | self.s.number & mask),
            self.hand_write.addr.eq(at | self.s.high & mask),
            self.hand_write.data.eq(self.rx_pop.frame),
        ]

    def _pop(self, m: Module) -> None:
        s, mine = self.s, self.mine
        begin = [s.open.eq(1), self.open.eq(self.open | mine)]
        with m.State("POP"):
            m.d.sync += s.frame.eq(self.rx_pop.frame)
            m.next = "SAVE"
            with m.If(self.rx_pop.valid):
                m.d.comb += [self.hand_write.en.eq(1), self.fed.eq(mine), self.takes.eq(mine)]
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
        """Give back all frames that are not committed, and count them."""
        s = self.s
        with m.State("CLEAN"):
            m.next = "CLEANED"
            with m.If(s.number == s.high):
                m.d.sync += self.holding.eq(self.holding & ~self.mine)
                m.d.sync += [s.number.eq(self.committed), s.high.eq(self.committed)]
                m.next = "SAVE"
        with m.State("CLEANED"):
            m.d.comb += [
                self.release.valid.eq(1),
                self.release.payload.function.eq(self.function),
                self.release.payload.frame.eq(self.hand_read.data),
            ]
            with m.If(self.release.ready):
                m.d.sync += s.number.eq(s.number + 1)
                m.next = "LOST"
        with m.State("LOST"):
            m.d.comb += self.stat.valid.eq(1)
            with m.If(self.stat.ready):
                m.next = "CLEAN"
        m.d.comb += lost(self.stat.payload, self.function, self.rx_pop.pair)

    def _parts(self, m: Module) -> None:
        """Where a DMA begins, and where it ends at the latest, if it does: before num_buffers."""
        s = self.s
        self.start, self.step = Signal(16), Signal(range(_BEHIND_TAG + 1))
        self.limits, self.limit = Signal(), Signal.like(self.step)
        self.begins = Signal.like(self.step)  # of a descriptor's DMAs that are not the first
        self.parted, self.head = Signal(), Signal()
        m.d.comb += [
            self.head.eq(self.parted & (s.position < _NUMBER) & ~self.second),
            self.start.eq(s.position),
        ]
        with m.If(self.second):
            m.d.comb += [self.start.eq(self.begins), self.step.eq(self.begins - s.position)]
        with m.Elif(self.parted & ~self.head & (s.position < HEADER_BYTES)):
            m.d.comb += [self.start.eq(HEADER_BYTES), self.step.eq(HEADER_BYTES - s.position)]
        with m.If(self.head):
            m.d.comb += [self.limits.eq(1), self.limit.eq(_NUMBER)]

    def _tag(self, m: Module) -> None:
        """By how much a frame is longer than in its slot, with the header; where parts of one with
        a tag more or less end; where a part begins in the slot.
        """
        untagged = self.s.frame.form == FrameForm.UNTAGGED
        tagged = self.s.frame.form == FrameForm.TAGGED
        self.overhead = Signal(range(HEADER_BYTES + VLAN_TAG_BYTES + 1))
        self.place = Signal(exact_log2(2 * self.config.frame_stride))
        start, before, within, first = self.start, Signal(), Signal(), Signal(range(16))
        low = start[: len(self.limit)]
        m.d.comb += [
            before.eq(~start[len(low) :].any() & (low < _TAG)),
            within.eq(tagged & ~start[len(low) :].any() & ~before & (low < _BEHIND_TAG)),
            self.overhead.eq(HEADER_BYTES),
            first.eq(_FIRST),
            self.place.eq(start + first),
        ]
        with m.If(untagged):
            m.d.comb += self.overhead.eq(HEADER_BYTES - VLAN_TAG_BYTES)
            with m.If(~before):
                m.d.comb += first.eq(_FIRST + VLAN_TAG_BYTES)
        with m.If(tagged):
            m.d.comb += self.overhead.eq(HEADER_BYTES + VLAN_TAG_BYTES)
            with m.If(~before):
                m.d.comb += first.eq(_FIRST - VLAN_TAG_BYTES)
        with m.If(within):
            m.d.comb += self.place.eq(low[: exact_log2(VLAN_TAG_BYTES)])
        with m.If(~self.head):
            with m.If((untagged | tagged) & before):
                m.d.comb += [self.limits.eq(1), self.limit.eq(_TAG)]
            with m.Elif(within):
                m.d.comb += [self.limits.eq(1), self.limit.eq(_BEHIND_TAG)]

    def _receive_descriptor(self, m: Module) -> None:
        """Fill what one descriptor says, but for num_buffers if that is not known yet.

        What it says is reckoned in one cycle, and asked for in the next.
        """
        s, entry, job = self.s, self.entry, self.job.payload
        whole, room, piece, end = Signal(16), Signal(16), Signal(16), Signal(16)
        stop, cut = Signal(16), Signal()
        start, parted, head = self.start, self.parted, self.head
        small = len(self.limit)
        mark = entry.error != QueueError.NONE
        told = self.checking.bit_select(self.function, 1) << CHECKED_BIT
        m.d.comb += [
            whole.eq(s.frame.length + self.overhead),
            room.eq(whole - s.position),
            piece.eq(Mux(mark, 0, Mux(entry.length < room, entry.length, room))),
            end.eq(s.position + piece),
            parted.eq(Mux(s.position == 0, self.kind.mergeable & (piece != whole), s.parted)),
            cut.eq(self.limits & (end[small:].any() | (end[:small] > self.limit))),
            stop.eq(Mux(cut, self.limit, end)),
        ]
        # Likewise, a cycle later.
        ended, short, divides = Signal.like(end), Signal(), Signal()
        meets, again, asks = Signal(), Signal(), Signal()
        iova, length = Signal.like(job.iova), Signal.like(job.length)
        offset, begins = Signal.like(job.offset), Signal.like(self.begins)
        pieces, least = Signal(self.shapes.piece), Signal(self.shapes.length + 1)
        self.fill_job(m)
        m.d.comb += [
            asks.eq(self.asks(meets)),
            pieces.eq(s.pieces + asks),
            least.eq(s.least + entry.length),
            job.iova.eq(iova),
            job.length.eq(length),
            job.memory.eq(s.frame.memory),
            job.offset.eq(offset),
        ]
        with m.State("DESCRIPTOR"):
            m.d.sync += [
                ended.eq(end),
                short.eq(end != whole),
                divides.eq(parted),
                meets.eq(~mark & (stop > start)),
                again.eq(cut & ~(head & (end <= HEADER_BYTES))),
                begins.eq(Mux(head, HEADER_BYTES, self.limit)),
                iova.eq(entry.address + self.step),
                length.eq(stop - start),
                offset.eq(Cat(self.place, s.frame.slot) | told),
            ]
            m.next = "FILL"
            with m.If(s.head == self.published):
                m.next = "SAVE"
        with m.State("FILL"):
            m.d.comb += self.job.valid.eq(asks)
            with m.If(self.job.ready):
                m.d.sync += [
                    s.seen.eq(s.seen + meets),
                    s.pieces.eq(pieces),
                    self.second.eq(again),
                    self.begins.eq(begins),
                ]
                m.next = "DESCRIPTOR"
                with m.If(~again):
                    m.d.sync += [
                        s.position.eq(ended),
                        s.parted.eq(divides),
                        s.least.eq(Mux(least < HEADER_BYTES, least, HEADER_BYTES)),
                    ]
                    self._note_number(m, ended)
                    self._end_descriptor(m, ended, short, divides, least, pieces)

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

    def _end_descriptor(self, m: Module, end, some, parted, least, pieces) -> None:
        """Go on with the chain, the next chain of the frame, or the next frame; ``some`` of it is
        left.
        """
        s, entry, ring = self.s, self.entry, self.kind
        short, more, numbers, error = Signal(), Signal(), Signal(), Signal(QueueError)
        used_up = (s.chains == MERGED_BUFFERS - 1) | (s.places + entry.span >= ring.size)
        # A chain alone is as long as the part of the frame that goes into it, or longer.
        headless = Mux(ring.mergeable, least, end) < HEADER_BYTES
        drop = some & ~ring.mergeable
        m.d.comb += [
            short.eq((some & ring.mergeable & used_up) | headless),
            error.eq(entry.error),
            more.eq((error == QueueError.NONE) & some & ring.mergeable),
            numbers.eq(entry.last & (error == QueueError.NONE) & ~more & parted),
        ]
        with m.If((entry.error == QueueError.NONE) & short):
            m.d.comb += error.eq(QueueError.BAD_LENGTH)
        if self.config.mergeable:
            with m.If(numbers):
                m.next = "NUMBER"
        with m.If(~numbers):
            self.use(m)
            with m.If(entry.last):
                self.close(m, pieces, error=error, drop=drop, length=end - s.begun, more=more)
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
                asks.eq(self.asks(1)),
                self.job.valid.eq(asks),
                job.iova.eq(Mux(self.second, s.second_byte, s.first_byte)),
                job.length.eq(1 + s.joined),
                job.memory.eq(LocalMemory.NOWHERE),
                job.offset.eq(Cat((_NUMBER + self.second)[:4], s.chains + 1)),
            ]
            with m.If(self.job.ready):
                m.d.sync += [s.seen.eq(s.seen + 1), s.pieces.eq(pieces), self.second.eq(1)]
                with m.If(s.joined | self.second):
                    m.d.sync += [self.second.eq(0), s.number.eq(s.number + 1)]
                    self.use(m)
                    self.close(m, pieces, length=s.position - s.begun)
                    m.d.comb += self.block.eq(self.mine)
                    m.next = "OPEN"
