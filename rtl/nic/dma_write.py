"""Writes of the DMA engine: data from local memories at any alignment, bursts out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.translation import DmaUser
from rtl.bus.axi import Axi4, Burst, Resp
from rtl.nic.seams import LoadPort
from rtl.nic.segments import (
    BUS_BYTES,
    PAGE_BYTES,
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

__all__ = ["DmaWrite"]

#: Beats between gathering and the bus.
_DEPTH = 8


class DmaWrite(wiring.Component):
    """Gathers a segment's data, a beat a cycle at any alignment, and sends its bursts, one segment
    after another: messages first, and last those that yield, which wait for ``PATIENCE`` cycles at
    the most while others come.

    A message's slot is ``config.dma_slots``: its data are ``value`` in every
    word, and its end is told apart.

    Latency
    -------
    Segment to first address: two cycles; to first data on the bus: five cycles.

    Members
    -------
    message, segment, later : ``In(stream.Signature(Segment))``
        What to write.
    value : ``In(32)``
        A message's data, from its segment on until the next one's.
    done : ``Out(stream.Signature(End))``
        All responses have come, MOVED or ERROR.
    message_done, message_error : ``Out(1)``
        The message has its response.
    load : ``Out(LoadPort())``
        From the local memories.
    bus : ``Out(Axi4)``, writes alone
    """

    def __init__(self, config: NicConfig, id_width: int):
        self.config = config
        self.slot_bits = exact_log2(config.dma_slots)
        bus = {"addr_width": 64, "data_width": 128, "id_width": id_width, "user": DmaUser}
        super().__init__(
            {
                "message": In(stream.Signature(Segment)),
                "segment": In(stream.Signature(Segment)),
                "later": In(stream.Signature(Segment)),
                "value": In(32),
                "done": Out(stream.Signature(End)),
                "message_done": Out(1),
                "message_error": Out(1),
                "load": Out(LoadPort()),
                "bus": Out(Axi4(**bus, read=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        held, start = Signal(Segment), Signal()
        self.first, ready, message = Signal(Segment), Signal(), self.message
        m.submodules.order = order = Yielding(Segment, PATIENCE)
        connect(m, flipped(self.segment), order.first)
        connect(m, flipped(self.later), order.second)
        address_ready = self._addresses(m, held, start)
        data_ready = self._gather(m, held, start)
        m.d.comb += [
            ready.eq(address_ready & data_ready),
            message.ready.eq(ready),
            order.take.eq(ready & ~message.valid),
            self.first.eq(Mux(message.valid, message.payload, order.payload)),
            start.eq(ready & (message.valid | order.valid)),
        ]
        with m.If(start):
            m.d.sync += held.eq(self.first)
        self._responses(m, start)
        return m

    def _addresses(self, m: Module, held, start):
        """Send AW of every burst; returns whether another segment may follow."""
        aw, first = self.bus.aw, self.first
        within, left, busy = Signal(12), Signal(13), Signal()
        address = Cat(within, held.address[12:])  # a segment stays in its page
        taken, last = burst_bytes(m, address, left, self.config, "write")
        free = ~aw.valid | aw.ready
        user = Signal(DmaUser)
        drive_user(m, user, held, self.config)
        with m.If(free):
            m.d.sync += aw.valid.eq(busy)
            with m.If(busy):
                m.d.sync += [
                    aw.payload.addr.eq(Cat(Const(0, 4), address[4:])),
                    aw.payload.id.eq(held.slot),
                    aw.payload.len.eq(burst_length(address, taken)),
                    aw.payload.size.eq(4),
                    aw.payload.burst.eq(Burst.INCR),
                    aw.payload.user.eq(user),
                    within.eq(within + taken),
                    left.eq(left - taken),
                    busy.eq(~last),
                ]
        with m.If(start):
            m.d.sync += [within.eq(first.address), left.eq(first.length), busy.eq(1)]
        return ~busy | (free & last)

    def _gather(self, m: Module, held, start):
        """Load what each beat needs, turn it to the bus's lanes, and put beats into a FIFO.

        Returns whether another segment may follow.
        """
        first, load, w = self.first, self.load, self.bus.w
        size = self.config.max_burst_beats
        busy, is_first, left = Signal(), Signal(), Signal(8)  # left: beats after this one
        place, low, end = Signal(24), Signal(4), Signal(4)
        position = Signal(range(size))  # beat within an aligned burst
        is_last = left == 0
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(width=145, depth=_DEPTH)
        m.d.comb += [
            load.en.eq(busy & (beats.w_level < _DEPTH - 1)),
            load.memory.eq(held.memory),
            load.addr.eq(place),
        ]
        with m.If(load.en):
            m.d.sync += [
                place.eq(place + BUS_BYTES),
                left.eq(left - 1),
                position.eq(position + 1),
                is_first.eq(0),
                busy.eq(~is_last),
            ]
        offset = first.address[:4] + first.length - 1
        with m.If(start):
            m.d.sync += [
                busy.eq(1),
                is_first.eq(1),
                place.eq(first.offset - first.address[:4]),
                low.eq(first.address[:4]),
                end.eq(offset),
                left.eq(offset >> 4),
                position.eq(first.address[4:]),
            ]
        # What has been loaded comes one cycle later.
        loaded, lanes, mask, ends, inline = Signal(), Signal(4), Signal(16), Signal(), Signal()
        value = Signal(32)
        m.d.sync += [
            loaded.eq(load.en),
            value.eq(self.value),
            lanes.eq(-place[:4]),
            mask.eq(
                Mux(is_first, (0xFFFF << low)[:16], 0xFFFF) & Mux(is_last, 0xFFFF >> ~end, 0xFFFF)
            ),
            ends.eq(is_last | (position == size - 1)),
            inline.eq(held.slot[self.slot_bits]),
        ]
        content = Mux(inline, value.replicate(4), turned(load.data, lanes))
        m.d.comb += [
            beats.w_data.eq(Cat(content, mask, ends)),
            beats.w_en.eq(loaded),
            w.valid.eq(beats.r_rdy),
            Cat(w.payload.data, w.payload.strb, w.payload.last).eq(beats.r_data),
            beats.r_en.eq(w.ready),
        ]
        return ~busy | (load.en & is_last)

    def _responses(self, m: Module, start) -> None:
        """Count responses of each slot; report when the last one has come."""
        first, size = self.first, self.config.max_burst_beats * BUS_BYTES
        low = exact_log2(size)
        bits = exact_log2(PAGE_BYTES // size)
        progress_layout = data.StructLayout({"count": bits, "bad": 1})
        depth = self.config.dma_slots
        m.submodules.lasts = lasts = memory.Memory(shape=bits, depth=depth, init=[])
        m.submodules.progress = progress = memory.Memory(
            shape=progress_layout, depth=depth, init=[]
        )
        note, last = lasts.write_port(), lasts.read_port(domain="comb")
        so_far, update = progress.read_port(domain="comb"), progress.write_port()
        b, slot = self.bus.b, self.bus.b.payload.id[: self.slot_bits]
        message, error, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            note.en.eq(start & ~first.slot[self.slot_bits]),
            note.addr.eq(first.slot[: self.slot_bits]),
            note.data.eq((first.address[:low] + first.length - 1) >> low),
            last.addr.eq(slot),
            so_far.addr.eq(slot),
            update.addr.eq(slot),
            message.eq(b.payload.id[self.slot_bits]),
            error.eq(b.payload.resp != Resp.OKAY),
            ends.eq(so_far.data.count == last.data),
            b.ready.eq(message | ~ends | self.done.ready),
            update.en.eq(b.valid & b.ready & ~message),
            update.data.count.eq(Mux(ends, 0, so_far.data.count + 1)),
            update.data.bad.eq(~ends & (so_far.data.bad | error)),
            self.message_done.eq(b.valid & message),
            self.message_error.eq(error),
            self.done.valid.eq(b.valid & ~message & ends),
            self.done.payload.slot.eq(slot),
            self.done.payload.kind.eq(Mux(so_far.data.bad | error, EndKind.ERROR, EndKind.MOVED)),
        ]
