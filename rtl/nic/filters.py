"""MACs and VLANs of all functions."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import MAC_FILTERS, VLAN_FILTERS, FunctionVlan, initial_mac
from rtl.nic.matcher import Matcher
from rtl.nic.seams import FilterChange

__all__ = ["Filters", "Found"]

_VID_BITS = 12
#: Bits of the parts of a VLAN.  With 16 rows a RAM is of LUTs, without a multiplexer; with more it
#: would be a block RAM that is nearly empty.
_VID_PART_BITS = 4
#: Bits of the parts of a MAC, and turns in which they are looked at: 512 rows, as a block RAM has.
_MAC_PART_BITS, _MAC_TURNS = 8, 2


class Found(data.StructLayout):
    """A bit per function: its own MAC, one of its MAC filters, its own VLAN, a VLAN filter."""

    def __init__(self, functions: int):
        super().__init__(dict.fromkeys(("mac", "mac_filter", "vlan", "vlan_filter"), functions))


class Filters(wiring.Component):
    """Compares a MAC and a VLAN with those of all functions.

    Latency
    -------
    ``found`` follows ``en`` by two cycles and stays until the next.  A change takes nine cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ready : ``Out(1)``
        Filled after reset, and no change waits.
    busy : ``In(1)``
        Changes wait; from a cycle in which ``ready`` is high on.
    en, mac, vid : ``In``
        MAC and VLAN stay for two cycles.
    found : ``Out(Found)``
    change : ``In(stream)`` of FilterChange
    function : ``In(8)``; vlan : ``Out(FunctionVlan)``; own_mac : ``Out(48)``
        VLAN and MAC of a function, in the same cycle.
    in_vlan : ``Out(functions)``
        Functions that have a VLAN of their own.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "ready": Out(1),
                "busy": In(1),
                "en": In(1),
                "mac": In(48),
                "vid": In(_VID_BITS),
                "found": Out(Found(config.functions)),
                "change": In(stream.Signature(FilterChange)),
                "function": In(8),
                "vlan": Out(FunctionVlan),
                "own_mac": Out(48),
                "in_vlan": Out(config.functions),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, change = self.config.functions, self.change.payload
        macs: list[int | None] = []
        for function in range(functions):
            macs.append(int.from_bytes(initial_mac(function), "little"))
            macs += [None] * MAC_FILTERS
        m.submodules.macs = macs = Matcher(
            48 // _MAC_PART_BITS, _MAC_PART_BITS, macs, turns=_MAC_TURNS
        )
        vlans = [None] * (functions * (1 + VLAN_FILTERS))
        m.submodules.vlans = vlans = Matcher(_VID_BITS // _VID_PART_BITS, _VID_PART_BITS, vlans)
        m.d.comb += [
            self.ready.eq(macs.ready & vlans.ready),
            macs.busy.eq(self.busy),
            vlans.busy.eq(self.busy),
            macs.en.eq(self.en),
            macs.value.eq(self.mac),
            vlans.en.eq(self.en),
            vlans.value.eq(self.vid),
            self.change.ready.eq(Mux(change.vlan, vlans.update.ready, macs.update.ready)),
        ]
        for matcher, chosen, per in (
            (macs, ~change.vlan, 1 + MAC_FILTERS),
            (vlans, change.vlan, 1 + VLAN_FILTERS),
        ):
            update = matcher.update
            m.d.comb += [
                update.valid.eq(self.change.valid & chosen),
                update.payload.entry.eq(change.function * per + change.entry),
                update.payload.old.eq(change.old),
                update.payload.new.eq(change.new),
                update.payload.valid.eq(change.valid),
            ]
        found = self.found
        for bits, matcher in (
            ((found.mac, found.mac_filter), macs),
            ((found.vlan, found.vlan_filter), vlans),
        ):
            per = len(matcher.initial) // functions
            groups = [matcher.match.word_select(number, per) for number in range(functions)]
            m.d.comb += [
                bits[0].eq(Cat(group[0] for group in groups)),
                bits[1].eq(Cat(group[1:].any() for group in groups)),
            ]
        self._own_vlans(m)
        self._own_macs(m)
        return m

    def _own_macs(self, m: Module) -> None:
        """Each function's own MAC, to compare the source of what it sends with."""
        functions, change = self.config.functions, self.change.payload
        m.submodules.own_macs = own = Memory(shape=48, depth=max(2, functions), init=[])
        write, read = own.write_port(), own.read_port(domain="comb")
        row, filling = Signal(8), Signal(init=1)  # rows are filled while the matchers' are
        m.d.comb += [
            write.en.eq(
                filling
                | (self.change.valid & self.change.ready & ~change.vlan & (change.entry == 0))
            ),
            write.addr.eq(Mux(filling, row, change.function)),
            write.data.eq(change.new),
            read.addr.eq(self.function),
            self.own_mac.eq(read.data),
        ]
        with m.If(filling):
            m.d.sync += row.eq(row + 1)
            with m.Switch(row):
                for number in range(functions):
                    with m.Case(number):
                        m.d.comb += write.data.eq(int.from_bytes(initial_mac(number), "little"))
            with m.If(row == functions - 1):
                m.d.sync += filling.eq(0)

    def _own_vlans(self, m: Module) -> None:
        """Each function's own VLAN, for the tags of what it sends."""
        change = self.change.payload
        m.submodules.own = own = Memory(
            shape=FunctionVlan, depth=max(2, self.config.functions), init=[]
        )
        write, read = own.write_port(), own.read_port(domain="comb")
        setting = Signal()
        m.d.comb += [
            setting.eq(self.change.valid & self.change.ready & change.vlan & (change.entry == 0)),
            write.en.eq(setting),
            write.addr.eq(change.function),
            write.data.as_value().eq(change.new),
            read.addr.eq(self.function),
            self.vlan.eq(read.data),
            self.vlan.enable.eq(self.in_vlan.bit_select(self.function, 1)),
        ]
        with m.If(setting):
            m.d.sync += self.in_vlan.bit_select(change.function, 1).eq(change.valid)
