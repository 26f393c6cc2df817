"""From the goal of a walk's step to the entry that is accessed next, by the walk caches."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from rtl.iommu.msi import is_interrupt_file, range_without_files
from rtl.iommu.requests import QosId, WalkResult
from rtl.iommu.seams import Invalidate
from rtl.iommu.walk_cache import TableKey, TableOfStage, WalkCache
from rtl.iommu.walk_step import GPA_BITS, Goal, Outcome, WalkState

__all__ = ["CACHED_LEVELS", "WalkAccess", "WalkEntry", "WalkGoal", "walk_cache_entries"]

#: Levels of tables that the walk caches hold: those of 4 KiB pages, and those above.
CACHED_LEVELS = (0, 1)


def walk_cache_entries(config: IommuConfig, level: int) -> int:
    """Entries that each stage's cache of a level has."""
    return max(2, config.walk_cache >> 2 * level) if config.walk_cache else 0


class WalkGoal(data.Struct):
    """A step's outcome with what of its context the access needs."""

    index: 8
    outcome: Outcome
    iova: 64
    s_levels: 3
    g_levels: 3
    sxl: 1
    g_ppn: 44
    gscid: 16
    pscid: 20
    user: QosId
    msi: 1
    msi_ppn: 44
    msi_mask: 52
    msi_pattern: 52
    executes: 1
    resumed: 1
    keeps: 1  # its walk may fill caches
    cacheable: 1
    access: 12  # causes by kind of access
    guest: 12


class WalkAccess(data.Struct):
    """What is read or stored next."""

    state: WalkState
    table: 44
    offset: 12
    narrow: 1


class WalkEntry(wiring.Component):
    """Chooses the entry that a walk accesses next, or finds that the walk is at its end.

    Where a stage begins, the walk caches are asked for the deepest table that is known.  What was
    found on the way is kept there, unless the walk is older than an invalidation.

    Latency
    -------
    Everything follows ``ready`` in the same cycle.

    Members
    -------
    ready_valid : ``In(1)``; ready : ``In(WalkGoal)``
        A step's outcome.
    leaves : ``In(1)``
        It is acted upon in this cycle.
    access : ``Out(WalkAccess)``
        Entry to access, and the walk's state from then on.
    waits : ``Out(1)``
        The final address is an interrupt file's.
    ends : ``Out(1)``; end : ``Out(WalkResult)``
        The walk is over.
    stale_all : ``In(1)``
        An invalidation takes effect.
    invalidate : ``In(stream.Signature(Invalidate))``
        For the walk caches; ``ready`` does not depend on ``valid``.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "ready_valid": In(1),
                "ready": In(WalkGoal),
                "leaves": In(1),
                "access": Out(WalkAccess),
                "waits": Out(1),
                "ends": Out(1),
                "end": Out(WalkResult),
                "stale_all": In(1),
                "invalidate": In(stream.Signature(Invalidate)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ready, access, out = self.ready, self.access, self.ready.outcome
        goal, state = out.goal, out.state
        narrow_s = ready.s_levels == 2 if self.config.sv32 else Const(0, 1)
        narrow_g = ready.g_levels == 2 if self.config.sv32x4 else Const(0, 1)
        two = ready.g_levels != 0
        first, second = self._caches(m)
        begins, enters = goal == Goal.FIRST, Signal()
        gpa, width_ok = Signal(64), Signal()
        table_gpa = Cat(self._offset(ready.iova, state.s_level, narrow_s), state.table)
        final = goal == Goal.FINAL
        m.d.comb += [
            gpa.eq(Mux(final, state.gpa, table_gpa)),
            enters.eq(final | (goal == Goal.TABLE) | (begins & two & ~first.hit)),
            second.key.gv.eq(1),
            second.key.gscid.eq(ready.gscid),
            second.address.eq(gpa),
            access.state.eq(state),
        ]
        for levels, bits in GPA_BITS.items():
            with m.If(ready.g_levels == levels):
                m.d.comb += width_ok.eq(~gpa[bits:].any())
        if self.config.sv32 or self.config.sv32x4:
            with m.If(ready.sxl & gpa[GPA_BITS[2] :].any()):
                m.d.comb += width_ok.eq(0)
        file = Signal()
        if self.config.msi_flat:
            page = state.gpa[12:]
            m.d.comb += file.eq(
                final
                & ready.msi
                & ~state.directory
                & is_interrupt_file(page, ready.msi_mask, ready.msi_pattern)
            )
            limit = range_without_files(m, page, ready.msi_mask, ready.msi_pattern)
            with m.If(final & ready.msi & ~file & (limit < state.size)):
                m.d.comb += [access.state.size.eq(limit), access.state.cut.eq(1)]
        with m.If(enters):
            m.d.comb += [
                access.state.second.eq(1),
                access.state.gpa.eq(gpa),
                access.narrow.eq(narrow_g),
                access.state.g_level.eq(ready.g_levels - 1),
                access.table.eq(self._root(gpa)),
                access.offset.eq(self._offset(gpa, ready.g_levels - 1, narrow_g)),
            ]
            with m.If(second.hit):
                m.d.comb += [
                    access.state.g_level.eq(second.level),
                    access.table.eq(second.found.ppn),
                    access.offset.eq(self._offset(gpa, second.level, narrow_g)),
                ]
        with m.Elif(begins & first.hit):
            offset = self._offset(ready.iova, first.level, narrow_s)
            m.d.comb += [
                access.state.second.eq(0),
                access.state.s_level.eq(first.level),
                access.state.glob.eq(first.found.glob),
                access.state.gpa.eq(Cat(offset, first.found.gpa_ppn)),
                access.narrow.eq(narrow_s),
                access.table.eq(first.found.ppn),
                access.offset.eq(offset),
            ]
        with m.Else():
            source = Mux(state.second, state.gpa, ready.iova)
            level = Mux(state.second, state.g_level, state.s_level)
            m.d.comb += [
                access.narrow.eq(Mux(state.second, narrow_g, narrow_s)),
                access.table.eq(state.table),
                access.offset.eq(self._offset(source, level, access.narrow)),
            ]
        m.d.comb += access.state.table.eq(access.table)
        beyond = (access.table >> self.config.pas - 12).any()
        self._ended(m, enters & ~width_ok & ~file, beyond & (goal != Goal.DONE) & ~file, gpa, file)
        return m

    def _offset(self, address, level, narrow):
        """Offset of an entry in its table's page, and the bits above that an x4 root adds."""
        wide = Cat(Const(0, 3), address.bit_select(12, 9))
        for number in range(1, 5):
            chosen = Cat(Const(0, 3), address[12 + 9 * number : 21 + 9 * number])
            wide = Mux(level == number, chosen, wide)
        if not (self.config.sv32 or self.config.sv32x4):
            return wide
        short = Mux(level == 0, address[12:22], address[22:32])
        return Mux(narrow, Cat(Const(0, 2), short), wide)

    def _root(self, gpa):
        """Page of a second stage's root table that holds the entry of an address."""
        extra = 0
        for levels, bits in GPA_BITS.items():
            extra = Mux(self.ready.g_levels == levels, gpa[bits - 2 : bits], extra)
        return self.ready.g_ppn | extra

    def _ended(self, m: Module, too_wide, beyond, gpa, file) -> None:
        """Whether the walk is at its end, and with what."""
        ready, out, end = self.ready, self.ready.outcome, self.end
        state, second = out.state, out.second
        first = state.first
        m.d.comb += [
            self.waits.eq(file),
            self.ends.eq((out.goal == Goal.DONE) | too_wide | beyond),
            end.index.eq(ready.index),
            end.directory.eq(state.directory),
            end.cause.eq(out.cause),
            end.implicit.eq(out.implicit),
            end.implicit_write.eq(out.implicit_write),
            end.gpa.eq(state.gpa),
            end.r.eq(first.r & second.r),
            end.w.eq(first.w & second.w),
            end.x.eq(first.x & second.x),
            end.u.eq(first.u),
            end.glob.eq(state.glob),
            end.dirty.eq(first.dirty & second.dirty),
            end.pbmt.eq(Mux(first.pbmt.any(), first.pbmt, second.pbmt)),
            end.ppn.eq(out.ppn),
            end.size.eq(out.size),
            end.piece.eq((ready.s_levels != 0) & (state.cut | (out.size < state.size))),
            end.cacheable.eq(ready.cacheable & (out.cause == 0) & (out.goal == Goal.DONE)),
        ]
        with m.If(too_wide):
            m.d.comb += [
                end.cause.eq(ready.guest),
                end.gpa.eq(gpa),
                end.implicit.eq(~state.final),
                end.implicit_write.eq(~state.final & state.implicit_write),
            ]
        with m.Elif(beyond):
            m.d.comb += end.cause.eq(ready.access)

    def _caches(self, m: Module):
        """Walk caches of both stages; returns what the two probes find."""
        first, second = _Probe("first"), _Probe("second")
        self.invalidate_busy = Const(0, 1)
        ready, out = self.ready, self.ready.outcome
        gv = ready.g_levels != 0
        m.d.comb += [
            first.address.eq(ready.iova),
            first.key.gv.eq(gv),
            first.key.gscid.eq(Mux(gv, ready.gscid, 0)),
            first.key.pscid.eq(ready.pscid),
        ]
        self.probes = (first, second)
        for probe, is_second in ((first, False), (second, True)):
            narrow = (ready.g_levels if is_second else ready.s_levels) == 2
            for level in reversed(CACHED_LEVELS):
                entries = walk_cache_entries(self.config, level)
                if entries:
                    cache = WalkCache(entries=entries, second=is_second)
                    m.submodules[f"{probe.name}_level{level}"] = cache
                    self._cache(m, probe, cache, level, narrow, is_second)
        fills = ready.keeps & ~self.stale_all
        m.d.comb += [
            first.fills.eq(out.table_first & fills),
            second.fills.eq(out.table_second & fills),
        ]
        m.d.comb += self.invalidate.ready.eq(~self.invalidate_busy)
        return first, second

    def _cache(self, m: Module, probe, cache, level: int, narrow, is_second: bool) -> None:
        """Probe and fill the cache of a level; deeper levels, made later, win."""
        ready, out = self.ready, self.ready.outcome
        state = out.state

        def prefix(address):
            return Mux(narrow, address[22 + 10 * level :], address[21 + 9 * level :])

        # What is found belongs to the address of the step that fills.
        at = state.g_level if is_second else state.s_level
        filled = state.gpa if is_second else ready.iova
        m.d.comb += [
            cache.key.eq(probe.key),
            cache.key.prefix.eq(prefix(probe.address)),
            cache.fill_en.eq(self.ready_valid & self.leaves & probe.fills & (at == level)),
            cache.fill_key.eq(probe.key),
            cache.fill_key.prefix.eq(prefix(filled)),
            cache.fill_table.ppn.eq(out.found),
            cache.fill_table.gpa_ppn.eq(state.gpa[12:56]),
            cache.fill_table.glob.eq(state.glob),
            cache.invalidate_en.eq(self.invalidate.valid & self.invalidate.ready),
            cache.invalidate.eq(self.invalidate.payload),
        ]
        with m.If(cache.hit):
            m.d.comb += [probe.hit.eq(1), probe.level.eq(level), probe.found.eq(cache.found)]
        self.invalidate_busy = self.invalidate_busy | cache.busy


class _Probe:
    """What a stage looks for in its walk caches, and what they find."""

    def __init__(self, name: str):
        self.name = name
        self.key = Signal(TableKey, name=f"{name}_key")
        self.hit = Signal(name=f"{name}_hit")
        self.level = Signal(3, name=f"{name}_level")
        self.found = Signal(TableOfStage, name=f"{name}_found")
        self.fills = Signal(name=f"{name}_fills")
        self.address = Signal(64, name=f"{name}_address")
