"""Harness of the switch's delivery: a frame has as many references as there are who are told."""

from functools import partial

from amaranth.hdl import Assert, Cover, Elaboratable, Fragment, Module, Mux, Signal

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import FrameForm, FrameRef

from .ports import free, take
from .prover import Plant, Proof, anything

__all__ = ["PROOFS"]

CONFIG = NicConfig(
    vfs=1,
    queue_pairs=1,
    tx_slots=5,
    rx_slots=5,
    dma_tags=8,
    dma_slots=2,
    atc_entries=0,
    checksum=True,
)
#: Cycles without a frame, and with everything taken, until the books balance, at the most.
BALANCED = 6


class _Bench(Elaboratable):
    """The switch with receive FIFOs that have room and accept as ``has`` says."""

    def __init__(self, module, has: Signal) -> None:
        self._module, self._has = module, has
        self.dut = module.Switch(CONFIG)
        self.push, self.function = Signal(), Signal(8)
        self.frame = Signal(FrameRef)

    def elaborate(self, platform):
        module, has, bench = self._module, self._has, self
        fifos, lookup = module.ReceiveFifos, module.Lookup

        class AnyFifos(fifos):
            """Shows what is pushed."""

            def elaborate(self, platform):
                m = Module()
                m.d.comb += [
                    self.ready.eq(1),
                    self.room.eq(has[0]),
                    self.accepts.eq(has[1]),
                    bench.push.eq(self.push),
                    bench.function.eq(self.function),
                    bench.frame.eq(self.frame),
                ]
                return m

        class NoLookup(lookup):
            """Finds nothing: frames come at ``checked``."""

            def elaborate(self, platform):
                return Module()

        module.ReceiveFifos, module.Lookup = AnyFifos, NoLookup
        try:
            return Fragment.get(self.dut, platform)
        finally:
            module.ReceiveFifos, module.Lookup = fifos, lookup


def switch(module):
    """Frames one after another, to any of two functions and the port."""
    m, ports = Module(), []
    anyhow = partial(anything, ports)
    m.submodules.bench = bench = _Bench(module, anyhow("has", 2))
    dut = bench.dut
    free(m, ports, "frame", dut.checked)
    for name in ("share", "egress", "stat"):
        take(m, ports, name, getattr(dut, name))
    comes = dut.checked.valid & dut.checked.ready
    idle, had = dut.checked.ready, Signal()
    now, pushed, shared = Signal(dut.checked.payload.shape()), Signal(2), Signal()
    count, references = Signal(9), Signal(3)
    shares, push = dut.share.valid & dut.share.ready, bench.push
    with m.If(comes):
        m.d.sync += [had.eq(1), now.eq(dut.checked.payload), pushed.eq(0), shared.eq(0)]
    with m.If(shares):
        m.d.sync += [shared.eq(1), count.eq(dut.share.payload.count)]
    with m.If(push):
        m.d.sync += pushed.eq(pushed | (1 << bench.function[0]))
    bare, added = now.bare.bit_select(bench.function[0], 1), now.frame.form == FrameForm.TAGGED
    told, form = Signal(FrameRef), Signal(FrameForm)
    m.d.comb += [
        told.eq(now.frame),
        told.form.eq(form),
        form.eq(
            Mux(added == bare, FrameForm.WHOLE, Mux(added, FrameForm.TAGGED, FrameForm.UNTAGGED))
        ),
        references.eq(pushed[0] + pushed[1] + now.port),
        # Told once, of this frame, and not before it has its references.
        Assert(~push | (bench.function < 2) & had & ~idle),
        Assert(~push | (now.functions & ~pushed).bit_select(bench.function[0], 1)),
        Assert(~push | (bench.frame == told) & ~now.long),
        Assert(~push | Mux(shared, references < count, references == 0)),
        Assert(~dut.share.valid | ~shared & (dut.share.payload.frame == now.frame) & ~idle),
        # As many references as there are who were told.
        Assert(~(idle & had) | Mux(shared, (count == references) & (count != 1), references == 1)),
    ]
    # Who is not told is one more drop; a frame for the port is sent once.
    lacks, drops, sends, age = Signal(5), Signal(5), Signal(4), Signal(range(BALANCED + 2))
    wired, ended, balanced = Signal(4), Signal(), Signal()
    missing = now.functions & ~pushed
    event = dut.stat.payload
    counted, grouped, dropped = Signal(), Signal(), Signal()
    owes, tells = Signal(5), Signal(5)  # receivers of frames to groups, and events of them
    m.d.comb += [
        counted.eq(dut.stat.valid & dut.stat.ready),
        grouped.eq(
            counted & ((event.stat == Stat.RX_BROADCAST) | (event.stat == Stat.RX_MULTICAST))
        ),
        dropped.eq(counted & ~grouped),
        Assert(~grouped | (owes != tells)),
    ]
    m.d.sync += [owes.eq(owes + (push & now.group)), tells.eq(tells + grouped)]
    kind = Mux(now.long, Stat.RX_DROPPED_LONG, Stat.RX_DROPPED_FULL)
    m.d.sync += [
        ended.eq(idle),
        drops.eq(drops + dropped),
        sends.eq(sends + (dut.egress.valid & dut.egress.ready)),
        age.eq(Mux(balanced | ~idle, 0, age + (dut.stat.ready & dut.egress.ready))),
    ]
    with m.If(idle & ~ended & had):
        m.d.sync += [
            lacks.eq(lacks + missing[0] + missing[1]),
            wired.eq(wired + now.port),
        ]
    m.d.comb += [
        balanced.eq((lacks == drops) & (wired == sends) & (owes == tells)),
        Assert(age <= BALANCED),
        Assert(~dropped | idle | (event.stat == kind) | (drops < lacks)),
        Cover(idle & ~ended & had & shared & (count == 3)),
        Cover(idle & ~ended & had & ~shared & (missing != 0)),
        Cover(idle & ~ended & had & shared & (count == 0) & now.long),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="switch",
        claim="a frame has as many references as there are who are told of it, before the first "
        "is; each receiver is told once, and counted if the frame is for a group, or is one more "
        "drop; the port gets it once; whoever has no tags is told to leave them out, and others to "
        "add one that is noted",
        module="rtl.nic.switch",
        harness=switch,
        depth=18,
        quick=14,
        assumptions=(
            "two functions and the port; frames come with any verdict, one at a time as the switch "
            "takes them",
            "the FIFOs are ready; they have room, and accept, as they like",
            "books balance while what is counted and sent is taken",
        ),
        covers=("three receivers", "one, as another has no room", "a long frame that nobody gets"),
        plants=(
            Plant(
                name="the port's reference is not counted",
                old="count.eq(result.payload.port)",
                new="count.eq(0)",
            ),
            Plant(
                name="a function that has no tags is told to put one in",
                old="Mux(bare, FrameForm.WHOLE, FrameForm.TAGGED)",
                new="FrameForm.TAGGED",
            ),
            Plant(
                name="a frame longer than the MTU is received",
                old="with m.If(fifos.room & ~current.long):",
                new="with m.If(fifos.room):",
            ),
            Plant(
                name="a drop is forgotten while the counters are busy",
                old="with m.If(event.ready):",
                new="with m.If(1):",
                depth=26,
            ),
        ),
    ),
)
