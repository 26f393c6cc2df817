"""Memory of 16-byte beats that begin at any byte."""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.bus.ram import SETTLED

__all__ = ["BEAT_BYTES", "ByteMemory"]

#: Bytes of a beat.
BEAT_BYTES = 16
#: Words of a RAM: so many bytes are in one block RAM of ECP5.  What is deeper is made of as few
#: RAMs as can be: yosys, asked for 2560 words, takes five shallow ones and a multiplexer of five.
_WORDS = 2048


class ByteMemory(wiring.Component):
    """One write and one read of up to 16 consecutive bytes per cycle, from any byte.

    Words of 16 bytes are in two banks by turns, so that two neighbours can be had at once.  Lane
    *n* of a port has the byte whose address is *n* modulo 16: whoever is not aligned turns what it
    stores or has loaded.

    Latency
    -------
    ``read_data`` follows ``read_en`` by one cycle and stays.  Nobody may look at a byte that is
    read in the cycle in which it, or another of the same word, is written.

    Parameters
    ----------
    beats : int
        Depth in 16 bytes, at least 2.
    lanes : Sequence[int]
        Those that are kept, in order; others read 0.
    bits : int
        Of an address, if not all beats of the addresses are kept.
    place : Callable
        Then it says where: from a 32-byte word's number in addresses to that in memory.

    Members
    -------
    write_addr, write_data, write_mask
        Address of the first byte; a bit of the mask per lane.
    read_en, read_addr, read_data
        Address of the first byte.
    """

    def __init__(
        self,
        beats: int,
        *,
        lanes: Sequence[int] = range(BEAT_BYTES),
        bits: int | None = None,
        place: Callable | None = None,
    ):
        self.beats, self.lanes, self._place = beats, tuple(lanes), place
        bits = bits or ceil_log2(beats * BEAT_BYTES)
        super().__init__(
            {
                "write_addr": In(bits),
                "write_data": In(8 * BEAT_BYTES),
                "write_mask": In(BEAT_BYTES),
                "read_en": In(1),
                "read_addr": In(bits),
                "read_data": Out(8 * BEAT_BYTES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # For each lane on the ports: its byte is in the odd bank.
        storing, loading, loaded = (Signal(BEAT_BYTES) for _ in range(3))
        for port, odd in ((self.write_addr, storing), (self.read_addr, loading)):
            for lane in range(BEAT_BYTES):
                m.d.comb += odd[lane].eq(port[4] ^ (port[:4] > lane))
        with m.If(self.read_en):
            m.d.sync += loaded.eq(loading)
        found = []
        for bank in range(2):
            mask = self.write_mask & (storing if bank else ~storing)
            found.append(self._bank(m, bank, mask))
        for lane in range(BEAT_BYTES):
            even, odd = (data.word_select(lane, 8) for data in found)
            m.d.comb += self.read_data.word_select(lane, 8).eq(Mux(loaded[lane], odd, even))
        return m

    def _bank(self, m: Module, bank: int, mask):
        """Add a bank; returns what it has read."""
        words, bits = (self.beats + 1) // 2, exact_log2(_WORDS)
        store, load = (self._word(addr, bank) for addr in (self.write_addr, self.read_addr))
        data = Signal(8 * BEAT_BYTES, name=f"data{bank}")
        kept = Cat(mask[n] for n in self.lanes)
        loaded = Signal.like(load[bits:], name=f"loaded{bank}")
        with m.If(self.read_en):
            m.d.sync += loaded.eq(load[bits:])
        for number, first in enumerate(range(0, words, _WORDS)):
            depth, shape = min(words - first, _WORDS), 8 * len(self.lanes)
            ram = Memory(shape=shape, depth=depth, init=[], attrs=SETTLED)
            m.submodules[f"bank{bank}_{number}" if words > _WORDS else f"bank{bank}"] = ram
            write, read = ram.write_port(granularity=8), ram.read_port()
            m.d.comb += [
                write.addr.eq(store),
                write.data.eq(Cat(self.write_data.word_select(n, 8) for n in self.lanes)),
                write.en.eq(Mux(store[bits:] == number, kept, 0)),
                read.addr.eq(load),
                read.en.eq(self.read_en),
            ]
            with m.If(loaded == number):
                for place, lane in enumerate(self.lanes):
                    byte = read.data.word_select(place, 8)
                    m.d.comb += data.word_select(lane, 8).eq(byte)
        return data

    def _word(self, addr, bank: int):
        """Word of a bank: the even one's is the next if the first byte is in the odd one."""
        word = addr[5:] if bank else (addr[5:] + addr[4])[: len(addr) - 5]
        return self._place(word) if self._place else word
