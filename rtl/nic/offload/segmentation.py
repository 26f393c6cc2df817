"""The segmenter with the large buffer, and the frame that it cuts."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import SEGMENTED_BYTES_MAX
from rtl.nic.byte_memory import BEAT_BYTES, ByteMemory
from rtl.nic.frames import FrameByteRead, FramePatch
from rtl.nic.offload.notes import Note
from rtl.nic.offload.segmenter import Segmenter
from rtl.nic.seams import SentFrame, StorePort, TxFrame

__all__ = ["CutFrame", "CutJob", "Segmentation"]


class CutJob(data.Struct):
    """A frame to cut into segments."""

    sent: SentFrame
    note: Note


class CutFrame(data.Struct):
    """A frame that has been cut, or not to its end."""

    sent: SentFrame
    refused: 1  # not to its end
    halted: 1  # likewise: its function may not send any more; else it cannot be cut


class Segmentation(wiring.Component):
    """Cuts one frame at a time; what of it is beyond its slot is in the large buffer.

    Bytes that are read may be of both: then both are read at once.

    Latency
    -------
    That of :class:`Segmenter`, and 2 cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    job : ``In(stream)`` of CutJob
    able : ``In(functions)``
        Functions that may send: of others nothing more is cut, also when they may again.
    ended : ``Out(stream)`` of CutFrame
        Slot and buffer are not needed any more.
    store : ``In(StorePort)``
        DMA into the large buffer, from byte 16 on.
    read : ``Out(FrameByteRead)``
        Of the TX memory.
    alloc : ``In(stream)`` of 8; segment : ``Out(stream)`` of TxFrame
        Slots for segments; segments in them.
    patch, counted, extra, look, sum
        See :class:`Segmenter`.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(CutJob)),
                "able": In(config.functions, init=-1),
                "ended": Out(stream.Signature(CutFrame)),
                "store": In(StorePort()),
                "read": Out(FrameByteRead()),
                "alloc": In(stream.Signature(8)),
                "segment": Out(stream.Signature(TxFrame)),
                "patch": Out(FramePatch()),
                "counted": Out(1),
                "extra": Out(16),
                "look": Out(8),
                "sum": In(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.segmenter = segmenter = Segmenter(self.config)
        job, sent = Signal(CutJob), self.ended.payload.sent
        connect(m, flipped(self.alloc), segmenter.alloc)
        connect(m, segmenter.patch, flipped(self.patch))
        segment, given = segmenter.segment, segmenter.job.payload
        m.d.comb += [
            self.counted.eq(segmenter.counted),
            self.extra.eq(segmenter.extra),
            self.look.eq(segmenter.look),
            segmenter.sum.eq(self.sum),
            segmenter.stop.eq(~self.able.bit_select(job.sent.function, 1)),
            self.segment.valid.eq(segment.valid),
            segment.ready.eq(self.segment.ready),
            self.segment.payload.frame.eq(segment.payload),
            self.segment.payload.function.eq(job.sent.function),
            self.segment.payload.pair.eq(job.sent.pair),
            sent.eq(job.sent),
            given.length.eq(Cat(job.sent.frame.length, job.sent.over)),
            given.gso_type.eq(job.sent.gso_type),
            given.note.eq(job.note),
        ]
        self._read(m, segmenter, job.sent.frame.slot)
        with m.If(segmenter.segments | segmenter.refused):
            m.d.sync += self.ended.payload.refused.eq(segmenter.refused)
            m.d.sync += self.ended.payload.halted.eq(0)
        with m.If(segmenter.halted):
            m.d.sync += [self.ended.payload.refused.eq(1), self.ended.payload.halted.eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += job.eq(self.job.payload)
                with m.If(self.job.valid):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.comb += segmenter.job.valid.eq(1)
                with m.If(segmenter.job.ready):
                    m.next = "ENDED"
            with m.State("ENDED"):
                m.d.comb += self.ended.valid.eq(1)
                with m.If(self.ended.ready):
                    m.next = "IDLE"
        return m

    def _read(self, m: Module, segmenter, slot) -> None:
        """Bytes of a frame from its slot, the large buffer, or both."""
        own = self.config.frame_bytes
        rest = SEGMENTED_BYTES_MAX - own
        m.submodules.large = large = ByteMemory(-(-rest // BEAT_BYTES))
        read, here, store = segmenter.read, self.read, self.store
        beyond, beyond_then = Signal(BEAT_BYTES), Signal(BEAT_BYTES)
        for lane in range(BEAT_BYTES):
            beat = read.addr[4:] + (read.addr[:4] > lane)
            m.d.comb += beyond[lane].eq(beat >= own // BEAT_BYTES)
        some_here, takes = ~beyond.all(), Signal()
        m.d.comb += [
            here.en.eq(read.en & some_here),
            here.addr.eq(slot * self.config.frame_stride + read.addr),
            read.ready.eq(here.ready | ~some_here),
            takes.eq(read.en & read.ready),
            # What comes from the buffer alone stays: nobody else reads it.
            segmenter.steady.eq(~some_here),
            large.read_en.eq(takes),
            large.read_addr.eq(read.addr - own),
            large.write_addr.eq(store.addr - BEAT_BYTES),
            large.write_data.eq(store.data),
            large.write_mask.eq(Mux(store.en, store.mask, 0)),
        ]
        with m.If(takes):
            m.d.sync += beyond_then.eq(beyond)
        for lane in range(BEAT_BYTES):
            m.d.comb += read.data.word_select(lane, 8).eq(
                Mux(
                    beyond_then[lane],
                    large.read_data.word_select(lane, 8),
                    here.data.word_select(lane, 8),
                )
            )
