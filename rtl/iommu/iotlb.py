"""IOTLB: complete IOVA-to-SPA translations, by GSCID and PSCID."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup, IotlbResult

__all__ = ["Iotlb"]

#: Page-number bits kept per entry.  All higher bits of a valid one equal the highest kept: 0 for a
#: GPA of Sv39x4 (41 bits), the sign for an IOVA of Sv39.
_VPN_BITS = 30
_SMALL = 12


class _Entry(data.Struct):
    """What an entry holds."""

    valid: 1
    gv: 1
    gscid: 16
    pv: 1
    pscid: 20
    vpn: _VPN_BITS
    ppn: 44
    r: 1
    w: 1
    x: 1
    u: 1
    glob: 1
    dirty: 1
    pbmt: 2


def _same_space(entry, key):
    """Whether an entry belongs to the address space of a key."""
    same_process = (entry.pscid == key.pscid) | entry.glob
    return (
        entry.valid
        & (entry.gv == key.gv)
        & (entry.gscid == key.gscid)
        & (entry.pv == key.pv)
        & (~key.pv | same_process)
    )


def _covers_space(op, *, gv, gscid, pv, pscid, glob):
    """Whether an invalidation is about an address space (models.spec.iotlb)."""
    vm = Mux(op.gv, gv & (op.gscid == gscid), Mux(op.gvma, gv, ~gv))
    return vm & (op.gvma | (pv & (~op.pscv | ((op.pscid == pscid) & ~glob))))


def _packed(fill, valid=1):
    """An entry's bits from a fill."""
    return data.View(
        _Entry,
        Cat(
            Const(valid, 1),
            fill.key.gv,
            fill.key.gscid,
            fill.key.pv,
            fill.key.pscid,
            fill.key.vpn[:_VPN_BITS],
            fill.ppn,
            fill.r,
            fill.w,
            fill.x,
            fill.u,
            fill.glob,
            fill.dirty,
            fill.pbmt,
        ),
    )


def _sufficient(lookup, entry):
    """Whether the rights of an entry answer a lookup without a walk."""
    writes = ~lookup.write | (entry.w & entry.dirty)
    plain = Mux(lookup.exec, entry.x, entry.r | lookup.write) & writes
    ats = entry.r & (~lookup.write | ~entry.w | entry.dirty)
    return entry.u & Mux(lookup.ats, ats, plain)


class Iotlb(wiring.Component):
    """Translations in sets of RAM for 4 KiB pages, beside associative entries for larger ones.

    Contents, order and replacement are those of :mod:`models.spec.iotlb`, exactly.  An
    invalidation takes effect when it is accepted; sets are then cleared one a cycle, and what it
    covers is not answered meanwhile.

    Latency
    -------
    A lookup accepted in cycle *n* has its result in cycle *n + 2*; one lookup a cycle.  A fill
    takes 2 cycles, an invalidation of one page 3, any other the number of sets + 2.

    Parameters
    ----------
    config : IommuConfig
        Geometry.

    Members
    -------
    lookup : ``In(stream.Signature(IotlbLookup))``
        Accepted whenever results can move on.
    result : ``Out(stream.Signature(IotlbResult))``
        One per lookup, in order.
    fill : ``In(stream.Signature(IotlbFill))``
        Accepted in the cycle in which it takes effect.
    invalidate : ``In(stream.Signature(IotlbInvalidate))``
        Accepted in the cycle in which it takes effect, never while a fill is offered.
    busy : ``Out(1)``
        Sets are being cleared.
    """

    lookup: In(stream.Signature(IotlbLookup))
    result: Out(stream.Signature(IotlbResult))
    fill: In(stream.Signature(IotlbFill))
    invalidate: In(stream.Signature(IotlbInvalidate))
    busy: Out(1)

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Maintenance: one of fill, invalidation and clearing after reset at a time.
        self.active = Signal(IotlbInvalidate)
        self.sweeping = Signal()
        self.clearing = Signal(init=1)
        self.index = Signal(range(config.iotlb_sets))
        self.last = Signal(range(config.iotlb_sets), init=config.iotlb_sets - 1)
        self.write_index = Signal(range(config.iotlb_sets))
        self.write_now = Signal()  # the set read in the cycle before is at the ports
        self.fill_read = Signal()
        self.set_fill = Signal()
        self.accept_small, self.accept_super = Signal(), Signal()

        read_now = Signal()
        key, outcome = self._stages(m)
        ways = self._ways(m, key, read_now)
        supers = self._supers(m, key)
        self._maintenance(m, read_now)
        self._select(m, key, ways, supers, outcome)
        return m

    def _stages(self, m: Module):
        """Register the lookup between RAM read and compare.

        What is compared is kept even if the result cannot move, so that it never depends on what
        happens to the contents later.
        """
        held, valid, spare = Signal(IotlbLookup), Signal(), Signal()
        free = ~self.result.valid | self.result.ready
        m.d.comb += self.lookup.ready.eq(free & ~spare & ~self.clearing)
        m.d.sync += valid.eq(self.lookup.valid & self.lookup.ready)
        with m.If(self.lookup.ready):
            m.d.sync += held.eq(self.lookup.payload)
        kept, outcome = Signal(IotlbResult), Signal(IotlbResult)
        with m.If(free):
            m.d.sync += [
                self.result.valid.eq(spare | valid),
                self.result.payload.eq(Mux(spare, kept.as_value(), outcome.as_value())),
                spare.eq(0),
            ]
        with m.Elif(valid):
            m.d.sync += [spare.eq(1), kept.eq(outcome)]
        return held, outcome

    def _ways(self, m: Module, held, read_now) -> list:
        """Sets in RAM; returns per way ``(matches, entry)`` for the held lookup."""
        config = self.config
        set_bits = len(self.index)
        reads, fifo_port = [], memory.Memory(shape=8, depth=config.iotlb_sets, init=[])
        m.submodules.fifo = fifo_port
        pointer_read, pointer_write = fifo_port.read_port(), fifo_port.write_port()
        maintained, matches = [], []
        victim, free = Signal(config.iotlb_ways), Signal(config.iotlb_ways)
        chosen, same = Signal(config.iotlb_ways), Signal(config.iotlb_ways)
        for number in range(config.iotlb_ways):
            ram = memory.Memory(shape=_Entry, depth=config.iotlb_sets, init=[])
            m.submodules[f"way{number}"] = ram
            write = ram.write_port()
            lookup = ram.read_port(transparent_for=(write,))
            upkeep = ram.read_port()
            m.d.comb += [
                lookup.addr.eq(self.lookup.payload.key.vpn[:set_bits]),
                lookup.en.eq(self.lookup.ready),
                upkeep.addr.eq(self.index),
                upkeep.en.eq(read_now),
                write.addr.eq(self.write_index),
            ]
            entry = upkeep.data
            covered = _covers_space(
                self.active,
                gv=entry.gv,
                gscid=entry.gscid,
                pv=entry.pv,
                pscid=entry.pscid,
                glob=entry.glob,
            ) & (~self.active.av | self.active.gvma | (self.active.addr[:_VPN_BITS] == entry.vpn))
            filling = self.accept_small & chosen[number]
            m.d.comb += [
                free[number].eq(~entry.valid),
                same[number].eq(
                    _same_space(entry, self.fill.payload.key)
                    & (entry.glob == self.fill.payload.glob)
                    & (entry.vpn == self.fill.payload.key.vpn[:_VPN_BITS])
                ),
                write.data.eq(Mux(filling, _packed(self.fill.payload).as_value(), 0)),
                write.en.eq(filling | self.clearing | (self.sweeping & self.write_now & covered)),
                victim[number].eq(pointer_read.data == number),
            ]
            reads.append(lookup.data)
            maintained.append(write)
        # The entry with equal tag, else the lowest free way, else the victim.
        lowest = free & (~free + 1)[: config.iotlb_ways]
        m.d.comb += chosen.eq(
            Mux(
                same.any(), same & (~same + 1)[: config.iotlb_ways], Mux(free.any(), lowest, victim)
            )
        )
        evicts = self.accept_small & ~same.any() & ~free.any()
        last_way = pointer_read.data == config.iotlb_ways - 1
        m.d.comb += [
            pointer_read.addr.eq(self.index),
            pointer_read.en.eq(read_now),
            pointer_write.addr.eq(self.write_index),
            pointer_write.data.eq(Mux(self.clearing | last_way, 0, pointer_read.data + 1)),
            pointer_write.en.eq(self.clearing | evicts),
        ]
        page = held.key.vpn
        for entry in reads:
            tail = page[_VPN_BITS:]
            fits = Mux(entry.vpn[-1], tail.all(), ~tail.any())
            matches.append(
                (_same_space(entry, held.key) & (entry.vpn == page[:_VPN_BITS]) & fits, entry)
            )
        return matches

    def _supers(self, m: Module, held) -> list:
        """Associative entries; returns per entry ``(matches, entry, size)``."""
        config = self.config
        count = config.iotlb_superpages
        entries = [Signal(_Entry, name=f"super{i}") for i in range(count)]
        sizes = [Signal(6, name=f"size{i}") for i in range(count)]
        pointer = Signal(range(max(2, count)))
        free, same, chosen = Signal(count), Signal(count), Signal(count)
        fill, found = self.fill.payload, []
        take_op = self.invalidate.valid & self.invalidate.ready
        op = self.invalidate.payload
        for i, (entry, size) in enumerate(zip(entries, sizes, strict=True)):
            mask = Signal(_VPN_BITS, name=f"mask{i}")
            with m.Switch(size):
                for bits in range(_SMALL + 1, _SMALL + _VPN_BITS):
                    with m.Case(bits):
                        m.d.comb += mask.eq((1 << bits - _SMALL) - 1)
            page, tail = held.key.vpn, held.key.vpn[_VPN_BITS:]
            fits = Mux(entry.vpn[-1], tail.all(), ~tail.any())
            hit = (
                _same_space(entry, held.key)
                & fits
                & (((entry.vpn ^ page[:_VPN_BITS]) & ~mask) == 0)
            )
            covered = _covers_space(
                op,
                gv=entry.gv,
                gscid=entry.gscid,
                pv=entry.pv,
                pscid=entry.pscid,
                glob=entry.glob,
            ) & (~op.av | op.gvma | (((op.addr[:_VPN_BITS] ^ entry.vpn) & ~mask) == 0))
            m.d.comb += [
                free[i].eq(~entry.valid),
                same[i].eq(
                    _same_space(entry, fill.key)
                    & (entry.glob == fill.glob)
                    & (size == fill.size)
                    & (((entry.vpn ^ fill.key.vpn[:_VPN_BITS]) & ~mask) == 0)
                ),
            ]
            with m.If(take_op & covered):
                m.d.sync += entry.valid.eq(0)
            with m.If(self.accept_super & chosen[i]):
                m.d.sync += [entry.eq(_packed(fill)), size.eq(fill.size)]
            found.append((hit, entry, size, mask))
        lowest = free & (~free + 1)[:count]
        victim = (Const(1, count) << pointer)[:count]
        first = same & (~same + 1)[:count]
        m.d.comb += chosen.eq(Mux(same.any(), first, Mux(free.any(), lowest, victim)))
        with m.If(self.accept_super & ~same.any() & ~free.any()):
            m.d.sync += pointer.eq(Mux(pointer == count - 1, 0, pointer + 1))
        return found

    def _maintenance(self, m: Module, read_now) -> None:
        """Order fills and invalidations; walk the sets."""
        small = self.fill.payload.size == _SMALL
        idle = ~self.sweeping & ~self.clearing & ~self.fill_read
        set_bits = len(self.index)
        m.d.comb += [
            self.busy.eq(self.sweeping | self.clearing),
            # A small fill reads its set first and is accepted with the write.
            self.accept_small.eq(self.fill.valid & small & self.fill_read),
            self.accept_super.eq(self.fill.valid & ~small & idle),
            self.fill.ready.eq(self.accept_small | self.accept_super),
            self.invalidate.ready.eq(idle & ~self.fill.valid),
        ]
        start_fill = idle & self.fill.valid & small
        m.d.sync += [self.fill_read.eq(start_fill), self.write_now.eq(self.sweeping & read_now)]
        m.d.sync += self.write_index.eq(self.index)
        m.d.comb += read_now.eq(start_fill | (self.sweeping & ~self.set_fill))
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
            single = op.av & ~op.gvma
            m.d.sync += [
                self.active.eq(op),
                self.sweeping.eq(1),
                self.set_fill.eq(0),
                pointer.eq(Mux(single, op.addr[:set_bits], 0)),
                self.last.eq(Mux(single, op.addr[:set_bits], self.config.iotlb_sets - 1)),
            ]
        with m.If(self.sweeping):
            with m.If(~self.set_fill):
                m.d.sync += [pointer.eq(pointer + 1), self.set_fill.eq(pointer == self.last)]
            with m.Else():
                m.d.sync += [self.sweeping.eq(0), self.set_fill.eq(0)]

    def _select(self, m: Module, held, ways, supers, result) -> None:
        """Choose the matching entry."""
        op, key = self.active, held.key
        # While sets are being cleared, what is covered is not there any more.
        page = ~op.av | op.gvma | (op.addr[:_VPN_BITS] == key.vpn[:_VPN_BITS])
        gone = [
            self.sweeping
            & page
            & _covers_space(op, gv=key.gv, gscid=key.gscid, pv=key.pv, pscid=key.pscid, glob=glob)
            for glob in (Const(0, 1), Const(1, 1))
        ]
        hits = Signal(len(ways) + len(supers))
        # Ranges may overlap if software was careless: the first entry answers, never a mixture.
        first = Signal.like(hits)
        m.d.comb += [
            hits.eq(
                Cat(
                    *(hit & ~Mux(entry.glob, gone[1], gone[0]) for hit, entry in ways),
                    *(hit for hit, _, _, _ in supers),
                )
            ),
            first.eq(hits & (~hits + 1)),
        ]
        chosen, size, low = 0, 0, 0
        for number, (_, entry) in enumerate(ways):
            chosen = chosen | Mux(first[number], entry.as_value(), 0)
            size = size | Mux(first[number], _SMALL, 0)
        for number, (_, entry, extent, mask) in enumerate(supers, len(ways)):
            chosen = chosen | Mux(first[number], entry.as_value(), 0)
            size = size | Mux(first[number], extent, 0)
            low = low | Mux(first[number], mask, 0)
        found, present, offset = Signal(_Entry), hits.any(), Signal(44)
        m.d.comb += [found.eq(chosen), offset.eq(low)]
        m.d.comb += [
            result.hit.eq(present & _sufficient(held, found)),
            result.ppn.eq((found.ppn & ~offset) | (key.vpn & offset)),
            result.size.eq(size),
            result.r.eq(found.r),
            result.w.eq(found.w),
            result.x.eq(found.x),
            result.u.eq(found.u),
            result.glob.eq(found.glob),
            result.dirty.eq(found.dirty),
            result.pbmt.eq(found.pbmt),
        ]
