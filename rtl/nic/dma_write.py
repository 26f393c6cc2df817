"""Writes of the DMA engine: data from local memories at any alignment, bursts out."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.translation import DmaUser
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.nic.seams import LoadPort
from rtl.nic.segments import SLOT_BITS, Segment, burst_bytes, burst_length

__all__ = ["DmaWrite"]

#: Beats between gathering and the bus.
_DEPTH = 8


class DmaWrite(wiring.Component):
    """Gathers a segment's data, one beat a cycle, and sends its bursts, one segment after another.

    Members
    -------
    segment : ``In(stream.Signature(Segment))``
        What to write.
    done : ``Out(stream)`` of slot and error
        All responses have come.
    load : ``Out(LoadPort())``
        From the local memories.
    bus : ``Out(Axi4)``, writes alone
    """

    def __init__(self, config: NicConfig, id_width: int):
        self.config, self.id_width = config, id_width
        super().__init__(
            {
                "segment": In(stream.Signature(Segment)),
                "done": Out(stream.Signature(data.StructLayout({"slot": SLOT_BITS, "error": 1}))),
                "load": Out(LoadPort()),
                "bus": Out(
                    Axi4(
                        addr_width=64,
                        data_width=128,
                        id_width=id_width,
                        user=DmaUser,
                        read=False,
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self.outstanding = Array(
            Signal(6, name=f"outstanding{i}") for i in range(1 << self.id_width)
        )
        self.sending = Array(Signal(name=f"sending{i}") for i in range(1 << self.id_width))
        self.bad = Array(Signal(name=f"bad{i}") for i in range(1 << self.id_width))
        held, gathering, addressing = Signal(Segment), Signal(), Signal()
        segment = self.segment
        start = Signal()
        m.d.comb += [
            segment.ready.eq(~gathering & ~addressing),
            start.eq(segment.valid & segment.ready),
        ]
        with m.If(start):
            m.d.sync += held.eq(segment.payload)
        issued = self._addresses(m, held, addressing, start)
        self._gather(m, held, gathering, start)
        self._responses(m, issued, start)
        return m

    def _addresses(self, m: Module, held, addressing, start):
        """Send AW of every burst; returns a strobe per burst."""
        aw, first = self.bus.aw, self.segment.payload
        address, left = Signal(64), Signal(13)
        taken = burst_bytes(m, address, left, self.config, "write")
        issued = Signal()
        m.d.comb += issued.eq(addressing & (~aw.valid | aw.ready))
        with m.If(start):
            m.d.sync += [address.eq(first.address), left.eq(first.length), addressing.eq(1)]
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(issued):
            m.d.sync += [
                aw.valid.eq(1),
                aw.payload.addr.eq(Cat(Const(0, 4), address[4:])),
                aw.payload.id.eq(held.slot),
                aw.payload.len.eq(burst_length(address, taken)),
                aw.payload.size.eq(4),
                aw.payload.burst.eq(Burst.INCR),
                aw.payload.user.eq(held.user),
                address.eq(address + taken),
                left.eq(left - taken),
                addressing.eq(left != taken),
            ]
        self.issuing_last = issued & (left == taken)
        self.issuing_slot = held.slot
        return issued

    def _gather(self, m: Module, held, gathering, start) -> None:
        """Load words, join neighbours, and put beats into a FIFO.

        Beat *j* of the bus needs the local words *j* and *j + 1*, shifted by a constant.
        """
        first, load, w = self.segment.payload, self.load, self.bus.w
        size = self.config.max_burst_beats
        place, beats, sent = Signal(24), Signal(9), Signal(9)
        shift, low, end = Signal(4), Signal(4), Signal(4)
        position = Signal(range(size))  # beat within an aligned burst
        loaded, primed = Signal(), Signal()
        before = Signal(128)
        m.submodules.beats = beats_fifo = fifo.SyncFIFOBuffered(width=145, depth=_DEPTH)
        room = beats_fifo.w_level < _DEPTH - 2
        with m.If(start):
            m.d.sync += [
                gathering.eq(1),
                place.eq(first.offset - first.address[:4]),
                shift.eq(first.offset - first.address[:4]),
                low.eq(first.address[:4]),
                end.eq(first.address[:4] + first.length - 1),
                beats.eq((first.address[:4] + first.length + 15) >> 4),
                position.eq(first.address[4:]),
                sent.eq(0),
                primed.eq(0),
            ]
        # Issue loads: one to prime, then one per beat.
        to_load = Signal(10)
        with m.If(start):
            m.d.sync += to_load.eq(((first.address[:4] + first.length + 15) >> 4) + 1)
        m.d.comb += [
            load.en.eq(gathering & room & (to_load != 0)),
            load.memory.eq(held.memory),
            load.addr.eq(place[4:]),
        ]
        m.d.sync += loaded.eq(load.en)
        with m.If(load.en):
            m.d.sync += [place.eq(place + 16), to_load.eq(to_load - 1)]
        # Take what was loaded.
        joined, mask = Signal(256), Signal(16)
        is_first, is_last = sent == 0, sent + 1 == beats
        value = Cat(held.value, held.value, held.value, held.value)
        m.d.comb += [
            joined.eq(Cat(before, load.data) >> (shift << 3)),
            mask.eq(
                Mux(is_first, (0xFFFF << low)[:16], 0xFFFF) & Mux(is_last, 0xFFFF >> ~end, 0xFFFF)
            ),
            beats_fifo.w_data.eq(
                Cat(
                    Mux(held.inline, value, joined[:128]),
                    mask,
                    is_last | (position == size - 1),
                )
            ),
            beats_fifo.w_en.eq(loaded & primed),
        ]
        with m.If(loaded):
            m.d.sync += [before.eq(load.data), primed.eq(1)]
            with m.If(primed):
                m.d.sync += [sent.eq(sent + 1), position.eq(position + 1)]
                with m.If(is_last):
                    m.d.sync += gathering.eq(0)
        m.d.comb += [
            w.valid.eq(beats_fifo.r_rdy),
            Cat(w.payload.data, w.payload.strb, w.payload.last).eq(beats_fifo.r_data),
            beats_fifo.r_en.eq(w.ready),
        ]

    def _responses(self, m: Module, issued, start) -> None:
        """Count bursts of each slot; report when the last response has come."""
        b, slot = self.bus.b, self.bus.b.payload.id
        error = self.bad[slot] | (b.payload.resp != Resp.OKAY)
        busy = self.sending[slot]
        again = issued & (self.issuing_slot == slot)
        count = self.outstanding[slot]
        ends = b.valid & b.ready & (count == 1) & ~again & ~busy
        m.d.comb += b.ready.eq(~self.done.valid | self.done.ready)
        with m.If(start):
            m.d.sync += self.sending[self.segment.payload.slot].eq(1)
        with m.If(self.issuing_last):
            m.d.sync += self.sending[self.issuing_slot].eq(0)
        taken = b.valid & b.ready
        with m.If(issued & ~(taken & again)):
            m.d.sync += self.outstanding[self.issuing_slot].eq(
                self.outstanding[self.issuing_slot] + 1
            )
        with m.If(taken & ~again):
            m.d.sync += self.outstanding[slot].eq(count - 1)
        with m.If(taken):
            m.d.sync += self.bad[slot].eq(error & ~ends)
        with m.If(self.done.ready):
            m.d.sync += self.done.valid.eq(0)
        with m.If(ends):
            m.d.sync += [
                self.done.valid.eq(1),
                self.done.payload.slot.eq(slot),
                self.done.payload.error.eq(error),
            ]
