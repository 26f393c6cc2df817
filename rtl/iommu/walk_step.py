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
    IOVA_BITS,
    AccessKind,
    StepKind,
    WalkJudged,
    WalkState,
)

__all__ = ["WalkStep"]


class WalkStep(wiring.Component):
    """Judges what memory answered by a walk's state and its request.  Combinational.

    Both stages judge an entry alike: the first is strict on who may use user pages, the second
    takes every access for a user's; a table of the first is read (or written, to update A and D),
    whatever the request wants.  What comes of it is for
    :class:`~rtl.iommu.walk_decide.WalkDecide` to say.

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
    answer, pte : ``In(64)``; resp : ``In(Resp)``
        What memory answered, and the entry in it.
    judged : ``Out(WalkJudged)``
        All but the ``index`` and ``keeps`` of its goal.
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
                "pte": In(64),
                "resp": In(Resp),
                "judged": Out(WalkJudged),
            }
        )

    def elaborate(self, platform):
        m = Module()
        judged, request = self.judged, self.held.request
        self.goal = judged.goal
        self.by_directory = self.directory if self.config.pd8 else Const(0, 1)
        self.strict = request.at != AddressType.ATS_REQUEST
        self.implicit = self.state.second & ~self.state.final
        self._context(m)
        self.entry = entry = self._entry(m)
        self._judge(m)
        m.d.comb += [
            judged.kind.eq(self.kind),
            judged.resp.eq(self.resp),
            judged.leaf.eq(entry.leaf),
            judged.size.eq(entry.size),
            judged.rights.eq(entry.rights),
            judged.glob.eq(entry.pte.g),
            self.goal.state.eq(self.state),
            self.goal.state.directory.eq(self.by_directory),
            self.goal.implicit.eq(self.implicit),
            self.goal.implicit_write.eq(self.implicit & self.state.implicit_write),
            self.goal.data.eq(entry.updated(self.need[0], self.need[1])),
        ]
        self._start(m)
        return m

    def _context(self, m: Module) -> None:
        """Stages of this walk, and what else of the context goes on with it."""
        config, out, guest = self.config, self.goal, self.guest
        request, context = self.held.request, self.held.context
        by_gpa = self.by_directory | (request.at == AddressType.TRANSLATED)
        executes = request.exec & self.strict
        to_gpa = (request.at == AddressType.ATS_REQUEST) & context.t2gpa
        self.gade = Mux(self.by_directory, guest.gade, context.gade)
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
        if config.end:
            m.d.comb += out.big.eq(context.sbe)
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
        config, state = self.config, self.state
        second = state.second
        return Entry(
            m,
            config,
            word=self.answer,
            pte=self.pte,
            big=state.form.big,
            narrow=state.form.narrow,
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
        self.need, judged = Signal(2), self.judged
        update = Mux(state.second, self.gade, context.sade) if config.amo_hwad else Const(0, 1)
        unfit = ~update & (self.need[0] | (self.need.any() & strict))
        m.d.comb += [
            self.need.eq(Cat(~pte.a, write & pte.w & ~pte.d)),
            judged.updates.eq(entry.leaf & update & self.need.any()),
            judged.turns.eq(
                (self.kind == StepKind.START)
                | ((self.kind == StepKind.READ) & ~state.second & ~judged.updates)
            ),
            judged.fault.eq(
                entry.reserved | (entry.leaf & (entry.misplaced | refused | missing | unfit))
            ),
        ]

    def _start(self, m: Module) -> None:
        """Where a walk begins, and whether its first stage knows such an address."""
        goal, judged, iova = self.goal, self.judged, self.held.request.iova
        page = self.entry.page
        with m.If(self.starts):
            with m.If(goal.s_levels != 0):
                m.d.comb += judged.page.eq(self.held.context.s_ppn)
            with m.Elif(self.by_directory):
                m.d.comb += judged.page.eq(self.start_page)
            with m.Else():
                m.d.comb += judged.page.eq(iova[PAGE_SHIFT:])
        with m.Else():
            m.d.comb += judged.page.eq(page)
        with m.Switch(goal.s_levels):
            for levels, bits in IOVA_BITS.items():
                with m.Case(levels):
                    tail = iova[bits:] if levels == 2 else iova[bits - 1 :]
                    wrong = tail.any() if levels == 2 else tail.any() & ~tail.all()
                    m.d.comb += judged.strange.eq(wrong)
