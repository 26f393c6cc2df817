"""Checksums of frames from one function to another."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.forwarding import delivery
from rtl.nic.frames import FrameRead
from rtl.nic.offload.checker import Checker, Finding
from rtl.nic.offload.findings import FindingNote
from rtl.nic.seams import LocalMemory

__all__ = ["Verifier"]

#: Beats that are read of every frame.
_FIRST_BEATS = 3
#: Index of the beat that ends a frame and is none.
_BEHIND = 0xFFF


class Verifier(wiring.Component):
    """Reads the headers of frames in TX memory that go to functions to which checksums are told.

    What is behind the packet, padding as a rule, is read as well; of the rest the sum is known.

    Latency
    -------
    None for frames that are not looked at.  Others take 6 cycles, and one for each beat that is
    read; what has been found is noted ``CHECK_LATENCY`` cycles later, long before it is asked for.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of ``delivery(functions)``; o : ``Out(stream)``
    checking : ``In(functions)``
        Functions to which checksums are told.
    read : ``Out(FrameRead)``
    look : ``Out(8)``; sum : ``In(16)``
        Sum of a slot, in the same cycle.
    note : ``Out(FindingNote)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        frame = stream.Signature(delivery(config.functions))
        super().__init__(
            {
                "i": In(frame),
                "o": Out(frame),
                "checking": In(config.functions),
                "read": Out(FrameRead()),
                "look": Out(8),
                "sum": In(16),
                "note": Out(FindingNote()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shift = exact_log2(self.config.frame_stride // BEAT_BYTES)
        m.submodules.checker = checker = Checker()
        given, frame, packet = self.i.payload, self.i.payload.frame, checker.packet
        place, final, behind = Signal(12), Signal(12), Signal(12)
        local, looked_at, skipped = Signal(), Signal(), Signal()
        issued, index, ends = Signal(), Signal(12), Signal()
        m.d.comb += [
            local.eq(frame.memory == LocalMemory.TX),
            looked_at.eq(local & (given.functions & self.checking).any()),
            self.look.eq(frame.slot),
            self.read.addr.eq(frame.slot << shift | place[:shift]),
            issued.eq(self.read.en & self.read.ready),
            self.o.payload.eq(given),
        ]
        m.d.sync += index.eq(place)
        came = Signal()
        m.d.sync += came.eq(issued)
        m.d.comb += [
            checker.en.eq(came | ends),
            checker.partial.eq(1),
            checker.beat.data.eq(self.read.data),
            checker.beat.index.eq(Mux(ends, _BEHIND, index)),
            checker.beat.last.eq(ends),
            checker.beat.length.eq(frame.length),
            checker.beat.tag.eq(frame.slot),
            # Of frames to be looked at something is noted later.
            self.note.en.eq(checker.done | skipped),
            self.note.slot.eq(Mux(checker.done, checker.tag, frame.slot)),
            self.note.finding.eq(Mux(checker.done, checker.finding, Finding.NONE)),
        ]
        sound = packet.v4 | packet.v6
        last_header = (packet.transport + 7) >> 4
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    place.eq(0),
                    final.eq((frame.length - 1) >> 4),
                    checker.total.eq(self.sum),
                ]
                with m.If(self.i.valid & looked_at):
                    m.next = "FIRST"
                with m.Else():
                    # One note at a time.
                    m.d.comb += [
                        self.o.valid.eq(self.i.valid & ~(local & checker.done)),
                        self.i.ready.eq(self.o.ready & ~(local & checker.done)),
                        skipped.eq(self.i.valid & self.i.ready & local),
                    ]
            with m.State("FIRST"):
                m.d.comb += self.read.en.eq(1)
                with m.If(self.read.ready):
                    m.d.sync += place.eq(place + 1)
                    with m.If((place == final) | (place == _FIRST_BEATS - 1)):
                        m.next = "FIND"
            with m.State("FIND"):
                m.next = "FOUND"
            with m.State("FOUND"):
                m.d.sync += behind.eq(packet.end >> 4)
                m.next = "MORE"
            with m.State("MORE"):
                with m.If(~sound | (place > final)):
                    m.next = "LAST"
                with m.Elif((place <= last_header) | (place >= behind)):
                    m.d.comb += self.read.en.eq(1)
                    with m.If(self.read.ready):
                        m.d.sync += place.eq(place + 1)
                with m.Else():
                    m.d.sync += place.eq(behind)
            with m.State("LAST"):
                m.d.comb += ends.eq(~came)
                with m.If(~came):
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m
