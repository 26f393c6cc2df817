"""IOTLB: complete IOVA-to-SPA translations, by GSCID and PSCID."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import (
    IotlbFill,
    IotlbInvalidate,
    IotlbLookup,
    IotlbResult,
    iotlb_set,
)
from rtl.iommu.iotlb_entry import SMALL, covers_space, demand, packed, payload_layout
from rtl.iommu.iotlb_superpages import IotlbSuperpages
from rtl.iommu.iotlb_ways import IotlbWays

__all__ = ["Iotlb"]


class Iotlb(wiring.Component):
    """Translations in sets of RAM for 4 KiB pages, beside associative entries for larger ones.

    Contents, order and replacement are those of :mod:`models.spec.iotlb`, exactly.  An
    invalidation takes effect when it is accepted; entries are then visited one set and two
    superpages a cycle, and what it covers is not answered meanwhile.  Maintenance compares IDs and
    pages in one place, for fills and invalidations alike.

    Latency
    -------
    A lookup has its result in the next cycle, of the set that ``next_set`` had named in the cycle
    before; one lookup a cycle.  With s = superpages / 2, a fill takes 3 cycles, of a superpage
    s + 2; an invalidation of one page max(4, s + 1), any other max(sets, s) + 3.

    Parameters
    ----------
    config : IommuConfig
        Geometry.

    Members
    -------
    next_set : ``In``
        Set of the next cycle's lookup; if it is another one, the lookup says so.
    lookup : ``In(stream.Signature(IotlbLookup))``
        Refused only after reset, while entries are cleared.
    result : ``Out(IotlbResult)``
        Of the lookup accepted in the cycle before.
    fill : ``In(stream.Signature(IotlbFill))``
        Accepted in the cycle in which it takes effect.  May be withdrawn when an invalidation is
        accepted.  Physical pages are within ``config.pas``, sizes those of the page tables that
        there are.
    invalidate : ``In(stream.Signature(IotlbInvalidate))``
        Accepted in the cycle in which it takes effect, at the earliest that after the first in
        which it is offered; comes before a fill that has not begun.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "next_set": In(range(config.iotlb_sets)),
                "lookup": In(stream.Signature(IotlbLookup)),
                "result": Out(IotlbResult),
                "fill": In(stream.Signature(IotlbFill)),
                "invalidate": In(stream.Signature(IotlbInvalidate)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.ways = self.ways = IotlbWays(config)
        m.submodules.supers = self.supers = IotlbSuperpages(config)
        # One of fill, invalidation and clearing after reset at a time.  An invalidation, or the
        # IDs and the page of a fill; ones where an invalidation leaves the page number open.
        self.wanted, self.span = Signal(IotlbInvalidate), Signal(52)
        self.sweeping, self.reading = Signal(), Signal()
        self.single = Signal()  # one set only
        # Sets may hold pieces of larger first-stage pages, so all are visited.
        self.pieces = Signal()
        self.accept_small, self.accept_large = Signal(), Signal()
        self.visit, self.index = Signal(), Signal(range(config.iotlb_sets))
        self.vm = Signal.like(self.index)  # set of page 0 of the VM of what is wanted
        self._maintenance(m)
        self._pieces(m)
        self._connect(m)
        self._select(m)
        return m

    def _maintenance(self, m: Module) -> None:
        """Order fills and invalidations."""
        ways, supers, fill = self.ways, self.supers, self.fill
        small = fill.payload.size == SMALL
        # A small fill visits its set, a large one goes through all; then they are accepted.
        seeking, sought, searching = Signal(), Signal(), Signal()
        idle, begins, granted, beside = Signal(), Signal(), Signal(), Signal()
        busy = self.sweeping | seeking | sought | searching | supers.scanning | ways.clearing
        m.d.comb += [
            idle.eq(~busy & ~ways.writing),
            # The next set may be visited while another is written.
            beside.eq(~ways.writing | (small & (ways.write_set != self.index))),
            begins.eq(~busy & beside & fill.valid & ~self.invalidate.valid),
            self.accept_small.eq(fill.valid & sought),
            self.accept_large.eq(fill.valid & searching & ~supers.scanning),
            fill.ready.eq(self.accept_small | self.accept_large),
            # Known a cycle before, since it goes far: no fill begins while one is offered.
            self.invalidate.ready.eq(granted),
            supers.scan.eq((begins & ~small) | (self.invalidate.valid & granted)),
            self.visit.eq((begins & small) | self.reading),
        ]
        m.d.sync += [
            granted.eq(idle & self.invalidate.valid & ~granted),
            seeking.eq(begins & small),
            sought.eq(seeking),
            searching.eq((begins & ~small) | (searching & fill.valid & supers.scanning)),
        ]
        key, op = fill.payload.key, self.invalidate.payload
        sets, pointer = self.config.iotlb_sets, Signal.like(self.index)
        m.d.comb += self.index.eq(Mux(self.reading, pointer, iotlb_set(key.vpn, key.gscid, sets)))
        vm = Mux(op.gv, op.gscid, 0)
        with m.If(begins):
            m.d.sync += self.vm.eq(iotlb_set(0, key.gscid, sets))
            for name, value in (("gscid", key.gscid), ("pscid", key.pscid), ("addr", key.vpn)):
                m.d.sync += self.wanted[name].eq(value)
            if self.config.s:
                m.d.sync += self.span.eq(0)
        with m.If(self.invalidate.valid & granted):
            ranges = op.s if self.config.s else Const(0, 1)
            single = op.av & ~op.gvma & ~ranges & ~self.pieces
            m.d.sync += [
                self.wanted.eq(op),
                self.single.eq(single),
                self.sweeping.eq(1),
                self.reading.eq(1),
                self.vm.eq(iotlb_set(0, vm, sets)),
                pointer.eq(Mux(single, iotlb_set(op.addr, vm, sets), 0)),
            ]
            if self.config.s:
                m.d.sync += self.span.eq(Mux(op.s, op.addr ^ (op.addr + 1)[:52], 0))
        with m.If(self.reading):
            last = self.single | (pointer == sets - 1)
            m.d.sync += [pointer.eq(pointer + 1), self.reading.eq(~last)]
        read = ~self.reading & ~ways.visited
        with m.If(self.sweeping & read & (~supers.scanning | supers.last)):
            m.d.sync += self.sweeping.eq(0)

    def _pieces(self, m: Module) -> None:
        """A visit of all sets finds out whether any pieces are left."""
        remains = Signal()
        with m.If(~self.sweeping):
            m.d.sync += remains.eq(0)
        with m.Elif(self.ways.left):
            m.d.sync += remains.eq(1)
        with m.If(self.accept_small & self.fill.payload.piece):
            m.d.sync += self.pieces.eq(1)
        with m.Elif(self.sweeping & ~self.reading & ~self.ways.visited & ~self.single):
            m.d.sync += self.pieces.eq(remains)

    def _connect(self, m: Module) -> None:
        """Both arrays; while sets are being cleared, what is covered is not there any more."""
        ways, supers, op = self.ways, self.supers, self.wanted
        key, fill = self.lookup.payload.key, self.fill.payload
        asks = demand(m, self.lookup.payload)
        self.stored = Signal(payload_layout(self.config))
        opens = Signal(supers.opens)
        ids = {name: op[name] == key[name] for name in ("gscid", "pscid")}
        gone = [
            self.sweeping & covers_space(op, key, glob, **ids)
            for glob in (Const(0, 1), Const(1, 1))
        ]
        for array in (ways, supers):
            m.d.comb += [
                array.key.eq(key),
                array.asks.eq(asks),
                array.sweeping.eq(self.sweeping),
                array.wanted.eq(op),
                array.span.eq(self.span),
                array.gone.eq(Cat(gone)),
                array.fill.eq(fill),
            ]
        m.d.comb += [
            self.lookup.ready.eq(~ways.clearing),
            ways.next_set.eq(self.next_set),
            ways.elsewhere.eq(self.lookup.payload.elsewhere),
            ways.vm.eq(self.vm),
            ways.visit.eq(self.visit),
            ways.set.eq(self.index),
            ways.accept.eq(self.accept_small),
            ways.stored.eq(self.stored),
            supers.accept.eq(self.accept_large),
            supers.stored.content.eq(self.stored),
            supers.stored.open.eq(opens),
        ]
        with m.If(self.accept_small | self.accept_large):
            m.d.sync += [
                self.stored.eq(packed(self.stored.shape(), fill)),
                opens.eq(supers.open_of(fill.size)),
            ]

    def _select(self, m: Module) -> None:
        """In the cycle after a lookup, choose the matching entry."""
        ways, supers, result = self.ways, self.supers, self.result
        count = self.config.iotlb_ways
        hits, late, larger = ways.matches, ways.late, supers.matches
        looked, vpn = Signal(), Signal(52)
        m.d.sync += [
            looked.eq(self.lookup.valid & self.lookup.ready),
            vpn.eq(self.lookup.payload.key.vpn),
        ]
        # Ranges may overlap if software was careless: the first entry answers, never a mixture.
        first = Signal(count)
        m.d.comb += first.eq(Cat(hit & ~hits[:i].any() for i, hit in enumerate(hits)))
        m.d.comb += supers.read.eq(Cat(hit & ~larger[:i].any() for i, hit in enumerate(larger)))
        large = ~hits.any()
        # Rights are judged with the tags, since payloads come too late for what a miss sets off.
        suffices = (first & ways.suffices).any() | (large & (supers.read & supers.suffices).any())
        # Of a larger page what its entry leaves open is the address's.
        whole, offset = Signal(self.stored.shape()), Signal(len(self.stored.ppn))
        groups = [0, supers.low, *(high for _, high in supers.groups)]
        opens = [Const(1, 1), *supers.open]
        for low, high, bit in zip(groups, groups[1:], opens, strict=False):
            m.d.comb += offset[low:high].eq(bit.replicate(high - low))
        m.d.comb += [
            whole.eq(supers.content),
            whole.ppn.eq((supers.content.ppn & ~offset) | (vpn & offset)),
        ]
        # Who answers, with what.
        owners = [(first[n] & ~late[n], ways.payloads[n]) for n in range(count)]
        owners += [((first & late).any(), self.stored), (large & larger.any(), whole)]
        chosen = 0
        for owns, content in owners:
            chosen = chosen | Mux(owns, content.as_value(), 0)
        found = Signal(self.stored.shape())
        m.d.comb += [
            found.eq(chosen),
            result.hit.eq(looked & suffices),
            result.ppn.eq(found.ppn),
            result.size.eq(Mux(large, supers.size_of(supers.open), SMALL)),
        ]
        for name in ("r", "w", "x", "u", "glob", "dirty", "pbmt"):
            m.d.comb += result[name].eq(found[name])
