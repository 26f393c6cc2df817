"""Checksums of frames that are sent (virtio 1.3, 5.1.6.2)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.frames import FramePatch, FrameRead
from rtl.nic.offload.sums import SUM_LATENCY, LaneSum, add, exchanged
from rtl.nic.seams import FrameRef

__all__ = ["Completer", "CompleterJob"]


class CompleterJob(data.Struct):
    """A checksum to put into a frame of the TX memory."""

    frame: FrameRef
    start: 16
    offset: 16


class Completer(wiring.Component):
    """Puts the checksum from ``start`` on at ``start + offset``, FFFFh in place of 0.

    The sum of the whole frame is known; what is before ``start`` is read and taken off.  What is
    written over is read as well, so that the sum stays that of the frame.  A place that is not in
    the frame is refused.

    Latency
    -------
    9 cycles, and one for each beat that has bytes before ``start`` or of the checksum; more while
    others have the TX memory.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    job : ``In(stream)`` of CompleterJob
    done : ``Out(stream)`` of 1
        Whether it could be done.
    read : ``Out(FrameRead)``; patch : ``Out(FramePatch)``
    look : ``Out(8)``; sum : ``In(16)``
        Sum of a slot, in the same cycle.
    extra : ``Out(16)``
        Is added to the sum beside what is patched.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(CompleterJob)),
                "done": Out(stream.Signature(1)),
                "read": Out(FrameRead()),
                "patch": Out(FramePatch()),
                "look": Out(8),
                "sum": In(16),
                "extra": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes = self.lanes = LaneSum()
        self.shift = exact_log2(self.config.frame_stride // BEAT_BYTES)
        job, frame = self.job.payload, self.job.payload.frame
        self.at, self.last = Signal(17), Signal(17)  # the checksum's bytes
        self.place = Signal(13)  # beat to read
        self.prefixed = Signal()  # it is read for what is before start
        self.prefix, self.old, rest = Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            self.at.eq(job.start + job.offset),
            self.last.eq(self.at + 1),
            self.look.eq(frame.slot),
            self.read.addr.eq(frame.slot << self.shift | self.place[: self.shift]),
        ]
        self._sum(m, job.start)
        slot = Signal.like(frame.slot)
        self._patch(m, slot, job.offset[0], rest)

        second, left = Signal(), Signal(range(SUM_LATENCY + 2))
        good = Signal()
        m.d.comb += self.done.payload.eq(good)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [self.prefix.eq(0), self.old.eq(0), self.place.eq(0), second.eq(0)]
                m.d.sync += [good.eq(self.last < frame.length), slot.eq(frame.slot)]
                with m.If(self.job.valid):
                    m.next = "PREFIX"
                    with m.If(self.last >= frame.length):
                        m.next = "DONE"
            with m.State("PREFIX"):
                with m.If(Cat(Const(0, 4), self.place) >= job.start):
                    m.d.sync += self.place.eq(self.at[4:])
                    m.next = "FIELD"
                with m.Else():
                    m.d.comb += [self.read.en.eq(1), self.prefixed.eq(1)]
                    with m.If(self.read.ready):
                        m.d.sync += self.place.eq(self.place + 1)
            with m.State("FIELD"):
                m.d.comb += self.read.en.eq(1)
                m.d.sync += left.eq(SUM_LATENCY + 1)
                with m.If(self.read.ready):
                    m.d.sync += [self.place.eq(self.last[4:]), second.eq(1)]
                    with m.If(second | (self.place == self.last[4:])):
                        m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.sync += rest.eq(add(m, self.sum, ~self.prefix, "rest"))
                    m.next = "PATCH"
            with m.State("PATCH"):
                m.d.comb += self.patch.en.eq(1)
                with m.If(self.patch.ready):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.valid.eq(1)
                with m.If(self.done.ready):
                    m.d.comb += self.job.ready.eq(1)
                    m.next = "IDLE"
        return m

    def _sum(self, m: Module, start) -> None:
        """Sum the bytes of each beat that comes: those before ``start``, or the checksum's."""
        beat, before, coming = Signal(13), Signal(), Signal()
        whole, field = Signal(BEAT_BYTES), Signal(BEAT_BYTES)
        m.d.sync += [
            beat.eq(self.place),
            before.eq(self.prefixed),
            coming.eq(self.read.en & self.read.ready),
        ]
        m.d.comb += [
            self.lanes.data.eq(self.read.data),
            whole.eq(Mux(beat == start[4:], (1 << start[:4]) - 1, -1)),
            field.eq(
                Mux(beat == self.at[4:], 1 << self.at[:4], 0)
                | Mux(beat == self.last[4:], 1 << self.last[:4], 0)
            ),
            self.lanes.mask.eq(Mux(before, whole, field)),
        ]
        kind, there = before, coming
        for stage in range(SUM_LATENCY):
            later, then = Signal(name=f"before{stage}"), Signal(name=f"coming{stage}")
            m.d.sync += [later.eq(kind), then.eq(there)]
            kind, there = later, then
        for chosen, total, name in ((kind, self.prefix, "prefix"), (~kind, self.old, "old")):
            with m.If(there & chosen):
                m.d.sync += total.eq(add(m, total, self.lanes.sum, name))

    def _patch(self, m: Module, slot, odd, rest) -> None:
        word, patch = Signal(16), self.patch
        m.d.comb += [
            word.eq(~Mux(odd, exchanged(rest), rest)),
            patch.addr.eq(slot << (self.shift + 4) | self.at[: self.shift + 4]),
            patch.data.eq(Mux(word == 0, 0xFFFF, word).replicate(BEAT_BYTES // 2)),
            patch.mask.eq(1 << self.at[:4] | 1 << self.last[:4]),
            self.extra.eq(~self.old),
        ]
