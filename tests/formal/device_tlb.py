"""Harnesses of the device TLB and of the invalidator: what is answered is not used any more."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Cover, Module, Mux, Signal

from models.spec.config import NicConfig

from .ports import promise, take
from .prover import Plant, Proof, anything, constant

__all__ = ["PROOFS"]

#: The smallest geometry that has a choice everywhere.
CONFIG = NicConfig(vfs=1, device_id=0, dma_slots=2, atc_entries=8)
#: Bits of page numbers that are free: a small set, and a large one.
FREE = (0, 9)
LARGE = 9
#: Bit of a translation that tells an old one, beyond what is within a large range.
OLD = 10


def _page(bits):
    """A page number of few free bits."""
    where = dict(zip(FREE, bits, strict=True))
    return Cat(where.get(bit, Const(0, 1)) for bit in range(52))


class _Outside:
    """The DMA engine round the TLB, the IOMMU, and one translation that ceases to be true."""

    def __init__(self, m: Module, atc) -> None:
        self.m, self.atc, self.ports = m, atc, []
        # The page that moves, and when.
        self.function = constant(m, self.ports, 1, "the_function")
        self.page = _page(constant(m, self.ports, len(FREE), "the_page"))
        moves, self.moved = self.input("moves"), Signal()
        m.d.sync += self.moved.eq(self.moved | moves)
        slots = CONFIG.dma_slots
        self.asking, self.late, self.functions = Signal(slots), Signal(slots), Signal(slots)
        self.pages = [Signal(52, name=f"page{number}") for number in range(slots)]

    def input(self, name: str, width: int = 1) -> Signal:
        """Return a new free input."""
        return anything(self.ports, name, width)

    def _about(self, function, page, large=0):
        """Whether a translation of a page is about the one that moves."""
        near = page[LARGE:] == self.page[LARGE:]
        return (function == self.function) & near & (large | (page[:LARGE] == self.page[:LARGE]))

    def look(self):
        """Look up whatever it may be; returns what was looked up, and whether it was."""
        m, look = self.m, self.atc.look
        function, page = self.input("next_function"), _page(self.input("next_page", len(FREE)))
        looked, held, number = Signal(), Signal(), Signal(52)
        m.d.comb += [
            look.en.eq(self.input("looks")),
            look.next.function.eq(function),
            look.next.page.eq(page),
            look.key.function.eq(held),
            look.key.page.eq(number),
            look.write.eq(self.input("write")),
        ]
        with m.If(look.en):
            m.d.sync += [looked.eq(1), held.eq(function), number.eq(page)]
        return looked, held, number

    def begin(self, looked, function, page):
        """Let what was looked up begin; returns whether it uses what is old, or another hit."""
        m, atc = self.m, self.atc
        begins, slot, hit = self.input("begins"), self.input("begin_slot"), atc.look.hit
        m.d.comb += [
            Assume(~begins | (looked & ~self.asking.bit_select(slot, 1))),
            atc.begun.eq(self.input("begun", len(atc.begun.as_value()))),
            atc.begun.slot.eq(slot),
            atc.begun.function.eq(function),
            atc.begun.iova.eq(page << 12),
            atc.asks.eq(begins & ~hit),
        ]
        with m.If(begins & ~hit):
            for number in range(CONFIG.dma_slots):
                with m.If(slot == number):
                    m.d.sync += [
                        self.asking[number].eq(1),
                        self.late[number].eq(self.moved),
                        self.functions[number].eq(function),
                        self.pages[number].eq(page),
                    ]
        about = self._about(function, page)
        return begins & hit & atc.look.page[OLD] & about, begins & hit & ~atc.look.page[OLD] & about

    def answer(self):
        """Let the IOMMU answer: what is asked for after the page has moved is new.

        Returns whether an old answer is used, and whether it is found to be too old.
        """
        m, answer = self.m, self.atc.answer
        answers, slot, old = self.input("answers"), self.input("answer_slot"), self.input("is_old")
        large, fills = self.input("large"), self.input("fills")
        function = self.functions.bit_select(slot, 1)
        page = Mux(slot, self.pages[1], self.pages[0])
        wrong = answers & old & self._about(function, page, large)
        m.d.comb += [
            Assume(~answers | self.asking.bit_select(slot, 1)),
            Assume(~(wrong & self.late.bit_select(slot, 1))),
            answer.slot.eq(slot),
            answer.answered.eq(answers),
            answer.fills.eq(answers & fills),
            answer.fill.key.function.eq(function),
            answer.fill.key.page.eq(page),
            answer.fill.large.eq(large),
            answer.fill.r.eq(self.input("reads")),
            answer.fill.w.eq(self.input("writes")),
            answer.fill.value.eq(Cat(page[:OLD], old)),
        ]
        for number in range(CONFIG.dma_slots):
            with m.If(answers & (slot == number)):
                m.d.sync += self.asking[number].eq(0)
        # What it says of the page that was asked for itself.
        own = answers & old & self._about(function, page)
        return own & ~answer.stale, wrong & answer.stale

    def forget(self):
        """Have ranges forgotten; returns whether one with the page was, after it had moved."""
        m, forget = self.m, self.atc.forget
        valid, function = self.input("forgets"), self.input("forget_function")
        page, several = _page(self.input("forget_page", len(FREE))), self.input("several")
        waits = Signal()
        m.d.comb += [
            forget.valid.eq(valid),
            forget.payload.key.function.eq(function),
            forget.payload.key.page.eq(page),
            # With S the lowest zero and all below it are open.
            forget.payload.open.eq(Mux(several, (page ^ (page + 1))[:52], 0)),
        ]
        promise(m, forget, "forget")
        m.d.sync += waits.eq(valid & ~forget.ready)
        apart = (page ^ self.page) & ~forget.payload.open
        covers = (function == self.function) & (apart == 0)
        armed, forgotten = Signal(), Signal()  # the move came before it was offered
        m.d.sync += [
            armed.eq(valid & ~forget.ready & (armed | (~waits & self.moved))),
            forgotten.eq(
                forgotten | (valid & forget.ready & covers & (armed | (~waits & self.moved)))
            ),
        ]
        return forgotten


def atc(module):
    """Follow one arbitrary page of one function, which moves once."""
    m = Module()
    m.submodules.atc = dut = module.Atc(CONFIG)
    outside = _Outside(m, dut)
    for number, control in enumerate(dut.controls):
        m.d.comb += control.eq(outside.input(f"control{number}", len(control.as_value())))
        m.d.comb += [control.enable.eq(1), control.ats.eq(1)]
    looked, function, page = outside.look()
    hits, others = outside.begin(looked, function, page)
    used, stale = outside.answer()
    forgotten = outside.forget()
    m.d.comb += [
        Assert(~(forgotten & hits)),
        Assert(~(forgotten & used)),
        Cover(hits & outside.moved),
        Cover(forgotten & others),
        Cover(stale & outside.moved),
    ]
    return m, outside.ports


def invalidator(module):
    """Follow one arbitrary invalidation, and the segments that began before it was forgotten."""
    m, ports = Module(), []
    m.submodules.dut = dut = module.Invalidator(CONFIG)

    free = partial(anything, ports)

    # Requests: one of them is marked by its tag.
    request, marked = dut.request, Signal()
    mark = free("mark") & ~marked & request.valid & request.ready
    take(m, ports, "completion", dut.completion)
    m.d.comb += [
        request.valid.eq(free("requests")),
        request.payload.eq(free("invalidation", len(request.payload.as_value()))),
        request.payload.device_id.eq(free("device")),
        request.payload.itag.eq(mark),
        dut.forget.ready.eq(free("forgets") & dut.forget.valid),
        dut.stat.ready.eq(free("stat")),
    ]
    m.d.sync += marked.eq(marked | mark)
    ahead, forgotten = Signal(4), Signal()  # requests before the marked one
    sent, gone = request.valid & request.ready, dut.forget.valid & dut.forget.ready
    waiting = Signal(4)  # accepted and not forgotten
    m.d.sync += waiting.eq(waiting + sent - gone)
    with m.If(mark):
        m.d.sync += ahead.eq(waiting - gone)
    with m.Elif(gone & (ahead != 0)):
        m.d.sync += ahead.eq(ahead - 1)
    with m.Elif(gone & marked):
        m.d.sync += forgotten.eq(1)
    now = gone & marked & (ahead == 0) & ~forgotten  # it is forgotten in this cycle
    # Segments
    slots = range(CONFIG.dma_slots)
    busy, colours, older = Signal(len(slots)), Signal(len(slots)), Signal(len(slots))
    begins, ends = free("begins"), free("ends")
    place, end = free("begin_slot"), free("end_slot")
    m.d.comb += [
        Assume(~begins | ~busy.bit_select(place, 1)),
        Assume(~ends | busy.bit_select(end, 1)),
        dut.begun.eq(begins),
        dut.ended.eq(ends),
        dut.ended_colour.eq(colours.bit_select(end, 1)),
    ]
    for number in slots:
        starts, stops = begins & (place == number), ends & (end == number)
        with m.If(starts):
            m.d.sync += [busy[number].eq(1), colours[number].eq(dut.colour)]
        with m.Elif(stops):
            m.d.sync += busy[number].eq(0)
        m.d.sync += older[number].eq(
            Mux(now, (busy[number] | starts) & ~stops, older[number] & ~stops)
        )
    done = dut.completion.valid & dut.completion.ready & dut.completion.payload.itag_vector[1]
    finished = Signal()
    m.d.sync += finished.eq(finished | done)
    # With what it waits for gone it comes, when those before it have come.
    quiet = Signal(range(32))
    idle = forgotten & ~finished & dut.completion.ready & ~older.any() & ~busy.any() & ~begins
    m.d.sync += quiet.eq(Mux(idle, quiet + ~dut.completion.valid, 0))
    m.d.comb += [
        Assert(~(done & older.any())),
        Assert(~done | (forgotten & ~finished)),
        Assert(quiet <= 3),
        Cover(done & busy.any()),
        Cover(done & (waiting != 0)),
        Cover(forgotten & older.all()),
    ]
    return m, ports


PROOFS = (
    Proof(
        name="atc",
        claim="once a range has been forgotten no older translation in it hits or is taken as an "
        "answer",
        module="rtl.nic.atc",
        harness=atc,
        depth=16,
        quick=13,
        assumptions=(
            "two functions that stay enabled and translate, two slots, pages of 2 free bits, 8 "
            "small and 4 large entries",
            "a segment begins with what was looked up last, in a slot that is free; an answer is "
            "to a slot that has asked, once",
            "what is asked for after a page has moved has a new answer; what was asked for before "
            "may have an old one, however late it comes, also for a range of 2 MiB",
        ),
        covers=(
            "an old translation is used before it is forgotten",
            "the page is found again after that",
            "an answer is too old",
        ),
        plants=(
            Plant(
                name="what was asked for before fills after",
                old="self.answer.fills & asking.asked & ~asking.stale & ~filling",
                new="self.answer.fills & asking.asked & ~filling",
            ),
            Plant(
                name="a lookup that was read before the sweep hits after it",
                old="look.hit.eq(hits.any() & ~late & ~now)",
                new="look.hit.eq(hits.any() & ~now)",
            ),
        ),
    ),
    Proof(
        name="invalidator",
        claim="an invalidation is answered once, when every segment has ended that began before it "
        "was forgotten, and then at once",
        module="rtl.nic.invalidator",
        harness=invalidator,
        depth=18,
        quick=14,
        assumptions=(
            "two slots; a segment begins in a slot that is free, and ends once, with the colour "
            "that it began with",
            "invalidations of two functions, with two tags",
            "at once: without segments, while answers are taken, after 3 cycles at the most",
        ),
        covers=(
            "younger segments are under way when it is answered",
            "a later invalidation waits to be forgotten when it is answered",
            "it waits for two segments",
        ),
        plants=(
            Plant(
                name="the answer does not wait for segments",
                old="self.completion.valid.eq((covered != 0) & (Mux(self.colour, *counts) == 0)),",
                new="self.completion.valid.eq(covered != 0),",
            ),
            Plant(
                name="invalidations that came after the colour changed are answered with it",
                old="covered.eq(waiting.level)",
                new="covered.eq(waiting.level + 1)",
            ),
        ),
    ),
)
