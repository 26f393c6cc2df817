"""Tags that the switch gives to frames of functions with a VLAN of their own (IEEE 802.1Q)."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.ethernet import EtherType
from rtl.bus.ram import BLOCK

__all__ = ["TAG_BITS", "TagNote", "TagRead", "Tags"]

#: Bits of a tag.
TAG_BITS = 32
_TCI_BITS = 16


class TagNote(wiring.Signature):
    """Notes the tag of the frame in a TX slot: its priority and VLAN."""

    def __init__(self):
        super().__init__({"en": Out(1), "slot": Out(8), "tci": Out(_TCI_BITS)})


class TagRead(wiring.Signature):
    """Asks for a slot's tag; ``tag``, first byte lowest, follows a cycle later."""

    def __init__(self):
        super().__init__({"slot": Out(8), "tag": In(TAG_BITS)})


class Tags(wiring.Component):
    """A tag per TX slot.  Of a slot whose frame has none (FrameForm) it says nothing.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    note : ``In(TagNote)``
    egress, load : ``In(TagRead)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__({"note": In(TagNote()), "egress": In(TagRead()), "load": In(TagRead())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.notes = notes = Memory(
            shape=_TCI_BITS, depth=self.config.tx_slots, init=[], attrs=BLOCK
        )
        write, kind = notes.write_port(), EtherType.VLAN.in_memory
        m.d.comb += [
            write.en.eq(self.note.en),
            write.addr.eq(self.note.slot),
            write.data.eq(self.note.tci),
        ]
        for reader in (self.egress, self.load):
            read = notes.read_port()
            m.d.comb += [
                read.addr.eq(reader.slot),
                reader.tag.eq(Cat(Const(kind, 16), read.data[8:], read.data[:8])),
            ]
        return m
