"""Harness of the backlog: nothing is lost or overtaken, and a device keeps to its share."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Mux, Signal

from models.spec.config import IommuConfig

from .ports import stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: Places of each lane, and those kept for what the pipeline holds.
PLACES, MARGIN = 8, 6
#: Requests that the pipeline holds.
PIPELINE = 2


def backlog(module):
    """A table and a pipeline of any behaviour round it; one arbitrary device and request."""
    m, ports = Module(), []
    config = IommuConfig(misses=1, walkers=1)
    dut = module.Backlog(config)
    dut.PLACES, dut.MARGIN = PLACES, MARGIN
    m.submodules.dut = dut
    count, lane = dut.entries, module.Lane

    free = partial(anything, ports)

    # Requests: two devices; ``mark`` tells one of them from all others.
    arrives, back, device, mark = (free(n) for n in ("arrives", "back", "device", "mark"))
    took = dut.again.valid & dut.again.ready
    payload = dut.again.payload
    take(m, ports, "again", dut.again)
    stable(m, dut.again)
    # Whose it is that arrives is announced before.
    announced = Signal()
    m.d.comb += [
        dut.comes.eq(free("comes")),
        dut.coming.eq(free("coming")),
        Assume(~dut.arrive_en | (dut.arrive.request.device_id == announced)),
    ]
    with m.If(dut.comes):
        m.d.sync += announced.eq(dut.coming)
    # What comes again is on its way in order.
    places = range(PIPELINE)
    way = [Signal(dut.arrive.shape(), name=f"way{n}") for n in places]
    length = Signal(range(PIPELINE + 1))
    lands = arrives & back
    first = way[0]
    m.d.comb += [
        Assume(~took | (length != PIPELINE) | lands),
        Assume(~lands | (length != 0)),
        dut.arrive_en.eq(arrives & ~(lands & free("hits"))),
        dut.lands.eq(Mux(lands, first.lane, lane.NONE)),
    ]
    with m.If(back):
        m.d.comb += dut.arrive.eq(first)
    with m.Else():
        m.d.comb += [dut.arrive.request.device_id.eq(device), dut.arrive.request.iova.eq(mark)]
    end = Signal(range(PIPELINE + 1))
    m.d.comb += end.eq(length - lands)
    m.d.sync += length.eq(end + took)
    for n in places:
        following = way[n + 1] if n + 1 < PIPELINE else way[n]
        with m.If(took & (end == n)):
            m.d.sync += [
                way[n].request.eq(payload.request),
                way[n].lane.eq(payload.lane),
                way[n].epoch.eq(payload.epoch),
            ]
        with m.Elif(lands):
            m.d.sync += way[n].eq(following)
    # While there is no room, no more new requests than the pipeline holds.
    late = Signal(range(PIPELINE + 2))
    fresh = arrives & ~back
    m.d.sync += late.eq(Mux(dut.room, 0, late + fresh))
    m.d.comb += Assume(~fresh | dut.room | (late < PIPELINE))

    # The table
    owners, busy = [Signal(name=f"owner{n}") for n in range(count)], Signal(count)
    freed = free("freed", count) & busy
    lowest = ~busy & (busy + 1)[:count]
    gets = dut.arrive_en & ~dut.keep
    asking = dut.arrive.request.device_id[0]
    m.d.comb += [
        dut.freed.eq(freed),
        dut.ends.eq(sum(freed[n] for n in range(count))),
        dut.same_device.eq(Cat(busy[n] & (owners[n] == asking) for n in range(count))),
    ]
    m.d.sync += busy.eq((busy | Mux(gets, lowest, 0)[:count]) & ~freed)
    for n in range(count):
        with m.If(lowest[n]):
            m.d.comb += dut.chosen.eq(1 << n)
            with m.If(gets):
                m.d.sync += owners[n].eq(asking)
    who = constant(m, ports, 1, "who")
    own = sum(busy[n] & (owners[n] == who) for n in range(count))
    others = sum(busy[n] & (owners[n] != who) for n in range(count))
    both = Signal()  # the other device floods too
    m.d.sync += both.eq(both | (others >= dut.share))

    # One marked request at a time: where it is.
    outside, kept = Signal(), Signal()
    marks = dut.arrive_en & fresh & mark
    returns = took & payload.request.iova[0]
    m.d.comb += [
        Assume(~(fresh & mark) | (arrives & ~outside & ~kept)),
        Assert(~returns | kept),
        Assert(~kept | ~(dut.arrive_en & dut.arrive.request.iova[0])),
    ]
    with m.If(dut.arrive_en & dut.arrive.request.iova[0]):
        m.d.sync += [kept.eq(dut.keep), outside.eq(0)]
    with m.Elif(returns):
        m.d.sync += [kept.eq(0), outside.eq(1)]
    with m.Elif(lands & first.request.iova[0]):
        m.d.sync += outside.eq(0)
    # Nobody waits for ever: with an empty table and a pipeline that takes, it comes.
    idle = Signal(range(16))
    m.d.sync += idle.eq(Mux(kept & (busy == 0) & (length == 0) & dut.again.ready, idle + 1, 0))
    m.d.comb += [
        Assert(~gets | ~busy.all()),
        Assert(both | (own <= module.device_entries(config))),
        Assert(idle <= 2 * PLACES + 2),
        Cover(marks & dut.keep),
        Cover(returns & (payload.lane == lane.OWN)),
        Cover(returns & (payload.lane == lane.COMMON)),
        Cover((own == module.device_entries(config)) & gets & ~both),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="backlog",
        claim="who is kept comes again, once, when there is an entry; a device that floods keeps "
        "to its share",
        module="rtl.iommu.backlog",
        harness=backlog,
        depth=11,
        quick=8,
        assumptions=(
            "the pipeline holds two requests and keeps their order",
            "a request's device is announced in an earlier cycle",
            "without room no more than two new requests miss",
            "requests differ in one bit of device_id and one of the address",
            "for the share: the other device has not reached it",
        ),
        covers=(
            "a request is kept",
            "one comes again in its device's lane, and one in the other",
            "others get an entry while a device has its share",
        ),
        plants=(
            Plant(
                name="entries that are promised to who comes again are given away",
                old="others.eq(claimed - ended + leaves - (landed != Lane.NONE))",
                new="others.eq(claimed - ended)",
            ),
            Plant(
                name="a device's requests come again whatever it has",
                old="spare.eq(count + flying[0] < self.share)",
                new="spare.eq(1)",
            ),
            Plant(
                name="who leaves is not taken off its lane",
                old="heads[number].eq(heads[number] + left)",
                new="heads[number].eq(heads[number])",
            ),
        ),
    ),
)
