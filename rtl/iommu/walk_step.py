"""One step of a walk: what a page-table entry means for whoever walks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from models.spec.translation import AddressType
from rtl.bus.axi import Resp
from rtl.iommu.requests import Guest, Held
from rtl.iommu.walk_pte import Entry
from rtl.iommu.walk_records import (
    GPA_BITS,
    IOVA_BITS,
    UNLIMITED,
    AccessKind,
    Goal,
    StepKind,
    WalkFault,
    WalkGoal,
    WalkState,
    gpa_page_bits,
)

__all__ = ["WalkStep"]


class WalkStep(wiring.Component):
    """Decides from a walk's state and what memory answered.  Combinational.

    Both stages judge an entry alike: the first is strict on who may use user pages, the second
    takes every access for a user's; a table of the first is read (or written, to update A and D),
    whatever the request wants.

    Privileged Architecture, "Virtual Address Translation Process" and "Two-Stage Address
    Translation"; specification, "Process to translate an IOVA" steps 17 to 19 and "IOMMU updating
    of PTE accessed (A) and dirty (D) updates".

    Members
    -------
    kind : ``In(StepKind)``
    state : ``In(WalkState)``
        Not of use with START.
    held : ``In(Held)``
        The request with its context.
    guest : ``In(Guest)``
        In place of the context's second stage for the directory's walks.
    starts, directory : ``In(1)``; start_page : ``In(44)``
        ``kind`` is START; the walk is the directory's; its address is in this page, for START.
    answer : ``In(64)``; resp : ``In(Resp)``
        What memory answered.
    be : ``In(1)``
        fctl.BE.
    goal : ``Out(WalkGoal)``
        All but ``index``, ``resumed``, ``judged`` and ``keeps``.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "kind": In(StepKind),
                "state": In(WalkState),
                "held": In(Held),
                "guest": In(Guest),
                "starts": In(1),
                "directory": In(1),
                "start_page": In(44),
                "answer": In(64),
                "resp": In(Resp),
                "be": In(1),
                "goal": Out(WalkGoal),
            }
        )

    def elaborate(self, platform):
        m = Module()
        state, out, request = self.state, self.goal, self.held.request
        self.by_directory = self.directory if self.config.pd8 else Const(0, 1)
        self.strict = request.at != AddressType.ATS_REQUEST
        self.implicit = state.second & ~state.final
        self._context(m)
        self.entry = entry = self._entry(m)
        self._judge(m)
        m.d.comb += [
            out.state.eq(state),
            out.state.directory.eq(self.by_directory),
            out.implicit.eq(self.implicit),
            out.implicit_write.eq(self.implicit & state.implicit_write),
            out.data.eq(entry.updated(self.need[0], self.need[1])),
        ]
        self._pages(m, self.starts)
        with m.Switch(self.kind):
            with m.Case(StepKind.START):
                self._start(m)
            with m.Case(StepKind.RESUME):
                m.d.comb += out.goal.eq(Goal.FINAL)
            with m.Case(StepKind.MSI):
                m.d.comb += [
                    out.goal.eq(Goal.DONE),
                    out.size.eq(PAGE_SHIFT),
                    out.cacheable.eq(0),
                    *(out.second[name].eq(1) for name in ("r", "w", "dirty")),
                ]
            with m.Case(StepKind.STORED):
                # Whoever was faster, the entry is looked at again.
                m.d.comb += [out.goal.eq(Goal.READ), out.state.locked.eq(0)]
                self._errors(m, Const(0, 1))
            with m.Case(StepKind.READ):
                with m.If(self.fault):
                    m.d.comb += [
                        out.goal.eq(Goal.DONE),
                        out.fault.eq(Mux(state.second, WalkFault.GUEST, WalkFault.PAGE)),
                    ]
                with m.Elif(~entry.leaf):
                    self._table(m)
                with m.Elif(self.updates):
                    self._update(m)
                with m.Else():
                    self._leaf(m)
                # Memory without exclusive accesses cannot hold entries that are to be updated.
                self._errors(m, state.locked)
        return m

    def _context(self, m: Module) -> None:
        """Stages of this walk, and what else of the context goes on with it."""
        config, out, guest = self.config, self.goal, self.guest
        request, context = self.held.request, self.held.context
        by_gpa = self.by_directory | (request.at == AddressType.TRANSLATED)
        executes = request.exec & self.strict
        to_gpa = (request.at == AddressType.ATS_REQUEST) & context.t2gpa
        self.gade = Mux(self.by_directory, guest.gade, context.gade)
        self.two = out.g_levels != 0
        m.d.comb += [
            out.iova.eq(request.iova),
            out.s_levels.eq(Mux(by_gpa, 0, context.s_levels)),
            *(
                out[name].eq(Mux(self.by_directory, guest[name], context[name]))
                for name in ("g_levels", "g_ppn", "gscid")
            ),
            out.pscid.eq(context.pscid),
            out.access.eq(
                Mux(
                    executes,
                    AccessKind.EXECUTE,
                    Mux(request.write, AccessKind.WRITE, AccessKind.READ),
                )
            ),
            out.cacheable.eq(~self.by_directory & ~(to_gpa if config.t2gpa else Const(0, 1))),
        ]
        if config.sv32 or config.sv32x4:
            m.d.comb += out.sxl.eq(context.sxl & ~self.by_directory)
        if config.qosid:
            m.d.comb += [
                out.user[name].eq(Mux(self.by_directory, guest[name], context[name]))
                for name in ("rcid", "mcid")
            ]
        if config.msi_flat:
            m.d.comb += [
                out.msi.eq(context.msi & ~self.by_directory),
                out.msi_ppn.eq(context.msi_ppn),
                out.msi_mask.eq(context.msi_mask),
                out.msi_pattern.eq(context.msi_pattern),
            ]

    def _entry(self, m: Module) -> Entry:
        """The entry that was read."""
        config, state, out = self.config, self.state, self.goal
        second = state.second
        big = narrow = Const(0, 1)
        if config.end:
            big = Mux(second, self.be, self.held.context.sbe)
        if config.sv32 or config.sv32x4:
            narrow = Mux(second, out.g_levels, out.s_levels) == 2
        return Entry(
            m,
            config,
            word=self.answer,
            big=big,
            narrow=narrow,
            level=Mux(second, state.g_level, state.s_level),
            page=Mux(second, state.gpa_page[:44], self.held.request.iova[12:56]),
        )

    def _judge(self, m: Module) -> None:
        """Whether the entry refuses the access, and which of A and D are to be set."""
        config, state, entry, pte = self.config, self.state, self.entry, self.entry.pte
        request, context, implicit = self.held.request, self.held.context, self.implicit
        strict = implicit | self.strict
        read = implicit | ~self.strict | request.also_read | ~(request.write | request.exec)
        write = Mux(implicit, state.implicit_write, request.write)
        execute = ~implicit & request.exec
        # Supervisors reach user pages with SUM only, and never execute from them.
        supervisor = request.pv & request.priv & ~state.second
        refused = Mux(pte.u, supervisor & ~context.sum, ~supervisor)
        executable = pte.x & ~(supervisor & pte.u)
        missing = strict & ((read & ~pte.r) | (write & ~pte.w) | (execute & ~executable))
        self.need, self.fault, self.updates = Signal(2), Signal(), Signal()
        update = Mux(state.second, self.gade, context.sade) if config.amo_hwad else Const(0, 1)
        unfit = ~update & (self.need[0] | (self.need.any() & strict))
        m.d.comb += [
            self.need.eq(Cat(~pte.a, write & pte.w & ~pte.d)),
            self.updates.eq(entry.leaf & update & self.need.any()),
            self.fault.eq(
                entry.reserved | (entry.leaf & (entry.misplaced | refused | missing | unfit))
            ),
        ]

    def _pages(self, m: Module, starts) -> None:
        """Page of the table or of the translation, that of the next GPA, and sizes."""
        out, state, iova = self.goal, self.state, self.held.request.iova
        entry, smaller = self.entry, Signal()
        by_gpa = starts & (out.s_levels == 0)
        reads = self.kind == StepKind.READ
        finds = reads & ~state.second
        table, start = out.state.table, self.held.context.s_ppn
        m.d.comb += [
            table.eq(
                _chosen((starts, start), (reads, entry.page), (~starts & ~reads, state.table))
            ),
            out.gpa_page.eq(
                _chosen(
                    (by_gpa & self.by_directory, self.start_page),
                    (by_gpa & ~self.by_directory, iova[PAGE_SHIFT:]),
                    ((starts & ~by_gpa) | finds, table),
                    (~starts & ~finds, state.gpa_page),
                )
            ),
            out.state.gpa_page.eq(out.gpa_page[: gpa_page_bits(self.config)]),
            out.updates.eq(reads & self.updates),
            out.table_before.eq(state.table),
            out.page_before.eq(state.gpa_page),
            smaller.eq(entry.size < state.size),
            out.size.eq(Mux(smaller, entry.size, state.size)),
            out.piece.eq(state.second & smaller),
        ]

    def _errors(self, m: Module, exclusive) -> None:
        """End a walk whose access failed."""
        out = self.goal
        fails = (self.resp == Resp.DECERR) | (self.resp == Resp.SLVERR)
        with m.If(fails | (exclusive & (self.resp != Resp.EXOKAY))):
            m.d.comb += [
                out.goal.eq(Goal.DONE),
                out.fault.eq(Mux(self.resp == Resp.SLVERR, WalkFault.CORRUPT, WalkFault.ACCESS)),
                out.table_first.eq(0),
                out.table_second.eq(0),
            ]

    def _start(self, m: Module) -> None:
        """First goal of a walk, or its end before any."""
        out, iova = self.goal, self.held.request.iova
        state, first = out.state, out.state.first
        by_gpa = out.s_levels == 0
        m.d.comb += [
            *(first[name].eq(1) for name in ("r", "w", "x", "u", "dirty")),
            first.pbmt.eq(0),
            state.size.eq(self._unlimited()),
            state.cut.eq(0),
            state.glob.eq(0),
            state.final.eq(by_gpa & ~self.by_directory),
            state.second.eq(by_gpa),
            state.implicit_write.eq(0),
            state.locked.eq(0),
            state.s_level.eq(out.s_levels - 1),
            out.goal.eq(Mux(by_gpa, Goal.FINAL, Goal.FIRST)),
        ]
        wrong = Signal()
        with m.Switch(out.s_levels):
            for levels, bits in IOVA_BITS.items():
                with m.Case(levels):
                    tail = iova[bits:] if levels == 2 else iova[bits - 1 :]
                    m.d.comb += wrong.eq(tail.any() if levels == 2 else tail.any() & ~tail.all())
        with m.If(wrong):
            m.d.comb += [out.goal.eq(Goal.DONE), out.fault.eq(WalkFault.PAGE)]

    def _unlimited(self):
        """Range of a first stage that is off."""
        if not (self.config.sv32 or self.config.sv32x4):
            return UNLIMITED
        return Mux(self.goal.sxl & self.two, GPA_BITS[2], UNLIMITED)

    def _table(self, m: Module) -> None:
        """Go on to the table that the entry points to."""
        out, state = self.goal, self.state
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
                out.state.glob.eq(state.glob | self.entry.pte.g),
                out.table_first.eq(~self.two),
            ]

    def _update(self, m: Module) -> None:
        """Set A or D, which the second stage must allow before the entry is asked for."""
        out, state = self.goal, self.state
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
        out, state, entry = self.goal, self.state, self.entry
        m.d.comb += out.state.locked.eq(0)
        with m.If(~state.second):
            m.d.comb += [
                out.goal.eq(Mux(self.two, Goal.FINAL, Goal.DONE)),
                out.state.size.eq(entry.size),
                out.state.final.eq(1),
                out.state.second.eq(self.two),
                out.state.implicit_write.eq(0),
                out.state.glob.eq(state.glob | entry.pte.g),
                out.state.first.eq(entry.rights),
                *(out.second[name].eq(1) for name in ("r", "w", "x", "dirty")),
            ]
        with m.Else():
            m.d.comb += [
                out.goal.eq(Mux(state.final | self.by_directory, Goal.DONE, Goal.READ)),
                out.state.second.eq(0),
                out.table_first.eq(~state.final & ~state.implicit_write),
                out.second.eq(entry.rights),
            ]


def _chosen(*choices):
    """The value whose condition holds, of exactly one."""
    found = Const(0, 1)
    for chosen, value in choices:
        found = found | (value & chosen.replicate(len(value)))
    return found
