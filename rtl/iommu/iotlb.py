"""IOTLB: complete IOVA-to-SPA translations, by GSCID and PSCID."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup, IotlbResult
from rtl.iommu.iotlb_entry import (
    SMALL,
    covers_page,
    covers_space,
    entry_layout,
    matches_page,
    packed,
    page_span,
    same_space,
    sufficient,
)
from rtl.iommu.iotlb_superpages import IotlbSuperpages

__all__ = ["Iotlb"]


class Iotlb(wiring.Component):
    """Translations in sets of RAM for 4 KiB pages, beside associative entries for larger ones.

    Contents, order and replacement are those of :mod:`models.spec.iotlb`, exactly.  An
    invalidation takes effect when it is accepted; sets are then cleared one a cycle, and what it
    covers is not answered meanwhile.

    Latency
    -------
    A lookup has its result in the same cycle, of the set that ``next_page`` had named in the cycle
    before; one lookup a cycle.  A fill takes 2 cycles, an invalidation of one page 3, any other the
    number of sets + 2.

    Parameters
    ----------
    config : IommuConfig
        Geometry.

    Members
    -------
    next_page : ``In(52)``
        Page number of the next cycle's lookup.
    lookup : ``In(stream.Signature(IotlbLookup))``
        Refused only after reset, while entries are cleared.
    result : ``Out(IotlbResult)``
        Of this cycle's lookup.
    fill : ``In(stream.Signature(IotlbFill))``
        Accepted in the cycle in which it takes effect.  May be withdrawn when an invalidation is
        accepted.
    invalidate : ``In(stream.Signature(IotlbInvalidate))``
        Accepted in the cycle in which it takes effect; comes before a fill that has not begun.
        ``ready`` does not depend on ``valid``.
    busy : ``Out(1)``
        Sets are being cleared.
    """

    next_page: In(52)
    lookup: In(stream.Signature(IotlbLookup))
    result: Out(IotlbResult)
    fill: In(stream.Signature(IotlbFill))
    invalidate: In(stream.Signature(IotlbInvalidate))
    busy: Out(1)

    def __init__(self, config: IommuConfig):
        self.config = config
        self.layout = entry_layout(config)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.supers = self.supers = IotlbSuperpages(config)
        # Maintenance: one of fill, invalidation and clearing after reset at a time.
        self.active = Signal(IotlbInvalidate)
        self.span = Signal(52)
        self.sweeping = Signal()
        self.clearing = Signal(init=1)
        self.index = Signal(range(config.iotlb_sets))
        self.last = Signal(range(config.iotlb_sets), init=config.iotlb_sets - 1)
        self.write_index = Signal(range(config.iotlb_sets))
        self.write_now = Signal()  # the set read in the cycle before is at the ports
        self.fill_read = Signal()
        self.swept = Signal()  # the last set has been read
        self.accept_small = Signal()
        self.read_now = Signal()
        # Sets may hold pieces of larger first-stage pages, so all are visited.
        self.pieces, self.whole = Signal(), Signal()
        m.d.comb += self.lookup.ready.eq(~self.clearing)
        ways = self._ways(m)
        self._superpages(m)
        self._maintenance(m)
        self._select(m, ways)
        return m

    def _ways(self, m: Module) -> list:
        """Sets in RAM; returns the entries of the lookup's set."""
        config = self.config
        set_bits = len(self.index)
        reads, left = [], []
        m.submodules.fifo = fifo = memory.Memory(shape=8, depth=config.iotlb_sets, init=[])
        pointer_read, pointer_write = fifo.read_port(), fifo.write_port()
        victim, free = Signal(config.iotlb_ways), Signal(config.iotlb_ways)
        chosen, same = Signal(config.iotlb_ways), Signal(config.iotlb_ways)
        fill, active = self.fill.payload, self.active
        for number in range(config.iotlb_ways):
            ram = memory.Memory(shape=self.layout, depth=config.iotlb_sets, init=[])
            m.submodules[f"way{number}"] = ram
            write = ram.write_port()
            lookup = ram.read_port(transparent_for=(write,))
            upkeep = ram.read_port()
            entry = upkeep.data
            covered = covers_space(
                active,
                gv=entry.gv,
                gscid=entry.gscid,
                pv=entry.pv,
                pscid=entry.pscid,
                glob=entry.glob,
            ) & covers_page(active, self.span, entry.vpn, piece=entry.piece)
            filling = self.accept_small & chosen[number]
            m.d.comb += [
                lookup.addr.eq(self.next_page[:set_bits]),
                lookup.en.eq(1),
                upkeep.addr.eq(self.index),
                upkeep.en.eq(self.read_now),
                write.addr.eq(self.write_index),
                free[number].eq(~entry.valid),
                same[number].eq(
                    same_space(entry, fill.key)
                    & (entry.glob == fill.glob)
                    & (entry.vpn == fill.key.vpn[: len(entry.vpn)])
                ),
                write.data.eq(Mux(filling, packed(self.layout, fill), 0)),
                write.en.eq(filling | self.clearing | (self.sweeping & self.write_now & covered)),
                victim[number].eq(pointer_read.data == number),
            ]
            reads.append(lookup.data)
            left.append(entry.valid & entry.piece & ~covered)
        # The entry with equal tag, else the lowest free way, else the victim.
        count = config.iotlb_ways
        lowest, first = free & (~free + 1)[:count], same & (~same + 1)[:count]
        m.d.comb += chosen.eq(Mux(same.any(), first, Mux(free.any(), lowest, victim)))
        last_way = pointer_read.data == count - 1
        m.d.comb += [
            pointer_read.addr.eq(self.index),
            pointer_read.en.eq(self.read_now),
            pointer_write.addr.eq(self.write_index),
            pointer_write.data.eq(Mux(self.clearing | last_way, 0, pointer_read.data + 1)),
            pointer_write.en.eq(self.clearing | (self.accept_small & ~same.any() & ~free.any())),
        ]
        with m.If(self.accept_small & fill.piece):
            m.d.sync += self.pieces.eq(1)
        # A visit of all sets finds out whether any are left.
        remains, seen = Signal(), self.sweeping & self.write_now & Cat(left).any()
        with m.If(self.invalidate.valid & self.invalidate.ready):
            m.d.sync += remains.eq(0)
        with m.Elif(seen):
            m.d.sync += remains.eq(1)
        with m.If(self.sweeping & self.swept & self.whole):
            m.d.sync += self.pieces.eq(remains | seen)
        return reads

    def _superpages(self, m: Module) -> None:
        supers = self.supers
        m.d.comb += [
            supers.key.eq(self.lookup.payload.key),
            supers.fill.eq(self.fill.payload),
            supers.invalidate.eq(self.invalidate.payload),
            supers.invalidate_en.eq(self.invalidate.valid & self.invalidate.ready),
        ]

    def _maintenance(self, m: Module) -> None:
        """Order fills and invalidations; walk the sets."""
        small = self.fill.payload.size == SMALL
        idle = ~self.sweeping & ~self.clearing & ~self.fill_read
        begins = idle & self.fill.valid & ~self.invalidate.valid
        set_bits = len(self.index)
        accept_super, start_fill = Signal(), Signal()
        m.d.comb += [
            self.busy.eq(self.sweeping | self.clearing),
            # A small fill reads its set first and is accepted with the write.
            start_fill.eq(begins & small),
            accept_super.eq(begins & ~small),
            self.supers.fill_en.eq(accept_super),
            self.accept_small.eq(self.fill.valid & self.fill_read),
            self.fill.ready.eq(self.accept_small | accept_super),
            self.invalidate.ready.eq(idle),
            self.read_now.eq(start_fill | (self.sweeping & ~self.swept)),
        ]
        m.d.sync += [
            self.fill_read.eq(start_fill),
            self.write_now.eq(self.sweeping & self.read_now),
            self.write_index.eq(self.index),
        ]
        pointer = Signal(set_bits)
        m.d.comb += self.index.eq(Mux(start_fill, self.fill.payload.key.vpn[:set_bits], pointer))
        with m.If(self.clearing):
            m.d.comb += self.index.eq(pointer)
            m.d.sync += pointer.eq(pointer + 1)
            # One more cycle, since writes follow the index by one.
            done = Signal()
            m.d.sync += done.eq(pointer == self.config.iotlb_sets - 1)
            with m.If(done):
                m.d.sync += [self.clearing.eq(0), pointer.eq(0)]
        with m.If(self.invalidate.valid & self.invalidate.ready):
            op = self.invalidate.payload
            single = op.av & ~op.gvma & ~(op.s if self.config.s else 0) & ~self.pieces
            m.d.sync += [
                self.active.eq(op),
                self.span.eq(page_span(self.config, op)),
                self.sweeping.eq(1),
                self.swept.eq(0),
                self.whole.eq(~single),
                pointer.eq(Mux(single, op.addr[:set_bits], 0)),
                self.last.eq(Mux(single, op.addr[:set_bits], self.config.iotlb_sets - 1)),
            ]
        with m.If(self.sweeping):
            with m.If(~self.swept):
                m.d.sync += [pointer.eq(pointer + 1), self.swept.eq(pointer == self.last)]
            with m.Else():
                m.d.sync += [self.sweeping.eq(0), self.swept.eq(0)]

    def _select(self, m: Module, ways) -> None:
        """Choose the matching entry."""
        op, supers, result = self.active, self.supers, self.result
        lookup = self.lookup.payload
        key = lookup.key
        # While sets are being cleared, what is covered is not there any more.
        page = covers_page(op, self.span, key.vpn, piece=Const(0, 1))
        gone = [
            self.sweeping
            & covers_space(op, gv=key.gv, gscid=key.gscid, pv=key.pv, pscid=key.pscid, glob=glob)
            for glob in (Const(0, 1), Const(1, 1))
        ]
        hits = Signal(len(ways) + len(supers.entries))
        # Ranges may overlap if software was careless: the first entry answers, never a mixture.
        first = Signal.like(hits)
        m.d.comb += [
            hits.eq(
                Cat(
                    *(
                        same_space(entry, key)
                        & matches_page(entry, key.vpn)
                        & ~(Mux(entry.glob, gone[1], gone[0]) & (page | entry.piece))
                        for entry in ways
                    ),
                    supers.matches,
                )
            ),
            first.eq(hits & (~hits + 1)),
        ]
        chosen, size, low = 0, 0, 0
        for number, entry in enumerate(ways):
            chosen = chosen | Mux(first[number], entry.as_value(), 0)
            size = size | Mux(first[number], SMALL, 0)
        for number, (entry, extent, mask) in enumerate(
            zip(supers.entries, supers.sizes, supers.masks, strict=True), len(ways)
        ):
            chosen = chosen | Mux(first[number], entry.as_value(), 0)
            size = size | Mux(first[number], extent, 0)
            low = low | Mux(first[number], mask, 0)
        found, offset = Signal(self.layout), Signal(44)
        m.d.comb += [found.eq(chosen), offset.eq(low)]
        m.d.comb += [
            result.hit.eq(self.lookup.valid & hits.any() & sufficient(lookup, found)),
            result.ppn.eq((found.ppn & ~offset) | (key.vpn & offset)),
            result.size.eq(size),
        ]
        for name in ("r", "w", "x", "u", "glob", "dirty", "pbmt"):
            m.d.comb += result[name].eq(found[name])
