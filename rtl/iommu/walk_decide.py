"""What a walk does next, once what moves it on is judged."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from rtl.bus.axi import Resp
from rtl.iommu.walk_records import (
    GPA_BITS,
    UNLIMITED,
    Goal,
    StepKind,
    WalkFault,
    WalkGoal,
    WalkJudged,
    gpa_page_bits,
)

__all__ = ["WalkDecide"]


class WalkDecide(wiring.Component):
    """Goes on to a table, to the other stage, to an update of A and D, or to the end of the walk.
    Combinational.

    Members
    -------
    judged : ``In(WalkJudged)``
        Of :class:`~rtl.iommu.walk_step.WalkStep`.
    goal : ``Out(WalkGoal)``
    """

    judged: In(WalkJudged)
    goal: Out(WalkGoal)

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        judged, out = self.judged, self.goal
        state = judged.goal.state
        self.two = judged.goal.g_levels != 0
        m.d.comb += out.eq(judged.goal)
        self._pages(m)
        with m.Switch(judged.kind):
            with m.Case(StepKind.START):
                self._start(m)
            with m.Case(StepKind.RESUME):
                m.d.comb += [out.goal.eq(Goal.FINAL), out.resumed.eq(1)]
            with m.Case(StepKind.MSI):
                m.d.comb += [
                    out.goal.eq(Goal.DONE),
                    out.judged.eq(1),
                    out.size.eq(PAGE_SHIFT),
                    out.cacheable.eq(0),
                    *(out.second[name].eq(1) for name in ("r", "w", "dirty")),
                ]
            with m.Case(StepKind.STORED):
                # Whoever was faster, the entry is looked at again.
                m.d.comb += [out.goal.eq(Goal.READ), out.state.locked.eq(0)]
                self._errors(m, Const(0, 1))
            with m.Case(StepKind.READ):
                with m.If(judged.fault):
                    m.d.comb += [
                        out.goal.eq(Goal.DONE),
                        out.fault.eq(Mux(state.second, WalkFault.GUEST, WalkFault.PAGE)),
                    ]
                with m.Elif(~judged.leaf):
                    self._table(m)
                with m.Elif(judged.updates):
                    self._update(m)
                with m.Else():
                    self._leaf(m)
                # Memory without exclusive accesses cannot hold entries that are to be updated.
                self._errors(m, state.locked)
        return m

    def _pages(self, m: Module) -> None:
        """Page of the table or of the translation, that of the next GPA, and sizes."""
        out, judged, smaller = self.goal, self.judged, Signal()
        state = judged.goal.state
        starts = judged.kind == StepKind.START
        reads = (judged.kind == StepKind.READ) & ~judged.updates
        m.d.comb += [
            out.state.table.eq(Mux(starts | reads, judged.page[:44], state.table)),
            out.gpa_page.eq(Mux(judged.turns, judged.page, state.gpa_page)),
            out.state.gpa_page.eq(out.gpa_page[: gpa_page_bits(self.config)]),
            smaller.eq(judged.size < state.size),
            out.size.eq(Mux(smaller, judged.size, state.size)),
            out.piece.eq(state.second & smaller),
        ]

    def _errors(self, m: Module, exclusive) -> None:
        """End a walk whose access failed."""
        out = self.goal
        resp = self.judged.resp
        fails = (resp == Resp.DECERR) | (resp == Resp.SLVERR)
        with m.If(fails | (exclusive & (resp != Resp.EXOKAY))):
            m.d.comb += [
                out.goal.eq(Goal.DONE),
                out.fault.eq(Mux(resp == Resp.SLVERR, WalkFault.CORRUPT, WalkFault.ACCESS)),
                out.table_first.eq(0),
                out.table_second.eq(0),
            ]

    def _start(self, m: Module) -> None:
        """First goal of a walk, or its end before any."""
        out = self.goal
        state, first = out.state, out.state.first
        by_gpa = out.s_levels == 0
        m.d.comb += [
            *(first[name].eq(1) for name in ("r", "w", "x", "u", "dirty")),
            first.pbmt.eq(0),
            state.size.eq(self._unlimited()),
            state.cut.eq(0),
            state.glob.eq(0),
            state.final.eq(by_gpa & ~self.judged.goal.state.directory),
            state.second.eq(by_gpa),
            state.implicit_write.eq(0),
            state.locked.eq(0),
            state.s_level.eq(out.s_levels - 1),
            out.goal.eq(Mux(by_gpa, Goal.FINAL, Goal.FIRST)),
        ]
        with m.If(self.judged.strange):
            m.d.comb += [out.goal.eq(Goal.DONE), out.fault.eq(WalkFault.PAGE)]

    def _unlimited(self):
        """Range of a first stage that is off."""
        if not (self.config.sv32 or self.config.sv32x4):
            return UNLIMITED
        return Mux(self.goal.sxl & self.two, GPA_BITS[2], UNLIMITED)

    def _table(self, m: Module) -> None:
        """Go on to the table that the entry points to."""
        out, state = self.goal, self.judged.goal.state
        m.d.comb += out.state.locked.eq(0)
        with m.If(state.second):
            m.d.comb += [
                out.goal.eq(Goal.READ),
                out.state.g_level.eq(state.g_level - 1),
                out.table_second.eq(1),
            ]
        with m.Else():
            m.d.comb += [
                out.goal.eq(Mux(self.two, Goal.TABLE, Goal.READ)),
                out.state.s_level.eq(state.s_level - 1),
                out.state.final.eq(0),
                out.state.second.eq(self.two),
                out.state.implicit_write.eq(0),
                out.state.glob.eq(state.glob | self.judged.glob),
                out.table_first.eq(~self.two),
            ]

    def _update(self, m: Module) -> None:
        """Set A or D, which the second stage must allow before the entry is asked for."""
        out, state = self.goal, self.judged.goal.state
        ask = ~state.second & self.two & ~state.implicit_write
        m.d.comb += [
            out.goal.eq(Mux(ask, Goal.TABLE, Mux(state.locked, Goal.STORE, Goal.READ))),
            out.lock.eq(1),
            out.state.locked.eq(~ask),
        ]
        with m.If(~state.second):
            m.d.comb += [out.state.implicit_write.eq(self.two), out.state.second.eq(ask)]

    def _leaf(self, m: Module) -> None:
        """The end of a stage."""
        out, judged = self.goal, self.judged
        state = judged.goal.state
        m.d.comb += out.state.locked.eq(0)
        with m.If(~state.second):
            m.d.comb += [
                out.goal.eq(Mux(self.two, Goal.FINAL, Goal.DONE)),
                out.state.size.eq(judged.size),
                out.state.final.eq(1),
                out.state.second.eq(self.two),
                out.state.implicit_write.eq(0),
                out.state.glob.eq(state.glob | judged.glob),
                out.state.first.eq(judged.rights),
                *(out.second[name].eq(1) for name in ("r", "w", "x", "dirty")),
            ]
        with m.Else():
            m.d.comb += [
                out.goal.eq(Mux(state.final | state.directory, Goal.DONE, Goal.READ)),
                out.state.second.eq(0),
                out.table_first.eq(~state.final & ~state.implicit_write),
                out.second.eq(judged.rights),
            ]
