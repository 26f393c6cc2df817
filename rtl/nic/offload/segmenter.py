"""Cuts a TCP frame into segments (TSO)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import IpProtocol
from models.spec.virtio import GsoType
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.frames import FramePatch
from rtl.nic.offload.headers import ByteRead, HeaderReader
from rtl.nic.offload.notes import Note
from rtl.nic.offload.sums import SUM_LATENCY, add, exchanged
from rtl.nic.seams import FrameRef, LocalMemory

__all__ = ["Segmenter", "SegmenterJob"]

_CWR, _PSH, _FIN = 0x80, 0x08, 0x01
_CHECKSUM_OFFSET = 16
#: Cycles until all that was written counts in the sum of its slot.
_SETTLED = SUM_LATENCY + 2


class SegmenterJob(data.Struct):
    """A packet to cut."""

    length: 17  # of its frame
    gso_type: 8  # NONE has the frame copied as it is
    note: Note


class _Patch(enum.IntEnum, shape=3):
    """Words that differ from one segment to the next, in the order in which they are written."""

    LENGTH = 0
    IDENTITY = 1
    IP_CHECKSUM = 2
    SEQUENCE_HIGH = 3
    SEQUENCE_LOW = 4
    FLAGS = 5
    CHECKSUM = 6


class Segmenter(wiring.Component):
    """Writes segments into TX slots: the headers as they are, payload, then what differs.

    The payload moves as far as payload went before, so its bytes are turned by as much.  Its sum is
    made as it is written; that of the headers is known from :class:`HeaderReader`.

    Latency
    -------
    About 80 cycles to read the headers; of a segment a cycle per beat of its frame, two per beat of
    its headers, and 20.  More while others have the memories, or no slot is free.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    job : ``In(stream)`` of SegmenterJob
        Ready when the packet has been cut, or refused.
    stop : ``In(1)``
        No segment of the packet is begun any more, be it for a cycle.
    segments : ``Out(1)``; refused : ``Out(1)``
        Cuts, from now on; cannot be cut.  Each for one cycle, before anything is offered.
    halted : ``Out(1)``
        Has been stopped before its end; for one cycle.
    read : ``Out(ByteRead)``; steady : ``In(1)``
        The packet's frame; what was read stays until the next read.
    alloc : ``In(stream)`` of 8
        Slots to write to.
    patch : ``Out(FramePatch)``; counted : ``Out(1)``; extra : ``Out(16)``
        Whether what is written counts in the slot's sum, and what is added then.
    look : ``Out(8)``; sum : ``In(16)``
        Sum of a slot, in the same cycle.
    segment : ``Out(stream)`` of FrameRef
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.shift = exact_log2(config.frame_stride)
        super().__init__(
            {
                "job": In(stream.Signature(SegmenterJob)),
                "stop": In(1),
                "segments": Out(1),
                "refused": Out(1),
                "halted": Out(1),
                "read": Out(ByteRead()),
                "steady": In(1),
                "alloc": In(stream.Signature(8)),
                "patch": Out(FramePatch()),
                "counted": Out(1),
                "extra": Out(16),
                "look": Out(8),
                "sum": In(16),
                "segment": Out(stream.Signature(FrameRef)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = self.reader = reader = HeaderReader()
        self.headers = headers = reader.headers
        job = self.job.payload
        copies, size = Signal(), Signal(16)
        self.payload = Signal(8)  # where it begins
        m.d.comb += [
            copies.eq(job.gso_type == GsoType.NONE),
            self.payload.eq(Mux(copies, 0, headers.payload)),
            size.eq(Mux(copies, job.length, job.note.gso_size)),
        ]
        self.slot, self.done, self.number = Signal(8), Signal(17), Signal(16)
        self.size = Signal(16)  # of the segment's payload
        self.whole = Signal(17)  # of its frame
        self.final = Signal()  # it is the last one
        self.index = Signal(_Patch)
        left, data_bytes = Signal(17), Signal(17)
        self.place = Signal(13)  # beat that is read
        waiting = Signal(range(_SETTLED + 1))
        stop, stopped = Signal(), Signal()
        m.d.comb += stop.eq((self.stop | stopped) & ~copies)
        m.d.comb += [
            data_bytes.eq(job.length - self.payload),
            left.eq(data_bytes - self.done),
            self.look.eq(self.slot),
            self.segment.payload.memory.eq(LocalMemory.TX),
            self.segment.payload.slot.eq(self.slot),
            self.segment.payload.length.eq(self.whole),
        ]
        for name in ("en", "head", "addr"):
            m.d.comb += getattr(self.read, name).eq(getattr(reader.read, name))
        m.d.comb += [reader.read.ready.eq(self.read.ready), reader.read.data.eq(self.read.data)]
        self._pipe(m)
        sound = self._sound(m, data_bytes)
        with m.If(self.stop):
            m.d.sync += stopped.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [self.done.eq(0), self.number.eq(0), stopped.eq(0)]
                m.d.comb += reader.start.eq(self.job.valid & ~copies)
                with m.If(self.job.valid):
                    m.next = "HEADERS"
                    with m.If(copies):
                        m.next = "SLOT"
            with m.State("HEADERS"):
                with m.If(~reader.busy):
                    m.next = "SLOT"
                    m.d.comb += [self.segments.eq(sound), self.refused.eq(~sound)]
                    with m.If(~sound):
                        m.d.comb += self.job.ready.eq(1)
                        m.next = "IDLE"
            with m.State("SLOT"):
                m.d.comb += self.alloc.ready.eq(~stop)
                m.d.sync += [
                    self.slot.eq(self.alloc.payload),
                    self.size.eq(Mux(left > size, size, left)),
                    self.final.eq(left <= size),
                    self.place.eq(0),
                ]
                with m.If(stop):
                    m.d.comb += [self.job.ready.eq(1), self.halted.eq(1)]
                    m.next = "IDLE"
                with m.Elif(self.alloc.valid):
                    m.next = "HEAD"
            with m.State("HEAD"):
                m.d.sync += self.whole.eq(self.payload + self.size)
                self._issue(m, head=True, then="TAIL")
            with m.State("TAIL"):  # all of it has been written
                m.d.sync += waiting.eq(_SETTLED)
                with m.If(~self.moving):
                    m.d.sync += self.place.eq(self.payload[4:])
                    m.next = "BODY"
                    with m.If(self.size == 0):
                        m.next = "SETTLE"
            with m.State("BODY"):
                self._issue(m, head=False, then="SETTLE")
            with m.State("SETTLE"):
                with m.If(~self.moving):
                    m.d.sync += waiting.eq(waiting - 1)
                    with m.If(waiting == 0):
                        m.next = "SUM"
            with m.State("SUM"):
                self._begin_patches(m)
                m.next = "PATCH"
                with m.If(copies):
                    m.next = "OFFER"
            with m.State("PATCH"):
                self._patch(m, then="OFFER")
            with m.State("OFFER"):
                m.d.comb += self.segment.valid.eq(1)
                with m.If(self.segment.ready):
                    m.d.sync += [
                        self.done.eq(self.done + self.size),
                        self.number.eq(self.number + 1),
                    ]
                    m.next = "SLOT"
                    with m.If(self.final):
                        m.d.comb += self.job.ready.eq(1)
                        m.next = "IDLE"
        return m

    def _sound(self, m: Module, data_bytes):
        """Whether the packet is what its header says, and can be cut."""
        headers, job, sound = self.headers, self.job.payload, Signal()
        kind, size, longest = job.gso_type & ~int(GsoType.ECN), job.note.gso_size, Signal(18)
        m.d.comb += [
            longest.eq(headers.payload + Mux(data_bytes < size, data_bytes, size)),
            sound.eq(
                headers.tcp
                & Mux(kind == GsoType.TCPV4, headers.v4, headers.v6)
                & (job.note.csum_start == headers.transport)
                & (job.note.csum_offset == _CHECKSUM_OFFSET)
                & (size != 0)
                & (headers.transport - headers.network >= 20)
                & (headers.payload - headers.transport >= 20)
                & (job.length >= headers.payload)
                & (longest <= self.config.frame_bytes)
            ),
        ]
        return sound

    # Bytes -------------------------------------------------------------------------------------

    def _pipe(self, m: Module) -> None:
        """What was read is turned and held until it is written."""
        arrived, held, moved = Signal(), Signal(), Signal()
        content = Signal(8 * BEAT_BYTES)
        came, there = (
            Signal(data.StructLayout({"beat": 13, "head": 1}), name=name)
            for name in ("came", "there")
        )
        self.moving, self.room, self.issued = Signal(), Signal(), Signal()
        by, value = Mux(came.head, 0, self.done[:4]), self.read.data
        for bit in range(4):
            rotated = Signal(8 * BEAT_BYTES, name=f"turned{bit}")
            m.d.comb += rotated.eq(Mux(by[bit], value.rotate_right(8 << bit), value))
            value = rotated
        m.d.comb += [
            moved.eq(held & self.patch.ready),
            self.moving.eq(arrived | held),
            self.room.eq(Mux(self.steady, ~arrived | ~held | moved, ~arrived & (~held | moved))),
        ]
        takes = arrived & (~held | moved)
        with m.If(self.issued):
            m.d.sync += [came.beat.eq(self.place), came.head.eq(self.read.head)]
        m.d.sync += arrived.eq(self.issued | (arrived & ~takes))
        with m.If(takes):
            m.d.sync += [held.eq(1), content.eq(value), there.eq(came)]
        with m.Elif(moved):
            m.d.sync += held.eq(0)
        patch, mask = self.patch, Signal(BEAT_BYTES)
        for lane in range(BEAT_BYTES):
            place = Cat(Const(lane, 4), there.beat)
            of_head = place < self.payload
            m.d.comb += mask[lane].eq(Mux(there.head, of_head, ~of_head & (place < self.whole)))
        with m.If(held):
            m.d.comb += [
                patch.en.eq(1),
                patch.addr.eq(Cat(Const(0, 4), there.beat)[: self.shift] | self.slot << self.shift),
                patch.data.eq(content),
                patch.mask.eq(mask),
                self.counted.eq(~there.head),
            ]

    def _issue(self, m: Module, *, head: bool, then: str) -> None:
        """Read beats of headers or payload, and write what has come of them."""
        first = Cat(Const(0, 4), self.place)
        end = self.payload if head else self.whole
        m.d.comb += [
            self.read.head.eq(head),
            self.read.addr.eq(first + (0 if head else self.done)),
            self.read.en.eq(self.room & (first < end)),
            self.issued.eq(self.read.en & self.read.ready),
        ]
        with m.If(self.issued):
            m.d.sync += self.place.eq(self.place + 1)
        with m.If(first >= end):
            m.next = then

    # Words -------------------------------------------------------------------------------------

    def _begin_patches(self, m: Module) -> None:
        headers = self.headers
        self.ip_sum, self.tcp_sum = Signal(16), Signal(16)
        m.d.sync += [
            self.index.eq(0),
            self.ip_sum.eq(headers.ip_sum),
            self.tcp_sum.eq(add(m, headers.tcp_sum, exchanged(self.sum), "payload")),
        ]

    def _patch(self, m: Module, *, then: str) -> None:
        """Write one word after another; checksums behind what they are of."""
        headers, patch, v4 = self.headers, self.patch, self.headers.v4
        word, place, offset = Signal(16), Signal(9), Signal(6)
        of_ip, due = Signal(), Signal()
        to_ip, to_tcp = Signal(16), Signal(16)
        sequence, flags, packet = Signal(32), Signal(16), Signal(16)
        m.d.comb += [
            sequence.eq(headers.sequence + self.done),
            flags.eq(
                headers.flags
                & Mux(self.number == 0, 0xFFFF, 0xFFFF & ~_CWR)
                & Mux(self.final, 0xFFFF, 0xFFFF & ~(_FIN | _PSH))
            ),
            packet.eq(self.whole - headers.network),
            due.eq(1),
        ]
        with m.Switch(self.index):
            with m.Case(_Patch.LENGTH):
                m.d.comb += [
                    word.eq(Mux(v4, packet, packet - 40)),
                    offset.eq(Mux(v4, 2, 4)),
                    of_ip.eq(1),
                    to_ip.eq(word),
                    to_tcp.eq(self.whole - headers.transport),
                ]
            with m.Case(_Patch.IDENTITY):
                m.d.comb += [word.eq(headers.identity + self.number), offset.eq(4), of_ip.eq(1)]
                m.d.comb += [to_ip.eq(word), to_tcp.eq(IpProtocol.TCP), due.eq(v4)]
            with m.Case(_Patch.IP_CHECKSUM):
                m.d.comb += [word.eq(~self.ip_sum), offset.eq(10), of_ip.eq(1), due.eq(v4)]
            with m.Case(_Patch.SEQUENCE_HIGH):
                m.d.comb += [word.eq(sequence[16:]), offset.eq(4), to_tcp.eq(word)]
            with m.Case(_Patch.SEQUENCE_LOW):
                m.d.comb += [word.eq(sequence[:16]), offset.eq(6), to_tcp.eq(word)]
            with m.Case(_Patch.FLAGS):
                m.d.comb += [word.eq(flags), offset.eq(12), to_tcp.eq(word)]
            with m.Case(_Patch.CHECKSUM):
                m.d.comb += [
                    word.eq(Mux(self.tcp_sum == 0xFFFF, 0xFFFF, ~self.tcp_sum)),
                    offset.eq(_CHECKSUM_OFFSET),
                    self.extra.eq(exchanged(headers.rest_sum)),
                ]
        m.d.comb += [
            place.eq(Mux(of_ip, headers.network, headers.transport) + offset),
            patch.en.eq(due),
            patch.addr.eq(place | self.slot << self.shift),
            patch.data.eq(exchanged(word).replicate(BEAT_BYTES // 2)),
            patch.mask.eq(3 << place[:4]),
            self.counted.eq(1),
        ]
        with m.If(patch.ready | ~due):
            m.d.sync += [
                self.index.eq(self.index + 1),
                self.ip_sum.eq(add(m, self.ip_sum, to_ip, "ip")),
                self.tcp_sum.eq(add(m, self.tcp_sum, to_tcp, "tcp")),
            ]
            with m.If(self.index == _Patch.CHECKSUM):
                m.next = then
