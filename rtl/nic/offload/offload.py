"""Between virtqueue engine and switch: what frames that are sent ask for."""

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import Stat
from models.spec.virtio import GsoType
from rtl.bus.stream import StreamArbiter, StreamFifo, StreamRegister, StreamStage
from rtl.nic.frames import FrameByteRead, FramePatch, FrameRead, FrameWritten
from rtl.nic.offload.completer import Completer
from rtl.nic.offload.notes import HeaderNotes
from rtl.nic.offload.segmentation import Segmentation
from rtl.nic.offload.slot_sums import SlotSums
from rtl.nic.seams import (
    FrameRef,
    Offloads,
    SentFrame,
    StatEvent,
    StorePort,
    TxFrame,
    transmit_queue,
)

__all__ = ["Offload"]


class Offload(wiring.Component):
    """Passes frames on to the switch; those whose header asks for a checksum with it.

    Frames stay in order, but for those that are cut into segments: the others pass them.  Flags
    that are not known are ignored; what was not negotiated, or cannot be done, is dropped and
    counted as TX_DROPPED and TX_DROPPED_OFFLOAD.

    Latency
    -------
    One cycle for frames that ask for nothing; for others that of :class:`Completer`, and 5 cycles,
    or of :class:`Segmentation`.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of SentFrame; o : ``Out(stream)`` of TxFrame
        Of frames with a ``gso_type`` the next comes after ``cut``.
    able : ``In(functions)``
        Functions that may send: a frame of another that is being cut is not cut to its end.
    function : ``Out(8)``; offloads : ``In(Offloads)``
        What a function's driver has accepted, in the same cycle.
    store, large : ``In(StorePort)``
        DMA into slots, of which headers are noted; into the large buffer.
    written : ``In(FrameWritten)``; taken_en, taken : ``In``
        What is written into TX slots, which is summed; slots that are taken.
    look : ``In(8)``; sum : ``Out(16)``
        Sum of the frame in a slot, in the same cycle.
    read : ``Out(FrameRead)``; read_bytes : ``Out(FrameByteRead)``; patch : ``Out(FramePatch)``
    alloc : ``In(stream)`` of 8
        Slots for segments.
    cut, large_back : ``Out(1)``
        A frame with a ``gso_type`` has left; so has one that was in the large buffer.
    release : ``Out(stream)`` of FrameRef
        Slots of frames that are dropped, or were cut.
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(SentFrame)),
                "o": Out(stream.Signature(TxFrame)),
                "able": In(config.functions, init=-1),
                "function": Out(8),
                "offloads": In(Offloads),
                "store": In(StorePort()),
                "large": In(StorePort()),
                "written": In(FrameWritten()),
                "taken_en": In(1),
                "taken": In(8),
                "look": In(8),
                "sum": Out(16),
                "read": Out(FrameRead()),
                "read_bytes": Out(FrameByteRead()),
                "patch": Out(FramePatch()),
                "alloc": In(stream.Signature(8)),
                "cut": Out(1),
                "large_back": Out(1),
                "release": Out(stream.Signature(FrameRef)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.stats = self.stats = StreamFifo(StatEvent, 4)
        m.submodules.releases = self.releases = StreamRegister(FrameRef)
        connect(m, self.stats.o, flipped(self.stat))
        connect(m, self.releases.o, flipped(self.release))
        self.passed = passed = stream.Signature(TxFrame).create(path=("passed",))
        given = self.i.payload
        self.ending = Signal()  # it is about a frame that was cut, or cannot be
        self.about = Signal(SentFrame)
        m.d.comb += [
            self.function.eq(given.function),
            passed.payload.frame.eq(given.frame),
            passed.payload.function.eq(given.function),
            passed.payload.pair.eq(given.pair),
            self.about.eq(given),
            self.releases.i.payload.eq(self.about.frame),
            self.stats.i.payload.function.eq(self.about.function),
            self.stats.i.payload.queue.eq(transmit_queue(self.about.pair)),
            self.stats.i.payload.queued.eq(1),
        ]
        if self.config.checksum:
            self._blocks(m)
        self.over = Signal()  # a frame has been cut, or cannot be, and none is on offer
        if self.config.segmentation:
            self._segment(m)
        else:
            m.submodules.frames = frames = StreamStage(TxFrame)
            connect(m, passed, frames.i)
            connect(m, frames.o, flipped(self.o))
        with m.FSM():
            with m.State("IDLE"):
                self._choose(m)
            if self.config.checksum:
                self._complete(m)
            if self.config.segmentation:
                self._cut(m)
            self._refuse(m)
        return m

    def _choose(self, m: Module) -> None:
        """Pass a frame on, or see whether what it asks for was negotiated."""
        given, allowed = self.i.payload, self.offloads
        wants, has = given.gso_type.any(), given.needs_csum & allowed.csum
        with m.If(self.over):
            m.d.sync += self.ending.eq(1)
            m.next = "REFUSED"
            if self.config.segmentation:
                with m.If(~self.unit.ended.payload.refused):
                    m.next = "CUT"
        with m.Elif(given.needs_csum | wants):
            with m.If(self.i.valid):
                m.next = "REFUSED"
                if self.config.checksum:
                    with m.If(has & ~wants):
                        m.next = "COMPLETE"
                if self.config.segmentation:
                    kind, ecn = given.gso_type & ~int(GsoType.ECN), int(GsoType.ECN)
                    known = ((kind == GsoType.TCPV4) & allowed.tso4) | (
                        (kind == GsoType.TCPV6) & allowed.tso6
                    )
                    with m.If(has & known & (allowed.ecn | ~(given.gso_type & ecn).any())):
                        m.next = "HAND"
        with m.Else():
            m.d.comb += [
                self.passed.valid.eq(self.i.valid),
                self.i.ready.eq(self.passed.ready),
            ]

    def _count(self, m: Module, stat: ValueLike, *, then: str) -> None:
        m.d.comb += [
            self.stats.i.valid.eq(1),
            self.stats.i.payload.stat.eq(stat),
            self.stats.i.payload.amount.eq(1),
        ]
        with m.If(self.stats.i.ready):
            m.next = then

    def _blocks(self, m: Module) -> None:
        """What checksums need."""
        slots = self.config.tx_slots
        m.submodules.notes = self.notes = notes = HeaderNotes(self.config, slots)
        m.submodules.sums = self.sums = sums = SlotSums(slots, 2 + self.config.segmentation)
        m.submodules.completer = self.completer = completer = Completer(self.config)
        connect(m, flipped(self.store), notes.store)
        connect(m, completer.read, flipped(self.read))
        given, job, written = self.i.payload, completer.job.payload, self.written
        patched = completer.patch.en & completer.patch.ready
        m.d.comb += [
            notes.slot.eq(given.frame.slot),
            job.frame.eq(given.frame),
            job.start.eq(notes.note.csum_start),
            job.offset.eq(notes.note.csum_offset),
            sums.en.eq(written.en),
            sums.slot.eq(written.slot),
            sums.data.eq(written.data),
            sums.mask.eq(written.mask),
            sums.extra.eq(Mux(patched, completer.extra, 0)),
            sums.taken_en.eq(self.taken_en),
            sums.taken.eq(self.taken),
            sums.look0.eq(completer.look),
            completer.sum.eq(sums.sum0),
            sums.look1.eq(self.look),
            self.sum.eq(sums.sum1),
        ]
        if not self.config.segmentation:
            connect(m, completer.patch, flipped(self.patch))

    def _segment(self, m: Module) -> None:
        """Segments go out beside other frames, patches behind those of the completer."""
        m.submodules.segmentation = self.unit = unit = Segmentation(self.config)
        m.submodules.frames = frames = StreamArbiter(TxFrame, 2)
        connect(m, unit.segment, frames.i1)
        connect(m, frames.o, flipped(self.o))
        connect(m, flipped(self.alloc), unit.alloc)
        connect(m, flipped(self.large), unit.store)
        connect(m, unit.read, flipped(self.read_bytes))
        passed, first, then = self.passed, self.completer.patch, unit.patch
        patched, offered = Signal(), Signal()
        m.d.sync += offered.eq(passed.valid & ~passed.ready)
        m.d.comb += [
            frames.i0.valid.eq(passed.valid),
            frames.i0.payload.eq(passed.payload),
            passed.ready.eq(frames.i0.ready),
            self.over.eq(unit.ended.valid & ~offered),
            self.patch.en.eq(first.en | then.en),
            self.patch.addr.eq(Mux(first.en, first.addr, then.addr)),
            self.patch.data.eq(Mux(first.en, first.data, then.data)),
            self.patch.mask.eq(Mux(first.en, first.mask, then.mask)),
            first.ready.eq(self.patch.ready),
            then.ready.eq(self.patch.ready & ~first.en),
            patched.eq(then.en & then.ready),
            self.sums.look2.eq(unit.look),
            unit.sum.eq(self.sums.sum2),
            unit.able.eq(self.able),
            unit.job.payload.sent.eq(self.i.payload),
            unit.job.payload.note.eq(self.notes.note),
        ]
        with m.If(patched):
            m.d.comb += [
                self.sums.en.eq(unit.counted),
                self.sums.extra.eq(Mux(unit.counted, unit.extra, 0)),
            ]
        with m.If(self.ending):
            m.d.comb += self.about.eq(unit.ended.payload.sent)

    def _complete(self, m: Module) -> None:
        """Let the checksum be put in; then pass the frame on and count it."""
        completer = self.completer
        with m.State("COMPLETE"):
            m.d.comb += [completer.job.valid.eq(1), completer.done.ready.eq(1)]
            with m.If(completer.done.valid):
                m.next = "REFUSED"
                with m.If(completer.done.payload):
                    m.next = "PASS"
        with m.State("PASS"):
            m.d.comb += self.passed.valid.eq(1)
            with m.If(self.passed.ready):
                m.next = "COMPLETED"
        with m.State("COMPLETED"):
            m.d.comb += self.i.ready.eq(self.stats.i.ready)
            self._count(m, Stat.TX_CHECKSUMS, then="IDLE")

    def _cut(self, m: Module) -> None:
        """Hand a frame to the segmenter; when it has been cut, give its slot back and count it."""
        with m.State("HAND"):
            m.d.comb += [self.unit.job.valid.eq(1), self.i.ready.eq(self.unit.job.ready)]
            with m.If(self.unit.job.ready):
                m.next = "IDLE"
        with m.State("CUT"):
            m.d.comb += self.releases.i.valid.eq(1)
            with m.If(self.releases.i.ready):
                m.next = "COUNT"
        with m.State("COUNT"):
            self._count(m, Stat.TX_SEGMENTED, then="IDLE")
            self._leave(m)

    def _refuse(self, m: Module) -> None:
        with m.State("REFUSED"):
            m.d.comb += self.releases.i.valid.eq(1)
            with m.If(self.releases.i.ready):
                m.next = "DROPPED"
        with m.State("DROPPED"):
            self._count(m, Stat.TX_DROPPED, then="REASON")
        with m.State("REASON"):
            why: ValueLike = Stat.TX_DROPPED_OFFLOAD
            if self.config.segmentation:
                halted = self.ending & self.unit.ended.payload.halted
                why = Mux(halted, Stat.TX_DROPPED_LINK, Stat.TX_DROPPED_OFFLOAD)
            self._count(m, why, then="IDLE")
            self._leave(m)

    def _leave(self, m: Module) -> None:
        """Be done with the frame once it has been counted."""
        with m.If(self.stats.i.ready):
            m.d.comb += [
                self.cut.eq(self.about.gso_type.any()),
                self.large_back.eq(self.about.large),
                self.i.ready.eq(~self.ending),
            ]
            if self.config.segmentation:
                m.d.comb += self.unit.ended.ready.eq(self.ending)
            m.d.sync += self.ending.eq(0)
