"""From the goal of a walk's step, and what is known of it, to the entry that is accessed next."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT, Cause
from rtl.iommu.msi import MsiResult
from rtl.iommu.requests import WalkResult
from rtl.iommu.walk_pte import largest_levels
from rtl.iommu.walk_records import (
    GPA_BITS,
    AccessKind,
    Goal,
    WalkFault,
    WalkFound,
    WalkGoal,
    WalkState,
    gpa_page_bits,
)

__all__ = ["WalkAccess", "WalkEntry"]

#: Causes by the kind of access: read, write, execute.
_CAUSES = {
    WalkFault.ACCESS: (
        Cause.READ_ACCESS_FAULT,
        Cause.WRITE_ACCESS_FAULT,
        Cause.INSTRUCTION_ACCESS_FAULT,
    ),
    WalkFault.PAGE: (
        Cause.READ_PAGE_FAULT,
        Cause.WRITE_PAGE_FAULT,
        Cause.INSTRUCTION_PAGE_FAULT,
    ),
    WalkFault.GUEST: (
        Cause.READ_GUEST_PAGE_FAULT,
        Cause.WRITE_GUEST_PAGE_FAULT,
        Cause.INSTRUCTION_GUEST_PAGE_FAULT,
    ),
}


class WalkAccess(data.Struct):
    """What is read or stored next."""

    state: WalkState
    offset: 12
    narrow: 1


class WalkEntry(wiring.Component):
    """Chooses the entry that a walk accesses next, or finds that the walk is at its end.

    Combinational.

    Members
    -------
    be : ``In(1)``
        fctl.BE.
    goal : ``In(WalkGoal)``; found : ``In(WalkFound)``; msi : ``In(MsiResult)``
        A step's outcome, and what the MSI unit holds.
    access : ``Out(WalkAccess)``
        Entry to access, in table ``state.table``; the walk's state from then on.
    waits : ``Out(1)``
        The final address is an interrupt file's.
    ends : ``Out(1)``; end : ``Out(WalkResult)``
        The walk is over.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "be": In(1),
                "goal": In(WalkGoal),
                "found": In(WalkFound),
                "msi": In(MsiResult),
                "access": Out(WalkAccess),
                "waits": Out(1),
                "ends": Out(1),
                "end": Out(WalkResult),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.waits.eq(self.found.file)
        beyond, outside = self._table(m)
        self._state(m)
        self._offset(m)
        self._ended(m, beyond, outside)
        return m

    def _table(self, m: Module):
        """Page of the entry's table; returns whether there is none in physical memory, and whether
        the page that the walk has come to is not there.
        """
        goal, found, config = self.goal, self.found, self.config
        bits = config.pas - PAGE_SHIFT
        page, root = goal.state.table, goal.g_ppn
        # The root of a second stage is of four pages, aligned.
        extra = 0
        for levels, width in GPA_BITS.items():
            top = goal.gpa_page[width - 2 - PAGE_SHIFT : width - PAGE_SHIFT]
            extra = extra | Mux(goal.g_levels == levels, top, 0)
        m.d.comb += self.access.state.table.eq(
            Mux(
                found.hits[0],
                found.table0.ppn,
                Mux(found.hits[1], found.table1.ppn, Mux(found.enters, root | extra, page)),
            )[:bits]
        )
        outside = page[bits:].any()
        return ~found.hits.any() & Mux(found.enters, root[bits:].any(), outside), outside

    def _state(self, m: Module) -> None:
        """The walk's state from the access on."""
        goal, found, state = self.goal, self.found, self.access.state
        first = found.first
        for name in ("directory", "final", "implicit_write", "locked", "first"):
            m.d.comb += state[name].eq(goal.state[name])
        for name in ("second", "s_level", "g_level"):
            m.d.comb += state[name].eq(found[name])
        m.d.comb += [
            state.glob.eq(
                Mux(
                    first,
                    Mux(found.hits[0], found.table0.glob, found.table1.glob),
                    goal.state.glob,
                )
            ),
            state.gpa_page.eq(
                Mux(
                    first,
                    Mux(found.hits[0], found.table0.gpa_page, found.table1.gpa_page),
                    goal.gpa_page,
                )[: gpa_page_bits(self.config)]
            ),
            state.size.eq(goal.state.size),
            state.cut.eq(goal.state.cut),
        ]
        if self.config.msi_flat:
            with m.If(~found.file & (found.limit < goal.state.size)):
                m.d.comb += [state.size.eq(found.limit), state.cut.eq(1)]

    def _offset(self, m: Module) -> None:
        """Offset of an entry in its table's page: of the next, or of the first stage's."""
        config, goal, access = self.config, self.goal, self.access
        second, page = access.state.second, Signal(47)
        m.d.comb += page.eq(Mux(second, goal.gpa_page, goal.iova[PAGE_SHIFT:]))
        level = Mux(second, access.state.g_level, access.state.s_level)
        if config.sv32 or config.sv32x4:
            m.d.comb += access.narrow.eq(Mux(second, goal.g_levels, goal.s_levels) == 2)
        self._index(m, access.offset, page, level, access.narrow)
        if config.end:
            m.d.comb += access.state.form.big.eq(Mux(second, self.be, goal.big))
        m.d.comb += [
            access.state.form.narrow.eq(access.narrow),
            access.state.form.upper.eq(access.offset[2]),
        ]
        # A fault of the second stage tells of the entry of the first.
        self.met = Signal(PAGE_SHIFT)
        narrow = goal.s_levels == 2
        self._index(m, self.met, goal.iova[PAGE_SHIFT:], goal.state.s_level, narrow)

    def _index(self, m: Module, offset, page, level, narrow) -> None:
        """Drive the offset of a page's entry in a table of a level."""
        config = self.config
        with m.Switch(level):
            for number in range(largest_levels(config)):
                with m.Case(number):
                    index = page[9 * number : 9 * number + 9]
                    m.d.comb += offset.eq(Cat(Const(0, 3), index))
        if config.sv32 or config.sv32x4:
            with m.If(narrow):
                index = Mux(level == 0, page[:10], page[10:20])
                m.d.comb += offset.eq(Cat(Const(0, 2), index))

    def _ended(self, m: Module, beyond, outside) -> None:
        """Whether the walk is at its end, and with what."""
        goal, end, found, msi = self.goal, self.end, self.found, self.msi
        state, second, first = goal.state, goal.second, goal.state.first
        done, too_wide = goal.goal == Goal.DONE, Signal()
        fault, final = Signal(WalkFault), Signal(WalkFault)
        # A translation to where there is no memory is none.  The directory looks for itself.
        nowhere = Mux(goal.judged, msi.outside, outside & ~state.directory)
        nowhere = (goal.fault == WalkFault.NONE) & nowhere
        m.d.comb += [
            too_wide.eq(found.enters & found.too_wide),
            self.ends.eq(done | ((too_wide | beyond) & ~found.file)),
            final.eq(Mux(nowhere, WalkFault.ACCESS, goal.fault)),
            fault.eq(Mux(done, final, Mux(too_wide, WalkFault.GUEST, WalkFault.ACCESS))),
            end.index.eq(goal.index),
            end.directory.eq(state.directory),
            end.implicit.eq(Mux(done, goal.implicit, ~state.final)),
            end.implicit_write.eq(
                Mux(done, goal.implicit_write, ~state.final & state.implicit_write)
            ),
            end.gpa.eq(Cat(Mux(state.final, goal.iova[:PAGE_SHIFT], self.met), goal.gpa_page)),
            end.r.eq(first.r & second.r),
            end.w.eq(first.w & second.w),
            end.x.eq(first.x & second.x),
            end.u.eq(first.u),
            end.glob.eq(state.glob & ~goal.judged),
            end.dirty.eq(first.dirty & second.dirty),
            end.pbmt.eq(Mux(first.pbmt.any(), first.pbmt, second.pbmt)),
            end.ppn.eq(Mux(goal.judged, msi.ppn, state.table)),
            end.size.eq(goal.size),
            end.piece.eq((goal.s_levels != 0) & (state.cut | goal.piece)),
            end.cacheable.eq(goal.cacheable & (fault == WalkFault.NONE)),
        ]
        with m.Switch(fault):
            for why, causes in _CAUSES.items():
                with m.Case(why):
                    for access, cause in zip(AccessKind, causes, strict=True):
                        with m.If(goal.access == access):
                            m.d.comb += end.cause.eq(cause)
            with m.Case(WalkFault.CORRUPT):
                m.d.comb += end.cause.eq(Cause.PT_CORRUPTION)
        # What else the unit says is of use with ``mrif``.
        m.d.comb += [end[name].eq(msi[name]) for name in ("mrif_address", "nid", "notice_ppn")]
        with m.If(goal.judged):
            m.d.comb += end.mrif.eq(msi.mrif)
            with m.If(~msi.outside):
                m.d.comb += end.cause.eq(msi.cause)
