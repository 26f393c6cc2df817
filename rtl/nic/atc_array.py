"""Translations of one size in the device TLB: sets in RAM."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.bus.priority import lowest_bit
from rtl.nic.atc_records import PAGE_BITS, VALUE_BITS, AtcFill, AtcKey, AtcRange

__all__ = ["AtcArray"]


class AtcArray(wiring.Component):
    """Sets of translations of 2 ** (12 + shift) bytes.

    Functions' sets are numbered from different ends, since drivers of one kind use the same pages.
    A fill replaces the entry of its page, else takes a free one, else that whose turn it is.

    Latency
    -------
    A lookup has its result in the next cycle, until the next one.  A visit reads a set, and in the
    next cycle writes it; one of each in every cycle.  A lookup does not see what is written in its
    cycle.

    Parameters
    ----------
    functions, shift, sets, ways : int
        ``sets`` is a power of two from 2, ``ways`` at least 2.

    Members
    -------
    en : ``In(1)``; next : ``In(AtcKey)``
        A lookup.
    key : ``In(AtcKey)``; write : ``In(1)``
        What was looked up last, and for which right.
    hits : ``Out(ways)``
        Who has it.
    pages : ``Out``
        Page numbers of that set, without the lowest ``shift`` bits.
    visit : ``In``
        A set, for the next cycle.
    fill : ``In(AtcFill)``; fills : ``In(1)``
        Goes into the visited set.
    range : ``In(AtcRange)``; forgets : ``In(1)``
        What it covers is removed from the visited set.
    clears : ``In(1)``
        All of the visited set is.
    """

    def __init__(self, *, functions: int, shift: int, sets: int, ways: int):
        self.function_bits = max(1, (functions - 1).bit_length())
        self.shift, self.sets, self.ways = shift, sets, ways
        self.set_bits = exact_log2(sets)
        self.page = VALUE_BITS - shift
        super().__init__(
            {
                "en": In(1),
                "next": In(AtcKey),
                "key": In(AtcKey),
                "write": In(1),
                "hits": Out(ways),
                "pages": Out(data.ArrayLayout(self.page, ways)),
                "visit": In(self.set_bits),
                "fill": In(AtcFill),
                "fills": In(1),
                "range": In(AtcRange),
                "forgets": In(1),
                "clears": In(1),
            }
        )

    def spread(self, function):
        """What a function adds to the number of a page's set."""
        bits = range(self.set_bits)
        return Cat(function[i] if i < self.function_bits else Const(0, 1) for i in reversed(bits))

    def set_of(self, key):
        """The set of a function's page."""
        return key.page[self.shift :][: self.set_bits] ^ self.spread(key.function)

    def elaborate(self, platform):
        m = Module()
        high = self.shift + self.set_bits
        self.tag = data.StructLayout(
            {"valid": 1, "function": self.function_bits, "page": PAGE_BITS - high}
        )
        self.payload = data.StructLayout({"r": 1, "w": 1, "page": self.page})
        self.writes, self.place = Signal(self.ways), Signal(self.set_bits)
        self.new, self.content = Signal(self.tag), Signal(self.payload)
        fill = self.fill
        m.d.sync += self.place.eq(self.visit)
        m.d.comb += [
            self.new.valid.eq(self.fills),
            self.new.function.eq(fill.key.function),
            self.new.page.eq(fill.key.page[high:]),
            self.content.r.eq(fill.r),
            self.content.w.eq(fill.w),
            self.content.page.eq(fill.value[self.shift :]),
        ]
        rows = [self._way(m, number) for number in range(self.ways)]
        self._update(m, rows)
        return m

    def _way(self, m: Module, number: int):
        """RAM of one way; returns the row of the visited set."""
        m.submodules[f"tags{number}"] = tags = memory.Memory(
            shape=self.tag, depth=self.sets, init=[]
        )
        m.submodules[f"contents{number}"] = contents = memory.Memory(
            shape=self.payload, depth=self.sets, init=[]
        )
        for ram, new in ((tags, self.new), (contents, self.content)):
            write = ram.write_port()
            m.d.comb += [
                write.addr.eq(self.place),
                write.data.eq(new),
                write.en.eq(self.writes[number]),
            ]
        look, content, upkeep = tags.read_port(), contents.read_port(), tags.read_port()
        for read in (look, content):
            m.d.comb += [read.addr.eq(self.set_of(self.next)), read.en.eq(self.en)]
        row, found = look.data, content.data
        m.d.comb += [
            upkeep.addr.eq(self.visit),
            self.hits[number].eq(
                row.valid
                & (row.function == self.key.function)
                & (row.page == self.key.page[PAGE_BITS - len(row.page) :])
                & Mux(self.write, found.w, found.r)
            ),
            self.pages[number].eq(found.page),
        ]
        return upkeep.data

    def _update(self, m: Module, rows: list) -> None:
        """Write the visited set."""
        fill, range_ = self.fill, self.range
        wanted, open_ = Signal(AtcKey), Signal(PAGE_BITS)
        m.d.comb += wanted.eq(Mux(self.fills, fill.key, range_.key))
        with m.If(~self.fills):
            m.d.comb += open_.eq(range_.open)
        # Of one function the set tells the lowest bits.
        low, high = self.shift, self.shift + self.set_bits
        apart = self.place ^ self.set_of(wanted)
        here = (apart & ~open_[low:high]) == 0
        same = Signal(self.ways)
        for number, row in enumerate(rows):
            others = (row.page ^ wanted.page[high:]) & ~open_[high:]
            m.d.comb += same[number].eq(
                row.valid & (row.function == wanted.function) & here & (others == 0)
            )
        free, turn = Cat(~row.valid for row in rows), Signal(self.ways, init=1)
        chosen = Mux(same.any(), lowest_bit(same), Mux(free.any(), lowest_bit(free), turn))
        m.d.comb += self.writes.eq(
            Mux(self.fills, chosen, Mux(self.forgets, same, self.clears.replicate(self.ways)))
        )
        with m.If(self.fills & ~same.any() & ~free.any()):
            m.d.sync += turn.eq(turn.rotate_left(1))
