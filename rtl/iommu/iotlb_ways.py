"""Translations of 4 KiB: sets of the IOTLB in block RAM."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbKey
from rtl.bus.priority import lowest_bit
from rtl.bus.ram import BLOCK, SETTLED
from rtl.iommu.iotlb_entry import (
    Demand,
    covers_range,
    covers_space,
    packed,
    payload_layout,
    same_space,
    sufficient,
    tag_layout,
    vpn_bits,
)

__all__ = ["IotlbWays"]


#: From so many sets on tags and payloads are in block RAM: of LUTs they would take 300 for each.
_BLOCK_SETS = 64
#: What is known of an entry of the looked-up set.
PARTS = ("new", "space", "page", "gone", "piece")


class IotlbWays(wiring.Component):
    """Sets of entries of 4 KiB, of which a FIFO pointer per set chooses victims.

    A visited set is judged in the cycle after, decided on in the next, and written in the one after
    that.  What is read from an entry that is being written counts for nothing: lookups take what is
    written from its register instead, or nothing if it is cleared.

    Members
    -------
    clearing : ``Out(1)``; writing : ``Out(1)``; write_set : ``Out``
        After reset, one set a cycle; an entry is being written, of this set.
    next_set : ``In``; key : ``In(IotlbKey)``; asks : ``In(Demand)``; elsewhere : ``In(1)``
        Set of the next cycle's lookup; this cycle's key and rights, and whether its set was
        another one.
    matches, suffices, late : ``Out(ways)``
        Who matches, in the next cycle, whose rights are enough, whose payload is ``stored`` then.
    payloads : ``Out``
        Of the looked-up set, in the next cycle, one after the other.
    sweeping, wanted, span, gone
        As :class:`~rtl.iommu.iotlb_superpages.IotlbSuperpages` has them.
    vm : ``In``
        Set of page 0 of the VM of what is wanted.
    visit : ``In(1)``; set : ``In``
        Look at a set.  With ``sweeping`` what is covered is removed; ``left`` tells two cycles
        later whether pieces of larger pages remain.
    fill : ``In(IotlbFill)``; accept : ``In(1)``
        Without it this may be taken into the set, two cycles later.
    visited, left : ``Out(1)``
        A visit is under way.
    stored : ``In``
        Payload of what was taken in in the cycle before.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        ways, self.set_bits = config.iotlb_ways, (config.iotlb_sets - 1).bit_length()
        self.payload = payload_layout(config)
        super().__init__(
            {
                "clearing": Out(1, init=1),
                "writing": Out(1),
                "write_set": Out(self.set_bits),
                "next_set": In(self.set_bits),
                "key": In(IotlbKey),
                "asks": In(Demand),
                "elsewhere": In(1),
                "matches": Out(ways),
                "suffices": Out(ways),
                "late": Out(ways),
                "payloads": Out(data.ArrayLayout(self.payload, ways)),
                "sweeping": In(1),
                "wanted": In(IotlbInvalidate),
                "span": In(52),
                "vm": In(self.set_bits),
                "gone": In(2),
                "visit": In(1),
                "set": In(self.set_bits),
                "fill": In(IotlbFill),
                "accept": In(1),
                "visited": Out(1),
                "left": Out(1),
                "stored": In(self.payload),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, key = self.config, self.key
        width = vpn_bits(config)
        self.tag = tag_layout(width - self.set_bits)
        self.row = data.StructLayout({"valid": 1, "tag": self.tag})
        plain = tag_layout(width - self.set_bits, rights=False)
        self.visited_row = data.StructLayout({"valid": 1, "tag": plain})
        # What is written in this cycle, where, and before: which of the set that was read.
        everybody = (1 << config.iotlb_ways) - 1
        self.new = Signal(self.row)
        self.writes = Signal(config.iotlb_ways, init=everybody)
        self.wrote, wrote_set = Signal(config.iotlb_ways), Signal(self.set_bits)  # a cycle ago
        self.place = Signal(self.set_bits)  # the set that was read
        self.looked = Signal(self.set_bits)  # the set that is looked up
        canonical, removed = Signal(), Signal()
        apart = (self.wanted.addr ^ key.vpn) & ~self.span
        m.d.comb += [
            canonical.eq(key.vpn[width:] == key.vpn[width - 1].replicate(52 - width)),
            removed.eq(apart[:width] == 0),
            self.writing.eq(self.writes.any()),
        ]
        # Parts of the comparison, joined in the next cycle.
        meets, fits = Signal(), Signal()
        new_space, new_page = self._compare(self.new)
        m.d.comb += fits.eq(canonical & ~self.elsewhere)
        m.d.sync += [
            self.looked.eq(self.next_set),
            self.wrote.eq(self.writes),
            wrote_set.eq(self.write_set),
            meets.eq(covers_range(self.wanted, piece=Const(0, 1), same=removed)),
        ]
        covered, same, rows = [], [], []
        for number in range(config.iotlb_ways):
            look, upkeep = self._memories(m, number)
            late = Signal()
            here = self.writes[number] & (self.write_set == self.looked)
            beside = self.wrote[number] & (wrote_set == self.looked)
            m.d.comb += late.eq(here | beside)
            new, space, page, gone, piece = (Signal(name=f"{name}{number}") for name in PARTS)
            is_space, is_page = self._compare(look)
            right = Mux(late, sufficient(self.asks, self.new.tag), sufficient(self.asks, look.tag))
            m.d.sync += [
                self.late[number].eq(late),
                new.eq(late & new_space & new_page & fits),
                space.eq(~late & is_space),
                page.eq(is_page & fits),
                gone.eq(Mux(look.tag.glob, self.gone[1], self.gone[0])),
                piece.eq(look.tag.piece),
                self.suffices[number].eq(right),
            ]
            m.d.comb += self.matches[number].eq(new | (space & page & ~(gone & (meets | piece))))
            removes, equal = self._judge(upkeep)
            covered.append(removes)
            same.append(equal)
            rows.append(upkeep)
        self._update(m, Cat(covered), Cat(same), rows)
        return m

    def _compare(self, row) -> tuple:
        """Whether a row of the looked-up set is of the space and of the page looked up."""
        key, tag = self.key, row.tag
        page = tag.vpn == key.vpn[self.set_bits : self.set_bits + len(tag.vpn)]
        ids = {name: tag[name] == key[name] for name in ("gscid", "pscid")}
        return row.valid & same_space(tag, key, **ids), page

    def _judge(self, row) -> tuple:
        """Whether an entry of the visited set is removed, and whether the fill's tag is equal."""
        op, fill, tag = self.wanted, self.fill, row.tag
        ids = {name: tag[name] == op[name] for name in ("gscid", "pscid")}
        # Of entries of the same VM.
        vpn = Cat(self.place ^ self.vm, tag.vpn)
        apart = (vpn ^ op.addr[: len(vpn)]) & ~self.span
        page = apart[: len(vpn)] == 0
        covered = covers_space(op, tag, tag.glob, **ids) & covers_range(
            op, piece=tag.piece, same=page
        )
        same = row.valid & same_space(tag, fill.key, **ids) & (tag.glob == fill.glob) & page
        return covered, same

    def _memories(self, m: Module, number: int) -> tuple:
        """Tags and payloads of one way; returns the rows of the looked-up and the visited set.

        What is visited has tags of its own, without rights: RAM has one copy per reader anyway.
        """
        sets = self.config.iotlb_sets
        # What is read of a set that is being written is not looked at.
        attributes = BLOCK if sets >= _BLOCK_SETS else SETTLED
        m.submodules[f"tags{number}"] = tags = memory.Memory(
            shape=self.row, depth=sets, init=[], attrs=attributes
        )
        m.submodules[f"visited{number}"] = visited = memory.Memory(
            shape=self.visited_row, depth=sets, init=[], attrs=attributes
        )
        m.submodules[f"payloads{number}"] = payloads = memory.Memory(
            shape=self.payload, depth=sets, init=[], attrs=attributes
        )
        writes = self.writes[number]
        plain = Signal(self.visited_row)
        m.d.comb += plain.valid.eq(self.new.valid)
        for name in self.visited_row["tag"].shape.members:
            m.d.comb += plain.tag[name].eq(self.new.tag[name])
        for ram, new in ((tags, self.new), (visited, plain), (payloads, self.stored)):
            write = ram.write_port()
            m.d.comb += [
                write.addr.eq(self.write_set),
                write.data.eq(new),
                write.en.eq(writes),
            ]
        look, upkeep, payload = tags.read_port(), visited.read_port(), payloads.read_port()
        m.d.comb += [
            look.addr.eq(self.next_set),
            upkeep.addr.eq(self.set),
            upkeep.en.eq(self.visit & ~(writes & (self.write_set == self.set))),
            payload.addr.eq(self.looked),
            self.payloads[number].eq(payload.data),
        ]
        return look.data, upkeep.data

    def _update(self, m: Module, covered, same, rows: list) -> None:
        """Decide what is written in the next cycle, from the rows of the visited set as judged."""
        judged = data.StructLayout(dict.fromkeys(("covered", "same", "free", "piece"), len(rows)))
        judged, looked, decides = Signal(judged), Signal(), Signal()
        judged_place = Signal.like(self.place)
        m.d.sync += [
            looked.eq(self.visit),
            decides.eq(looked),
            self.place.eq(self.set),
            judged_place.eq(self.place),
            judged.covered.eq(covered),
            judged.same.eq(same),
            judged.free.eq(Cat(~row.valid for row in rows)),
            judged.piece.eq(Cat(row.valid & row.tag.piece for row in rows)),
        ]
        covered, same, free = judged.covered, judged.same, judged.free
        sweeps = decides & self.sweeping
        ways, sets = self.config.iotlb_ways, self.config.iotlb_sets
        m.submodules.pointers = ram = memory.Memory(shape=range(max(2, ways)), depth=sets, init=[])
        read, write = ram.read_port(), ram.write_port()
        victim = Cat(read.data == number for number in range(ways))
        evicts = self.accept & ~same.any() & ~free.any()
        # The entry with equal tag, else the lowest free way, else the victim.
        chosen = Mux(same.any(), lowest_bit(same), Mux(free.any(), lowest_bit(free), victim))
        moves, following = Signal(), Signal.like(read.data)
        m.d.comb += [
            read.addr.eq(self.set),
            read.en.eq(self.visit),
            write.addr.eq(self.write_set),
            write.data.eq(Mux(self.clearing, 0, following)),
            write.en.eq(moves | self.clearing),
        ]
        m.d.sync += [
            moves.eq(evicts),
            following.eq(Mux(read.data == ways - 1, 0, read.data + 1)),
            self.write_set.eq(judged_place),
            self.writes.eq(Mux(self.accept, chosen, Mux(sweeps, covered, 0))),
        ]
        fill = self.fill
        m.d.comb += [
            self.visited.eq(looked | decides),
            self.left.eq(sweeps & (judged.piece & ~covered).any()),
        ]
        with m.If(self.accept):
            vpn = fill.key.vpn[self.set_bits :]
            m.d.sync += [self.new.valid.eq(1), self.new.tag.eq(packed(self.tag, fill, vpn=vpn))]
        with m.Elif(decides):
            m.d.sync += self.new.valid.eq(0)
        with m.If(self.clearing):
            last = self.write_set == sets - 1
            m.d.sync += [
                self.clearing.eq(~last),
                self.write_set.eq(self.write_set + 1),
                self.writes.eq(Mux(last, 0, self.writes)),
            ]
