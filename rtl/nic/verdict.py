"""What the switch's policies say of a frame; combinational."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import PORT_SOURCE, FunctionControl
from rtl.bus.priority import lowest
from rtl.nic.filters import Found

__all__ = ["Refusal", "Verdict"]

_BROADCAST = (1 << 48) - 1


class Refusal(enum.IntEnum, shape=2):
    """Why a function may not send a frame."""

    NONE = 0
    LINK = 1  # disabled, no bus master, or its link is down
    MAC = 2
    VLAN = 3


class Verdict(wiring.Component):
    """Finds the receivers of a frame.

    Among the functions that are enabled, whose link is up and whose VLAN the frame is of:

    ============ ========================================= ===========================
    destination  from a guest                              from the port
    ============ ========================================= ===========================
    a MAC here   the functions that have it or filter it   the same
    a group      those that do not filter it, and the port the same, without the port
    another      the port                                  none
    ============ ========================================= ===========================

    Promiscuous functions have every frame of their VLAN as well, mirroring ones every frame; never
    the source, and only functions that receive.  A function with a VLAN of its own has frames of
    that alone, one that filters VLANs untagged ones and those of its filters, others all.

    Latency
    -------
    Of what the frame matches none; its source, destination, tag and the controls stand for a cycle
    before.

    Members
    -------
    source : ``In(8)``
    destination : ``In(48)``
    tagged, vid : ``In``
        The tag, as it is on the wire.
    retagged : ``In(1)``
        The source has a VLAN of its own, and has sent a tagged frame.
    target : ``In(Found)``
        What the destination and the VLAN match.
    is_own : ``In(1)``
        The frame has the source's MAC.
    controls : ``In(ArrayLayout(FunctionControl))``
    able, receiving, in_vlan : ``In(functions)``
        Functions that may do DMA, without which they send nothing; those with a driver too; those
        with a VLAN of their own.
    functions, port : ``Out``
        Who has it.
    refusal : ``Out(Refusal)``
        Of a guest's frame; it then goes nowhere.
    nobody : ``Out(1)``
        The frame may be sent, but goes to nobody: not to the port, and not to a function that owns
        its destination, or if there is none to one that asks for it.  What mirrors counts for none.
    owned, owner : ``Out``
        Another function has the destination as its MAC; the first of them, or the PF.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        functions = config.functions
        super().__init__(
            {
                "source": In(8),
                "destination": In(48),
                "tagged": In(1),
                "vid": In(12),
                "retagged": In(1),
                "target": In(Found(functions)),
                "is_own": In(1),
                "controls": In(data.ArrayLayout(FunctionControl, functions)),
                "able": In(functions, init=-1),
                "receiving": In(functions),
                "in_vlan": In(functions),
                "functions": Out(functions),
                "port": Out(1),
                "refusal": Out(Refusal),
                "nobody": Out(1),
                "owned": Out(1),
                "owner": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, target = self.config.functions, self.target

        def each(name: str):
            return Cat(getattr(self.controls[n], name) for n in range(functions))

        guest, group, filtered, broadcast = Signal(), Signal(), Signal(), Signal()
        active, passes, member, owners, wanted, me, others = (
            Signal(functions, name=name)
            for name in ("active", "passes", "member", "owners", "wanted", "me", "others")
        )
        m.d.sync += [
            guest.eq(self.source != PORT_SOURCE),
            group.eq(self.destination[0]),
            broadcast.eq(self.destination == _BROADCAST),
            filtered.eq(self.tagged & (self.vid != 0)),
            me.eq(Cat(self.source == n for n in range(functions))),
            active.eq(each("enable") & ~each("link_down")),
        ]
        m.d.comb += [
            passes.eq(~filtered.replicate(functions) | target.vlan_filter),
            # An own VLAN that matches is enabled.
            member.eq(
                (self.in_vlan & self.tagged.replicate(functions) & target.vlan)
                | (~self.in_vlan & (~each("vlan_filter") | passes))
            ),
            owners.eq(target.mac | target.mac_filter),
            others.eq(target.mac & ~me),
            self.owned.eq(others.any()),
        ]
        with m.If(group):
            m.d.comb += wanted.eq(
                broadcast.replicate(functions) | ~each("multicast_filter") | target.mac_filter
            )
        lowest(m, others, self.owner)

        spoofs, strays = Signal(), Signal()
        checks = each("spoof_check") & me
        m.d.comb += [
            spoofs.eq(checks.any() & ~self.is_own),
            strays.eq(
                self.retagged | (checks & ~self.in_vlan & each("vlan_filter") & ~passes).any()
            ),
        ]
        with m.If(guest):
            with m.If(~(active & self.able & me).any()):
                m.d.comb += self.refusal.eq(Refusal.LINK)
            with m.Elif(spoofs):
                m.d.comb += self.refusal.eq(Refusal.MAC)
            with m.Elif(strays):
                m.d.comb += self.refusal.eq(Refusal.VLAN)
        with m.If(self.refusal == Refusal.NONE):
            local = active & member & owners
            asks = active & member & (owners | each("promiscuous") | wanted)
            there = ~me & self.receiving
            m.d.comb += [
                self.functions.eq((asks | (active & each("mirror"))) & there),
                self.port.eq(guest & (group | ~local.any())),
                self.nobody.eq(~self.port & ~(Mux(self.owned, local, asks) & there).any()),
            ]
        return m
