"""Harness of parked requests: none goes on twice, by an answer not its own, or waits for ever."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import NicConfig
from models.spec.iommu import GroupResponsePayload, PageRequestPayload, PageResponse

from .ports import promise
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

CONFIG = NicConfig(vfs=1, device_id=0, dma_tags=8)
#: Tags that are used.
TAGS = 2
#: Cycles in which an answer could be taken that a page request waits for it, at the most.
ANSWERED = 14
#: What a proof of how long anybody waits can look at: two tags in all, fewer than a NIC has, and
#: answers within SOON.
FEW, SOON = SimpleNamespace(dma_tags=2, functions=2, device_id=0), 4
#: Cycles that a request waits at the most then, and that one is seen to wait.
BOUND, REACHED = 58, 28


def parking(module):
    """An engine that parks two tags, and an IOMMU that answers in time, in any order."""
    dut = module.DmaParking(CONFIG)
    m, ports, reached, _ = _world(dut, ANSWERED, writes=True)
    m.d.comb += [Cover(what) for what in reached]
    return m, ports


def waiting(module):
    """The same, where nobody waits for more than ``BOUND`` cycles."""
    m, ports, _, waits = _world(module.DmaParking(FEW, back_off=1), SOON)
    age = Signal(range(2 * BOUND))
    m.d.sync += age.eq(Mux(waits, age + 1, 0))
    m.d.comb += [Assert(age <= BOUND), Cover(age == REACHED)]
    return m, ports


def _world(dut, answered: int, *, writes: bool = False):
    """Return a harness round ``dut``, its ports, what can be reached, and whether the tag that is
    followed waits.  With ``writes`` some requests write, and counts are taken when they are.
    """
    m, ports = Module(), []
    m.submodules.dut = dut

    free = partial(anything, ports)

    for number, control in enumerate(dut.controls):
        m.d.comb += control.eq(free(f"control{number}", len(control.as_value())))
        m.d.comb += [control.enable.eq(1), control.ats.eq(1)]
    who = constant(m, ports, 1, "who")  # the tag that is followed
    waits, cancelled, functions = Signal(TAGS), Signal(TAGS), Signal(TAGS)
    # Parking: a tag that does not wait.
    parks, tag, function = free("parks"), free("park_tag"), free("park_function")
    m.d.comb += [
        dut.park.valid.eq(parks),
        dut.park.payload.eq(tag),
        Assume(~parks | ~waits.bit_select(tag, 1)),
    ]
    parked = dut.park.valid & dut.park.ready
    # Cancels: of one that waits, once.
    cancels, gone = free("cancels"), free("cancel_tag")
    offered = Signal()
    m.d.comb += [
        dut.cancel.valid.eq(cancels),
        dut.cancel.payload.eq(gone),
        Assume(~cancels | (waits & ~cancelled).bit_select(gone, 1) | offered),
        dut.cancelled.eq(cancelled.bit_select(dut.tag, 1) & (dut.tag < TAGS)),
    ]
    promise(m, dut.cancel, "cancel")
    m.d.sync += offered.eq(cancels & ~dut.cancel.ready)
    # What the engine keeps of each request.
    at = Signal(8)
    with m.If(dut.position.en):
        m.d.sync += at.eq(dut.position.tag)
    shared = constant(m, ports, 1, "shared")  # all want the same page
    writing = constant(m, ports, TAGS, "writes") if writes else Const(0, TAGS)
    m.d.comb += [
        dut.position.function.eq(functions.bit_select(at, 1)),
        dut.position.page.eq(Mux(shared, 0, at)),
        dut.position.write.eq(writing.bit_select(at, 1)),
    ]
    # Ends
    ends = Signal(TAGS)
    done, retried = dut.done.valid & dut.done.ready, dut.retry.valid & dut.retry.ready
    m.d.comb += [dut.done.ready.eq(1), dut.retry.ready.eq(1)]
    m.d.comb += dut.stat.ready.eq(free("stat") if writes else 1)
    for number in range(TAGS):
        ended = done & (dut.done.payload.tag == number)
        again = retried & (dut.retry.payload == number)
        m.d.comb += [
            ends[number].eq(ended | again),
            Assert(~(ended & again)),
            Assert(~ends[number] | waits[number]),
        ]
        with m.If(ends[number]):
            m.d.sync += [waits[number].eq(0), cancelled[number].eq(0)]
        with m.If(parked & (tag == number)):
            m.d.sync += [waits[number].eq(1), functions[number].eq(function)]
        with m.If(dut.cancel.valid & dut.cancel.ready & (gone == number) & ~ends[number]):
            m.d.sync += cancelled[number].eq(1)
    # Page requests, and their answers: by function, tag and generation.
    request, response = dut.page_request, dut.group_response
    asked = data.View(PageRequestPayload, request.payload.payload)
    answer = data.View(GroupResponsePayload, response.payload.payload)
    owed, place = Signal(8), free("answer_place", 3)
    asks, answers = request.valid & request.ready, response.valid & response.ready
    index = Cat(request.payload.device_id[0], asked.index[0], asked.index[8])
    late = [Signal(range(answered + 2), name=f"late{n}") for n in range(8)]
    m.d.comb += [
        request.ready.eq(1),
        response.valid.eq(free("answers")),
        Assume(~response.valid | owed.bit_select(place, 1)),
        response.payload.device_id.eq(place[0]),
        answer.index[0].eq(place[1]),
        answer.index[8].eq(place[2]),
        answer.code.eq(free("code", 4)),
        Assume(
            (answer.code == PageResponse.SUCCESS)
            | (answer.code == PageResponse.INVALID)
            | (answer.code == PageResponse.FAILURE)
        ),
        Assert(~asks | ~owed.bit_select(index, 1)),
    ]
    new, old = Mux(asks, 1 << index, 0)[:8], Mux(answers, 1 << place, 0)[:8]
    m.d.sync += owed.eq((owed & ~old) | new)
    for number, since in enumerate(late):
        m.d.sync += since.eq(Mux(owed[number] & ~old[number], since + response.ready, 0))
        m.d.comb += Assume(since <= answered)
    # What the IOMMU has said of the page that the followed tag has asked for.
    asked_for, said, verdict, mine = Signal(), Signal(), Signal(4), Signal(3)
    restarts = parked & (tag == who)
    own = asks & (index[1] == who)
    with m.If(restarts):
        m.d.sync += [asked_for.eq(0), said.eq(0)]
    with m.If(own):
        m.d.sync += [asked_for.eq(1), said.eq(0), mine.eq(index)]
    with m.Elif(answers & asked_for & (place == mine)):
        m.d.sync += [said.eq(1), verdict.eq(answer.code)]
    goes_on = retried & (dut.retry.payload == who)
    fails = done & (dut.done.payload.tag == who) & ~cancelled.bit_select(who, 1)
    m.d.comb += [
        Assert(~(goes_on & asked_for) | (said & (verdict == PageResponse.SUCCESS))),
        Assert(~(goes_on & cancelled.bit_select(who, 1))),
        Assert(~fails | (said & (verdict != PageResponse.SUCCESS))),
    ]
    reached = (
        goes_on,
        fails,
        done & (dut.done.payload.tag == who) & cancelled.bit_select(who, 1),
        owed[0] & owed[4],
        answers & ~waits.any(),
        goes_on & ~asked_for,
    )
    return m, ports, reached, waits.bit_select(who, 1)


_SHARED = (
    "who parks does not wait; who is cancelled waits, and is cancelled once",
    "no page request times out; answers are success, invalid or failure",
)
PROOFS = (
    Proof(
        name="parking",
        claim="a parked request goes on, fails or is cancelled, one of these, once, as its own "
        "answer says; an index that is owed an answer is not used",
        module="rtl.nic.dma_parking",
        harness=parking,
        depth=38,
        quick=28,
        reach=56,
        assumptions=(
            "two tags of eight, two functions that stay enabled and translate, a page for each tag "
            "or for all, to read or to write",
            *_SHARED,
            f"a page request is answered within {ANSWERED} cycles in which that is possible; "
            "nothing else is answered",
            "page requests, ends and retries are taken at once",
        ),
        covers=(
            "a request goes on",
            "one fails, as the answer says",
            "a request that was cancelled ends",
            "both generations of a tag are owed an answer",
            "an answer comes for a request that has ended",
            "a request goes on that another one has asked for",
        ),
        plants=(
            Plant(
                name="an answer to an earlier page request wakes the tag",
                old="with m.If(record.parked & (own | (record.wait == Wait.INDEX))):",
                new="with m.If(record.parked):",
            ),
            Plant(
                name="a tag asks with an index that is still owed an answer",
                old="Mux(taken.any(), taken[0],",
                new="Mux(taken.any(), taken[1],",
            ),
            Plant(
                name="a request that has been cancelled while it waits to be parked waits on",
                old="with m.If(self.cancelled | ~self.controls[position.function].enable):",
                new="with m.If(~self.controls[position.function].enable):",
            ),
        ),
    ),
    Proof(
        name="parking-ends",
        claim=f"a parked request has gone on, failed or been cancelled within {BOUND} cycles",
        module="rtl.nic.dma_parking",
        harness=waiting,
        depth=66,
        quick=0,
        assumptions=(
            "two tags, two functions that stay enabled and translate, a page for each tag or for "
            "all, to read",
            *_SHARED,
            f"a page request is answered within {SOON} cycles in which that is possible; "
            "nothing else is answered",
            "page requests, ends, retries and counts are taken at once; backing off begins with "
            "two cycles",
        ),
        covers=(f"a request that has waited for {REACHED} cycles",),
        plants=(
            Plant(
                name="who waits with another request waits on when that one has ended",
                old="with m.If(~leader.asking | (leader.generation != record.leader_generation)):",
                new="with m.If(leader.generation != record.leader_generation):",
                depth=76,
            ),
        ),
    ),
)
