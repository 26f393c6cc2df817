"""Frames at rest: two memories of slots, and who may read and write them when."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from models.spec.config import NicConfig
from rtl.bus.stream import StreamArbiter
from rtl.nic.byte_memory import BEAT_BYTES, ByteMemory
from rtl.nic.frame_slots import COUNT_BITS, SlotPool
from rtl.nic.seams import FrameRef, HeadRead, LoadPort, LocalMemory, StorePort

__all__ = [
    "BEAT_BYTES",
    "FrameByteRead",
    "FramePatch",
    "FrameRead",
    "FrameShare",
    "FrameStore",
    "FrameWrite",
    "FrameWritten",
]


#: Readers of the TX memory beside the DMA, the first goes first.
_READERS = ("header", "checksum", "verify", "egress")


def _byte(beat):
    """Address of a beat's first byte."""
    return Cat(Const(0, 4), beat)


class FrameRead(wiring.Signature):
    """Reads of the TX memory that wait for the DMA.

    ``data`` follows a cycle with ``en`` and ``ready`` by one cycle.
    """

    def __init__(self):
        super().__init__({"en": Out(1), "addr": Out(20), "ready": In(1), "data": In(128)})


class FrameByteRead(wiring.Signature):
    """Reads of 16 consecutive bytes of the TX memory, in lanes like LoadPort's; as FrameRead."""

    def __init__(self):
        super().__init__({"en": Out(1), "addr": Out(24), "ready": In(1), "data": In(128)})


class FrameWrite(wiring.Signature):
    """Whole beats into the RX memory; never stalls."""

    def __init__(self):
        super().__init__({"en": Out(1), "addr": Out(20), "data": Out(128)})


class FramePatch(wiring.Signature):
    """Writes of the TX memory that wait for the DMA, in lanes like :class:`StorePort`'s."""

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "addr": Out(24),
                "data": Out(128),
                "mask": Out(BEAT_BYTES),
                "ready": In(1),
            }
        )


class FrameWritten(wiring.Signature):
    """What goes into the TX memory: bytes of one slot, in lanes like :class:`StorePort`'s."""

    def __init__(self):
        super().__init__({"en": Out(1), "slot": Out(8), "data": Out(128), "mask": Out(BEAT_BYTES)})


class FrameShare(data.Struct):
    """How many receivers a frame has; its sender's reference is among them no more."""

    frame: FrameRef
    count: COUNT_BITS


class FrameStore(wiring.Component):
    """TX memory (frames from guests) and RX memory (frames from the port) with their slots.

    The DMA has both memories whenever it wants them; others wait, of the readers of the TX memory
    each for those before it.  A slot begins at byte ``slot * frame_stride``; those who read and
    write whole beats count in these.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    store : ``In(StorePort)``
        DMA into the TX memory; other memories are not looked at.
    load : ``In(LoadPort)``
        DMA from both memories.
    header, checksum, verify, egress : ``In(FrameRead)``
        Readers of the TX memory.
    cut : ``In(FrameByteRead)``
        Reader of the TX memory, from any byte.
    steer : ``In(HeadRead)``
        Reader of both memories.
    patch : ``In(FramePatch)``; written : ``Out(FrameWritten)``
        Another writer of the TX memory; what is written into it.
    ingress : ``In(FrameWrite)``
        Writer of the RX memory.
    tx_alloc, rx_alloc : ``Out(stream)`` of 8
        Free slots.  Taking one takes a reference to it.
    share : ``In(stream)`` of FrameShare
        From the sender's one reference to one per receiver; 0 frees the slot.  Receivers may be
        told when it has been accepted.
    release0, release1 : ``In(stream)`` of FrameRef
        Give a reference back; lengths are not looked at.
    tx_free, rx_free : ``Out``
        Slots that are free, for tests and counters.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "store": In(StorePort()),
                "load": In(LoadPort()),
                **{name: In(FrameRead()) for name in _READERS},
                "cut": In(FrameByteRead()),
                "patch": In(FramePatch()),
                "written": Out(FrameWritten()),
                "steer": In(HeadRead()),
                "ingress": In(FrameWrite()),
                "tx_alloc": Out(stream.Signature(8)),
                "rx_alloc": Out(stream.Signature(8)),
                "share": In(stream.Signature(FrameShare)),
                "release0": In(stream.Signature(FrameRef)),
                "release1": In(stream.Signature(FrameRef)),
                "tx_free": Out(range(config.tx_slots + 1)),
                "rx_free": Out(range(config.rx_slots + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._tx_memory(m)
        self._rx_memory(m)
        self._slots(m)
        return m

    def _memory(self, slots: int) -> ByteMemory:
        """A memory of slots; of those of three quarters, the third quarters lie behind all."""
        size, stride = self.config.frame_bytes, self.config.frame_stride
        bits, quarter = ceil_log2(slots * stride), exact_log2(stride // 4 // (2 * BEAT_BYTES))

        def place(word):
            quarters, slot = word[quarter : quarter + 2], word[quarter + 2 :]
            behind = (slot + 2 * slots)[: len(slot) + 2]
            return Cat(word[:quarter], Mux(quarters[1], behind, Cat(quarters[0], slot)))

        beats = slots * size // BEAT_BYTES
        return ByteMemory(beats, bits=bits, place=place if size != stride else None)

    def _tx_memory(self, m: Module) -> None:
        """DMA and patches in; DMA and readers out.  Loads of both memories meet here."""
        m.submodules.tx = tx = self._memory(self.config.tx_slots)
        store, load, patch, written = self.store, self.load, self.patch, self.written
        storing, addr = Signal(), Signal(24)
        m.d.comb += [
            storing.eq(store.en & (store.memory == LocalMemory.TX)),
            patch.ready.eq(~storing),
            addr.eq(Mux(storing, store.addr, patch.addr)),
            written.en.eq(storing | patch.en),
            written.data.eq(Mux(storing, store.data, patch.data)),
            written.mask.eq(Mux(storing, store.mask, patch.mask)),
            written.slot.eq(self._slot(addr, written.mask)),
            tx.write_addr.eq(addr),
            tx.write_data.eq(written.data),
            tx.write_mask.eq(Mux(written.en, written.mask, 0)),
        ]
        free = Signal()
        m.d.comb += free.eq(~load.en | (load.memory != LocalMemory.TX))
        m.d.comb += [tx.read_en.eq(~free), tx.read_addr.eq(load.addr)]
        for name in _READERS:
            reader, later = getattr(self, name), Signal(name=f"after_{name}")
            m.d.comb += [
                reader.data.eq(tx.read_data),
                reader.ready.eq(free),
                later.eq(free & ~reader.en),
            ]
            with m.If(free & reader.en):
                m.d.comb += [tx.read_en.eq(1), tx.read_addr.eq(_byte(reader.addr))]
            free = later
        spare = Signal()
        m.d.comb += [
            self.cut.data.eq(tx.read_data),
            self.cut.ready.eq(free),
            spare.eq(free & ~self.cut.en),
        ]
        with m.If(free & self.cut.en):
            m.d.comb += [tx.read_en.eq(1), tx.read_addr.eq(self.cut.addr)]
        free = spare
        with m.If(free & self.steer.en & (self.steer.memory == LocalMemory.TX)):
            m.d.comb += [
                tx.read_en.eq(1),
                tx.read_addr.eq(self.steer.addr),
                self.steer.ready.eq(1),
            ]
        self._tx_data = tx.read_data

    def _slot(self, addr, mask):
        """Slot of the chosen bytes: ``addr`` may be that of a byte before it."""
        beat = addr[4:] + Cat(mask[lane] & (addr[:4] > lane) for lane in range(BEAT_BYTES)).any()
        return beat[exact_log2(self.config.frame_stride // BEAT_BYTES) : len(addr) - 4]

    def _rx_memory(self, m: Module) -> None:
        """Ingress in, DMA out."""
        m.submodules.rx = rx = self._memory(self.config.rx_slots)
        from_rx, wanted, steered, steered_rx = (Signal() for _ in range(4))
        m.d.comb += [
            rx.write_mask.eq(self.ingress.en.replicate(BEAT_BYTES)),
            rx.write_addr.eq(_byte(self.ingress.addr)),
            rx.write_data.eq(self.ingress.data),
            wanted.eq(self.load.en & (self.load.memory == LocalMemory.RX)),
            rx.read_en.eq(wanted | steered),
            rx.read_addr.eq(Mux(wanted, self.load.addr, self.steer.addr)),
            steered.eq(self.steer.en & (self.steer.memory == LocalMemory.RX) & ~wanted),
            self.steer.data.eq(Mux(steered_rx, rx.read_data, self._tx_data)),
        ]
        m.d.sync += [from_rx.eq(wanted), steered_rx.eq(steered)]
        with m.If(steered):
            m.d.comb += self.steer.ready.eq(1)
        with m.If(from_rx):
            m.d.comb += self.load.data.eq(rx.read_data)
        with m.Else():
            m.d.comb += self.load.data.eq(self._tx_data)

    def _slots(self, m: Module) -> None:
        """Two pools; what concerns a slot goes to the pool of its memory."""
        m.submodules.tx_pool = tx_pool = SlotPool(self.config.tx_slots)
        m.submodules.rx_pool = rx_pool = SlotPool(self.config.rx_slots)
        m.submodules.releases = releases = StreamArbiter(FrameRef, 2)
        connect(m, tx_pool.alloc, flipped(self.tx_alloc))
        connect(m, rx_pool.alloc, flipped(self.rx_alloc))
        connect(m, flipped(self.release0), releases.i0)
        connect(m, flipped(self.release1), releases.i1)
        m.d.comb += [self.tx_free.eq(tx_pool.free), self.rx_free.eq(rx_pool.free)]

        release, share = releases.o, self.share
        for memory, pool in ((LocalMemory.TX, tx_pool), (LocalMemory.RX, rx_pool)):
            m.d.comb += [
                pool.release.payload.eq(release.payload.slot),
                pool.share.payload.slot.eq(share.payload.frame.slot),
                pool.share.payload.count.eq(share.payload.count),
            ]
            with m.If(release.payload.memory == memory):
                m.d.comb += [
                    pool.release.valid.eq(release.valid),
                    release.ready.eq(pool.release.ready),
                ]
            with m.If(share.payload.frame.memory == memory):
                m.d.comb += [pool.share.valid.eq(share.valid), share.ready.eq(pool.share.ready)]
        # A reference to neither memory is nobody's.
        with m.If(
            (release.payload.memory != LocalMemory.TX) & (release.payload.memory != LocalMemory.RX)
        ):
            m.d.comb += release.ready.eq(1)
