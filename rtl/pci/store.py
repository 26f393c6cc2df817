"""Configuration spaces of functions: read, written, put back to what they are after reset."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from models.spec.pci import ConfigSpace
from rtl.bus.priority import lowest

__all__ = ["Commit", "ConfigAccess", "ConfigStore"]

WORD_BITS = 32


class ConfigAccess(data.Struct):
    """An access to a word of a function's configuration space."""

    function: 8
    word: 10
    write: 1
    data: 32
    strb: 4


class Commit(wiring.Signature):
    """A write that takes effect, for one cycle.

    Members
    -------
    en : ``Out(1)``
    function : ``Out(8)``, word : ``Out(10)``
    value : ``Out(32)``
        The word as it will be, without what hardware says.
    ones : ``Out(32)``
        Ones written.
    """

    def __init__(self):
        super().__init__(
            {
                "en": Out(1),
                "function": Out(8),
                "word": Out(10),
                "value": Out(WORD_BITS),
                "ones": Out(WORD_BITS),
            }
        )


class ConfigStore(wiring.Component):
    """Words of configuration space, made from :mod:`models.spec.pci`.

    A ROM has what each word is after reset, which of its bits software may write, and where the
    word's slot is; a RAM has, per function and slot, in which bits the word differs from its reset
    value.  So a function is reset by zeros.  All functions are wiped when the power comes.

    Latency
    -------
    An access takes three cycles; a function is wiped in a cycle per slot.

    Parameters
    ----------
    spaces : tuple of ConfigSpace
        Of function 0, and of all others if there are others.
    functions : int

    Members
    -------
    access : ``In(stream)`` of ConfigAccess
    answer : ``Out(stream)`` of 32
        What the word reads as; 0 after a write.
    commit : ``Out(Commit)``
    refused : ``In(32)``
        Bits of the word at ``commit`` that keep their value.
    cleared, live : ``In(32)``
        Bits of that word that read 0, and that hardware sets.
    wipe : ``In(functions)``
        Functions to reset; between accesses.
    wiped : ``Out(functions)``
        Functions that have been, for one cycle.
    """

    def __init__(self, spaces: tuple[ConfigSpace, ...], functions: int):
        self._spaces, self._functions = spaces, functions
        #: Words that have a place in the ROM.
        self.depth = 1 << ceil_log2(max(max(space.words) for space in spaces) // 4 + 1)
        slots = [sum(1 for word in space.words.values() if word.writable) for space in spaces]
        self._slot_bits = ceil_log2(max(slots))
        self._slots = [1 << ceil_log2(count) for count in slots]
        self._row = data.StructLayout(
            {"reset": WORD_BITS, "writable": WORD_BITS, "slot": self._slot_bits}
        )
        super().__init__(
            {
                "access": In(stream.Signature(ConfigAccess)),
                "answer": Out(stream.Signature(WORD_BITS)),
                "commit": Out(Commit()),
                "refused": In(WORD_BITS),
                "cleared": In(WORD_BITS),
                "live": In(WORD_BITS),
                "wipe": In(functions),
                "wiped": Out(functions),
            }
        )

    def _rom(self) -> list[dict[str, int]]:
        """Rows of all spaces, one after the other."""
        rows = []
        for space in self._spaces:
            slot = 0
            for place in range(0, 4 * self.depth, 4):
                word = space.words.get(place)
                row = {"reset": 0, "writable": 0, "slot": 0}
                if word is not None:
                    row = {"reset": word.reset, "writable": word.writable, "slot": slot}
                    slot += bool(word.writable)
                rows.append(row)
        return rows

    def _slot(self, function, slot):
        """Place of a function's slot in the RAM; function 0 comes first."""
        first, others = self._slots[0], self._slots[-1]
        return Mux(function == 0, slot, first + (function - 1) * others + slot)

    def elaborate(self, platform):
        m = Module()
        depth = self._slots[0] + (self._functions - 1) * self._slots[-1]
        m.submodules.rom = rom = Memory(
            shape=self._row, depth=self.depth * len(self._spaces), init=self._rom()
        )
        m.submodules.ram = ram = Memory(shape=WORD_BITS, depth=max(2, depth), init=[])
        look, load, store = rom.read_port(), ram.read_port(), ram.write_port()
        access, commit = Signal(ConfigAccess), self.commit
        function, slot = Signal(8), Signal(self._slot_bits)  # being wiped
        first = Signal(8)
        # After power-on, wiping is nobody's wish.
        fresh = Signal(self._functions, init=-1)
        wanted = Signal(self._functions)
        m.d.comb += wanted.eq(self.wipe | fresh)
        lowest(m, wanted, first)

        request, kind = self.access.payload, Signal()
        m.d.comb += [
            kind.eq((request.function != 0) if len(self._spaces) > 1 else 0),
            look.addr.eq(Cat(request.word[: ceil_log2(self.depth)], kind)),
            load.addr.eq(self._slot(access.function, look.data.slot)),
            store.addr.eq(self._slot(access.function, look.data.slot)),
        ]
        # What the word has is seen in DECIDE.
        there = access.word < self.depth
        value, merged = Signal(WORD_BITS), Signal(WORD_BITS)
        mask = Signal(WORD_BITS)
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)
        m.d.comb += [
            value.eq(look.data.reset ^ (load.data & look.data.writable)),
            mask.eq(look.data.writable & strobes & ~self.refused),
            merged.eq((value & ~mask) | (access.data & mask)),
            commit.function.eq(access.function),
            commit.word.eq(access.word),
            commit.value.eq(merged),
            commit.ones.eq(access.data & strobes),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(wanted.any()):
                    m.d.sync += [function.eq(first), slot.eq(0)]
                    m.next = "WIPE"
                with m.Elif(self.access.valid):
                    m.d.comb += self.access.ready.eq(1)
                    m.d.sync += access.eq(request)
                    m.next = "LOOK"
            with m.State("WIPE"):
                m.d.comb += [store.en.eq(1), store.addr.eq(self._slot(function, slot))]
                m.d.sync += slot.eq(slot + 1)
                with m.If(slot == Mux(function == 0, self._slots[0] - 1, self._slots[-1] - 1)):
                    m.d.comb += self.wiped.eq(1 << function)
                    m.d.sync += fresh.eq(fresh & ~self.wiped)
                    m.next = "IDLE"
            with m.State("LOOK"):
                m.d.comb += look.en.eq(0)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += look.en.eq(0)
                m.d.sync += self.answer.payload.eq(
                    Mux(access.write | ~there, 0, (value & ~self.cleared) | self.live)
                )
                with m.If(access.write & there):
                    m.d.comb += [
                        commit.en.eq(1),
                        store.en.eq(look.data.writable.any()),
                        store.data.eq(merged ^ look.data.reset),
                    ]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.answer.valid.eq(1)
                with m.If(self.answer.ready):
                    m.next = "IDLE"
        return m
