"""Harnesses of the DMA's addresses: cuts tile their request, segments are their cut's page."""

from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal
from amaranth.lib import data

from models.spec.translation import AddressType
from rtl.nic.seams import DmaRequest
from rtl.nic.segments import AnswerKind, Begun, Cut

from .ports import free, stable, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: What the blocks look at of a configuration: fewer tags and slots than a NIC has.
FEW = SimpleNamespace(
    functions=2, device_id=8, dma_tags=2, dma_slots=4, max_burst_beats=4, atc_entries=8
)
#: Bytes that a request which yields asks for at once.
PIECE = 64
PAGE = 4096
#: What a cut, and a segment, have of their request as it is.
KEPT = ("function", "write", "hurried", "memory", "yields")


def pages(module):
    """Two requests that do not yield."""
    return _begin(module, yields=0)


def pieces(module):
    """Two that do."""
    return _begin(module, yields=1)


def _begin(module, *, yields: int):
    """Two requests; what is cut of one of them."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.DmaBegin(FEW)
    anyhow = partial(anything, ports)
    who = constant(m, ports, 1, "who")
    request, again, retry, cut = dut.request, dut.again, dut.retry, dut.cut
    free(m, ports, "request", request)
    free(m, ports, "again", again)
    m.d.comb += [retry.valid.eq(anyhow("retries")), retry.payload.eq(anyhow("retry"))]
    m.d.comb += [dut.position.en.eq(anyhow("looks")), dut.position.tag.eq(anyhow("looked", 1))]
    take(m, ports, "cut", cut)
    stable(m, cut)
    begins, cuts = request.valid & request.ready, cut.valid & cut.ready
    goes_on, tag = again.valid & again.ready, cut.payload.tag
    # A tag is in use until its end; its last segment is under way, and there are more.
    used, out, more, ends = Signal(2), Signal(2), Signal(2), anyhow("ends", 2)
    high, asked_tag = request.payload.iova[16:], request.payload.tag
    m.d.comb += [
        Assume((high == 0) | high.all()),
        Assume(request.payload.yields == yields),
        Assume(~request.valid | (asked_tag < 2) & ~used.bit_select(asked_tag, 1)),
        Assume(~again.valid | (again.payload.tag < 2) & out.bit_select(again.payload.tag, 1)),
        Assume(~again.valid | ~again.payload.following | more.bit_select(again.payload.tag, 1)),
        Assume(~retry.valid | out.bit_select(retry.payload, 1)),
        Assume(~(retry.valid & again.valid) | (retry.payload != again.payload.tag)),
        Assert(~cut.valid | (tag < 2) & (used & ~out).bit_select(tag, 1)),
    ]
    for n in range(2):
        back = (goes_on & (again.payload.tag == n)) | (retry.valid & (retry.payload == n))
        waits = again.valid & (again.payload.tag == n)
        m.d.comb += Assume(~ends[n] | (out[n] & ~waits & ~back))
        with m.If(begins & (request.payload.tag == n)):
            m.d.sync += used[n].eq(1)
        with m.If(cuts & (tag == n)):
            m.d.sync += [out[n].eq(1), more[n].eq(cut.payload.more)]
        with m.If(back):
            m.d.sync += out[n].eq(0)
        with m.If(ends[n]):
            m.d.sync += [used[n].eq(0), out[n].eq(0)]
    # Segments that yield end after they have begun.
    yielding = Signal(3)
    m.d.comb += [dut.yielded.eq(anyhow("yielded")), Assume(~dut.yielded | (yielding != 0))]
    m.d.sync += yielding.eq(yielding + (cuts & cut.payload.yields) - dut.yielded)
    # Of the followed one: the request, where its next cut begins and what is left; cuts.
    asked, last, count, retried = Signal(DmaRequest), Signal(DmaRequest), Signal(3), Signal()
    begun = Signal(64)
    now, mine = cut.payload, cut.valid & (tag == who)
    with m.If(begins & (request.payload.tag == who)):
        m.d.sync += [asked.eq(request.payload), count.eq(0), retried.eq(0)]
        m.d.sync += begun.eq(request.payload.iova)
    with m.If(goes_on & (again.payload.tag == who) & again.payload.following):
        m.d.sync += [asked[name].eq(last[name]) for name in ("iova", "length", "offset")]
    with m.If(retry.valid & (retry.payload == who)):
        m.d.sync += retried.eq(1)
    with m.If(cuts & mine):
        m.d.sync += [
            count.eq(count + (count != 7)),
            last.iova.eq(
                Mux(
                    now.yields,
                    Cat(Const(0, 6), now.iova[6:] + 1),
                    Cat(Const(0, 12), now.iova[12:] + 1),
                )
            ),
            last.offset.eq(now.offset + now.length),
            last.length.eq(asked.length - now.length),
        ]
    end, limit = Signal(14), Signal(14)
    m.d.comb += [
        end.eq(Mux(now.yields, now.iova[:6], now.iova[:12]) + now.length),
        limit.eq(Mux(now.yields, PIECE, PAGE)),
    ]
    m.d.comb += [Assert(~mine | (now[name] == asked[name])) for name in KEPT]
    m.d.comb += [
        Assert(~mine | (now.iova == asked.iova)),
        Assert(~mine | (now.offset == asked.offset)),
        Assert(~mine | (now.length <= asked.length)),
        Assert(~mine | (now.more == (now.length != asked.length))),
        Assert(~mine | (now.length != 0) | (asked.length == 0)),
        # The next one begins where this one ends: at the end of a page, or of a piece.
        Assert(~mine | (end <= limit)),
        Assert(~mine | ~now.more | (end == limit)),
        Cover(cuts & mine & (count == 2) & ~now.more & retried),
        Cover(cuts & mine & (count == 1) & now.more & (now.iova[16:] != begun[16:])),
    ]
    return m, ports


def translated(module):
    """One slot: the segment of a cut, and the page that its answer says."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.DmaTranslated(FEW)
    anyhow = partial(anything, ports)
    slots = FEW.dma_slots
    who = constant(m, ports, range(slots), "who")
    begun = data.View(Begun, anyhow("begun", len(dut.begun.as_value())))
    m.d.comb += [
        dut.begun.eq(begun),
        dut.begun_en.eq(anyhow("begins")),
        dut.cancelled.eq(anyhow("cancelled")),
        dut.atc.stale.eq(anyhow("stale")),
    ]
    response, answer = dut.response, dut.answer
    free(m, ports, "response", response)
    free(m, ports, "answer", answer)
    outs = (dut.reads, dut.later_reads, dut.writes, dut.later_writes)
    for number, out in enumerate((*outs, dut.ended)):
        take(m, ports, f"out{number}", out)
    # Slots that are taken, and that have been answered; of the followed one what was said.
    busy, said = Signal(slots), Signal(slots)
    it, paged, refused, page = Signal(Begun), Signal(), Signal(), Signal(47)
    rights = Signal(2)
    to, reply = response.payload, answer.payload
    slot, answers = reply.slot[:2], answer.valid & answer.ready
    responds = response.valid & response.ready
    m.d.comb += [
        Assume(~dut.begun_en | (begun.slot < slots) & ~busy.bit_select(begun.slot[:2], 1)),
        Assume(~response.valid | (to.tag < slots)),
        Assume(~response.valid | (busy & ~said).bit_select(to.tag[:2], 1)),
        Assume(~answer.valid | (reply.slot < slots)),
        Assume(~answer.valid | (busy & ~said).bit_select(slot, 1)),
        Assume(~(response.valid & answer.valid) | (to.tag != reply.slot)),
        Assume(~answer.valid | (reply.kind != AnswerKind.REFUSED)),
    ]
    with m.If(responds):
        m.d.sync += said.bit_select(to.tag[:2], 1).eq(1)
    with m.If(answers):
        m.d.sync += said.bit_select(slot, 1).eq(1)
    with m.If(responds & (to.tag == who)):
        m.d.sync += [
            refused.eq(to.status != 0),
            paged.eq(~to.u),
            page.eq(to.spa[12:]),
            rights.eq(Cat(to.r, to.w)),
        ]
    with m.If(answers & (reply.slot == who)):
        m.d.sync += [
            refused.eq(reply.kind == AnswerKind.DISABLED),
            paged.eq(reply.kind == AnswerKind.PAGE),
            page.eq(reply.value),
            rights.eq(Cat(reply.r, reply.w)),
        ]
    ends = [out.valid & out.ready & (out.payload.slot == who) for out in (*outs, dut.ended)]
    for out in (*outs, dut.ended):
        with m.If(out.valid & out.ready):
            m.d.sync += [
                busy.bit_select(out.payload.slot[:2], 1).eq(0),
                said.bit_select(out.payload.slot[:2], 1).eq(0),
            ]
    with m.If(dut.begun_en):
        m.d.sync += busy.bit_select(begun.slot[:2], 1).eq(1)
        with m.If(begun.slot == who):
            m.d.sync += it.eq(begun)
    m.d.comb += Assert(sum(ends) <= 1)
    for number, (out, end) in enumerate(zip((*outs, dut.ended), ends, strict=True)):
        there = out.valid & (out.payload.slot == who)
        m.d.comb += Assert(~there | (busy & said).bit_select(who, 1))
        if number == len(outs):
            m.d.comb += [Cover(end & paged & (rights == 0b01) & it.write), Cover(end & refused)]
            continue
        got = out.payload
        high = Mux(paged, page, it.iova[12:])
        right = Mux(it.write, rights[1], rights[0])
        m.d.comb += [
            Assert(~there | (it.write == number // 2) & (it.yields == number % 2)),
            Assert(~there | ~refused & (~paged | right)),
            Assert(~there | (got.address == Cat(it.iova[:12], high)[:64])),
            Assert(~there | (got.translated == paged)),
            Assert(~there | (it.length != 0)),
            Cover(end & paged & (page != it.iova[12:])),
        ]
        for name in ("length", "function", "memory", "offset"):
            m.d.comb += Assert(~there | (got[name] == it[name]))
    return m, ports


def asks(module):
    """Four slots: what of a cut takes one, and asks for its translation."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.DmaAsk(FEW)
    anyhow, slots = partial(anything, ports), FEW.dma_slots
    cut, begun, request = dut.cut, dut.begun, dut.translate
    free(m, ports, "cut", cut)
    take(m, ports, "translate", request)
    stable(m, request)
    busy, frees, freed = Signal(slots), anyhow("frees"), anyhow("freed", range(slots))
    control = anyhow("control", len(dut.controls.as_value()))
    m.d.comb += [
        Assume(~cut.valid | (cut.payload.function < FEW.functions)),
        dut.look.hit.eq(anyhow("hit")),
        dut.look.page.eq(anyhow("page", len(dut.look.page))),
        dut.colour.eq(anyhow("colour")),
        dut.answer.ready.eq(anyhow("answer_ready")),
        dut.count.ready.eq(anyhow("count_ready")),
        dut.freed.valid.eq(frees),
        dut.freed.payload.eq(freed),
        Assume(~frees | busy.bit_select(freed, 1)),
        dut.controls.as_value().eq(control),
    ]
    begins, answers = dut.begun_en, dut.answer.valid & dut.answer.ready
    # One cut at a time is held between the two.
    held, it = Signal(), Signal(Cut)
    with m.If(cut.valid & cut.ready):
        m.d.sync += [held.eq(1), it.eq(cut.payload)]
    with m.Elif(begins):
        m.d.sync += held.eq(0)
    new, old = Mux(begins, 1 << begun.slot[:2], 0)[:4], Mux(frees, 1 << freed, 0)[:4]
    m.d.sync += busy.eq((busy & ~old) | new)
    again = Signal()
    m.d.sync += again.eq(again | (frees & (freed == 0)))
    # Two requests at most have been made and not been taken.
    last, later, asked, more = Signal(Begun), Signal(Begun), Signal(), Signal()
    asks, goes = begins & dut.asks, request.valid & request.ready
    with m.If(goes | ~asked):
        m.d.sync += [last.eq(Mux(more, later, begun)), asked.eq(more | asks), more.eq(0)]
    with m.Elif(asks):
        m.d.sync += [later.eq(begun), more.eq(1)]
    to, enabled = request.payload, dut.controls[it.function[0]].enable
    m.d.comb += [Assert(~begins | (begun[name] == it[name])) for name in Cut.as_shape().members]
    m.d.comb += [
        Assert(~begins | held & (begun.slot < slots) & ~busy.bit_select(begun.slot[:2], 1)),
        Assert(~begins | (dut.asks ^ answers)),
        Assert(~begins | ~dut.asks | enabled),
        Assert(~answers | begins & (dut.answer.payload.slot == begun.slot)),
        Assert(~answers | enabled | (dut.answer.payload.kind == AnswerKind.DISABLED)),
        Assert(request.valid == asked),
        Assert(~more | ~asks),
        Assert(~asked | (to.iova == last.iova) & (to.tag == last.slot)),
        Assert(~asked | (to.device_id == FEW.device_id + last.function)),
        Assert(~asked | (to.write == last.write) & (to.at == AddressType.ATS_REQUEST)),
        Cover(begins & again & (begun.slot == 0)),
        Cover(busy.all() & held),
        Cover(begins & ~dut.asks & (begun.slot == 3)),
    ]
    return m, ports


_ASSUMED = (
    "two requests, one per tag at a time; bursts of 64 bytes",
    "addresses in the first or last 64 KiB, or on from one to the other",
    "what goes on, begins again after parking, or ends, one of these, has a segment under way, "
    "and goes on behind it only if there is more",
)
_CUTS = {
    "module": "rtl.nic.dma_begin",
    "depth": 10,
    "reach": 20,
    "covers": ("a third and last cut, after a retry", "one that goes on beyond 64 KiB"),
}
PROOFS = (
    Proof(
        name="dma-cuts",
        claim="what is cut of a request tiles its range and its place in local memory, in order, "
        "crosses no page, and is of its function; the last one ends it",
        harness=pages,
        quick=9,
        assumptions=("requests that do not yield", *_ASSUMED),
        **_CUTS,
        plants=(
            Plant(
                name="a segment is a page long wherever it begins",
                old="PAGE_BYTES - position.iova[:12])",
                new="PAGE_BYTES)",
            ),
            Plant(
                name="what has moved still counts as left",
                old="after.left.eq(position.left - room)",
                new="after.left.eq(position.left)",
            ),
        ),
    ),
    Proof(
        name="dma-pieces",
        claim="the same of one that yields, a longest burst at a time",
        harness=pieces,
        quick=0,
        assumptions=("requests that yield; no more of their segments end than began", *_ASSUMED),
        **_CUTS,
        plants=(
            Plant(
                name="the second piece begins a page on",
                old="Mux(yields, 0, (PAGE_BYTES - 1) >> low)",
                new="((PAGE_BYTES - 1) >> low)",
            ),
        ),
    ),
    Proof(
        name="dma-pages",
        claim="a segment goes to the page that the answer to its own cut says, with the right it "
        "takes, at the same place in the page; it goes to the bus or ends, once",
        module="rtl.nic.dma_translated",
        harness=translated,
        depth=9,
        quick=8,
        assumptions=(
            "four slots, each taken once until its segment ends",
            "an answer is to a taken slot, one for each: of the ATS, or of the device TLB, which "
            "refuses nothing",
        ),
        covers=(
            "each way out, to another page",
            "a write ends that may only read",
            "what is refused ends",
        ),
        plants=(
            Plant(
                name="a write goes to a page that may be read",
                old="paged & ~Mux(begun.write, answer.w, answer.r)",
                new="paged & ~(answer.w | answer.r)",
            ),
            Plant(
                name="the place in the page is the last answer's",
                old="read.addr.eq(answers.o.payload.slot[:bits])",
                new="read.addr.eq(answer.slot[:bits])",
            ),
        ),
    ),
    Proof(
        name="dma-slots",
        claim="a cut takes a slot that no segment has, as it is; either its translation is asked "
        "for, with its address, of its function, or it is answered here",
        module="rtl.nic.dma_ask",
        harness=asks,
        depth=10,
        quick=10,
        assumptions=(
            "four slots, of which one in use is given back",
            "cuts of two functions, whose controls change as they like",
            "the ATC says anything",
        ),
        covers=("a slot is taken again", "all are taken", "the last one by who does not ask"),
        plants=(
            Plant(
                name="of a disabled function it is asked too",
                old="translates.eq(control.enable & control.ats)",
                new="translates.eq(control.ats)",
            ),
            Plant(
                name="a slot is taken twice",
                old="free.ready.eq(self.fire)",
                new="free.ready.eq(self.fire & self.asks)",
            ),
        ),
    ),
)
