"""Memory of 16-byte beats that begin at any byte."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["BEAT_BYTES", "ByteMemory"]

#: Bytes of a beat.
BEAT_BYTES = 16


class ByteMemory(wiring.Component):
    """One write and one read of up to 16 consecutive bytes per cycle, from any byte.

    Words of 16 bytes are in two banks by turns, so that two neighbours can be had at once.  Lane
    *n* of a port has the byte whose address is *n* modulo 16: whoever is not aligned turns what it
    stores or has loaded.

    Latency
    -------
    ``read_data`` follows ``read_en`` by one cycle and stays.

    Parameters
    ----------
    beats : int
        Depth in 16 bytes, at least 2.

    Members
    -------
    write_addr, write_data, write_mask
        Address of the first byte; a bit of the mask per lane.
    read_en, read_addr, read_data
        Address of the first byte.
    """

    def __init__(self, beats: int):
        self.beats = beats
        bits = ceil_log2(beats * BEAT_BYTES)
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
            m.submodules[f"bank{bank}"] = words = Memory(
                shape=8 * BEAT_BYTES, depth=(self.beats + 1) // 2, init=[]
            )
            write, read = words.write_port(granularity=8), words.read_port()
            m.d.comb += [
                write.addr.eq(self._word(self.write_addr, bank)),
                write.data.eq(self.write_data),
                write.en.eq(self.write_mask & (storing if bank else ~storing)),
                read.addr.eq(self._word(self.read_addr, bank)),
                read.en.eq(self.read_en),
            ]
            found.append(read.data)
        for lane in range(BEAT_BYTES):
            even, odd = (data.word_select(lane, 8) for data in found)
            m.d.comb += self.read_data.word_select(lane, 8).eq(Mux(loaded[lane], odd, even))
        return m

    @staticmethod
    def _word(addr, bank: int):
        """Word of a bank: the even one's is the next if the first byte is in the odd one."""
        return addr[5:] if bank else addr[5:] + addr[4]
