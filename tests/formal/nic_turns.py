"""Harnesses of who is next in the NIC: in turn among queues, and of those that yield."""

from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal

from rtl.nic.segments import PATIENCE

from .ports import fair, free
from .prover import Plant, Proof, anything

__all__ = ["PROOFS"]


def turns(module):
    """Four queues."""
    count = 4
    m, ports = Module(), []
    m.submodules.dut = dut = module.Turns(count)
    before, taking = Signal(count), Signal(init=1)
    m.d.sync += [before.eq(dut.wants), taking.eq(dut.take)]
    same = (before == dut.wants) & ~taking
    m.d.comb += [
        dut.wants.eq(anything(ports, "wants", count)),
        dut.take.eq(anything(ports, "take")),
        Assume(~dut.take | dut.any),
        # Who goes on wanting is chosen in the next cycle.
        Assert(~(same & dut.wants.any()) | dut.any),
        Assert(~dut.any | dut.wants.bit_select(dut.chosen, 1)),
    ]
    taken = [dut.take & (dut.chosen == number) for number in range(count)]
    fair(m, [dut.wants[number] for number in range(count)], taken)
    return m, ports


def yielding(module):
    """Whoever yields waits for PATIENCE cycles in which it may go, no longer and no shorter."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.Yielding(1, PATIENCE)
    for name in ("first", "second"):
        free(m, ports, name, getattr(dut, name))
    m.d.comb += [dut.blocked.eq(anything(ports, "blocked")), dut.take.eq(anything(ports, "take"))]
    one, two = dut.first.valid & dut.first.ready, dut.second.valid & dut.second.ready
    may, waited = dut.second.valid & ~dut.blocked, Signal(range(PATIENCE + 1))
    late = waited == PATIENCE
    m.d.sync += waited.eq(Mux(may & ~two, Mux(late, waited, waited + 1), 0))
    m.d.comb += [
        Assert(~(one & two)),
        Assert((dut.take & dut.valid) == (one | two)),
        Assert(dut.valid == (dut.first.valid | may)),
        Assert(~one | (dut.payload == dut.first.payload)),
        Assert(~two | (may & (dut.payload == dut.second.payload))),
        # It goes when it has waited, and before that only while nothing else is there.
        Assert(~(dut.take & may & late) | two),
        Assert(~two | late | ~dut.first.valid),
        Cover(two & late & dut.first.valid),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="turns",
        claim="who wants a turn sees every other have one at most before",
        module="rtl.bus.turns",
        harness=turns,
        depth=14,
        quick=8,
        assumptions=("four queues; a turn is taken only when it is somebody's",),
        covers=("every one of four waits as long as the bound allows",),
        plants=(
            Plant(
                name="the turn stays with the first",
                old="behind.eq(above(self.chosen, self.count))",
                new="behind.eq(-1)",
            ),
            Plant(
                name="who does not want any more is chosen",
                old="self.any.eq(found & self.wants.bit_select(self.chosen, 1))",
                new="self.any.eq(found)",
            ),
            Plant(
                name="the turn behind one that was taken is the same",
                old="found.eq(self.wants.any() & ~self.take)",
                new="found.eq(self.wants.any())",
            ),
        ),
    ),
    Proof(
        name="yielding",
        claim=f"who yields goes after {PATIENCE} cycles in which it may, when anything does; who "
        "does not sees it go before at most once in so many cycles",
        module="rtl.nic.yielding",
        harness=yielding,
        depth=PATIENCE + 8,
        quick=PATIENCE + 4,
        assumptions=("senders do not withdraw or change what they offer",),
        covers=("one goes before another that does not yield",),
        plants=(
            Plant(
                name="it waits for ever",
                old="late, waits = waited == self.patience,",
                new="late, waits = waited > self.patience,",
            ),
            Plant(
                name="it goes though it is blocked",
                old="waits = waited == self.patience, second.valid & ~self.blocked",
                new="waits = waited == self.patience, second.valid",
            ),
        ),
    ),
)
