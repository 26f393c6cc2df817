"""Which of many values a value equals: a content-addressed memory made of plain RAM."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["Matcher"]


class Matcher(wiring.Component):
    """Compares a value with all entries at once.

    A value is cut into parts; for each part there is a RAM with a row per value of the part and a
    bit per entry: whether the entry has that part.  An entry matches if all its bits are set.

    After reset the rows are filled, one per cycle; nothing matches as long as ``ready`` is low.

    Latency
    -------
    ``match`` follows ``en`` by one cycle and stays until the next.  An update takes five cycles,
    and one more for each comparison meanwhile.

    Parameters
    ----------
    parts, bits : int
        Parts of a value and bits of each.
    initial : sequence of int or None
        Values of the entries after reset, ``None`` for none.

    Members
    -------
    ready : ``Out(1)``
    en, value : ``In``
        Compares; may happen every cycle.
    match : ``Out``
        A bit per entry.
    update : ``In(stream)`` of ``entry``, ``old``, ``new``, ``valid``
        Gives an entry another value, or none.
    """

    def __init__(self, parts: int, bits: int, initial: Sequence[int | None]):
        self.parts, self.bits, self.initial = parts, bits, tuple(initial)
        width, entries = parts * bits, len(self.initial)
        update = data.StructLayout(
            {"entry": range(max(2, entries)), "old": width, "new": width, "valid": 1}
        )
        super().__init__(
            {
                "ready": Out(1),
                "en": In(1),
                "value": In(width),
                "match": Out(entries),
                "update": In(stream.Signature(update)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entries, update = len(self.initial), self.update.payload
        row, filling = Signal(self.bits), Signal(init=1)
        looking, setting, stored = Signal(), Signal(), Signal()
        one = Signal(entries)
        changed = Mux(setting, update.new, update.old)
        m.d.comb += [self.ready.eq(~filling), one.eq(1 << update.entry)]
        with m.If(filling):
            m.d.sync += row.eq(row + 1)
            with m.If(row == (1 << self.bits) - 1):
                m.d.sync += filling.eq(0)
        found = []
        for part in range(self.parts):
            rows = Memory(shape=entries, depth=1 << self.bits, init=[])
            m.submodules[f"part{part}"] = rows
            read, write = rows.read_port(), rows.write_port()
            place = changed.word_select(part, self.bits)
            m.d.comb += [
                read.en.eq(self.en | looking),
                read.addr.eq(Mux(self.en, self.value.word_select(part, self.bits), place)),
                write.en.eq(filling | stored),
                write.addr.eq(Mux(filling, row, place)),
                write.data.eq(Mux(setting, read.data | one, read.data & ~one)),
            ]
            with m.If(filling):
                m.d.comb += write.data.eq(self._first(m, part, row))
            found.append(read.data)
        held, fresh = Signal(entries), Signal()
        both = found[0]
        for more in found[1:]:
            both = both & more
        m.d.sync += fresh.eq(self.en)
        with m.If(fresh):
            m.d.sync += held.eq(both)
        m.d.comb += self.match.eq(Mux(filling, 0, Mux(fresh, both, held)))
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.update.valid & ~filling):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += looking.eq(~self.en)
                with m.If(~self.en):
                    m.next = "STORE"
            with m.State("STORE"):  # the row that was read a cycle ago
                m.d.comb += stored.eq(1)
                m.d.sync += setting.eq(1)
                m.next = "LOOK"
                with m.If(setting | ~update.valid):
                    m.d.comb += self.update.ready.eq(1)
                    m.d.sync += setting.eq(0)
                    m.next = "IDLE"
        return m

    def _first(self, m: Module, part: int, row):
        """A row after reset."""
        rows: dict[int, int] = {}
        for entry, value in enumerate(self.initial):
            if value is not None:
                place = value >> part * self.bits & (1 << self.bits) - 1
                rows[place] = rows.get(place, 0) | 1 << entry
        first = Signal(len(self.initial), name=f"first{part}")
        with m.Switch(row):
            for place, bits in rows.items():
                with m.Case(place):
                    m.d.comb += first.eq(bits)
        return first
