"""What the two directions of the DMA engine share: segments, and how they become bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import NicConfig
from models.spec.translation import DmaUser
from rtl.nic.seams import LocalMemory

__all__ = ["BUS_BYTES", "SLOT_BITS", "Segment", "burst_bytes", "burst_length"]

BUS_BYTES = 16
#: Bits of the number of a slot: up to 64 of them, and messages.
SLOT_BITS = 7


class Segment(data.Struct):
    """A transfer within one page, translated.  ``slot`` is its AXI ID."""

    slot: SLOT_BITS
    address: 64
    length: 13
    user: DmaUser
    memory: LocalMemory
    offset: 24
    inline: 1  # the data are ``value``, not from a memory
    value: 32


def burst_bytes(m: Module, address, left, config: NicConfig, name: str):
    """Bytes of the next burst: no further than the next multiple of the longest burst."""
    size = config.max_burst_beats * BUS_BYTES
    bits = (size - 1).bit_length()
    room, taken = Signal(bits + 1, name=f"{name}_room"), Signal(13, name=f"{name}_bytes")
    m.d.comb += [room.eq(size - address[:bits]), taken.eq(Mux(left < room, left, room))]
    return taken


def burst_length(address, taken):
    """AxLEN of a burst of ``taken`` bytes from ``address``."""
    return ((address[:4] + taken + (BUS_BYTES - 1)) >> 4) - 1
