"""Page-table walker: many two-stage walks at once, one step per memory answer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.iommu import PAGE_SHIFT
from rtl.bus.axi import Axi4, Burst
from rtl.bus.stream import StreamStage
from rtl.iommu.msi import MsiUnit
from rtl.iommu.requests import Guest, Held, QosId, WalkResult, WalkStart
from rtl.iommu.seams import PIPELINE_DEPTH, DirectoryControl, Invalidate
from rtl.iommu.walk_entry import WalkEntry
from rtl.iommu.walk_lookup import WalkLookup
from rtl.iommu.walk_pte import ordered
from rtl.iommu.walk_records import (
    AccessKind,
    Form,
    Goal,
    StepKind,
    WalkFound,
    WalkGoal,
    WalkState,
)
from rtl.iommu.walk_step import WalkStep

__all__ = ["Walker"]


#: Places for addresses and for results; and from how many on nothing more is taken in.  What is
#: under way then, a step in each of five registers at most, still has a place.
_PLACES, _MANY = 16, 8


class _Stored(data.Struct):
    """Memory's answer to a store."""

    id: 8
    resp: 2


class _Resume(data.Struct):
    """A walk that waits for the MSI unit no more."""

    index: 8
    kind: StepKind


class _Move(data.Struct):
    """What moves a walk on, but for an entry that was read."""

    index: 8
    kind: StepKind
    directory: 1
    page: 44
    resp: 2


class _Access(data.Struct):
    """A read or a store on its way to memory."""

    addr: 56
    id: 8
    narrow: 1
    lock: 1
    store: 1
    data: 64
    user: QosId


class Walker(wiring.Component):
    """Advances as many walks as the miss table has entries, their states in RAM, one step a cycle.

    A memory answer is registered with its walk's state and judged (:class:`WalkStep`); what comes
    of it is looked up in the walk caches where a stage begins (:class:`WalkLookup`), and becomes
    the next address (:class:`WalkEntry`).  Final addresses that are virtual interrupt files go
    through the :class:`~rtl.iommu.msi.MsiUnit`, one after another.

    Steps never wait for each other: what memory or the taker of results does not accept at once
    waits in queues at the end, and while these hold much, nothing is taken in.

    Latency
    -------
    From an accepted read address to the next one of the same walk: the memory's latency + 3.  From
    ``start`` to the first address 4; from the last answer to ``result`` 3.  With walk caches each
    takes two cycles more.

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
        m.submodules.lookup = self.lookup = WalkLookup(self.config)
        m.submodules.entry = walk_entry = self.walk_entry = WalkEntry(self.config)
        self.ready, self.found, self.ready_valid = Signal(WalkGoal), Signal(WalkFound), Signal()
        self.access, self.ends, self.waits = walk_entry.access, walk_entry.ends, walk_entry.waits
        self.room = Signal()  # for what a step taken in now may ask for
        # A walk that moves on by itself.
        self.resume = stream.Signature(_Resume).create()
        states = memory.Memory(shape=WalkState, depth=self.entries + 1, init=[])
        m.submodules.states = states
        self._answers(m, states)
        self._looked_up(m)
        m.d.comb += [
            walk_entry.goal.eq(self.ready),
            walk_entry.found.eq(self.found),
            walk_entry.be.eq(self.directory.be),
        ]
        results = self._results(m)
        accesses = self._addresses(m)
        m.d.sync += self.room.eq((results.level < _MANY) & (accesses.level < _MANY))
        write = states.write_port()
        m.d.comb += [
            write.addr.eq(self._row(self.ready.state.directory, self.ready.index)),
            write.data.eq(self.access.state),
            write.en.eq(self.ready_valid & ~self.ends),
        ]
        return m

    def _row(self, directory, index):
        return Mux(directory, self.directory_id, index)

    def _walk_of(self, identifier):
        """What has memory's answer: whether it is the directory's walk, and the entry."""
        directory = identifier == self.directory_id
        return directory, Mux(directory, self.directory_entry, identifier)

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

    def _moves(self, m: Module):
        """Who else moves on, registered so that what was read is before all of it; its stream."""
        start, resume = self.start, self.resume
        b_valid, b, take_stored = self._stored(m)
        m.submodules.moves = moves = StreamStage(_Move)
        move, first = moves.i.payload, moves.i.ready
        self.directory_entry = Signal(8)
        m.d.comb += [
            moves.i.valid.eq(b_valid | resume.valid | start.valid),
            take_stored.eq(first),
            resume.ready.eq(first & ~b_valid),
            start.ready.eq(first & ~b_valid & ~resume.valid),
            move.page.eq(start.payload.gpa[PAGE_SHIFT:]),
            move.resp.eq(b.resp),
        ]
        with m.If(b_valid):
            directory, entry = self._walk_of(b.id)
            m.d.comb += [
                move.index.eq(entry),
                move.directory.eq(directory),
                move.kind.eq(StepKind.STORED),
            ]
        with m.Elif(resume.valid):
            m.d.comb += [move.index.eq(resume.payload.index), move.kind.eq(resume.payload.kind)]
        with m.Else():
            m.d.comb += [
                move.index.eq(start.payload.index),
                move.directory.eq(start.payload.directory),
                move.kind.eq(StepKind.START),
            ]
        with m.If(start.valid & start.ready & start.payload.directory):
            m.d.sync += self.directory_entry.eq(start.payload.index)
        return moves.o

    def _answers(self, m: Module, states) -> None:
        """Register what moves a walk on, and read its state and its request."""
        r = self.memory.r
        moves = self._moves(m)
        move = moves.payload
        read = states.read_port()
        step = self.step
        valid, index, kind = Signal(), Signal(8), Signal(StepKind)
        load, judged = Signal(), self.lookup.i
        for_msi = r.payload.id == self.msi_id if self.config.msi_flat else Const(0, 1)
        reads, new_index, row = Signal(), Signal(8), Signal(8)
        of_directory, entry = self._walk_of(r.payload.id)
        m.d.comb += [
            load.eq(self.room),
            r.ready.eq(load | for_msi),
            reads.eq(r.valid & ~for_msi),
            moves.ready.eq(load & ~reads),
            new_index.eq(Mux(reads, entry, move.index)),
            row.eq(Mux(reads, r.payload.id, self._row(move.directory, move.index))),
        ]
        # How the entry stands in the word is looked up beside, so that it is in order when judged.
        m.submodules.forms = forms = memory.Memory(shape=Form, depth=self.entries + 1, init=[])
        look, write = forms.read_port(domain="comb"), forms.write_port()
        m.d.comb += [
            look.addr.eq(r.payload.id),
            write.addr.eq(self._row(self.ready.state.directory, self.ready.index)),
            write.en.eq(self.ready_valid & ~self.ends),
            write.data.eq(self.access.state.form),
        ]
        m.d.sync += [
            valid.eq((reads | moves.valid) & load),
            index.eq(new_index),
            kind.eq(Mux(reads, StepKind.READ, move.kind)),
            step.starts.eq(~reads & (move.kind == StepKind.START)),
            step.directory.eq(Mux(reads, of_directory, move.directory)),
            step.start_page.eq(move.page),
            step.answer.eq(r.payload.data),
            step.pte.eq(ordered(self.config, r.payload.data, look.data)),
            step.resp.eq(Mux(reads, r.payload.resp, move.resp)),
        ]
        m.d.comb += [
            read.addr.eq(row),
            read.en.eq(1),
            self.entry_index.eq(new_index),
            step.kind.eq(kind),
            step.state.eq(read.data),
            step.held.eq(self.entry),
            step.guest.eq(self.guest),
        ]
        stale, goal = Signal(), judged.payload.goal
        with m.Switch(index):
            for number in range(self.entries):
                with m.Case(number):
                    m.d.comb += stale.eq(self.stale[number])
        m.d.comb += [
            judged.valid.eq(valid),
            judged.payload.eq(step.judged),
            goal.index.eq(index),
            goal.keeps.eq(~stale & ~self.stale_all & ~step.directory),
            self.lookup.begins_first.eq(step.starts & (goal.s_levels != 0)),
        ]

    def _looked_up(self, m: Module) -> None:
        """Register the goal with what is known of it."""
        lookup = self.lookup
        connect(m, flipped(self.invalidate), lookup.invalidate)
        m.d.comb += [lookup.stale_all.eq(self.stale_all), lookup.o.ready.eq(1)]
        m.d.sync += [
            self.ready_valid.eq(lookup.o.valid),
            self.ready.eq(lookup.o.payload),
            self.found.eq(lookup.found),
        ]

    def _results(self, m: Module) -> fifo.SyncFIFO:
        """Ends of walks, taken when their turn comes."""
        result, end = self.result, self.walk_entry.end
        m.submodules.results = results = fifo.SyncFIFO(
            width=WalkResult.as_shape().size, depth=_PLACES
        )
        m.d.comb += [
            result.valid.eq(results.r_rdy),
            result.payload.eq(results.r_data),
            results.r_en.eq(result.ready),
            results.w_en.eq(self.ready_valid & self.ends),
            results.w_data.eq(end),
        ]
        return results

    def _addresses(self, m: Module) -> fifo.SyncFIFO:
        """Address registers; the MSI unit's reads come first, and stores wait for their turn."""
        ready, access = self.ready, self.access
        ar, aw, w = self.memory.ar, self.memory.aw, self.memory.w
        msi = self._msi(m)
        m.submodules.accesses = queue = fifo.SyncFIFO(width=_Access.as_shape().size, depth=_PLACES)
        new, first = Signal(_Access), data.View(_Access, queue.r_data)
        ar_free, store_free = ~ar.valid | ar.ready, ~aw.valid & ~w.valid
        asks, at_once = Signal(), Signal()
        m.d.comb += [
            new.addr.eq(Cat(access.offset, access.state.table)),
            new.id.eq(self._row(ready.state.directory, ready.index)),
            new.narrow.eq(access.narrow),
            new.lock.eq(ready.lock & (ready.goal == Goal.READ)),
            new.store.eq(ready.goal == Goal.STORE),
            new.data.eq(ready.data),
            new.user.eq(ready.user),
            asks.eq(self.ready_valid & ~self.ends & ~self.waits),
            at_once.eq(ar_free & ~msi.valid & ~queue.r_rdy & ~new.store),
            queue.w_data.eq(new),
            queue.w_en.eq(asks & ~at_once),
            queue.r_en.eq(Mux(first.store, store_free, ar_free & ~msi.valid)),
            msi.ready.eq(ar_free),
        ]
        taken = data.View(_Access, Mux(queue.r_rdy, queue.r_data, new.as_value()))
        with m.If(ar_free):
            m.d.sync += [
                ar.valid.eq(msi.valid | (asks & at_once) | (queue.r_rdy & ~first.store)),
                ar.payload.addr.eq(Mux(msi.valid, msi.payload.addr, taken.addr)),
                ar.payload.id.eq(Mux(msi.valid, self.msi_id, taken.id)),
                ar.payload.len.eq(msi.valid),
                ar.payload.size.eq(Mux(taken.narrow & ~msi.valid, 2, 3)),
                ar.payload.lock.eq(taken.lock & ~msi.valid),
            ]
            if self.config.qosid:
                m.d.sync += ar.payload.user.eq(
                    Mux(msi.valid, msi.payload.user.as_value(), taken.user.as_value())
                )
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(w.ready):
            m.d.sync += w.valid.eq(0)
        with m.If(store_free):
            stores, lanes = queue.r_rdy & first.store, Mux(first.addr[2], 0xF0, 0x0F)
            m.d.sync += [
                aw.valid.eq(stores),
                aw.payload.addr.eq(first.addr),
                aw.payload.id.eq(first.id),
                aw.payload.size.eq(Mux(first.narrow, 2, 3)),
                aw.payload.lock.eq(1),
                w.valid.eq(stores),
                w.payload.data.eq(first.data),
                w.payload.strb.eq(Mux(first.narrow, lanes, 0xFF)),
                w.payload.last.eq(1),
            ]
            if self.config.qosid:
                m.d.sync += aw.payload.user.eq(first.user)
        m.d.comb += [ar.payload.burst.eq(Burst.INCR), aw.payload.burst.eq(Burst.INCR)]
        return queue

    def _msi(self, m: Module):
        """The MSI unit and who waits for it; returns its stream of addresses."""
        ready = self.ready
        if not self.config.msi_flat:
            return _NoAddress()
        m.submodules.msi = unit = MsiUnit(self.config)
        m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(width=8, depth=self.entries)
        busy = Signal()  # someone is on the way to the unit, or in it
        here = self.ready_valid & self.waits & ~self.ends
        r, walk, result = self.memory.r, unit.walk, unit.result
        resume, goes = self.resume, Signal()
        m.d.comb += [
            waiting.w_data.eq(ready.index),
            waiting.w_en.eq(here & ~ready.resumed),
            resume.valid.eq(result.valid | (waiting.r_rdy & ~busy)),
            resume.payload.index.eq(Mux(result.valid, result.payload.index, waiting.r_data)),
            resume.payload.kind.eq(Mux(result.valid, StepKind.MSI, StepKind.RESUME)),
            goes.eq(resume.valid & resume.ready),
            waiting.r_en.eq(goes & ~result.valid),
            result.ready.eq(resume.ready),
            walk.valid.eq(here & ready.resumed),  # the unit waits for it
            walk.payload.index.eq(ready.index),
            walk.payload.page.eq(ready.gpa_page),
            walk.payload.mask.eq(ready.msi_mask),
            walk.payload.ppn.eq(ready.msi_ppn),
            walk.payload.executes.eq(ready.access == AccessKind.EXECUTE),
            walk.payload.user.eq(ready.user),
            unit.be.eq(self.directory.be),
            unit.answer_valid.eq(r.valid & (r.payload.id == self.msi_id)),
            unit.answer.eq(r.payload.data),
            unit.resp.eq(r.payload.resp),
            unit.last.eq(r.payload.last),
            self.walk_entry.msi.eq(result.payload),
        ]
        with m.If(goes):
            m.d.sync += busy.eq(~result.valid)
        return unit.address


class _NoAddress:
    """Stands for the MSI unit's reads where there is none."""

    def __init__(self):
        layout = data.StructLayout({"addr": 1, "user": QosId})
        self.valid, self.ready, self.payload = Signal(), Signal(), Signal(layout)
