"""MSIs to memory-resident interrupt files among the writes of the I/O bridge."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.translation import DmaUser, TranslationResponse
from rtl.iommu.requests import QosId

__all__ = ["FILE_SHIFT", "WORD_BITS", "IncomingMsi", "MrifSlots", "MrifTarget", "find_word"]

WORD_BITS = 32
#: log2 of the bytes of an MRIF.
FILE_SHIFT = 9


class IncomingMsi(data.Struct):
    """A write of one beat that may be an MSI."""

    is_word: 1  # it writes exactly one aligned 32-bit word
    offset: 10  # bits 11:2 of its address
    data: 32  # as on little-endian lanes


class MrifTarget(data.Struct):
    """Where an MSI goes, and whose it is."""

    address: 47  # bits 55:9
    nid: 11
    notice_ppn: 44
    dtf: 1
    qos: QosId
    iova: 64
    user: DmaUser


def find_word(m: Module, beat, offset):
    """The word that a beat of write data writes; combinational.

    Parameters
    ----------
    beat : View of an AXI write payload
    offset : Value
        Bits 11:0 of the burst's address.

    Returns an :class:`IncomingMsi` signal.
    """
    found = Signal(IncomingMsi)
    words = len(beat.data) // WORD_BITS
    bits = words.bit_length() - 1
    number = Signal(range(max(2, words)))
    m.d.comb += found.offset.eq(Cat(number[:bits], offset[2 + bits :]))
    for n in range(words):
        with m.If(beat.strb == 0xF << 4 * n):
            m.d.comb += [
                found.is_word.eq(1),
                number.eq(n),
                found.data.eq(beat.data.word_select(n, WORD_BITS)),
            ]
    return found


class MrifSlots(wiring.Component):
    """What storing an MSI needs to know of each write on its way.

    Parameters
    ----------
    slots : int
        Writes on their way.

    Members
    -------
    accepted, slot, iova, user : ``In``
        A write is taken into a slot.
    answered, response : ``In(1)``, ``In(TranslationResponse)``
        The answer to the slot that the low bits of its tag name.
    chosen : ``In``, target : ``Out(MrifTarget)``
        Slot to look at, combinational.
    """

    def __init__(self, slots: int):
        self._slots = slots
        super().__init__(
            {
                "accepted": In(1),
                "slot": In(range(slots)),
                "iova": In(64),
                "user": In(DmaUser),
                "answered": In(1),
                "response": In(TranslationResponse),
                "chosen": In(range(slots)),
                "target": Out(MrifTarget),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked = data.StructLayout({"iova": 64, "user": DmaUser})
        found = data.StructLayout(
            {"address": 47, "nid": 11, "notice_ppn": 44, "dtf": 1, "qos": QosId}
        )
        m.submodules.askers = askers = Memory(shape=asked, depth=self._slots, init=[])
        m.submodules.files = files = Memory(shape=found, depth=self._slots, init=[])
        ask, answer = askers.write_port(), files.write_port()
        asker, file = askers.read_port(domain="comb"), files.read_port(domain="comb")
        response = self.response
        m.d.comb += [
            ask.addr.eq(self.slot),
            ask.en.eq(self.accepted),
            ask.data.iova.eq(self.iova),
            ask.data.user.eq(self.user),
            answer.addr.eq(response.tag),
            answer.en.eq(self.answered),
            answer.data.address.eq(response.spa >> FILE_SHIFT),
            answer.data.nid.eq(response.nid),
            answer.data.notice_ppn.eq(response.notice_ppn),
            answer.data.dtf.eq(response.dtf),
            answer.data.qos.rcid.eq(response.rcid),
            answer.data.qos.mcid.eq(response.mcid),
            asker.addr.eq(self.chosen),
            file.addr.eq(self.chosen),
            self.target.iova.eq(asker.data.iova),
            self.target.user.eq(asker.data.user),
        ]
        m.d.comb += [self.target[name].eq(file.data[name]) for name in found.members]
        return m
