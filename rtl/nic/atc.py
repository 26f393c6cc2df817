"""The device TLB: what the IOMMU has answered, until it says that it is not true any more."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from models.spec.config import NicConfig
from models.spec.nic import FunctionControl
from rtl.bus.priority import lowest_bit
from rtl.nic.atc_array import AtcArray
from rtl.nic.atc_asks import AtcAsks
from rtl.nic.atc_records import LARGE, AtcAnswer, AtcFill, AtcLook, AtcRange
from rtl.nic.segments import Begun

__all__ = ["Atc"]

#: Ways of the two arrays.
WAYS, LARGE_WAYS = 4, 2


class Atc(wiring.Component):
    """Translations by function and page: ``config.atc_entries`` of 4 KiB, an eighth as many of
    2 MiB.  Larger ranges are kept as pieces of 2 MiB, those between as pieces of 4 KiB.

    Nothing waits for it.  A fill beside another is left out; its page is asked for again.

    Forgetting a range goes in this order: slots that wait for an answer are marked, so that
    nothing older than the invalidation is taken in from then on; then sets are swept.  What has
    been looked up meanwhile does not hit any more.  A function that stops to translate by ATS, or
    is reset, is forgotten so too.

    Latency
    -------
    A lookup has its result in the next cycle.  A fill can be found two cycles later.  Forgetting
    takes a cycle per slot and set, and three more, and as many as fills take; in between hits of
    other pages go on, but for those of the same function while sets are swept.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    look : ``In(AtcLook())``
    begun : ``In(Begun)``; asks : ``In(1)``
        A segment asks for its translation.
    answer : ``In(AtcAnswer())``
    forget : ``In(stream.Signature(AtcRange))``
        Taken when it is done: nothing older will hit or be filled.
    controls : ``In(ArrayLayout(FunctionControl))``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.sets = config.atc_entries // WAYS
        self.large_sets = max(2, config.atc_entries // 8 // LARGE_WAYS)
        super().__init__(
            {
                "look": In(AtcLook()),
                "begun": In(Begun),
                "asks": In(1),
                "answer": In(AtcAnswer()),
                "forget": In(stream.Signature(AtcRange)),
                "controls": In(data.ArrayLayout(FunctionControl, config.functions)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions = self.config.functions
        m.submodules.asking = self.asking = AtcAsks(self.config.dma_slots)
        m.submodules.small = self.small = AtcArray(
            functions=functions, shift=0, sets=self.sets, ways=WAYS
        )
        m.submodules.large = self.large = AtcArray(
            functions=functions, shift=LARGE, sets=self.large_sets, ways=LARGE_WAYS
        )
        # What is being forgotten, and where; of a function that has ceased to translate.
        self.range, self.drops = Signal(AtcRange), Signal()
        self.pointer = Signal(range(max(self.sets, self.large_sets, self.config.dma_slots)))
        self.dropping = Signal(functions)  # functions that are to be forgotten
        self.clearing, self.scanning, self.visiting = Signal(), Signal(), Signal()
        self.gone = Signal()  # nothing of the function hits
        self.single = Signal()  # of 4 KiB: one set of those
        self.takes = Signal()  # a fill is taken
        self._steps(m)
        self._ask(m)
        self._write(m)
        self._look(m)
        return m

    def _steps(self, m: Module) -> None:
        """Clear everything after reset; then forget one range after another."""
        range_, pointer, forget = self.range, self.pointer, self.forget
        functions, last = self.config.functions, Signal()
        live, before, begun = (Signal(functions, name=name) for name in ("live", "was", "begun"))
        m.d.comb += [
            last.eq(
                pointer == Mux(self.single, self.large_sets, max(self.sets, self.large_sets)) - 1
            ),
            live.eq(Cat(control.enable & control.ats for control in self.controls)),
        ]
        m.d.sync += [
            before.eq(live),
            self.dropping.eq((self.dropping & ~begun) | (before & ~live)),
        ]
        with m.FSM():
            with m.State("CLEAR"):
                m.d.comb += [self.clearing.eq(1), self.visiting.eq(1)]
                m.d.sync += pointer.eq(pointer + 1)
                with m.If(last):
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += begun.eq(lowest_bit(self.dropping))
                m.d.sync += [
                    pointer.eq(0),
                    self.drops.eq(self.dropping.any()),
                    range_.eq(forget.payload),
                    self.single.eq(~forget.payload.open.any()),
                ]
                with m.If(self.dropping.any()):
                    m.d.sync += [range_.open.eq(-1), self.single.eq(0)]
                    for function in range(functions):
                        with m.If(begun[function]):
                            m.d.sync += range_.key.function.eq(function)
                with m.If(self.dropping.any() | forget.valid):
                    m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += [self.scanning.eq(1), self.gone.eq(self.drops)]
                m.d.sync += pointer.eq(pointer + 1)
                with m.If(pointer == self.config.dma_slots - 1):
                    m.d.sync += pointer.eq(0)
                    m.next = "SETTLE"
            with m.State("SETTLE"):  # a fill taken beside the last slot's mark is written
                m.d.comb += self.gone.eq(self.drops)
                m.next = "SWEEP"
            with m.State("SWEEP"):
                m.d.comb += [self.gone.eq(1), self.visiting.eq(~self.takes)]
                m.d.sync += pointer.eq(pointer + self.visiting)
                with m.If(last & self.visiting):
                    m.next = "LAST"
            with m.State("LAST"):  # the last set is written
                m.d.comb += [self.gone.eq(1), forget.ready.eq(~self.drops)]
                m.next = "CHOOSE"

    def _ask(self, m: Module) -> None:
        """Who asks, who is too old."""
        asking, begun = self.asking, self.begun
        m.d.comb += [
            asking.en.eq(self.asks),
            asking.ask.function.eq(begun.function),
            asking.ask.page.eq(begun.iova[12:]),
            asking.slot.eq(begun.slot),
            asking.answered.eq(self.answer.answered),
            asking.of.eq(self.answer.slot),
            asking.scan.eq(self.scanning),
            asking.at.eq(self.pointer),
            asking.range.eq(self.range),
            self.answer.stale.eq(asking.asked & asking.stale),
        ]

    def _write(self, m: Module) -> None:
        """Sets are visited by fills and sweeps, and written in the next cycle."""
        asking, range_, fill = self.asking, self.range, self.answer.fill
        stored, filling = Signal(AtcFill), Signal()
        forgets, clears = Signal(), Signal()
        m.d.comb += self.takes.eq(
            self.answer.fills & asking.asked & ~asking.stale & ~filling & ~self.clearing
        )
        m.d.sync += [
            filling.eq(self.takes),
            forgets.eq(self.visiting & ~self.clearing),
            clears.eq(self.clearing),
            stored.eq(fill),
            stored.large.eq(fill.large & ~asking.near),
        ]
        for array in (self.small, self.large):
            swept = self.pointer[: array.set_bits]
            if array is self.small:
                swept = Mux(self.single, array.set_of(range_.key), swept)
            m.d.comb += [
                array.visit.eq(Mux(self.takes, array.set_of(fill.key), swept)),
                array.fill.eq(stored),
                array.range.eq(range_),
                array.forgets.eq(forgets),
                array.clears.eq(clears),
            ]
        m.d.comb += [
            self.small.fills.eq(filling & ~stored.large),
            self.large.fills.eq(filling & stored.large),
        ]

    def _look(self, m: Module) -> None:
        """The first entry that has what is looked for, unless it is being forgotten."""
        look, small, large = self.look, self.small, self.large
        for array in (small, large):
            m.d.comb += [
                array.en.eq(look.en),
                array.next.eq(look.next),
                array.key.eq(look.key),
                array.write.eq(look.write),
            ]
        late = Signal()  # has been forgotten since it was read
        now, coming = (Signal(name=name) for name in ("goes", "will_go"))
        for goes, key in ((now, look.key), (coming, look.next)):
            mine = key.function == self.range.key.function
            dropped = self.dropping.bit_select(key.function, 1)
            m.d.comb += goes.eq((self.gone & mine) | dropped | self.clearing)
        with m.If(look.en | now):
            m.d.sync += late.eq(Mux(look.en, coming, 1))
        hits = Cat(small.hits, large.hits)
        inside = look.key.page[:LARGE]
        pages = [*small.pages, *(Cat(inside, page) for page in large.pages)]
        found = 0
        for hit, page in zip(lowest_bit(hits), pages, strict=True):
            found |= Mux(hit, page, 0)
        m.d.comb += [look.hit.eq(hits.any() & ~late & ~now), look.page.eq(found)]
