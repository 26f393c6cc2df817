"""Headers of frames that are sent."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.seams import LocalMemory, StorePort

__all__ = ["HeaderNotes", "Note"]

#: Lane of the first byte of a Note: a slot begins with 4 bytes that are not there.
_FIRST_LANE = 8


class Note(data.Struct):
    """What is kept of a NetHeader."""

    gso_size: 16
    csum_start: 16
    csum_offset: 16


class HeaderNotes(wiring.Component):
    """Keeps what DMA stores of each slot's virtio_net_hdr, byte by byte.

    Parameters
    ----------
    config : NicConfig
    slots : int

    Members
    -------
    store : ``In(StorePort)``
        DMA; other memories than TX are not looked at.
    slot : ``In(8)``; note : ``Out(Note)``
        What was stored of a slot's header, a cycle later.
    """

    def __init__(self, config: NicConfig, slots: int):
        self.config, self.slots = config, slots
        super().__init__({"store": In(StorePort()), "slot": In(8), "note": Out(Note)})

    def elaborate(self, platform):
        m = Module()
        store, found = self.store, []
        bits = exact_log2(2 * self.config.frame_stride // BEAT_BYTES)
        here = store.en & (store.memory == LocalMemory.TX)
        for number in range(Note.as_shape().size // 8):
            lane = _FIRST_LANE + number
            m.submodules[f"byte{number}"] = ram = Memory(shape=8, depth=self.slots, init=[])
            write, read = ram.write_port(), ram.read_port()
            beat = (store.addr[4:] + (store.addr[:4] > lane))[: len(store.addr) - 4]
            m.d.comb += [
                write.en.eq(
                    here & store.mask[lane] & (beat[:bits] == 0) & (beat[bits:] < self.slots)
                ),
                write.addr.eq(beat[bits:]),
                write.data.eq(store.data.word_select(lane, 8)),
                read.addr.eq(self.slot),
            ]
            found.append(read.data)
        m.d.comb += self.note.as_value().eq(Cat(found))
        return m
