"""Which of many values a value equals: a content-addressed memory made of plain RAM."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.bus.ram import BLOCK, SETTLED

__all__ = ["Matcher"]


class Matcher(wiring.Component):
    """Compares a value with all entries at once.

    A value is cut into parts; for each part there are rows, one per value of the part, with a bit
    per entry: whether the entry has that part.  An entry matches if all its bits are set.  With
    more than one turn as many parts share a RAM, and are looked at one after another.

    After reset the rows are filled, one per cycle; nothing matches until they are.

    Latency
    -------
    ``match`` follows ``en`` by ``turns`` cycles and stays until the next.  An update waits until
    nobody is ``busy``, and takes ``4 * turns + 1`` cycles.

    Parameters
    ----------
    parts, bits : int
        Parts of a value and bits of each.
    initial : sequence of int or None
        Values of the entries after reset, ``None`` for none.
    turns : int
        Cycles of a comparison, a power of two that divides the parts; with one RAM is of LUTs.

    Members
    -------
    ready : ``Out(1)``
        Filled after reset, and no update waits.
    busy : ``In(1)``
        Somebody compares, or will: from a cycle in which ``ready`` is high on.
    en, value : ``In``
        Compares; ``value`` stays for ``turns`` cycles, in which nothing else begins.
    match : ``Out``
        A bit per entry.
    update : ``In(stream)`` of ``entry``, ``old``, ``new``, ``valid``
        Gives an entry another value, or none.
    """

    def __init__(self, parts: int, bits: int, initial: Sequence[int | None], *, turns: int = 1):
        if parts % turns:
            raise ValueError(f"{parts} parts cannot be looked at in {turns} turns")
        self.parts, self.bits, self.turns, self.initial = parts, bits, turns, tuple(initial)
        width, entries = parts * bits, len(self.initial)
        update = data.StructLayout(
            {"entry": range(max(2, entries)), "old": width, "new": width, "valid": 1}
        )
        super().__init__(
            {
                "ready": Out(1),
                "busy": In(1),
                "en": In(1),
                "value": In(width),
                "match": Out(entries),
                "update": In(stream.Signature(update)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entries, update, turns = len(self.initial), self.update.payload, self.turns
        turn_bits = exact_log2(turns)
        row, self.filling = Signal(self.bits + turn_bits), Signal(init=1)
        self.place_turn = Signal(turn_bits)  # of an update
        self.looking, self.storing, self.setting = Signal(), Signal(), Signal()
        self.one = Signal(entries)
        m.d.comb += self.one.eq(1 << update.entry)
        with m.If(self.filling):
            m.d.sync += row.eq(row + 1)
            with m.If(row.all()):
                m.d.sync += self.filling.eq(0)
        # A comparison: which turn is looked at, and whether it is.
        turn, compares = Signal(turn_bits), Signal()
        m.d.comb += compares.eq(self.en | turn.any())
        if turns > 1:
            with m.If(compares):
                m.d.sync += turn.eq(turn + 1)
        found = None
        for group in range(self.parts // turns):
            bits = self._group(m, group, row, turn, compares)
            found = bits if found is None else found & bits
        held, fresh, first = Signal(entries), Signal(), Signal()
        so_far = Signal(entries)
        m.d.comb += so_far.eq(found & (held | first.replicate(entries)))
        m.d.sync += [fresh.eq(compares), first.eq(~turn.any())]
        with m.If(fresh):
            m.d.sync += held.eq(so_far)
        m.d.comb += self.match.eq(Mux(self.filling, 0, Mux(fresh, so_far, held)))
        self._update(m)
        return m

    def _group(self, m: Module, group: int, row, turn, compares):
        """Add the RAM of as many parts as there are turns; returns what was read."""
        turns, bits, entries = self.turns, self.bits, len(self.initial)
        rows = Memory(
            shape=entries, depth=turns << bits, init=[], attrs=BLOCK if turns > 1 else SETTLED
        )
        m.submodules[f"part{group * turns}"] = rows
        read, write = rows.read_port(), rows.write_port()
        changed = Mux(self.setting, self.update.payload.new, self.update.payload.old)

        def row_of(value, turn):
            chosen = value.word_select(group * turns, bits)
            for number in range(1, turns):
                part = value.word_select(group * turns + number, bits)
                chosen = Mux(turn == number, part, chosen)
            return Cat(chosen, turn)

        place = row_of(changed, self.place_turn)
        m.d.comb += [
            read.en.eq(compares | self.looking),
            read.addr.eq(Mux(self.looking, place, row_of(self.value, turn))),
            write.en.eq(self.filling | self.storing),
            write.addr.eq(Mux(self.filling, row, place)),
            write.data.eq(Mux(self.setting, read.data | self.one, read.data & ~self.one)),
        ]
        with m.If(self.filling):
            m.d.comb += write.data.eq(self._first(m, group, row))
        return read.data

    def _update(self, m: Module) -> None:
        """Of each part: take the entry's bit out of the old value's row, put it into the new's."""
        update, turn = self.update, self.place_turn
        last = turn.all() if self.turns > 1 else 1
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.ready.eq(~self.filling & ~update.valid)
                with m.If(update.valid & ~self.filling & ~self.busy):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += self.looking.eq(1)
                m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += self.storing.eq(1)
                m.next = "LOOK"
                if self.turns > 1:
                    m.d.sync += turn.eq(turn + 1)
                with m.If(last):
                    m.d.sync += self.setting.eq(1)
                    with m.If(self.setting | ~update.payload.valid):
                        m.d.comb += update.ready.eq(1)
                        m.d.sync += self.setting.eq(0)
                        m.next = "IDLE"

    def _first(self, m: Module, group: int, row):
        """A row after reset."""
        rows: dict[int, int] = {}
        for entry, value in enumerate(self.initial):
            if value is None:
                continue
            for turn in range(self.turns):
                part = value >> (group * self.turns + turn) * self.bits
                place = turn << self.bits | part & (1 << self.bits) - 1
                rows[place] = rows.get(place, 0) | 1 << entry
        first = Signal(len(self.initial), name=f"first{group}")
        with m.Switch(row):
            for place, bits in rows.items():
                with m.Case(place):
                    m.d.comb += first.eq(bits)
        return first
