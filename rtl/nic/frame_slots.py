"""Slots of a frame memory: which are free, and how many still need each."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus.stream import StreamFifo, StreamRegister

__all__ = ["COUNT_BITS", "SlotPool", "SlotShare", "choose_slots", "share_slots"]

#: Bits of a reference count: all functions and the port.
COUNT_BITS = 9


class SlotShare(data.Struct):
    """From one reference to ``count`` of them; 0 gives the slot back."""

    slot: 8
    count: COUNT_BITS


def share_slots(m: Module, slots, first, then, allowed) -> None:
    """Give free slots to two takers, streams of 8: to ``first`` before ``then``.

    ``then`` gets one only if ``allowed``.
    """
    m.d.comb += [
        first.payload.eq(slots.payload),
        then.payload.eq(slots.payload),
        first.valid.eq(slots.valid),
        then.valid.eq(slots.valid & ~first.ready & allowed),
        slots.ready.eq(first.ready | (then.ready & then.valid)),
    ]


def choose_slots(m: Module, slots, first, then, chosen) -> None:
    """Give free slots to ``first`` if ``chosen``, else to ``then``, whoever of them is ready."""
    for taker, its in ((first, chosen), (then, ~chosen)):
        m.d.comb += [taker.payload.eq(slots.payload), taker.valid.eq(slots.valid & its)]
    m.d.comb += slots.ready.eq(Mux(chosen, first.ready, then.ready))


class SlotPool(wiring.Component):
    """Free slots and reference counts, in RAM.

    A slot offered on ``alloc`` comes with one reference, its taker's.  A slot without references
    is offered again.  Giving back more references than there are is the user's fault.

    Latency
    -------
    An operation takes two cycles, ``share`` before ``release``; when it is accepted, all later
    ones see it.  After reset the slots become free one every two cycles.

    Parameters
    ----------
    slots : int
        2 to 256.

    Members
    -------
    alloc : ``Out(stream)`` of 8
        A free slot.
    share : ``In(stream)`` of SlotShare
        Sets the count of a slot that has one reference.
    release : ``In(stream)`` of 8
        Gives one reference back.
    free : ``Out(range(slots + 1))``
        Slots that nobody has.
    """

    def __init__(self, slots: int):
        if not 2 <= slots <= 256:
            raise ValueError(f"A pool has 2 to 256 slots, not {slots!r}")
        self.slots = slots
        super().__init__(
            {
                "alloc": Out(stream.Signature(8)),
                "share": In(stream.Signature(SlotShare)),
                "release": In(stream.Signature(8)),
                "free": Out(range(slots + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.counts = counts = Memory(shape=COUNT_BITS, depth=self.slots, init=[])
        read, write = counts.read_port(), counts.write_port()
        m.submodules.queue = queue = StreamFifo(8, self.slots + 1)
        m.submodules.offer = offer = StreamRegister(8)
        connect(m, queue.o, offer.i)
        connect(m, offer.o, flipped(self.alloc))

        fresh = Signal(range(self.slots + 1))  # slots that were never offered begin here
        slot, count = Signal(8), Signal(COUNT_BITS)
        releasing, busy = Signal(), Signal()
        with m.If(~busy):
            with m.If(fresh != self.slots):
                m.d.sync += [slot.eq(fresh), count.eq(0), releasing.eq(0), busy.eq(1)]
                m.d.sync += fresh.eq(fresh + 1)
            with m.Elif(self.share.valid):
                m.d.comb += self.share.ready.eq(1)
                m.d.sync += [slot.eq(self.share.payload.slot), count.eq(self.share.payload.count)]
                m.d.sync += [releasing.eq(0), busy.eq(1)]
            with m.Elif(self.release.valid):
                m.d.comb += [self.release.ready.eq(1), read.addr.eq(self.release.payload)]
                m.d.sync += [slot.eq(self.release.payload), releasing.eq(1), busy.eq(1)]
        with m.Else():
            left = Signal(COUNT_BITS)
            m.d.comb += [
                left.eq(Mux(releasing, read.data - 1, count)),
                write.en.eq(1),
                write.addr.eq(slot),
                # Whoever takes a free slot has the one reference to it.
                write.data.eq(Mux(left == 0, 1, left)),
                queue.i.valid.eq(left == 0),
                queue.i.payload.eq(slot),
            ]
            m.d.sync += busy.eq(0)

        taken, freed = Signal(), Signal()
        m.d.comb += [
            taken.eq(self.alloc.valid & self.alloc.ready),
            freed.eq(queue.i.valid),
        ]
        m.d.sync += self.free.eq(self.free + freed - taken)
        return m
