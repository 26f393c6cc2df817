"""Caches of non-leaf page-table entries: where the tables of the lowest levels are."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.iommu.seams import Invalidate, InvalidateKind

__all__ = ["TableKey", "TableOfStage", "WalkCache"]

_WAYS = 2


class TableKey(data.Struct):
    """Which table: address space, and the bits of the address above the table's reach.

    First stage: by IOVA, of ``gscid`` (0 without ``gv``) and ``pscid``.  Second stage: by GPA, of
    ``gscid``; ``gv`` is set and ``pscid`` 0.
    """

    gv: 1
    gscid: 16
    pscid: 20
    prefix: 38


class TableOfStage(data.Struct):
    """Where a table is.  ``gpa_ppn`` and ``glob`` are of use to the first stage alone."""

    ppn: 44  # system physical page
    gpa_ppn: 44
    glob: 1  # G was set on the way


class _Entry(data.Struct):
    valid: 1
    key: TableKey
    table: TableOfStage


class WalkCache(wiring.Component):
    """Tables of one level of one stage, in sets of two ways.

    A non-leaf entry is forgotten when the specification says so: IOTINVAL without AV, or with AV
    and NL (all of the address space then, whatever ADDR is).  Since a first-stage table was reached
    through the second stage, every IOTINVAL.GVMA of its VM makes it forgotten as well.

    An invalidation takes effect when it is accepted; sets are then cleared one a cycle, and what it
    covers is not found meanwhile.

    Latency
    -------
    ``hit`` and ``found`` follow ``key`` in the same cycle.

    Parameters
    ----------
    entries : int
        A power of two from 2.
    second : bool
        Of the second stage.

    Members
    -------
    key : ``In(TableKey)``; hit : ``Out(1)``; found : ``Out(TableOfStage)``
        Probe.
    fill_en : ``In(1)``; fill_key : ``In(TableKey)``; fill_table : ``In(TableOfStage)``
        Keep a table; takes effect in the next cycle.
    invalidate_en : ``In(1)``; invalidate : ``In(Invalidate)``
        Only while ``busy`` is 0.
    busy : ``Out(1)``
    """

    def __init__(self, *, entries: int, second: bool):
        self.sets, self.second = entries // _WAYS, second
        exact_log2(entries)
        super().__init__(
            {
                "key": In(TableKey),
                "hit": Out(1),
                "found": Out(TableOfStage),
                "fill_en": In(1),
                "fill_key": In(TableKey),
                "fill_table": In(TableOfStage),
                "invalidate_en": In(1),
                "invalidate": In(Invalidate),
                "busy": Out(1),
            }
        )

    def _set(self, key):
        """By both IDs; neither one alone nor the same number in both falls into a few sets."""
        bits = exact_log2(self.sets)
        if not bits:
            return 0
        process = key.pscid[:bits]
        if bits > 1:
            # Times x, modulo x^bits + x + 1.
            process = Cat(process[-1], process[0] ^ process[-1], process[1:-1])
        return (key.prefix ^ key.gscid ^ process)[:bits]

    def _covers(self, op, key):
        """Whether an invalidation is about a table."""
        same_vm = op.gscid == key.gscid
        gvma = op.kind == InvalidateKind.GVMA
        if self.second:
            return gvma & (~op.gv | same_vm)
        vma = Mux(op.gv, key.gv & same_vm, ~key.gv) & (~op.pscv | (op.pscid == key.pscid))
        return Mux(gvma, key.gv & (~op.gv | same_vm), vma)

    def elaborate(self, platform):
        m = Module()
        op, sweeping, at = Signal(Invalidate), Signal(), Signal(range(max(2, self.sets)))
        clearing, last = Signal(init=1), Signal()
        new = self.invalidate
        non_leaf = ~new.av | new.nl
        concerns = (new.kind == InvalidateKind.GVMA) & (non_leaf | (not self.second))
        if not self.second:
            concerns |= (new.kind == InvalidateKind.VMA) & non_leaf
        m.d.comb += [
            self.busy.eq(sweeping | clearing),
            last.eq(at == self.sets - 1),
        ]
        with m.If(sweeping | clearing):
            m.d.sync += at.eq(Mux(last, 0, at + 1))
            with m.If(last):
                m.d.sync += [sweeping.eq(0), clearing.eq(0)]
        with m.If(self.invalidate_en & concerns):
            m.d.sync += [op.eq(new), sweeping.eq(1), at.eq(0)]

        turn = memory.Memory(shape=1, depth=max(2, self.sets), init=[])
        m.submodules.turn = turn  # which way is replaced next
        turn_read, turn_write = turn.read_port(domain="comb"), turn.write_port()
        target = self._set(self.fill_key)
        m.d.comb += [
            turn_read.addr.eq(target),
            turn_write.addr.eq(target),
            turn_write.data.eq(~turn_read.data),
        ]
        hits, tables, same, empty = [], [], [], []
        ways = []
        for number in range(_WAYS):
            ram = memory.Memory(shape=_Entry, depth=max(2, self.sets), init=[])
            m.submodules[f"way{number}"] = ram
            probe, upkeep, there = (ram.read_port(domain="comb") for _ in range(3))
            write = ram.write_port()
            m.d.comb += [probe.addr.eq(self._set(self.key)), upkeep.addr.eq(at)]
            m.d.comb += there.addr.eq(target)
            entry, old = probe.data, there.data
            gone = sweeping & self._covers(op, entry.key)
            hits.append(entry.valid & (entry.key == self.key) & ~gone & ~clearing)
            tables.append(entry.table)
            same.append(old.valid & (old.key == self.fill_key))
            empty.append(~old.valid)
            ways.append((write, clearing | (sweeping & self._covers(op, upkeep.data.key))))
        chosen = Mux(same[0] | (empty[0] & ~same[1]), 0, Mux(same[1] | empty[1], 1, turn_read.data))
        m.d.comb += turn_write.en.eq(self.fill_en & ~self.busy & ~Cat(same, empty).any())
        for number, (write, clears) in enumerate(ways):
            # A table that comes while sets are cleared is not kept.
            fills = self.fill_en & ~self.busy & (chosen == number)
            m.d.comb += [
                write.addr.eq(Mux(self.busy, at, target)),
                write.en.eq(clears | fills),
                write.data.valid.eq(~self.busy),
                write.data.key.eq(self.fill_key),
                write.data.table.eq(self.fill_table),
            ]
        m.d.comb += [
            self.hit.eq(hits[0] | hits[1]),
            self.found.eq(Mux(hits[0], tables[0].as_value(), tables[1].as_value())),
        ]
        return m
