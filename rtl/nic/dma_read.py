"""Reads of the DMA engine: bursts out, data into local memories at any alignment."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.translation import DmaUser
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.nic.seams import LocalMemory, StorePort
from rtl.nic.segments import SLOT_BITS, Segment, burst_bytes, burst_length

__all__ = ["DmaRead"]


class DmaRead(wiring.Component):
    """Issues a segment's bursts back to back and lands the data.

    Guest and local alignment may differ; then a beat takes two cycles, else one.

    Members
    -------
    segment : ``In(stream.Signature(Segment))``
        What to read.
    done : ``Out(stream)`` of slot and error
        Everything has landed.
    store : ``Out(StorePort())``
        Into the local memories.
    bus : ``Out(Axi4)``, reads alone
    """

    def __init__(self, config: NicConfig, id_width: int):
        self.config, self.id_width = config, id_width
        super().__init__(
            {
                "segment": In(stream.Signature(Segment)),
                "done": Out(stream.Signature(data.StructLayout({"slot": SLOT_BITS, "error": 1}))),
                "store": Out(StorePort()),
                "bus": Out(
                    Axi4(
                        addr_width=64,
                        data_width=128,
                        id_width=id_width,
                        user=DmaUser,
                        write=False,
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layout = data.StructLayout(
            {"memory": LocalMemory, "base": 24, "low": 4, "end": 4, "beats": 9}
        )
        m.submodules.table = table = memory.Memory(shape=layout, depth=1 << self.id_width, init=[])
        self._issue(m, table.write_port())
        self._land(m, table.read_port(domain="comb"))
        return m

    def _issue(self, m: Module, write) -> None:
        """Split the segment into bursts; note where its data belong."""
        held, address, left, busy = Signal(Segment), Signal(64), Signal(13), Signal()
        segment, ar = self.segment, self.bus.ar
        taken = burst_bytes(m, address, left, self.config, "read")
        free = ~ar.valid | ar.ready
        first = segment.payload
        m.d.comb += [
            segment.ready.eq(~busy),
            write.addr.eq(first.slot),
            write.en.eq(segment.valid & segment.ready),
            write.data.memory.eq(first.memory),
            write.data.base.eq(first.offset - first.address[:4]),
            write.data.low.eq(first.address[:4]),
            write.data.end.eq(first.address[:4] + first.length - 1),
            write.data.beats.eq((first.address[:4] + first.length + 15) >> 4),
        ]
        with m.If(segment.valid & segment.ready):
            m.d.sync += [
                held.eq(first),
                address.eq(first.address),
                left.eq(first.length),
                busy.eq(1),
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
                    ar.payload.user.eq(held.user),
                    address.eq(address + taken),
                    left.eq(left - taken),
                    busy.eq(left != taken),
                ]

    def _land(self, m: Module, read) -> None:
        """Rotate each beat to its local place; two writes if it straddles words there."""
        slots = 1 << self.id_width
        counts = Array(Signal(9, name=f"count{i}") for i in range(slots))
        bad = Array(Signal(name=f"bad{i}") for i in range(slots))
        r, store = self.bus.r, self.store
        beat, valid, upper = Signal.like(r.payload), Signal(), Signal()
        room = ~self.done.valid | self.done.ready
        count, entry = counts[beat.id], read.data
        first, last = count == 0, count + 1 == entry.beats
        place, mask = Signal(24), Signal(16)
        m.d.comb += [
            read.addr.eq(beat.id),
            place.eq(entry.base + (count << 4)),
            mask.eq(
                Mux(first, (0xFFFF << entry.low)[:16], 0xFFFF)
                & Mux(last, 0xFFFF >> ~entry.end, 0xFFFF)
            ),
        ]
        straddles = place[:4] != 0
        finishes = valid & (~straddles | upper) & (~last | room)
        works = valid & (~last | room)
        wide = Signal(32)
        turned = Signal(256)
        m.d.comb += [
            wide.eq(mask << place[:4]),
            turned.eq(beat.data << (place[:4] << 3)),
            store.en.eq(works),
            store.memory.eq(entry.memory),
            store.addr.eq(place[4:] + upper),
            store.data.eq(Mux(upper, turned[128:], turned[:128])),
            store.mask.eq(Mux(upper, wide[16:], wide[:16])),
            r.ready.eq(~valid | finishes),
        ]
        with m.If(r.ready):
            m.d.sync += [valid.eq(r.valid), beat.eq(r.payload), upper.eq(0)]
        with m.Elif(works & straddles & ~upper):
            m.d.sync += upper.eq(1)
        error = bad[beat.id] | (beat.resp != Resp.OKAY)
        with m.If(self.done.ready):
            m.d.sync += self.done.valid.eq(0)
        with m.If(finishes):
            m.d.sync += [
                counts[beat.id].eq(Mux(last, 0, count + 1)),
                bad[beat.id].eq(~last & error),
            ]
            with m.If(last):
                m.d.sync += [
                    self.done.valid.eq(1),
                    self.done.payload.slot.eq(beat.id),
                    self.done.payload.error.eq(error),
                ]
