"""Page-table walker: many two-stage walks at once, one step per memory answer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.translation import AddressType
from rtl.bus.axi import Axi4, Burst
from rtl.iommu.msi import MsiUnit, is_interrupt_file, range_without_files
from rtl.iommu.requests import Guest, Held, QosId, WalkResult, WalkStart
from rtl.iommu.seams import PIPELINE_DEPTH, DirectoryControl, Invalidate
from rtl.iommu.walk_cache import TableKey, TableOfStage, WalkCache
from rtl.iommu.walk_step import GPA_BITS, Goal, Outcome, StepKind, WalkState, WalkStep

__all__ = ["CACHED_LEVELS", "Walker", "walk_cache_entries"]

#: Levels of tables that the walk caches hold: those of 4 KiB pages, and those above.
CACHED_LEVELS = (0, 1)


def walk_cache_entries(config: IommuConfig, level: int) -> int:
    """Entries that each stage's cache of a level has."""
    return max(2, config.walk_cache >> 2 * level) if config.walk_cache else 0


class _Ready(data.Struct):
    """A step's outcome with what of its context the access needs."""

    index: 8
    outcome: Outcome
    iova: 64
    s_levels: 3
    g_levels: 3
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


class _Stored(data.Struct):
    """Memory's answer to a store."""

    id: 8
    resp: 2


class _Access(data.Struct):
    """What is read or stored next."""

    state: WalkState
    table: 44
    offset: 12
    narrow: 1


class Walker(wiring.Component):
    """Advances as many walks as the miss table has entries, their states in RAM, one step a cycle.

    A memory answer is registered with its walk's state, judged (:class:`WalkStep`), and becomes the
    next address, shortened by the walk caches where a stage begins.  Final addresses that are
    virtual interrupt files go through the :class:`~rtl.iommu.msi.MsiUnit`, one after another.

    Latency
    -------
    From an accepted read address to the next one of the same walk: the memory's latency + 3.  From
    ``start`` to the first address 3; from the last answer to ``result`` 2.

    Members
    -------
    start : ``In(stream.Signature(WalkStart))``
        Begins walk ``index``, which must not be under way; the directory has one walk at a time.
    entry_index : ``Out(8)``; entry : ``In(Held)``
        Requests of walks; the cycle after.
    guest : ``In(Guest)``
        Second stage of the directory's walk.
    directory : ``In(DirectoryControl)``
    stale : ``In(entries)``; stale_all : ``In(1)``
        Walks that are older than an invalidation, and an invalidation.
    invalidate : ``In(stream.Signature(Invalidate))``
        For the walk caches; takes effect when accepted.
    result : ``Out(stream.Signature(WalkResult))``
        Ends a walk.
    memory : ``Out(Axi4(...))``
        Reads of 8 (Sv32: 4; MSI PTEs: 16) bytes, exclusive reads and writes of entries whose A or D
        change.  ID is the walk; the directory's is the first above.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        self.directory_id, self.msi_id = self.entries, self.entries + 1
        self.id_width = self.msi_id.bit_length()
        super().__init__(
            {
                "start": In(stream.Signature(WalkStart)),
                "entry_index": Out(8),
                "entry": In(Held),
                "guest": In(Guest),
                "directory": In(DirectoryControl),
                "stale": In(self.entries),
                "stale_all": In(1),
                "invalidate": In(stream.Signature(Invalidate)),
                "result": Out(stream.Signature(WalkResult)),
                "memory": Out(
                    Axi4(
                        addr_width=config.pas,
                        data_width=64,
                        id_width=self.id_width,
                        user=QosId if config.qosid else None,
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.step = self.step = WalkStep(self.config)
        self.ready, self.ready_valid = Signal(_Ready), Signal()
        self.access = Signal(_Access)
        self.ready_leaves = Signal()
        self.own_address = Signal()  # the address register takes the walk's
        self.waits = Signal()  # for the MSI unit
        self.msi_ends = Signal()  # the MSI unit's result is offered
        self.end = Signal(WalkResult)
        self.ends = Signal()
        self.resume_valid, self.resume_index, self.resume_taken = Signal(), Signal(8), Signal()
        states = memory.Memory(shape=WalkState, depth=self.entries + 1, init=[])
        m.submodules.states = states
        self._answers(m, states)
        self._judged(m)
        self._next_access(m)
        self._addresses(m)
        self._results(m)
        write = states.write_port()
        ready = self.ready
        m.d.comb += [
            write.addr.eq(self._row(ready.outcome.state.directory, ready.index)),
            write.data.eq(self.access.state),
            write.en.eq(self.ready_valid & self.ready_leaves & ~self.ends),
        ]
        return m

    def _row(self, directory, index):
        return Mux(directory, self.directory_id, index)

    def _stored(self, m: Module):
        """Answers to stores; returns whether there is one, which, and what takes it.

        They are never kept waiting: the fault queue's may be behind them, and only when a record is
        written may a walk end and others move on.
        """
        b = self.memory.b
        m.submodules.stored = stored = fifo.SyncFIFO(
            width=_Stored.as_shape().size, depth=self.entries + 1
        )
        answer = Signal(_Stored)
        m.d.comb += [
            answer.id.eq(b.payload.id),
            answer.resp.eq(b.payload.resp),
            stored.w_data.eq(answer),
            stored.w_en.eq(b.valid),
            b.ready.eq(1),
        ]
        return stored.r_rdy, data.View(_Stored, stored.r_data), stored.r_en

    def _answers(self, m: Module, states) -> None:
        """Register what moves a walk on, and read its state and its request."""
        r, start = self.memory.r, self.start
        b_valid, b, take_stored = self._stored(m)
        read = states.read_port()
        step = self.step
        valid, index, kind = Signal(), Signal(8), Signal(StepKind)
        moves, load = Signal(), Signal()
        directory_entry = Signal(8)
        for_msi = r.payload.id == self.msi_id if self.config.msi_flat else Const(0, 1)
        m.d.comb += [
            load.eq(~valid | moves),
            r.ready.eq(load | for_msi),
            take_stored.eq(load & ~(r.valid & ~for_msi)),
            self.resume_taken.eq(self.resume_valid & take_stored & ~b_valid),
            start.ready.eq(take_stored & ~b_valid & ~self.resume_valid),
        ]
        row, new_kind, coming = Signal(8), Signal(StepKind), Signal()
        m.d.comb += coming.eq(1)
        with m.If(r.valid & ~for_msi):
            m.d.comb += [row.eq(r.payload.id), new_kind.eq(StepKind.READ)]
        with m.Elif(b_valid):
            m.d.comb += [row.eq(b.id), new_kind.eq(StepKind.STORED)]
        with m.Elif(self.resume_valid):
            m.d.comb += [row.eq(self.resume_index), new_kind.eq(StepKind.RESUME)]
        with m.Else():
            m.d.comb += [
                row.eq(self._row(start.payload.directory, start.payload.index)),
                new_kind.eq(StepKind.START),
                coming.eq(start.valid),
            ]
        entry = Signal(8)
        m.d.comb += entry.eq(
            Mux(
                new_kind == StepKind.START,
                start.payload.index,
                Mux(row == self.directory_id, directory_entry, row),
            )
        )
        with m.If(load):
            m.d.sync += [
                valid.eq(coming),
                index.eq(entry),
                kind.eq(new_kind),
                step.start_directory.eq(start.payload.directory),
                step.start_gpa.eq(start.payload.gpa),
                step.answer.eq(r.payload.data),
                step.resp.eq(Mux(r.valid & ~for_msi, r.payload.resp, b.resp)),
            ]
        with m.If(start.valid & start.ready & start.payload.directory):
            m.d.sync += directory_entry.eq(start.payload.index)
        m.d.comb += [
            read.addr.eq(row),
            read.en.eq(load),
            self.entry_index.eq(Mux(load, entry, index)),
            step.kind.eq(kind),
            step.state.eq(read.data),
            step.held.eq(self.entry),
            step.guest.eq(self.guest),
            step.be.eq(self.directory.be),
        ]
        m.d.comb += moves.eq(~self.ready_valid | self.ready_leaves)
        self.judged_valid, self.judged_index, self.judged_moves = valid, index, moves
        self.judged_kind = kind

    def _judged(self, m: Module) -> None:
        """Register the step's outcome with what the access needs of the context."""
        step, ready = self.step, self.ready
        held, context = step.held, step.held.context
        directory = step.directory
        stale = Signal()
        with m.Switch(self.judged_index):
            for number in range(self.entries):
                with m.Case(number):
                    m.d.comb += stale.eq(self.stale[number])
        with m.If(self.judged_moves):
            m.d.sync += [
                self.ready_valid.eq(self.judged_valid),
                ready.index.eq(self.judged_index),
                ready.outcome.eq(step.outcome),
                ready.iova.eq(held.request.iova),
                ready.s_levels.eq(step.s_levels),
                ready.g_levels.eq(step.g_levels),
                ready.g_ppn.eq(Mux(directory, self.guest.g_ppn, context.g_ppn)),
                ready.gscid.eq(Mux(directory, self.guest.gscid, context.gscid)),
                ready.pscid.eq(context.pscid),
                ready.user.rcid.eq(Mux(directory, self.guest.rcid, context.rcid)),
                ready.user.mcid.eq(Mux(directory, self.guest.mcid, context.mcid)),
                ready.msi.eq(context.msi & ~directory),
                ready.msi_ppn.eq(context.msi_ppn),
                ready.msi_mask.eq(context.msi_mask),
                ready.msi_pattern.eq(context.msi_pattern),
                ready.executes.eq(step.executes),
                ready.resumed.eq(self.judged_kind == StepKind.RESUME),
                ready.keeps.eq(~stale & ~self.stale_all & ~directory),
                ready.cacheable.eq(
                    ~directory & ~((held.request.at == AddressType.ATS_REQUEST) & context.t2gpa)
                ),
                ready.access.eq(step.access_fault),
                ready.guest.eq(step.guest_fault),
            ]
        with m.Elif(self.stale_all):
            m.d.sync += ready.keeps.eq(0)

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

    def _next_access(self, m: Module) -> None:
        """From a goal to the entry that is accessed next."""
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
            cache.fill_en.eq(self.ready_valid & self.ready_leaves & probe.fills & (at == level)),
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

    def _addresses(self, m: Module) -> None:
        """Address registers; the MSI unit's reads come first."""
        ready, access, out = self.ready, self.access, self.ready.outcome
        ar, aw, w = self.memory.ar, self.memory.aw, self.memory.w
        msi = self._msi(m)
        ar_free, store_free = ~ar.valid | ar.ready, ~aw.valid & ~w.valid
        stores = out.goal == Goal.STORE
        unit_free = self.msi_walk_ready
        m.d.comb += [
            self.ready_leaves.eq(
                Mux(
                    self.ends,
                    self.result.ready & ~self.msi_ends,
                    Mux(
                        self.waits,
                        ~ready.resumed | unit_free,
                        Mux(stores, store_free, ar_free & ~msi.valid),
                    ),
                )
            ),
            self.own_address.eq(
                self.ready_valid & self.ready_leaves & ~self.ends & ~self.waits & ~stores
            ),
            msi.ready.eq(ar_free),
        ]
        address = Cat(access.offset, access.table)
        row = self._row(out.state.directory, ready.index)
        with m.If(ar.ready):
            m.d.sync += ar.valid.eq(0)
        with m.If(msi.valid & ar_free):
            m.d.sync += [
                ar.valid.eq(1),
                ar.payload.addr.eq(msi.payload.addr),
                ar.payload.id.eq(self.msi_id),
                ar.payload.len.eq(1),
                ar.payload.size.eq(3),
                ar.payload.lock.eq(0),
            ]
        with m.Elif(self.own_address):
            m.d.sync += [
                ar.valid.eq(1),
                ar.payload.addr.eq(address),
                ar.payload.id.eq(row),
                ar.payload.len.eq(0),
                ar.payload.size.eq(Mux(access.narrow, 2, 3)),
                ar.payload.lock.eq(out.lock & (out.goal == Goal.READ)),
            ]
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(w.ready):
            m.d.sync += w.valid.eq(0)
        with m.If(self.ready_valid & self.ready_leaves & ~self.ends & ~self.waits & stores):
            lanes = Mux(access.offset[2], 0xF0, 0x0F)
            m.d.sync += [
                aw.valid.eq(1),
                aw.payload.addr.eq(address),
                aw.payload.id.eq(row),
                aw.payload.size.eq(Mux(access.narrow, 2, 3)),
                aw.payload.lock.eq(1),
                w.valid.eq(1),
                w.payload.data.eq(out.data),
                w.payload.strb.eq(Mux(access.narrow, lanes, 0xFF)),
                w.payload.last.eq(1),
            ]
        m.d.comb += [ar.payload.burst.eq(Burst.INCR), aw.payload.burst.eq(Burst.INCR)]
        if self.config.qosid:
            with m.If(msi.valid & ar_free):
                m.d.sync += ar.payload.user.eq(msi.payload.user)
            with m.Elif(self.own_address):
                m.d.sync += ar.payload.user.eq(ready.user)
            with m.If(store_free):
                m.d.sync += aw.payload.user.eq(ready.user)

    def _msi(self, m: Module):
        """The MSI unit and who waits for it; returns its stream of addresses."""
        ready, state = self.ready, self.ready.outcome.state
        if not self.config.msi_flat:
            self.msi_walk_ready, self.unit = Const(1, 1), None
            return _NoAddress()
        m.submodules.msi = unit = self.unit = MsiUnit(self.config)
        m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(width=8, depth=self.entries)
        busy = Signal()  # someone is on the way to the unit, or in it
        handed = self.ready_valid & self.waits & ~self.ends & ready.resumed
        r, walk = self.memory.r, unit.walk
        m.d.comb += [
            waiting.w_data.eq(ready.index),
            waiting.w_en.eq(
                self.ready_valid & self.ready_leaves & self.waits & ~self.ends & ~ready.resumed
            ),
            self.resume_valid.eq(waiting.r_rdy & ~busy),
            self.resume_index.eq(waiting.r_data),
            waiting.r_en.eq(self.resume_taken),
            walk.valid.eq(handed),
            walk.payload.index.eq(ready.index),
            walk.payload.gpa.eq(state.gpa),
            walk.payload.mask.eq(ready.msi_mask),
            walk.payload.ppn.eq(ready.msi_ppn),
            walk.payload.first.eq(state.first),
            walk.payload.executes.eq(ready.executes),
            walk.payload.user.eq(ready.user),
            unit.be.eq(self.directory.be),
            unit.answer_valid.eq(r.valid & (r.payload.id == self.msi_id)),
            unit.answer.eq(r.payload.data),
            unit.resp.eq(r.payload.resp),
            unit.last.eq(r.payload.last),
        ]
        with m.If(self.resume_taken):
            m.d.sync += busy.eq(1)
        with m.Elif(unit.result.valid & unit.result.ready):
            m.d.sync += busy.eq(0)
        self.msi_walk_ready = walk.ready
        return unit.address

    def _results(self, m: Module) -> None:
        """Ends of walks, those of the MSI unit first."""
        own = self.ready_valid & self.ends
        if self.unit is None:
            m.d.comb += [self.result.valid.eq(own), self.result.payload.eq(self.end)]
            return
        # An end that is being offered stays.
        unit, offering = self.unit.result, Signal()
        m.d.sync += offering.eq(own & ~self.msi_ends & ~self.result.ready)
        m.d.comb += [
            self.msi_ends.eq(unit.valid & ~offering),
            self.result.valid.eq(own | unit.valid),
            self.result.payload.eq(
                Mux(self.msi_ends, unit.payload.as_value(), self.end.as_value())
            ),
            unit.ready.eq(self.result.ready & self.msi_ends),
        ]


class _NoAddress:
    """Stands for the MSI unit's reads where there is none."""

    def __init__(self):
        layout = data.StructLayout({"addr": 1, "user": QosId})
        self.valid, self.ready, self.payload = Signal(), Signal(), Signal(layout)


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
