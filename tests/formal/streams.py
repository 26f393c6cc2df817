"""Harnesses of streams and arbiters."""

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Mux, Signal

from .ports import fair, free, stable, take
from .prover import Plant, Proof, constant

__all__ = ["PROOFS"]

WIDTH = 3


def _marked(m: Module, ports: list, put, took, value, out):
    """Follow one arbitrary transfer, counting what is inside before it."""
    mark = Signal(name="mark")
    ports.append(mark)
    inside, before, following = Signal(3), Signal(3), Signal()
    kept = Signal(len(value))
    m.d.sync += inside.eq(inside + put - took)
    with m.If(put & mark & ~following):
        m.d.sync += [following.eq(1), kept.eq(value), before.eq(inside - took)]
    with m.If(following & took):
        m.d.sync += before.eq(before - 1)
        with m.If(before == 0):
            m.d.comb += Assert(out == kept)
            m.d.sync += following.eq(0)
    return inside, following, before


def stream_register(module):
    """Payloads come out in order, none lost or twice; offered ones are stable."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.StreamRegister(WIDTH)
    free(m, ports, "i", dut.i)
    take(m, ports, "o", dut.o)
    stable(m, dut.o)
    put, took = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    inside, following, before = _marked(m, ports, put, took, dut.i.payload, dut.o.payload)
    m.d.comb += [
        Assert(dut.o.valid == (inside != 0)),
        Assert(inside <= 2),
        Assert(dut.i.ready == (inside < 2)),
        Assert(~following | (before < inside)),
        Cover((inside == 2) & following & (before == 1)),
    ]
    # For induction: what is followed is where its place says.
    held_back = Signal(2)
    m.d.sync += held_back.eq(Mux(dut.o.valid & ~dut.o.ready, held_back + (held_back != 3), 0))
    m.d.comb += Cover((held_back == 3) & took)
    return m, ports


def _one_place(kind):
    """A slice of one place, between free streams; what it holds, and whether."""
    m, ports = Module(), []
    m.submodules.dut = dut = kind(WIDTH)
    free(m, ports, "i", dut.i)
    take(m, ports, "o", dut.o)
    stable(m, dut.o)
    put, took = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    full, kept = Signal(), Signal(WIDTH)
    m.d.sync += full.eq((full | put) & ~took)
    with m.If(put):
        m.d.sync += kept.eq(dut.i.payload)
    m.d.comb += Assert(dut.i.ready == ~full)
    return m, ports, dut, took, full, kept


def stream_stage(module):
    """What is taken comes out unchanged; nothing else is taken before it has."""
    m, ports, dut, took, full, kept = _one_place(module.StreamStage)
    m.d.comb += [
        Assert(dut.o.valid == full),
        Assert(~full | (dut.o.payload == kept)),
        Cover(took & dut.i.valid & (kept != dut.i.payload)),
    ]
    return m, ports


def stream_bypass(module):
    """What is not taken at once is kept as it is, and nothing else comes meanwhile."""
    m, ports, dut, took, full, kept = _one_place(module.StreamBypass)
    m.d.comb += [
        Assert(dut.o.valid == (full | dut.i.valid)),
        Assert(~dut.o.valid | (dut.o.payload == Mux(full, kept, dut.i.payload))),
        Cover(full & took & (kept != dut.i.payload)),
    ]
    return m, ports


def stream_arbiter(module):
    """Nobody waits for more than all others once; what is taken comes out, unchanged."""
    count = 3
    m, ports = Module(), []
    m.submodules.dut = dut = module.StreamArbiter(WIDTH, count)
    for number, port in enumerate(dut.inputs):
        free(m, ports, f"i{number}", port)
    take(m, ports, "o", dut.o)
    stable(m, dut.o)
    taken = Cat(port.valid & port.ready for port in dut.inputs)
    took = dut.o.valid & dut.o.ready
    full, kept, owner = Signal(), Signal(WIDTH), Signal(range(count))
    with m.If(took):
        m.d.sync += full.eq(0)
    for number, port in enumerate(dut.inputs):
        with m.If(taken[number]):
            m.d.sync += [full.eq(1), kept.eq(port.payload), owner.eq(number)]
    ones = sum((bit for bit in taken), start=0)
    m.d.comb += [
        Assert(ones <= 1),
        Assert(dut.o.valid == full),
        Assert(~full | ((dut.o.payload == kept) & (dut.source == owner))),
        Assert(~taken.any() | ~full | took),
        # A free output takes whoever is there.
        Assert(taken.any() | (full & ~took) | ~Cat(p.valid for p in dut.inputs).any()),
    ]
    fair(m, [port.valid for port in dut.inputs], [taken[n] for n in range(count)])
    return m, ports


def round_robin(module):
    """The grant is a requester, and nobody between the last one served and it asks."""
    count = 5
    m, ports = Module(), []
    requests, last, grant = Signal(count), Signal(range(count)), Signal(range(count))
    ports += [requests, last]
    m.d.comb += Assume(last < count)
    module.round_robin(m, requests, last, grant)
    someone = constant(m, ports, range(count), "someone")
    m.d.comb += Assume(someone < count)

    def distance(number):
        return Mux(number > last, number - last, number + count - last)[:4]

    asks = requests.bit_select(someone, 1)
    m.d.comb += [
        Assert(~requests.any() | requests.bit_select(grant, 1)),
        Assert(requests.any() | (grant == last)),
        Assert(~asks | (distance(grant) <= distance(someone))),
        Cover(asks & (grant == someone) & (distance(someone) == count - 1)),
        Cover(asks & (last == someone) & (requests == (1 << someone))),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="stream-register",
        claim="payloads on offer are stable; none is lost, doubled or overtaken",
        module="rtl.bus.stream",
        harness=stream_register,
        depth=24,
        quick=10,
        assumptions=("the sender does not withdraw or change what it offers",),
        covers=("both places full with one followed", "a stall of three cycles ends"),
        plants=(
            Plant(
                name="the spare place is forgotten",
                old="self.o.valid.eq(full | self.i.valid)",
                new="self.o.valid.eq(self.i.valid)",
            ),
            Plant(
                name="a stalled payload changes",
                old="self.o.payload.eq(Mux(full, spare, self.i.payload)),",
                new="self.o.payload.eq(self.i.payload),",
            ),
        ),
    ),
    Proof(
        name="round-robin",
        claim="the grant goes to the first requester after the last one served",
        module="rtl.bus.stream",
        harness=round_robin,
        depth=3,
        quick=3,
        induction=2,
        covers=("the last of five in turn is served", "one alone is served again"),
        plants=(
            Plant(
                name="the lowest is always first",
                old="first.eq(Mux(later.any(), later, asked)),",
                new="first.eq(asked),",
            ),
        ),
    ),
    Proof(
        name="stream-stage",
        claim="what is taken is offered unchanged until it is taken, and only then is another",
        module="rtl.bus.stream",
        harness=stream_stage,
        depth=24,
        quick=10,
        assumptions=("the sender does not withdraw or change what it offers",),
        covers=("one is taken while another waits",),
        plants=(
            Plant(
                name="what comes later takes the place of what waits",
                old="with m.If(~self.o.valid):\n            m.d.sync += self.o.payload.eq",
                new="with m.If(self.i.valid):\n            m.d.sync += self.o.payload.eq",
            ),
        ),
    ),
    Proof(
        name="stream-bypass",
        claim="what is not taken at once is offered until it is, and only then is another accepted",
        module="rtl.bus.stream",
        harness=stream_bypass,
        depth=24,
        quick=10,
        assumptions=("the sender does not withdraw or change what it offers",),
        covers=("what was kept is taken while another is offered",),
        plants=(
            Plant(
                name="another takes the place of what is kept",
                old="with m.If(~holds):\n            m.d.sync += kept.eq(self.i.payload)",
                new="with m.If(self.i.valid):\n            m.d.sync += kept.eq(self.i.payload)",
            ),
        ),
    ),
    Proof(
        name="stream-arbiter",
        claim="payloads arrive unchanged; a waiting input sees every other served at most once",
        module="rtl.bus.stream",
        harness=stream_arbiter,
        depth=16,
        quick=8,
        assumptions=("senders do not withdraw or change what they offer",),
        covers=("every input waits as long as the bound allows",),
        plants=(
            Plant(
                name="the turn does not move on",
                old="m.d.sync += self.source.eq(grant)",
                new="m.d.sync += self.source.eq(0)",
            ),
            Plant(
                name="an offered payload is replaced",
                old="m.d.comb += room.eq(~self.o.valid | self.o.ready)",
                new="m.d.comb += room.eq(1)",
            ),
        ),
    ),
)
