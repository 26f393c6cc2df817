"""Harnesses of frames at rest: slots, the FIFOs of receivers, what is counted of senders."""

from functools import partial

from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Module, Mux, Signal, signed

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import FrameRef, LocalMemory
from rtl.nic.verdict import Refusal

from .ports import free, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

SLOTS = 3
#: Cycles in which a free slot could be taken until it is offered, at the most.
OFFERED = 4 * SLOTS
CONFIG = NicConfig(
    vfs=1, queue_pairs=1, tx_slots=5, rx_slots=5, dma_tags=8, dma_slots=2, atc_entries=0
)
#: Cycles from a push until the frame can be popped; in which nothing is pushed or popped until one
#: is given back, if nobody receives.
SETTLED, RETURNED = 3, 8


def slot_pool(module):
    """All slots of a small pool, with the references that their users have."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.SlotPool(SLOTS)
    alloc, share, release = dut.alloc, dut.share, dut.release
    take(m, ports, "alloc", alloc)
    stable(m, alloc)
    free(m, ports, "share", share)
    free(m, ports, "release", release)
    takes, shares = alloc.valid & alloc.ready, share.valid & share.ready
    gives, again = release.valid & release.ready, Signal()
    m.d.comb += [
        Assume(~share.valid | (share.payload.slot < SLOTS) & (share.payload.count < 4)),
        Assume(~release.valid | (release.payload < SLOTS)),
        Assume(~(share.valid & release.valid) | (share.payload.slot != release.payload)),
        Assert(~alloc.valid | (alloc.payload < SLOTS)),
    ]
    have = Signal(SLOTS)
    for n in range(SLOTS):
        references, shared = Signal(2, name=f"references{n}"), Signal(name=f"shared{n}")
        age = Signal(range(OFFERED + 2), name=f"age{n}")
        mine = takes & (alloc.payload == n)
        m.d.comb += [
            have[n].eq(references != 0),
            Assume(~(share.valid & (share.payload.slot == n)) | (references == 1)),
            Assume(~(release.valid & (release.payload == n)) | (references != 0)),
            Assert(~(alloc.valid & (alloc.payload == n)) | (references == 0)),
            Assert(age <= OFFERED),
        ]
        with m.If(mine):
            m.d.sync += references.eq(1)
        with m.If(shares & (share.payload.slot == n)):
            m.d.sync += [references.eq(share.payload.count), shared.eq(share.payload.count == 2)]
        with m.If(gives & (release.payload == n)):
            m.d.sync += references.eq(references - 1)
        m.d.sync += age.eq(Mux(have[n] | mine, 0, age + alloc.ready))
        with m.If(mine & shared):
            m.d.comb += again.eq(1)
    m.d.comb += [
        Assert(dut.free + sum(have[n] for n in range(SLOTS)) <= SLOTS),
        Cover(again),
        Cover(have.all() & shares & (share.payload.count == 0)),
    ]
    return m, ports


def receive_fifos(module):
    """Two functions, each of which receives or does not, and whose queue is down or is not; one
    frame is followed.
    """
    m, ports = Module(), []
    m.submodules.dut = dut = module.ReceiveFifos(CONFIG)
    anyhow = partial(anything, ports)
    receiving, down = constant(m, ports, 2, "receiving"), constant(m, ports, 2, "down")
    takes = Signal(2)
    m.d.comb += [takes.eq(receiving & ~down), dut.down.eq(down)]
    function, frame, push, pop = dut.function, dut.frame, dut.push, dut.pop
    from_rx, back_rx = anyhow("from_rx"), anyhow("back_rx")
    m.d.comb += [
        dut.receiving.eq(receiving),
        function.eq(anyhow("function")),
        frame.memory.eq(Mux(from_rx, LocalMemory.RX, LocalMemory.TX)),
        frame.slot.eq(anyhow("slot", 2)),
        frame.form.eq(anyhow("form", 2)),
        frame.length.eq(function),  # whose it is: looked at where it comes out
        push.eq(anyhow("push")),
        Assume(~push | (dut.ready & dut.room & dut.accepts)),
        dut.arrival.ready.eq(1),
        pop.en.eq(anyhow("pop")),
        pop.looks.eq(pop.en | anyhow("looks")),
        pop.function.eq(anyhow("pop_function")),
        Assume(~pop.en | (dut.ready & receiving.bit_select(pop.function[0], 1))),
        pop.back.eq(anyhow("back")),
        pop.back_function.eq(anyhow("back_function")),
        pop.back_memory.eq(Mux(back_rx, LocalMemory.RX, LocalMemory.TX)),
    ]
    for name in ("release", "stat"):
        take(m, ports, name, getattr(dut, name))
        stable(m, getattr(dut, name))
    popped, popping = Signal(), Signal()
    m.d.sync += [popping.eq(pop.en), popped.eq(pop.function)]
    gives = dut.release.valid & dut.release.ready
    given = dut.release.payload
    who, mark = constant(m, ports, 1, "who"), anyhow("mark")
    receives = takes.bit_select(who, 1)
    m.d.comb += [
        Assert(~pop.valid | popping & (pop.frame.length == popped) & takes.bit_select(popped, 1)),
        Assert(~gives | ~takes.bit_select(given.length[0], 1)),
    ]
    # All that is given back is counted, and nothing else: of both two may be on their way.
    tells, told = dut.stat.valid & dut.stat.ready, dut.stat.payload
    drops = ~receives
    owes = Signal(signed(5))
    m.d.sync += owes.eq(
        owes + (gives & drops & (given.length == who)) - (tells & (told.function == who))
    )
    m.d.comb += [
        Assert((owes >= -2) & (owes <= 2)),
        Assert(~tells | ~takes.bit_select(told.function[0], 1)),
        Assert(~tells | (told.stat == Stat.RX_DROPPED_QUEUE) & told.queued & (told.amount == 1)),
        Cover(tells & (told.function == who) & gives),
    ]
    # Of the followed function: frames that wait here, and those that the engine has.
    puts = push & (function == who)
    out = Mux(receives, pop.valid & (popped == who), gives & (given.length == who))
    content = Signal(FrameRef)
    m.d.comb += content.eq(Mux(receives, pop.frame, given))
    inside, held, count = Signal(4), [Signal(3), Signal(3)], [Signal(3), Signal(3)]
    m.d.sync += inside.eq(inside + puts - out)
    for rx in range(2):
        kind = LocalMemory.RX if rx else LocalMemory.TX
        comes = puts & (from_rx == rx)
        pops = out & receives & (content.memory == kind)
        backs = pop.back & (pop.back_function == who) & (back_rx == rx)
        gone = out & ~receives & (content.memory == kind)
        m.d.sync += [
            held[rx].eq(held[rx] + pops - backs),
            count[rx].eq(count[rx] + comes - backs - gone),
        ]
        m.d.comb += [
            Assume(~backs | (held[rx] != 0)),
            Assert(~receives | (count[rx] <= CONFIG.tx_quota)),
        ]
    followed, ahead, it, done = Signal(), Signal(4), Signal(FrameRef), Signal()
    since, idle = Signal(range(SETTLED + 1)), Signal(range(RETURNED + 2))
    m.d.sync += since.eq(Mux(puts, 0, Mux(since == SETTLED, since, since + 1)))
    with m.If(puts & mark & ~followed):
        m.d.sync += [followed.eq(1), it.eq(frame), ahead.eq(inside - out)]
    with m.If(followed & ~done & out):
        m.d.sync += [ahead.eq(ahead - 1), done.eq(ahead == 0)]
        m.d.comb += Assert((ahead != 0) | (content == it))
    quiet = ~pop.looks & ~pop.back & ~push & dut.release.ready & dut.stat.ready
    m.d.sync += idle.eq(Mux(~receives & (inside != 0) & ~gives & quiet, idle + 1, 0))
    looks = popping & (popped == who)
    settled, there = Signal(), Signal()
    m.d.sync += [settled.eq(since == SETTLED), there.eq(inside - out != 0)]
    m.d.comb += [
        Assert(~out | (inside != 0)),
        # Nothing is lost: who looks finds it; where nobody does it is given back.
        Assert(~(looks & settled & there & receives) | pop.valid),
        Assert(idle <= RETURNED),
        Cover(followed & ~done & out & (ahead == 0) & receives & it.slot[0]),
        Cover(followed & ~done & out & (ahead == 0) & ~receives),
        Cover((count[0] == CONFIG.tx_quota) & (count[1] == CONFIG.rx_quota)),
    ]
    return m, ports


def sent(module):
    """One statistic of one function, of what it sends for one queue: one event for each frame."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.SentCounter()
    free(m, ports, "sent", dut.sent)
    take(m, ports, "stat", dut.stat)
    stable(m, dut.stat)
    now, event = dut.sent.payload, dut.stat.payload
    cause = constant(m, ports, Refusal, "cause")
    names = {Refusal.NONE: "NOBODY"} | {r: r.name for r in Refusal if r != Refusal.NONE}
    reasons = Array(Stat[f"TX_DROPPED_{name}"] for _, name in sorted(names.items()))
    stats = (Stat.TX_PACKETS, Stat.TX_DROPPED, Stat.RX_DROPPED_FILTER, reasons[cause])
    which, whose = constant(m, ports, range(4), "which"), constant(m, ports, 8, "whose")
    pair = constant(m, ports, 3, "pair")
    mine = (now.source == whose) & (now.pair == pair)
    comes = dut.sent.valid & dut.sent.ready
    refused = now.guest & (now.refusal != Refusal.NONE)
    blames = now.nobody & now.guest & ~now.owned
    due, told, owed, age = Signal(), Signal(), Signal(3), Signal(5)
    other = now.nobody & ~(now.guest & ~now.owned)
    # A frame is sent or refused; one that nobody has is somebody's loss.
    m.d.comb += [
        Assume(which < len(stats)),
        Assume(~now.nobody | ~refused),
        Assume(now.guest | ~now.group),
        due.eq(
            comes
            & Cat(
                now.guest & ~refused & mine,
                (refused | blames) & mine,
                other & (now.owner == whose),
                (refused | blames) & mine & (now.refusal == cause),
            ).bit_select(which, 1)
        ),
    ]
    for number, stat in enumerate(stats):
        with m.If((which == number) & dut.stat.valid & dut.stat.ready):
            here = event.queued & (event.queue == (pair << 1 | 1))
            m.d.comb += told.eq(
                (event.stat == stat) & (event.function == whose) & (here if number != 2 else 1)
            )
    m.d.sync += [
        owed.eq(owed + due - told),
        age.eq(Mux(told | (owed == 0), 0, age + dut.stat.ready)),
    ]
    m.d.comb += [
        Assert(~told | (owed != 0)),
        Assert(~told | (event.amount == 1)),
        Assert(age <= 8),
        Cover(told & (which == 0) & (owed == 2)),
        Cover(told & (which == 1)),
        Cover(told & (which == 2)),
        *(Cover(told & (which == 3) & (cause == refusal)) for refusal in Refusal),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="slot-pool",
        claim="a slot is offered only when nobody has a reference to it; every free one is "
        f"offered within {OFFERED} cycles in which one could be taken",
        module="rtl.nic.frame_slots",
        harness=slot_pool,
        depth=18,
        quick=11,
        reach=18,
        assumptions=(
            "three slots, up to three references",
            "who shares a slot has the one reference to it, and does not give it back meanwhile; "
            "who gives one back has it",
        ),
        covers=("a slot that two had is taken again", "one of all slots goes to nobody"),
        plants=(
            Plant(
                name="the first reference that is given back frees the slot",
                old="queue.i.valid.eq(left == 0)",
                new="queue.i.valid.eq((left == 0) | releasing)",
            ),
            Plant(
                name="a slot whose last reference is given back is forgotten",
                old="queue.i.valid.eq(left == 0)",
                new="queue.i.valid.eq((left == 0) & ~releasing)",
                depth=32,
            ),
        ),
    ),
    Proof(
        name="receive-fifos",
        claim="a function's frames come out once, in order, to it, or are given back if it does "
        "not receive, or its queue is down, and then counted; none is lost; one that receives has "
        "at most its quota of either memory",
        module="rtl.nic.receive_fifos",
        harness=receive_fifos,
        depth=14,
        quick=12,
        reach=16,
        assumptions=(
            "two functions with a queue pair each, which receive or do not, whose queue is down or "
            "is not, for good",
            "the switch pushes with room; the engine pops what it is told of, be it of a queue "
            "that is down, gives back what it has; what arrives is taken at once",
            "without steering and backup rings; a frame's length tells whose it is",
        ),
        covers=("one is popped", "one is given back", "a function has its quota of both memories"),
        plants=(
            Plant(
                name="frames of who receives are given back",
                old="goes.eq((ceases | crowded | shut) & filled)",
                new="goes.eq(filled)",
            ),
            Plant(
                name="what is given back of a function that does not receive is not counted",
                old="dropped.i.valid.eq(returned)",
                new="dropped.i.valid.eq(returned & ~ceases)",
                depth=13,
            ),
            Plant(
                name="frames of a queue that is down are popped",
                old="(pop.en & filled & ~shut & ~self.clearing)",
                new="(pop.en & filled & ~self.clearing)",
                depth=12,
            ),
            Plant(
                name="a frame more than the quota",
                old="waiting_tx < self.quotas[0]",
                new="waiting_tx <= self.quotas[0]",
                depth=12,
            ),
            Plant(
                name="what is given back is popped a second time",
                old="move.en.eq(self.clearing | taken)",
                new="move.en.eq(self.clearing | (taken & pop.en))",
                depth=12,
            ),
        ),
    ),
    Proof(
        name="sent-counter",
        claim="a guest's frame is one packet sent or one dropped of its queue; what nobody has one "
        "more drop of whom it is for or of its sender; each is counted once, within 8 cycles",
        module="rtl.nic.sent",
        harness=sent,
        depth=14,
        quick=0,
        assumptions=("what is refused has no receivers to lack; groups are of guests' frames",),
        covers=(
            *("two frames are owed to the counter of packets", "a drop", "a drop of a receiver"),
            *("a drop for want of a receiver", "of a link", "for a MAC", "for a VLAN"),
        ),
        plants=(
            Plant(
                name="a frame is counted for the queue of the next",
                old="transmit_queue(frame.pair)",
                new="transmit_queue(now.pair)",
            ),
            Plant(
                name="a refused frame is counted as sent too",
                old="ok = now.guest & (now.refusal == Refusal.NONE)",
                new="ok = now.guest",
            ),
            Plant(
                name="an event is lost when the counters are busy",
                old="with m.Elif(events.i.ready):",
                new="with m.Else():",
                depth=22,
            ),
        ),
    ),
)
