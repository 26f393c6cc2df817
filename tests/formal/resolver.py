"""Harness of the resolver: stale walks fill nothing, and everybody is answered once."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cover, Module, Mux, Signal, Value

from models.spec.config import IommuConfig

from .ports import promise, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Entries of the table beyond ``misses``.
SPARE = 2
#: Cycles that somebody waits to be freed, and for an answer, while there is room.
PATIENCE = (4, 2)


def resolver(module):
    """Follow one arbitrary entry and the fill of one arbitrary page."""
    m, ports = Module(), []
    depth, module.PIPELINE_DEPTH = module.PIPELINE_DEPTH, SPARE
    try:
        m.submodules.dut = dut = module.Resolver(IommuConfig(misses=1, walkers=1))
    finally:
        module.PIPELINE_DEPTH = depth
    count = dut.entries

    free = partial(anything, ports)

    for name in ("walk", "context"):
        port = getattr(dut, name)
        m.d.comb += [
            port.valid.eq(free(f"{name}_valid")),
            Value.cast(port.payload).eq(free(name, len(Value.cast(port.payload)))),
        ]
        promise(m, port, name)
    for name in ("response", "fill"):
        take(m, ports, name, getattr(dut, name))
    for name in ("record_room", "stale_all"):
        m.d.comb += getattr(dut, name).eq(free(name))
    for name in ("read_held", "stale", "context_leader"):
        target = Value.cast(getattr(dut, name))
        m.d.comb += target.eq(free(name, len(target)))
    stable(m, dut.response)
    walk = dut.walk.payload
    m.d.comb += [
        Assume(~dut.walk.valid | (walk.index < count)),
        Assume(~dut.context.valid | (dut.context_leader < count)),
    ]

    # The miss table: who waits, each for one leader, itself one of those that wait for it.
    joined = free("joined", count)
    opens, leads = dut.closes.any(), dut.closes
    m.d.comb += dut.members.eq(joined | leads)
    someone = constant(m, ports, range(count), "someone")
    me = someone == dut.free_entry
    owed = Signal()
    mine = dut.members.bit_select(someone, 1)
    frees = dut.free_en & me
    replayed = dut.replay.bit_select(someone, 1)
    m.d.comb += [
        Assume(someone < count),
        # No answer but to who waits; none is dropped when the next is begun.
        Assert(~frees | owed | (opens & mine)),
        Assert(~opens | ~owed),
        Assert(~(replayed & frees)),
        Assert(~replayed | (opens & mine)),
        Cover(frees & owed),
    ]
    with m.If(opens):
        m.d.sync += owed.eq(mine & ~frees & ~replayed)
    with m.Elif(frees):
        m.d.sync += owed.eq(0)
    # Of all entries only theirs has this tag, until that is answered.
    tag = constant(m, ports, 8, "tag")
    leaves = dut.response.valid & (dut.response.payload.tag == tag)
    has, freed = Signal(), Signal()
    m.d.comb += [
        has.eq(dut.read_held.request.tag == tag),
        Assume(has == (dut.read_entry == someone)),
        Assume(~(opens & mine) | ~freed),
        Assert(~leaves | freed),
        Assert(~frees | ~freed),
        Cover(freed & dut.response.valid & ~leaves),
    ]
    m.d.sync += freed.eq((freed & ~(leaves & dut.response.ready)) | frees)
    room = dut.response.ready & dut.record_room
    for waits, patience in zip((owed, freed), PATIENCE, strict=True):
        waited = Signal(range(patience + 2))
        m.d.sync += waited.eq(Mux(waits & room, waited + 1, 0))
        m.d.comb += Assert(waited <= patience)

    # Fills: only of walks that no invalidation has met, and only until one comes.
    page = constant(m, ports, 44, "page")
    # What is stale is looked at in the cycle after.
    took, index = Signal(), Signal(2)
    fit = (walk.ppn == page) & (walk.cause == 0) & walk.cacheable & ~walk.mrif
    fits = Signal()
    m.d.sync += [took.eq(dut.walk.valid & dut.walk.ready), index.eq(walk.index), fits.eq(fit)]
    old = dut.stale.bit_select(index, 1) | dut.stale_all
    good = took & fits & ~old
    alive = Signal()
    filled = dut.fill.valid & (dut.fill.payload.ppn == page)
    with m.If(dut.stale_all):
        m.d.sync += alive.eq(0)
    with m.Elif(good):
        m.d.sync += alive.eq(1)
    with m.Elif(dut.fill.ready):
        m.d.sync += alive.eq(0)
    stable(m, dut.fill, "fill", unless=dut.stale_all)
    m.d.comb += [
        Assert(~filled | alive),
        Cover(filled & dut.fill.ready),
        Cover(took & old & fits),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="resolver",
        claim="no fill from a walk that is older than an invalidation; everybody who waits is "
        "replayed, or freed and answered by their own tag, once, and soon while there is room; "
        "nobody else is; answers and fills on offer are stable",
        module="rtl.iommu.resolver",
        harness=resolver,
        depth=14,
        quick=8,
        assumptions=(
            "results on offer stay",
            "a tag is of one entry, and not used again until it is answered",
            "the miss table says what is stale (its own proof)",
            "a fill on offer may be withdrawn by an invalidation",
        ),
        covers=(
            "a follower is freed, and waits while another is answered",
            "a fill is taken",
            "a stale walk is not kept",
        ),
        plants=(
            Plant(
                name="a fill on offer outlives an invalidation",
                old="with m.If(self.stale_all):\n            m.d.sync += self.fill.valid.eq(0)",
                new="with m.If(Signal()):\n            m.d.sync += self.fill.valid.eq(0)",
            ),
            Plant(
                name="stale walks fill",
                old="& ~found.mrif & ~stale",
                new="& ~found.mrif",
            ),
            Plant(
                name="the next result is taken while somebody waits for the last",
                old="self.context.ready.eq(idle)",
                new="self.context.ready.eq(1)",
            ),
            Plant(
                name="who is freed is not answered",
                old="answers.w_en.eq(answers_one)",
                new="answers.w_en.eq(answers_one & ~follows)",
            ),
            Plant(
                name="a follower is answered as its leader",
                old="with m.If(idle | next_):",
                new="with m.If(idle):",
            ),
            Plant(
                name="answers wait for each other",
                old="answers.r_en.eq(self.response.ready)",
                new="answers.r_en.eq(self.response.ready & current)",
            ),
        ),
    ),
)
