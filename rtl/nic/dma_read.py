"""Reads of the DMA engine: bursts out, data into local memories at any alignment."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.translation import DmaUser
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.nic.seams import LocalMemory, StorePort
from rtl.nic.segments import (
    PATIENCE,
    End,
    EndKind,
    Segment,
    burst_bytes,
    burst_length,
    drive_user,
    turned,
)
from rtl.nic.yielding import Yielding

__all__ = ["DmaRead"]

#: Where a slot's data belong: local address of lane 0 of the first beat, lanes, the last beat.
_PLACE = data.StructLayout({"memory": LocalMemory, "base": 24, "low": 4, "end": 4, "last": 8})
#: What has come of a slot.
_PROGRESS = data.StructLayout({"count": 8, "bad": 1})


class DmaRead(wiring.Component):
    """Issues a segment's bursts back to back and lands the data, a beat a cycle at any alignment.

    Those that yield go last, or after ``PATIENCE`` cycles, and one at a time: memory would answer
    several one after the other, and what others read behind them.

    Latency
    -------
    Segment to first address: two cycles, a burst a cycle.  A beat is in its local memory two cycles
    after it was taken; ``done`` comes in the cycle in which the last one is stored.

    Members
    -------
    segment, later : ``In(stream.Signature(Segment))``
        What to read.
    yielded : ``In(1)``
        A segment that yields has ended.
    done : ``Out(stream.Signature(End))``
        Everything has landed, MOVED or ERROR.
    store : ``Out(StorePort())``
        Into the local memories.
    bus : ``Out(Axi4)``, reads alone
    """

    def __init__(self, config: NicConfig, id_width: int):
        self.config = config
        self.slot_bits = exact_log2(config.dma_slots)
        bus = {"addr_width": 64, "data_width": 128, "id_width": id_width, "user": DmaUser}
        super().__init__(
            {
                "segment": In(stream.Signature(Segment)),
                "later": In(stream.Signature(Segment)),
                "yielded": In(1),
                "done": Out(stream.Signature(End)),
                "store": Out(StorePort()),
                "bus": Out(Axi4(**bus, write=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.config.dma_slots
        m.submodules.places = places = memory.Memory(shape=_PLACE, depth=depth, init=[])
        m.submodules.progress = progress = memory.Memory(shape=_PROGRESS, depth=depth, init=[])
        self._issue(m, places.write_port())
        self._land(
            m,
            places.read_port(domain="comb"),
            progress.read_port(domain="comb"),
            progress.write_port(),
        )
        return m

    def _issue(self, m: Module, place) -> None:
        """Split the segment into bursts; note where its data belong."""
        held, within, left, busy = Signal(Segment), Signal(12), Signal(13), Signal()
        address = Cat(within, held.address[12:])  # a segment stays in its page
        ar = self.bus.ar
        m.submodules.order = segment = Yielding(Segment, PATIENCE)
        connect(m, flipped(self.segment), segment.first)
        connect(m, flipped(self.later), segment.second)
        with m.If(segment.second.valid & segment.second.ready):
            m.d.sync += segment.blocked.eq(1)
        with m.Elif(self.yielded):
            m.d.sync += segment.blocked.eq(0)
        taken, last = burst_bytes(m, address, left, self.config, "read")
        free = ~ar.valid | ar.ready
        first = segment.payload
        user = Signal(DmaUser)
        drive_user(m, user, held, self.config)
        low = first.address[:4]
        m.d.comb += [
            segment.take.eq(~busy | (free & last)),
            place.addr.eq(first.slot[: self.slot_bits]),
            place.en.eq(segment.valid & segment.take),
            place.data.memory.eq(first.memory),
            place.data.base.eq(first.offset - low),
            place.data.low.eq(low),
            place.data.end.eq(low + first.length - 1),
            place.data.last.eq((low + first.length - 1) >> 4),
        ]
        with m.If(free):
            m.d.sync += ar.valid.eq(busy)
            with m.If(busy):
                m.d.sync += [
                    ar.payload.addr.eq(Cat(Const(0, 4), address[4:])),
                    ar.payload.id.eq(held.slot),
                    ar.payload.len.eq(burst_length(address, taken)),
                    ar.payload.size.eq(4),
                    ar.payload.burst.eq(Burst.INCR),
                    ar.payload.user.eq(user),
                    within.eq(within + taken),
                    left.eq(left - taken),
                ]
        with m.If(segment.take):
            m.d.sync += [
                held.eq(first),
                within.eq(first.address),
                left.eq(first.length),
                busy.eq(segment.valid),
            ]

    def _land(self, m: Module, place, progress, update) -> None:
        """Turn each beat to its local lanes; count the beats of its slot."""
        r, store, entry, so_far = self.bus.r, self.store, place.data, progress.data
        beat, slot = r.payload, r.payload.id[: self.slot_bits]
        first, last = so_far.count == 0, so_far.count == entry.last
        error = so_far.bad | (beat.resp != Resp.OKAY)
        # A beat on its way into the local memory.
        landing, ends = Signal(), Signal()
        lanes, mask, content = Signal(24), Signal(16), Signal(128)
        target = Signal(LocalMemory)
        finished = Signal(End)
        m.d.comb += [
            place.addr.eq(slot),
            progress.addr.eq(slot),
            update.addr.eq(slot),
            update.en.eq(r.valid & r.ready),
            update.data.count.eq(Mux(last, 0, so_far.count + 1)),
            update.data.bad.eq(~last & error),
            r.ready.eq(~landing | ~ends | self.done.ready),
            store.en.eq(landing & r.ready),  # once, however long its end waits
            store.memory.eq(target),
            store.addr.eq(lanes),
            store.data.eq(turned(content, lanes[:4])),
            store.mask.eq(turned(mask, lanes[:4])),
            self.done.valid.eq(landing & ends),
            self.done.payload.eq(finished),
        ]
        with m.If(r.ready):
            m.d.sync += [
                landing.eq(r.valid),
                ends.eq(last),
                lanes.eq(entry.base + (so_far.count << 4)),
                mask.eq(
                    Mux(first, (0xFFFF << entry.low)[:16], 0xFFFF)
                    & Mux(last, 0xFFFF >> ~entry.end, 0xFFFF)
                ),
                content.eq(beat.data),
                target.eq(entry.memory),
                finished.slot.eq(beat.id),
                finished.kind.eq(Mux(error, EndKind.ERROR, EndKind.MOVED)),
            ]
