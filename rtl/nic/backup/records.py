"""What the parts of the backup rings tell each other."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from models.spec.config import NicConfig
from models.spec.nic import BACKUP_ENTRIES_LOG2_MAX, BackupRing
from rtl.bus.stream import StreamRegister
from rtl.nic.seams import FrameRef

__all__ = [
    "COUNTER_BITS",
    "Given",
    "Kept",
    "RingAddress",
    "RingRead",
    "entry_tag",
    "outgoing",
    "receiver_bits",
]

#: Bits of a counter of a ring's entries: one more than a place takes.
COUNTER_BITS = BACKUP_ENTRIES_LOG2_MAX + 1


class Kept(data.Struct):
    """A frame that is not to go to its queue yet."""

    frame: FrameRef
    function: 8
    pair: 3
    transit: 1  # it is in nobody's quota
    drop: 1  # its ring is full, or there is none


class Given(data.Struct):
    """A frame that the function's quota counts no more."""

    function: 8
    received: 1  # it is in the RX memory
    transit: 1


class RingRead(wiring.Signature):
    """Reads a function's ring; ``base`` and ``ring`` follow a cycle later."""

    def __init__(self):
        super().__init__({"function": Out(8), "base": In(64), "ring": In(BackupRing)})


def receiver_bits(config: NicConfig) -> int:
    """Bits of the number of a receive queue."""
    return max(1, ceil_log2(config.receivers))


def entry_tag(config: NicConfig, number):
    """Tag of a DMA of the backup rings."""
    return config.engine_tags + number


def outgoing(m: Module, component, **shapes) -> dict[str, Any]:
    """Give streams that a component sends a register each; returns what goes into these."""
    inputs = {}
    for name, shape in shapes.items():
        m.submodules[name] = register = StreamRegister(shape)
        connect(m, register.o, flipped(getattr(component, name)))
        inputs[name] = register.i
    return inputs


class RingAddress(wiring.Component):
    """Address of an entry of a ring.

    Latency
    -------
    2 cycles; its inputs stay meanwhile.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    function, pair, place : ``In``
        Whose ring, and the counter of the entry.
    read : ``Out(RingRead)``
    address : ``Out(64)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "function": In(8),
                "pair": In(3),
                "place": In(COUNTER_BITS),
                "read": Out(RingRead()),
                "address": Out(64),
            }
        )

    def elaborate(self, platform):
        m = Module()
        log2 = self.read.ring.entries_log2
        number = Signal(3 + COUNTER_BITS)
        stride = exact_log2(self.config.backup_stride)
        mask = ((1 << log2) - 1)[:COUNTER_BITS]
        m.d.comb += [
            self.read.function.eq(self.function),
            number.eq((self.pair << log2) | (self.place & mask)),
        ]
        m.d.sync += self.address.eq(self.read.base + Cat(Signal(stride), number))
        return m
