"""Caches of non-leaf page-table entries: where the tables of the lowest levels are."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from models.spec.config import IommuConfig
from rtl.bus.ram import SETTLED
from rtl.iommu.seams import Invalidate, InvalidateKind
from rtl.iommu.walk_records import GPA_BITS, IOVA_BITS, TableOfStage, gpa_page_bits

__all__ = ["CACHED_LEVELS", "TableKey", "WalkCache"]

#: Levels of tables that are held: those of 4 KiB pages, and those above.
CACHED_LEVELS = (0, 1)
#: First bit of an address above the reach of a table of level 0, and of further ones per level.
_REACH, _LEVEL_BITS = 21, 9


class TableKey(data.Struct):
    """Which table: address space, and the bits of the address above the reach of level 0.

    First stage: by IOVA, of ``gscid`` (0 without ``gv``) and ``pscid``.  Second stage: by GPA, of
    ``gscid``; ``gv`` is set and ``pscid`` of no meaning.
    """

    second: 1
    gv: 1
    gscid: 16
    pscid: 20
    prefix: 38


def _address_bits(config: IommuConfig) -> int:
    """Bits of the addresses of both stages."""
    modes = {**IOVA_BITS, **{-levels: bits for levels, bits in GPA_BITS.items()}}
    there = {
        2: config.sv32, 3: config.sv39, 4: config.sv48, 5: config.sv57,
        -2: config.sv32x4, -3: config.sv39x4, -4: config.sv48x4, -5: config.sv57x4,
    }  # fmt: skip
    return max(bits for mode, bits in modes.items() if there[mode])


class WalkCache(wiring.Component):
    """Tables of the lowest levels of both stages, direct-mapped, a RAM for each level.

    A look that meets an invalidation, or a fill of the same row, misses: so RAM needs no logic for
    collisions.  Other fills and looks go on beside each other, or walks would miss because so many
    of them do.  In a table of Sv32 an entry tells where half of it is, as the halves are told
    apart.

    A non-leaf entry is forgotten when the specification says so: IOTINVAL without AV, or with AV
    and NL (all of the address space then, whatever ADDR is).  Since a first-stage table was reached
    through the second stage, every IOTINVAL.GVMA of its VM makes it forgotten as well.

    An invalidation takes effect when it is accepted; rows are then cleared, and nothing is found
    and nothing kept meanwhile.  One that names no address space clears all rows of its stages.

    Latency
    -------
    ``hits`` and ``found`` follow one cycle after ``look`` and stay until the next.  An invalidation
    keeps the cache busy for two cycles per row of its stages, or one if it names no address space.

    Members
    -------
    look_en : ``In(1)``; look : ``In(TableKey)``
        Probe both levels of a stage.
    key : ``In(TableKey)``
        What was looked for last, and what is filled.
    hits : ``Out(2)``; found0, found1 : ``Out(TableOfStage)``
        By level.
    fill_en : ``In(2)``; fill : ``In(TableOfStage)``
        Keep a table of a level under ``key``.
    invalidate_en : ``In(1)``; invalidate : ``In(Invalidate)``
        Only while ``busy`` is 0.
    busy : ``Out(1)``
    """

    look_en: In(1)
    look: In(TableKey)
    key: In(TableKey)
    hits: Out(2)
    found0: Out(TableOfStage)
    found1: Out(TableOfStage)
    fill_en: In(2)
    fill: In(TableOfStage)
    invalidate_en: In(1)
    invalidate: In(Invalidate)
    busy: Out(1)

    def __init__(self, config: IommuConfig):
        self.entries = config.walk_cache
        self._set_bits = exact_log2(self.entries)
        self._prefix_bits = _address_bits(config) - _REACH
        self._ppn_bits, self._gpa_bits = config.pas - 12, gpa_page_bits(config)
        super().__init__()

    def _row(self, key, level: int):
        """By both IDs; neither one alone nor the same number in both falls into a few rows."""
        prefix, bits = key.prefix[_LEVEL_BITS * level :], self._set_bits
        process = key.pscid[:bits]
        if bits > 1:
            # Times x, modulo x^bits + x + 1.
            process = Cat(process[-1], process[0] ^ process[-1], process[1:-1])
        chosen = prefix[:bits] ^ key.gscid[:bits] ^ Mux(key.second, 0, process)
        return Cat(chosen[:bits], key.second)

    def elaborate(self, platform):
        m = Module()
        self.swept, self.clears = Signal(self._set_bits + 1), Signal()
        self.op, self.whole = Signal(Invalidate), Signal(init=1)
        self._sweep(m)
        # Whether the rows read are still what they were.
        fresh, reads = Signal(), Signal()
        m.d.comb += reads.eq(self.look_en & ~self.busy)
        with m.If(self.invalidate_en):
            m.d.sync += fresh.eq(0)
        with m.Elif(self.look_en):
            m.d.sync += fresh.eq(reads)
        for level in CACHED_LEVELS:
            self._level(m, level, fresh, reads)
        return m

    def _sweep(self, m: Module) -> None:
        """Go through the rows: one cycle to read, if what is there counts, and one to clear."""
        new, sweeping, both, read = self.invalidate, Signal(init=1), Signal(init=1), Signal()
        gvma, vma = (new.kind == kind for kind in (InvalidateKind.GVMA, InvalidateKind.VMA))
        non_leaf = ~new.av | new.nl
        # First-stage rows are the lower ones.
        last = self.swept[:-1].all() & (self.swept[-1] | ~both)
        m.d.comb += [self.busy.eq(sweeping), self.clears.eq(sweeping & (self.whole | read))]
        with m.If(sweeping):
            m.d.sync += read.eq(~read)
        with m.If(self.clears):
            m.d.sync += [self.swept.eq(self.swept + 1), read.eq(0)]
            with m.If(last):
                m.d.sync += [sweeping.eq(0), self.swept.eq(0)]
        with m.If(self.invalidate_en):
            m.d.sync += [
                self.op.eq(new),
                sweeping.eq(gvma | (vma & non_leaf)),
                both.eq(gvma & non_leaf),
                self.whole.eq(~new.gv & (gvma | ~new.pscv)),
            ]

    def _covers(self, entry):
        """Whether the invalidation is about the table in the row that is swept."""
        op = self.op
        space = Mux(op.gv, entry.gv & (op.gscid == entry.gscid), ~entry.gv)
        gvma = op.kind == InvalidateKind.GVMA
        return self.whole | (space & (gvma | ~op.pscv | (op.pscid == entry.pscid)))

    def _level(self, m: Module, level: int, fresh, reads) -> None:
        """RAM of a level."""
        prefix_bits = self._prefix_bits - _LEVEL_BITS * level
        layout = data.StructLayout(
            {
                "valid": 1,
                "gv": 1,
                "gscid": 16,
                "pscid": 20,
                "prefix": prefix_bits,
                "ppn": self._ppn_bits,
                "gpa_page": self._gpa_bits,
                "glob": 1,
            }
        )
        ram = memory.Memory(shape=layout, depth=2 * self.entries, init=[], attrs=SETTLED)
        m.submodules[f"level{level}"] = ram
        read, write = ram.read_port(), ram.write_port()
        entry, new, key, fill = read.data, write.data, self.key, self.fill
        found = (self.found0, self.found1)[level]
        prefix = key.prefix[_LEVEL_BITS * level : self._prefix_bits]
        # What was written beside the last look.
        looked, filled, fills = Signal.like(read.addr), Signal.like(write.addr), Signal()
        with m.If(self.look_en):
            m.d.sync += [looked.eq(read.addr), filled.eq(write.addr), fills.eq(write.en)]
        m.d.comb += [
            read.addr.eq(Mux(self.busy, self.swept, self._row(self.look, level))),
            read.en.eq(reads | (self.busy & ~self.clears)),
            write.addr.eq(Mux(self.busy, self.swept, self._row(key, level))),
            write.en.eq(Mux(self.busy, self.clears & self._covers(entry), self.fill_en[level])),
            new.valid.eq(~self.busy),
            new.gv.eq(key.gv),
            new.gscid.eq(key.gscid),
            new.pscid.eq(key.pscid),
            new.prefix.eq(prefix),
            new.ppn.eq(fill.ppn),
            new.gpa_page.eq(fill.gpa_page),
            new.glob.eq(fill.glob),
            self.hits[level].eq(
                fresh
                & ~(fills & (looked == filled))
                & entry.valid
                & (entry.gv == key.gv)
                & (entry.gscid == key.gscid)
                & (key.second | (entry.pscid == key.pscid))
                & (entry.prefix == prefix)
            ),
            found.ppn.eq(entry.ppn),
            found.gpa_page.eq(entry.gpa_page),
            found.glob.eq(entry.glob),
        ]
