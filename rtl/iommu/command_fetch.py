"""Fetches commands ahead of their execution."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import PAGE_SHIFT, Command
from rtl.bus.arbiter import set_address
from rtl.bus.axi import Axi4, Resp
from rtl.bus.stream import StreamFifo
from rtl.iommu.endian import in_order

__all__ = ["CommandFetch", "FetchedCommand"]

#: Commands of the longest burst, and places of the buffer.
BATCH, DEPTH = 4, 8


class FetchedCommand(data.Struct):
    """A command and whether a beat of it came with an error."""

    command: Command
    failed: 1


class CommandFetch(wiring.Component):
    """Reads commands between head and tail in bursts of up to four, two bursts ahead.

    Bursts end at multiples of four commands, so none crosses a 4 KiB boundary or the queue's end.
    While ``run`` is low nothing is fetched and what was is dropped; when ``idle`` is high ``run``
    may rise again, and fetching begins at ``head``.

    Parameters
    ----------
    addr_width : int
        Bits of a physical address.

    Members
    -------
    run, idle : ``In(1)``, ``Out(1)``
    single : ``In(1)``
        Fetch one command at a time.
    head, tail, mask : ``In(32)``
        Indices and the number of entries minus one.
    ppn : ``In(44)``
        Page at which the queue begins.
    be : ``In(1)``
        Doublewords of commands are big-endian.
    command : ``Out(stream)`` of FetchedCommand, in order
    memory : ``Out(Axi4)``, reads only
    """

    def __init__(self, *, addr_width: int):
        super().__init__(
            {
                "run": In(1),
                "idle": Out(1),
                "single": In(1),
                "head": In(32),
                "tail": In(32),
                "mask": In(32),
                "ppn": In(44),
                "be": In(1),
                "command": Out(stream.Signature(FetchedCommand)),
                "memory": Out(Axi4(addr_width=addr_width, data_width=64, id_width=1, write=False)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        memory = self.memory
        m.submodules.buffer = buffer = StreamFifo(FetchedCommand, DEPTH)
        following = Signal(32)  # first command that is not fetched yet
        owed = Signal(range(DEPTH + 1))  # commands asked for and not delivered to the buffer
        held = Signal(range(DEPTH + 1))  # commands asked for and not consumed
        asking, delivered, consumed = Signal(), Signal(), Signal()

        # Size of the next burst, registered; not to be used in the cycle after one was asked for.
        available, batch = Signal(32), Signal(range(BATCH + 1))
        until = Signal(range(BATCH + 1))
        fresh = Signal()
        small = self.mask < BATCH - 1
        m.d.comb += [
            available.eq((self.tail - following) & self.mask),
            until.eq(Mux(small, self.mask + 1 - following, BATCH - following[:2])),
        ]
        m.d.sync += [
            fresh.eq(self.run & ~asking),
            batch.eq(Mux(available < until, available, until)),
        ]
        with m.If(self.single):
            m.d.sync += batch.eq(available.any())

        address = (self.ppn << PAGE_SHIFT) | (following << 4)
        room = held <= DEPTH - batch
        with m.If(memory.ar.valid):
            with m.If(memory.ar.ready):
                m.d.sync += memory.ar.valid.eq(0)
        with m.Elif(self.run & fresh & batch.any() & room):
            m.d.comb += asking.eq(1)
            m.d.sync += [
                memory.ar.valid.eq(1),
                *set_address(memory.ar, addr=address, size=3, length=Cat(1, (batch - 1)[:2])),
                following.eq((following + batch) & self.mask),
            ]

        # Two beats make a command.
        half, low, low_failed = Signal(), Signal(64), Signal()
        failed = memory.r.payload.resp != Resp.OKAY
        word = in_order(memory.r.payload.data, self.be)
        m.d.comb += [
            memory.r.ready.eq(1),  # there is room for all that is asked for
            delivered.eq(memory.r.valid & half),
            buffer.i.valid.eq(delivered & self.run),
            buffer.i.payload.command.as_value().eq(Cat(low, word)),
            buffer.i.payload.failed.eq(failed | low_failed),
        ]
        with m.If(memory.r.valid):
            m.d.sync += [
                half.eq(~half),
                low.eq(word),
                low_failed.eq(failed & ~half),
            ]
        m.d.comb += [
            self.command.valid.eq(buffer.o.valid & self.run),
            self.command.payload.eq(buffer.o.payload),
            buffer.o.ready.eq(self.command.ready | ~self.run),
            consumed.eq(buffer.o.valid & buffer.o.ready),
        ]
        m.d.sync += owed.eq(owed + Mux(asking, batch, 0) - delivered)
        with m.If(self.run):
            m.d.sync += held.eq(held + Mux(asking, batch, 0) - consumed)
        with m.Else():
            m.d.sync += [held.eq(0), following.eq(self.head)]
        m.d.comb += self.idle.eq(~owed.any() & (buffer.level == 0) & ~memory.ar.valid)
        return m
