"""Between virtqueue engine and switch: what frames that are sent ask for."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.bus.stream import StreamFifo, StreamRegister
from rtl.nic.frames import FramePatch, FrameRead, FrameWritten
from rtl.nic.offload.completer import Completer
from rtl.nic.offload.notes import HeaderNotes
from rtl.nic.offload.slot_sums import SlotSums
from rtl.nic.seams import FrameRef, Offloads, SentFrame, StatEvent, StorePort, TxFrame

__all__ = ["Offload"]


class Offload(wiring.Component):
    """Passes frames on to the switch; those whose header asks for a checksum with it.

    Frames stay in order.  Flags that are not known are ignored; what was not negotiated, or cannot
    be done, is dropped and counted as TX_DROPPED and TX_DROPPED_OFFLOAD.

    Latency
    -------
    None for frames that ask for nothing; for others that of :class:`Completer`, and 4 cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of SentFrame; o : ``Out(stream)`` of TxFrame
    function : ``Out(8)``; offloads : ``In(Offloads)``
        What a function's driver has accepted, in the same cycle.
    store : ``In(StorePort)``
        DMA, of which headers are noted.
    written : ``In(FrameWritten)``; taken_en, taken : ``In``
        What is written into TX slots, which is summed; slots that are taken.
    look : ``In(8)``; sum : ``Out(16)``
        Sum of the frame in a slot, in the same cycle.
    read : ``Out(FrameRead)``; patch : ``Out(FramePatch)``
    release : ``Out(stream)`` of FrameRef
        Slots of frames that are dropped.
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(SentFrame)),
                "o": Out(stream.Signature(TxFrame)),
                "function": Out(8),
                "offloads": In(Offloads),
                "store": In(StorePort()),
                "written": In(FrameWritten()),
                "taken_en": In(1),
                "taken": In(8),
                "look": In(8),
                "sum": Out(16),
                "read": Out(FrameRead()),
                "patch": Out(FramePatch()),
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
        given = self.i.payload
        allowed = Signal()
        m.d.comb += [
            self.function.eq(given.function),
            self.o.payload.frame.eq(given.frame),
            self.o.payload.function.eq(given.function),
            self.releases.i.payload.eq(given.frame),
            self.stats.i.payload.function.eq(given.function),
            allowed.eq(given.needs_csum & self.offloads.csum & (given.gso_type == 0)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(given.needs_csum | given.gso_type.any()):
                    with m.If(self.i.valid):
                        m.next = "COMPLETE" if self.config.checksum else "REFUSED"
                        with m.If(~allowed):
                            m.next = "REFUSED"
                with m.Else():
                    m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
            if self.config.checksum:
                self._complete(m)
            self._refuse(m)
        return m

    def _count(self, m: Module, stat: Stat, *, then: str) -> None:
        m.d.comb += [
            self.stats.i.valid.eq(1),
            self.stats.i.payload.stat.eq(stat),
            self.stats.i.payload.amount.eq(1),
        ]
        with m.If(self.stats.i.ready):
            m.next = then

    def _complete(self, m: Module) -> None:
        """Let the checksum be put in; then pass the frame on and count it."""
        m.submodules.notes = notes = HeaderNotes(self.config, self.config.tx_slots)
        m.submodules.sums = sums = SlotSums(self.config.tx_slots)
        m.submodules.completer = completer = Completer(self.config)
        connect(m, flipped(self.store), notes.store)
        connect(m, completer.read, flipped(self.read))
        connect(m, completer.patch, flipped(self.patch))
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
            sums.look.eq(completer.look),
            completer.sum.eq(sums.sum),
            sums.look_too.eq(self.look),
            self.sum.eq(sums.sum_too),
        ]
        with m.State("COMPLETE"):
            m.d.comb += [completer.job.valid.eq(1), completer.done.ready.eq(1)]
            with m.If(completer.done.valid):
                m.next = "REFUSED"
                with m.If(completer.done.payload):
                    m.next = "PASS"
        with m.State("PASS"):
            m.d.comb += self.o.valid.eq(1)
            with m.If(self.o.ready):
                m.next = "COMPLETED"
        with m.State("COMPLETED"):
            m.d.comb += self.i.ready.eq(self.stats.i.ready)
            self._count(m, Stat.TX_CHECKSUMS, then="IDLE")

    def _refuse(self, m: Module) -> None:
        with m.State("REFUSED"):
            m.d.comb += self.releases.i.valid.eq(1)
            with m.If(self.releases.i.ready):
                m.next = "DROPPED"
        with m.State("DROPPED"):
            self._count(m, Stat.TX_DROPPED, then="REASON")
        with m.State("REASON"):
            m.d.comb += self.i.ready.eq(self.stats.i.ready)
            self._count(m, Stat.TX_DROPPED_OFFLOAD, then="IDLE")
