"""The Ethernet port: frames from the wire into RX slots, frames from TX slots to the wire."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import MACS_BYTES, VLAN_TAG_BYTES, EtherType
from models.spec.nic import Stat
from rtl.bus.axi import AxiStream, FrameBeat
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.frames import BEAT_BYTES, FrameRead, FrameWrite
from rtl.nic.offload.checker import CheckedBeat
from rtl.nic.seams import FrameForm, FrameRef, LocalMemory, StatEvent
from rtl.nic.tags import TagRead

__all__ = [
    "FRAME_BYTES_MIN",
    "PORT_OWNER",
    "FrameHead",
    "PortEgress",
    "PortFrame",
    "PortIngress",
    "head_of",
]

#: Bytes of the shortest frame that is passed on: an Ethernet header.
FRAME_BYTES_MIN = 14
#: Function whose counters have what the port drops: the PF.
PORT_OWNER = 0
#: Beats between memory and wire, so that a read that comes back always has a place.
_EGRESS_PLACES = 4


class FrameHead(data.Struct):
    """The beginning of a frame; MACs with their first byte lowest."""

    destination: 48
    source: 48
    tagged: 1  # it has a VLAN tag (IEEE 802.1Q)
    tci: 16  # priority and VLAN of the tag


class PortFrame(data.Struct):
    """A whole frame from the wire (port to switch)."""

    frame: FrameRef
    head: FrameHead


def head_of(beat, whole):
    """Head of the frame that begins with a beat, if it fills the beat."""
    kind = beat[96:112]
    return Cat(beat[:96], whole & (kind == EtherType.VLAN.in_memory), beat[120:128], beat[112:120])


class PortIngress(wiring.Component):
    """Writes frames from the wire into RX slots.

    The wire is never stalled.  A frame that begins while no slot is free is dropped and counted
    as RX_DROPPED_FULL of the PF; one with an error, longer than a slot or shorter than an Ethernet
    header as RX_DROPPED_WIRE of the PF.  Up to 255 drops of a kind wait to be counted.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    wire : ``In(AxiStream)``
    alloc : ``In(stream)`` of 8
        Free RX slots.
    write : ``Out(FrameWrite)``
    frame : ``Out(stream)`` of PortFrame
        Frames that are complete, in order.
    seen_en, seen : ``Out``
        Beats of frames that have a slot, whose tag it is.
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "wire": In(AxiStream(data_width=config.data_width)),
                "alloc": In(stream.Signature(8)),
                "write": Out(FrameWrite()),
                "frame": Out(stream.Signature(PortFrame)),
                "seen_en": Out(1),
                "seen": Out(CheckedBeat),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beats = self.config.frame_bytes // BEAT_BYTES
        stride = self.config.frame_stride // BEAT_BYTES
        # As many places as slots: a frame in a slot always has one.
        m.submodules.queue = queue = StreamFifo(PortFrame, self.config.rx_slots, block=True)
        connect(m, queue.o, flipped(self.frame))
        beat, wire = Signal(range(beats + 1)), self.wire.payload
        arrived, started, first, room = Signal(), Signal(), Signal(), Signal()
        slotless = Signal()  # the frame under way began without a slot
        head, ahead = Signal(FrameHead), Signal(FrameHead)
        m.d.comb += [
            self.wire.ready.eq(1),
            arrived.eq(self.wire.valid),
            first.eq(~started),
            room.eq(Mux(first, self.alloc.valid, ~slotless)),
            self.write.en.eq(arrived & room & (beat != beats)),
            self.write.addr.eq(self.alloc.payload << exact_log2(stride) | beat),
            self.write.data.eq(wire.data),
        ]
        kept, length, good = Signal(range(BEAT_BYTES + 1)), Signal(16), Signal()
        m.d.comb += [
            kept.eq(sum(wire.keep[n] for n in range(BEAT_BYTES))),
            length.eq(beat * BEAT_BYTES + kept),
            good.eq(~wire.error & (beat != beats) & (length >= FRAME_BYTES_MIN)),
        ]
        frame = queue.i.payload
        m.d.comb += [
            self.seen_en.eq(arrived & room),
            self.seen.data.eq(wire.data),
            self.seen.index.eq(beat),
            self.seen.last.eq(wire.last),
            self.seen.length.eq(length),
            self.seen.tag.eq(self.alloc.payload),
            frame.frame.memory.eq(LocalMemory.RX),
            frame.frame.slot.eq(self.alloc.payload),
            frame.frame.length.eq(length),
            ahead.eq(head_of(wire.data, wire.keep.all())),
            frame.head.eq(Mux(first, ahead, head)),
            frame.head.source.eq(0),  # nobody asks for it
        ]
        with m.If(arrived):
            m.d.sync += [started.eq(~wire.last), slotless.eq(~room & ~wire.last)]
            with m.If(first):
                m.d.sync += head.eq(ahead)
            with m.If(wire.last):
                m.d.sync += beat.eq(0)
            with m.Elif(beat != beats):
                m.d.sync += beat.eq(beat + 1)
        with m.If(arrived & wire.last & room & good):
            m.d.comb += [queue.i.valid.eq(1), self.alloc.ready.eq(1)]
        self._count(m, full=arrived & wire.last & ~room, bad=arrived & wire.last & room & ~good)
        return m

    def _count(self, m: Module, *, full, bad) -> None:
        """Count drops; those that wait are added up."""
        waiting = {
            Stat.RX_DROPPED_FULL: (full, Signal(8)),
            Stat.RX_DROPPED_WIRE: (bad, Signal(8)),
        }
        m.submodules.events = events = StreamRegister(StatEvent)
        connect(m, events.o, flipped(self.stat))
        m.d.comb += events.i.payload.function.eq(PORT_OWNER)
        free = 1
        for stat, (drop, amount) in waiting.items():
            chosen = Signal(name=f"count_{stat.name.lower()}")
            m.d.comb += chosen.eq(free & (amount != 0))
            with m.If(chosen):
                m.d.comb += [
                    events.i.valid.eq(1),
                    events.i.payload.stat.eq(stat),
                    events.i.payload.amount.eq(amount),
                ]
            with m.If(chosen & events.i.ready):
                m.d.sync += amount.eq(drop)
            with m.Else():
                m.d.sync += amount.eq(amount + (drop & (amount != 255)))
            free = free & (amount == 0)


class PortEgress(wiring.Component):
    """Sends frames from TX slots to the wire.

    One beat per cycle while the DMA leaves the memory free and the wire takes them, frames back to
    back.  A frame that is TAGGED gets its tag behind its MACs: the last bytes of each beat that is
    read go with the next one, or with one more.

    Latency
    -------
    Four cycles from a frame taken to its first beat offered.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    frame : ``In(stream)`` of FrameRef
        Frames to send, in order; their references are given back on ``release``.
    read : ``Out(FrameRead)``
    tag : ``Out(TagRead)``
    release : ``Out(stream)`` of FrameRef
    wire : ``Out(AxiStream)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "frame": In(stream.Signature(FrameRef)),
                "read": Out(FrameRead()),
                "tag": Out(TagRead()),
                "release": Out(stream.Signature(FrameRef)),
                "wire": Out(AxiStream(data_width=config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        stride = self.config.frame_stride // BEAT_BYTES
        m.submodules.queue = queue = StreamFifo(FrameBeat(self.config.data_width), _EGRESS_PLACES)
        m.submodules.releases = releases = StreamRegister(FrameRef)
        connect(m, queue.o, flipped(self.wire))
        connect(m, releases.o, flipped(self.release))

        # Who has frames does not see whether the memory is free.
        m.submodules.frames = frames = StreamRegister(FrameRef)
        connect(m, flipped(self.frame), frames.i)
        frame, busy, beat = Signal(FrameRef), Signal(), Signal(range(stride))
        left = Signal(17)  # bytes that are still to be sent
        coming, issued, last, goes = Signal(), Signal(), Signal(), Signal()
        adds, none = Signal(), Signal()  # a tag; nothing is to be read any more
        given = frames.o.payload
        tag_bytes = Mux(given.form == FrameForm.TAGGED, VLAN_TAG_BYTES, 0)
        m.d.comb += [
            last.eq(left <= BEAT_BYTES),
            adds.eq(frame.form == FrameForm.TAGGED),
            none.eq(adds & ~left[3:].any() & (left[:3] <= VLAN_TAG_BYTES)),
            # The beat that is coming is not in the queue yet.
            goes.eq(busy & (queue.level + coming < _EGRESS_PLACES) & (~last | releases.i.ready)),
            self.read.en.eq(goes & ~none),
            self.read.addr.eq(frame.slot << exact_log2(stride) | beat),
            self.tag.slot.eq(frame.slot),
            issued.eq(goes & (none | self.read.ready)),
            releases.i.valid.eq(issued & last),
            releases.i.payload.eq(frame),
            frames.o.ready.eq(~busy | (issued & last)),
        ]
        with m.If(issued):
            m.d.sync += [beat.eq(beat + 1), left.eq(left - BEAT_BYTES)]
        with m.If(frames.o.ready):
            m.d.sync += [
                busy.eq(frames.o.valid),
                frame.eq(given),
                left.eq(given.length + tag_bytes),
                beat.eq(0),
            ]

        count, ends = Signal(range(BEAT_BYTES + 1)), Signal()
        m.d.sync += [coming.eq(issued), ends.eq(last), count.eq(Mux(last, left, BEAT_BYTES))]
        m.d.comb += [
            queue.i.valid.eq(coming),
            queue.i.payload.data.eq(self.read.data),
            queue.i.payload.keep.eq((1 << count) - 1),
            queue.i.payload.last.eq(ends),
            queue.i.payload.error.eq(0),
        ]
        self._add(m, queue.i.payload.data, coming, adds, (beat == 0) & ~none)
        return m

    def _add(self, m: Module, data, coming, adds, first) -> None:
        """Put the tag into the first of the beats that come, and move what is behind it on."""
        adding, begins, beat = Signal(), Signal(), self.read.data
        behind = Signal(8 * VLAN_TAG_BYTES)  # of the beat before
        m.d.sync += [adding.eq(adds), begins.eq(first)]
        with m.If(coming):
            m.d.sync += behind.eq(beat[8 * MACS_BYTES :])
        with m.If(adding):
            m.d.comb += data.eq(Cat(behind, beat[: 8 * MACS_BYTES]))
            with m.If(begins):
                m.d.comb += data.eq(Cat(beat[: 8 * MACS_BYTES], self.tag.tag))
