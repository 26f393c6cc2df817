"""Translations larger than 4 KiB: associative entries of the IOTLB."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbKey
from rtl.bus.priority import lowest_bit, number_of
from rtl.iommu.iotlb_entry import (
    SMALL,
    Demand,
    covers_range,
    covers_space,
    packed,
    payload_layout,
    same_space,
    size_groups,
    sufficient,
    tag_layout,
    vpn_bits,
)

__all__ = ["IotlbSuperpages"]

#: Entries that a scan looks at in a cycle.
SCANNED = 2


class IotlbSuperpages(wiring.Component):
    """Entries of any size above 4 KiB, replaced in turn.

    Tags are in registers, where all are compared with each lookup, and once more in RAM, where
    scans look at two a cycle.

    Members
    -------
    key : ``In(IotlbKey)``; asks : ``In(Demand)``
        What is looked up, with which rights.
    matches, suffices : ``Out(superpages)``
        Who matches, in the next cycle, and whose rights are enough.
    sweeping : ``In(1)``; wanted : ``In(IotlbInvalidate)``; span : ``In(52)``
        An invalidation that is under way: what it covers does not match.  Without one, GSCID,
        PSCID and page number of the fill that a scan is for.
    gone : ``In(2)``
        Whether it covers the looked-up space, not for global entries and for these.
    scan : ``In(1)``; scanning : ``Out(1)``; last : ``Out(1)``
        Begin to go through all entries; from the next cycle on, to the last of the cycles.  With
        ``sweeping`` what is covered is removed.
    fill : ``In(IotlbFill)``; accept : ``In(1)``
        What a scan without ``sweeping`` was for is taken in.
    read : ``In(superpages)``; content : ``Out``; open : ``Out``
        The one entry whose payload is wanted, in the same cycle, with its groups of page-number
        bits that are open.  The payload of an entry taken in in cycle n is there in n + 2.
    stored : ``In``
        Payload and open groups of what was taken in in the cycle before.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        groups = size_groups(config)
        # All leave the lowest group open.
        self.low = groups[1]
        self.groups = list(zip(groups[1:], [*groups[2:], vpn_bits(config)], strict=True))
        self.tag = tag_layout(vpn_bits(config) - self.low)
        self.opens = len(self.groups) - 1
        count = config.iotlb_superpages
        payload = payload_layout(config)
        super().__init__(
            {
                "key": In(IotlbKey),
                "asks": In(Demand),
                "matches": Out(count),
                "suffices": Out(count),
                "sweeping": In(1),
                "wanted": In(IotlbInvalidate),
                "span": In(52),
                "gone": In(2),
                "scan": In(1),
                "scanning": Out(1),
                "last": Out(1),
                "fill": In(IotlbFill),
                "accept": In(1),
                "read": In(count),
                "content": Out(payload),
                "open": Out(self.opens),
                "stored": In(data.StructLayout({"content": payload, "open": self.opens})),
            }
        )

    def open_of(self, size):
        """Groups that a size leaves open, without the lowest."""
        return Cat(size >= SMALL + high for _, high in self.groups[:-1])

    def size_of(self, open_):
        """The size that leaves groups open."""
        size = Const(SMALL + self.low, 6)
        for bit, (_, high) in zip(open_, self.groups, strict=False):
            size = Mux(bit, SMALL + high, size)
        return size

    def _same(self, apart, open_):
        """Whether page numbers that differ in some bits are in one page."""
        return Cat(
            (apart[low:high] == 0) | bit
            for (low, high), bit in zip(self.groups, [*open_, Const(0, 1)], strict=True)
        ).all()

    def elaborate(self, platform):
        m = Module()
        count = self.config.iotlb_superpages
        self.valid, self.chosen = Signal(count), Signal(count)
        tags = [Signal(self.tag, name=f"tag{i}") for i in range(count)]
        opens = [Signal(self.opens, name=f"open{i}") for i in range(count)]
        fill = self.fill
        for i in range(count):
            with m.If(self.accept & self.chosen[i]):
                m.d.sync += [
                    self.valid[i].eq(1),
                    tags[i].eq(packed(self.tag, fill, vpn=fill.key.vpn[self.low :])),
                    opens[i].eq(self.open_of(fill.size)),
                ]
        self._match(m, tags, opens)
        self._payloads(m)
        self._scan(m)
        return m

    def _match(self, m: Module, tags, opens) -> None:
        """Compare all with the lookup, and the lookup with what is being removed."""
        key, op = self.key, self.wanted
        width = vpn_bits(self.config)
        canonical = Signal()
        m.d.comb += canonical.eq(key.vpn[width:] == key.vpn[width - 1].replicate(52 - width))
        removed = Signal(width)
        m.d.comb += removed.eq((op.addr ^ key.vpn) & ~self.span)
        # Parts of the comparison, joined in the next cycle.
        count = self.config.iotlb_superpages
        space, page, covered = Signal(count), Signal(count), Signal(count)
        m.d.comb += self.matches.eq(space & page & ~covered)
        for i, (tag, open_) in enumerate(zip(tags, opens, strict=True)):
            apart = Cat(Const(0, self.low), tag.vpn ^ key.vpn[self.low : width])
            ids = {name: tag[name] == key[name] for name in ("gscid", "pscid")}
            gone = Mux(tag.glob, self.gone[1], self.gone[0])
            meets = covers_range(op, piece=tag.piece, same=self._same(removed, open_))
            m.d.sync += [
                space[i].eq(self.valid[i] & same_space(tag, key, **ids)),
                page[i].eq(canonical & self._same(apart, open_)),
                covered[i].eq(gone & meets),
                self.suffices[i].eq(sufficient(self.asks, tag)),
            ]

    def _payloads(self, m: Module) -> None:
        """Payloads in RAM, written a cycle late so that a lookup beside the fill has the old."""
        count = self.config.iotlb_superpages
        shape = self.stored.shape()
        m.submodules.payloads = ram = memory.Memory(shape=shape, depth=max(2, count), init=[])
        read, write = ram.read_port(domain="comb"), ram.write_port()
        m.d.comb += [
            read.addr.eq(number_of(self.read)),
            self.content.eq(read.data.content),
            self.open.eq(read.data.open),
            write.data.eq(self.stored),
        ]
        m.d.sync += [write.en.eq(self.accept), write.addr.eq(number_of(self.chosen))]

    def _scan(self, m: Module) -> None:
        """Go through all entries, and choose where a fill goes."""
        count = self.config.iotlb_superpages
        lanes = min(SCANNED, count)
        rows = -(-count // lanes)
        row, equal, place = Signal(range(max(2, rows))), Signal(), Signal(count)
        m.d.comb += self.last.eq(self.scanning & (row == rows - 1))
        with m.If(self.scan):
            m.d.sync += [self.scanning.eq(1), row.eq(0), equal.eq(0)]
        with m.Elif(self.scanning):
            m.d.sync += [row.eq(row + 1), self.scanning.eq(~self.last)]
        for lane in reversed(range(lanes)):
            entry, mine = self._lane(m, lane, row), range(lane, count, lanes)
            there = Cat(self.valid[i] for i in mine).bit_select(row, 1)
            covered, same = self._judge(entry)
            for i in mine:
                with m.If(self.scanning & self.sweeping & covered & (row == i // lanes)):
                    m.d.sync += self.valid[i].eq(0)
            with m.If(self.scanning & there & same & ~equal):
                m.d.sync += equal.eq(1)
                m.d.sync += place.eq(Cat((row == i // lanes) & (i in mine) for i in range(count)))
        # Nothing becomes free, or is taken, while a fill goes through all.
        lowest, pointer = Signal(count), Signal(count, init=1)
        m.d.sync += lowest.eq(lowest_bit(~self.valid))
        m.d.comb += self.chosen.eq(Mux(equal, place, Mux(lowest.any(), lowest, pointer)))
        with m.If(self.accept & ~equal & ~lowest.any()):
            m.d.sync += pointer.eq(pointer.rotate_left(1))

    def _lane(self, m: Module, lane: int, row):
        """Tags in RAM of every so many entries; returns one."""
        count, fill = self.config.iotlb_superpages, self.fill
        lanes = min(SCANNED, count)
        shape = data.StructLayout({"tag": self.tag, "open": self.opens})
        rows = max(2, -(-count // lanes))
        m.submodules[f"lane{lane}"] = ram = memory.Memory(shape=shape, depth=rows, init=[])
        read, write = ram.read_port(domain="comb"), ram.write_port()
        mine = self.chosen[lane::lanes]
        m.d.comb += [
            read.addr.eq(row),
            write.addr.eq(number_of(mine)),
            write.data.tag.eq(packed(self.tag, fill, vpn=fill.key.vpn[self.low :])),
            write.data.open.eq(self.open_of(fill.size)),
            write.en.eq(self.accept & mine.any()),
        ]
        return read.data

    def _judge(self, entry) -> tuple:
        """Whether an entry is removed, and whether the fill's tag is equal to it."""
        op, fill, tag = self.wanted, self.fill, entry.tag
        gscid, pscid = tag.gscid == op.gscid, tag.pscid == op.pscid
        width = vpn_bits(self.config)
        apart = (Cat(Const(0, self.low), tag.vpn) ^ op.addr[:width]) & ~self.span[:width]
        page = self._same(apart, entry.open)
        covered = covers_space(op, tag, tag.glob, gscid=gscid, pscid=pscid) & covers_range(
            op, piece=tag.piece, same=page
        )
        same = (
            same_space(tag, fill.key, gscid=gscid, pscid=pscid)
            & (tag.glob == fill.glob)
            & (entry.open == self.open_of(fill.size))
            & page
        )
        return covered, same
