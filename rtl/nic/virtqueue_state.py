"""What the virtqueue engine keeps per queue, and the scratch memory that its DMA goes through."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from rtl.nic.byte_memory import ByteMemory
from rtl.nic.seams import SCRATCH_BYTES, LoadPort, LocalMemory, StorePort

__all__ = ["BEATS", "Phase", "QueueState", "Scratch", "ScratchBeat"]

#: 16-byte beats of scratch memory per queue.
BEATS = SCRATCH_BYTES // 16


class ScratchBeat(enum.IntEnum, shape=3):
    """What each beat of a queue's scratch memory is for."""

    AVAIL = 0  # flags and index of the available ring
    ENTRY = 1  # a head from the available ring
    DESCRIPTOR = 2
    HEADER = 3  # virtio_net_hdr
    USED_ELEMENT = 4
    USED_INDEX = 5


class Phase(enum.IntEnum, shape=4):
    """Where a queue's thread goes on.  Those marked * go on when a DMA has ended."""

    START = 0
    AVAIL = 1  # * available flags and index read
    NEXT_ENTRY = 2
    ENTRY = 3  # * head read
    DESC = 4  # * descriptor read
    SEGMENT = 5  # move what the descriptor has left
    MOVED = 6  # * a piece of the buffer moved
    LINK = 7  # descriptor used up
    FINISH = 8  # chain used up
    SEND = 9  # hand the frame to the switch
    RELEASE = 10  # give the received frame back
    USED = 11
    USED_ELEMENT = 12  # * used element written
    USED_INDEX = 13  # * used index written
    INTERRUPT = 14
    POP = 15  # ask the switch for a frame


class QueueState(data.Struct):
    """A queue: its rings, and the position of its thread."""

    phase: Phase
    # As the driver set it up.
    size: 16
    desc: 64
    driver: 64
    device: 64
    vector: 16
    # Rings.
    seen: 16  # available index last read
    next_avail: 16
    used_index: 16
    owed: 1  # an interrupt, unless the driver wants none
    # Chain.
    head: 16
    count: 16
    address: 64
    left: 32
    more: 1
    next: 16
    header_left: 4
    moving: 16
    drop: 1
    touch: 1  # no slot: make every page of the chain present, then begin it again
    # Frame.
    has_frame: 1  # a slot to fill, or a frame to deliver
    memory: LocalMemory
    slot: 8
    length: 16
    position: 16


class Scratch(wiring.Component):
    """Two memories, so that neither the engine nor the DMA engine ever waits.

    What DMA stores, the engine reads; what the engine writes, DMA loads.

    Members
    -------
    store : ``In(StorePort())``; load : ``In(LoadPort())``
        The DMA engine's side; other memories' accesses are ignored.
    read_addr, read_data
        The engine's side; data follow by one cycle.
    write_addr, write_data, write_en
        The engine's side.
    """

    def __init__(self, config: NicConfig):
        self.depth = config.queues * BEATS
        bits = (self.depth - 1).bit_length()
        super().__init__(
            {
                "store": In(StorePort()),
                "load": In(LoadPort()),
                "read_addr": In(bits),
                "read_data": Out(128),
                "write_addr": In(bits),
                "write_data": In(128),
                "write_en": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.inward = inward = ByteMemory(self.depth)
        m.submodules.outward = outward = ByteMemory(self.depth)
        here = self.store.memory == LocalMemory.SCRATCH
        m.d.comb += [
            inward.write_addr.eq(self.store.addr),
            inward.write_data.eq(self.store.data),
            inward.read_addr.eq(Cat(Const(0, 4), self.read_addr)),
            inward.read_en.eq(1),
            self.read_data.eq(inward.read_data),
            outward.write_addr.eq(Cat(Const(0, 4), self.write_addr)),
            outward.write_data.eq(self.write_data),
            outward.write_mask.eq(self.write_en.replicate(16)),
            outward.read_addr.eq(self.load.addr),
            outward.read_en.eq(self.load.en),
            self.load.data.eq(outward.read_data),
        ]
        with m.If(self.store.en & here):
            m.d.comb += inward.write_mask.eq(self.store.mask)
        return m
