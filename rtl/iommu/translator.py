"""Translator: answers translation requests, one a cycle if they hit."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from rtl.bus.priority import lowest_bit, number_of
from rtl.iommu.answer import Answerer
from rtl.iommu.backlog import Backlog
from rtl.iommu.context import ContextCache, ProcessCache
from rtl.iommu.directory import Directory
from rtl.iommu.iotlb import Iotlb
from rtl.iommu.misses import MissTable
from rtl.iommu.pipeline import Pipeline
from rtl.iommu.requests import Lane
from rtl.iommu.resolver import Resolver
from rtl.iommu.seams import (
    PIPELINE_DEPTH,
    DirectoryControl,
    Drain,
    Event,
    Invalidate,
    InvalidateKind,
    TranslationPort,
)
from rtl.iommu.walker import Walker

__all__ = ["Translator"]


class Translator(wiring.Component):
    """Pipeline, caches, miss table, directory and walker.

    A request that hits passes the pipeline and is answered at its end.  Others become entries of
    the miss table: they wait for contexts, and then pass the pipeline again, or for a
    walk, whose result the resolver turns into answers.  Those for whom there is no entry, since
    their device has its share or the table is full, wait in the backlog and pass again.

    Latency
    -------
    A hit accepted in cycle *n* is answered in cycle *n + 4*; one request a cycle.  A miss does not
    hold later requests up, as long as less than ``Backlog.PLACES`` are outstanding.  A two-stage
    miss of Sv39 with nothing but contexts cached, and a memory that answers after L cycles, is
    answered in cycle *n + 11 + 15 (L + 3)*; with walk caches in cycle *n + 13 + r (L + 5)*, where
    *r* is at most 15.

    Members
    -------
    translate : ``In(TranslationPort())``
        Requests, and answers in any order.
    directory : ``In(DirectoryControl)``
        ddtp, fctl and iommu_qosid.
    invalidate : ``In(stream.Signature(Invalidate))``
        A transfer makes every later request ignore what it covers, and every walk under way leave
        the caches alone.  It takes effect in all caches and in the miss table in the same cycle.
    drain : ``In(Drain())``
        Done when all requests accepted before have been answered.
    faults : ``Out(stream.Signature(FaultRecord))``
        Every fault to be recorded.
    request_event, walk_event : ``Out(Event)``
        What may be counted in this cycle.
    memory : ``Out(Axi4(...))``
        Reads and updates of page tables.
    directory_memory : ``Out(Axi4(...))``
        Reads of contexts.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        self.walker, self.fetch = Walker(config), Directory(config)
        super().__init__(
            {
                "translate": In(TranslationPort()),
                "directory": In(DirectoryControl),
                "invalidate": In(stream.Signature(Invalidate)),
                "drain": In(Drain()),
                "faults": Out(stream.Signature(FaultRecord)),
                "request_event": Out(Event),
                "walk_event": Out(Event),
                "memory": Out(self.walker.memory.signature),
                "directory_memory": Out(self.fetch.memory.signature),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.pipeline = self.pipeline = Pipeline(config)
        m.submodules.answerer = self.answerer = Answerer(config)
        m.submodules.cache = self.cache = ContextCache(config)
        if config.pd8:
            m.submodules.processes = self.processes = ProcessCache(config)
        m.submodules.fetch = self.fetch
        m.submodules.iotlb = self.iotlb = Iotlb(config)
        m.submodules.misses = self.misses = MissTable(config)
        m.submodules.backlog = self.backlog = Backlog(config)
        m.submodules.walker = self.walker
        m.submodules.resolver = self.resolver = Resolver(config)
        self.transfer = Signal()  # an invalidation is accepted
        self.forgets, self.stores = Signal(), Signal()  # one of contexts; a context may be stored
        self.replaying, self.offers = Signal(self.entries), Signal()  # one is offered already
        self._pipeline(m)
        self._waiting(m)
        self._records(m)
        self._invalidations(m)
        self._contexts(m)
        self._replays(m)
        self._walks(m)
        self._drain(m)
        return m

    def _pipeline(self, m: Module) -> None:
        pipeline, answerer = self.pipeline, self.answerer
        iotlb, cache = self.iotlb, self.cache
        connect(m, flipped(self.translate.request), pipeline.request)
        connect(m, self.backlog.again, pipeline.again)
        connect(m, pipeline.verdict, answerer.verdict)
        connect(m, answerer.response, flipped(self.translate.response))
        connect(m, pipeline.lookup, iotlb.lookup)
        connect(m, self.resolver.response, answerer.late)
        m.d.comb += [
            iotlb.next_set.eq(pipeline.next_set),
            answerer.result.eq(iotlb.result),
            answerer.late_epoch.eq(self.resolver.epoch),
            pipeline.directory.eq(self.directory),
            pipeline.transfer.eq(self.transfer),
            pipeline.room.eq(self.backlog.room),
            pipeline.pause.eq(answerer.pause),
            answerer.transfer.eq(self.transfer),
            cache.device_id.eq(pipeline.device_id),
            pipeline.context_hit.eq(cache.hit),
            pipeline.context.eq(cache.context),
            self.request_event.eq(answerer.event),
            self.walk_event.eq(self.resolver.event),
        ]
        if self.config.pd8:
            m.d.comb += [
                self.processes.device_id.eq(pipeline.device_id),
                self.processes.process_id.eq(pipeline.process_id),
                self.processes.place.eq(pipeline.place),
                pipeline.process_hit.eq(self.processes.hit),
                pipeline.process.eq(self.processes.process),
            ]

    def _waiting(self, m: Module) -> None:
        """Miss table between pipeline and resolver, and who waits for an entry of it."""
        answerer, backlog = self.answerer, self.backlog
        misses, resolver = self.misses, self.resolver
        m.d.comb += [
            backlog.comes.eq(answerer.comes),
            backlog.coming.eq(answerer.coming.device_id),
            misses.comes.eq(answerer.comes),
            misses.coming.eq(answerer.coming),
            backlog.arrive_en.eq(answerer.allocate_en & ~answerer.allocate.held.replay),
            backlog.arrive.eq(answerer.allocate.held),
            backlog.lands.eq(answerer.lands),
            backlog.chosen.eq(misses.chosen),
            backlog.same_device.eq(misses.same_device),
            backlog.ends.eq(resolver.free_en + answerer.release_en),
            answerer.keep.eq(backlog.keep & ~answerer.allocate.held.replay),
            misses.offer.eq(answerer.allocate_en),
            misses.allocate_en.eq(answerer.allocate_en & ~answerer.keep),
            misses.allocate.eq(answerer.allocate),
            misses.allocate.held.lane.eq(Lane.NONE),  # of no use any more
            misses.release_en.eq(answerer.release_en),
            misses.release_entry.eq(answerer.release_entry),
            misses.free_en.eq(resolver.free_en),
            misses.free_entry.eq(resolver.free_entry),
            misses.closes.eq(resolver.closes),
            misses.members_of.eq(resolver.members_of),
            misses.detach.eq(resolver.replay),
            misses.stale_all.eq(self.transfer),
            misses.read_entry.eq(resolver.read_entry),
            resolver.read_held.eq(misses.read_held),
            resolver.members.eq(misses.members),
            resolver.stale.eq(misses.stale),
            resolver.stale_all.eq(self.transfer),
        ]
        for name in ("free", "release"):
            enable, entry = getattr(misses, f"{name}_en"), getattr(misses, f"{name}_entry")
            for i in range(self.entries):
                with m.If(enable & (entry == i)):
                    m.d.comb += backlog.freed[i].eq(1)

    def _records(self, m: Module) -> None:
        """Queue fault records of both sides, the resolver's first."""
        answerer, resolver = self.answerer, self.resolver
        m.submodules.records = records = fifo.SyncFIFOBuffered(
            width=FaultRecord.as_shape().size, depth=4
        )
        # The resolver's has a register, so that who is first is known from the begin of a cycle.
        late, late_valid = Signal(FaultRecord), Signal()
        with m.If(~late_valid | records.w_rdy):
            m.d.sync += [late.eq(resolver.record), late_valid.eq(resolver.record_en)]
        m.d.comb += [
            resolver.record_room.eq(records.w_rdy),
            answerer.record_room.eq(records.w_rdy & ~late_valid),
            records.w_en.eq(late_valid | answerer.record_en),
            records.w_data.eq(Mux(late_valid, late.as_value(), answerer.record.as_value())),
            self.faults.payload.eq(records.r_data),
            self.faults.valid.eq(records.r_rdy),
            records.r_en.eq(self.faults.ready),
        ]

    def _invalidations(self, m: Module) -> None:
        """Everywhere in one cycle; walks under way become stale."""
        port, op, walker = self.invalidate, self.invalidate.payload, self.walker.invalidate
        iotlb = self.iotlb.invalidate
        pages = (op.kind == InvalidateKind.VMA) | (op.kind == InvalidateKind.GVMA)
        devices = self.transfer & (op.kind == InvalidateKind.DDT)
        others = Mux(pages, iotlb.ready, ~self.stores)
        m.d.comb += [
            iotlb.valid.eq(port.valid & pages & walker.ready),
            iotlb.payload.gvma.eq(op.kind == InvalidateKind.GVMA),
            walker.valid.eq(port.valid & others),
            walker.payload.eq(op),
            port.ready.eq(walker.ready & others),
            self.transfer.eq(port.valid & port.ready),
            self.forgets.eq(self.transfer & ~pages),
            self.cache.clear_en.eq(devices),
            self.cache.clear_all.eq(~op.dv),
            self.cache.clear_id.eq(op.did),
        ]
        for name in ("av", "pscv", "gv", "nl", "s", "pscid", "gscid", "addr"):
            m.d.comb += iotlb.payload[name].eq(op[name])
        if self.config.pd8:
            processes = self.processes
            one = op.kind == InvalidateKind.PDT
            m.d.comb += [
                processes.clear_en.eq(devices | (self.transfer & one)),
                processes.clear_all.eq(~one & ~op.dv),
                processes.clear_device.eq(op.did),
                processes.clear_process_en.eq(one),
                processes.clear_process.eq(op.pscid),
            ]

    def _contexts(self, m: Module) -> None:
        """Fetch contexts for those who wait, fill the caches."""
        misses, fetch, resolver = self.misses, self.fetch, self.resolver
        leader, busy = Signal(8), Signal()
        # One at a time, and not before those who waited for the last have looked for theirs.
        begun, settled = Signal(), Signal()
        asker, fill = misses.replay_held.request, fetch.fill.payload
        request = fetch.request.payload
        m.d.comb += [
            fetch.directory.eq(self.directory),
            request.index.eq(misses.context.payload),
            request.at.eq(asker.at),
            request.device_id.eq(asker.device_id),
            request.process_id.eq(asker.process_id),
            request.pv.eq(asker.pv),
            fetch.request.valid.eq(misses.context.valid & ~busy & settled),
            begun.eq(fetch.request.valid & fetch.request.ready),
            misses.context.ready.eq(begun),
            resolver.context_leader.eq(leader),
        ]
        took, settles = fetch.fill.valid & fetch.fill.ready, Signal()
        # No invalidation of contexts comes as one is stored, nor right before: it is not lost so.
        m.d.sync += self.stores.eq(fetch.fill.valid & ~took & ~self.forgets)
        m.d.comb += [
            resolver.context.payload.eq(fill),
            resolver.context.valid.eq(self.stores),
            fetch.fill.ready.eq(self.stores & resolver.context.ready),
        ]
        # Who waited is known in the cycle after, and who looks in the one after that.
        looks = self.replaying | resolver.replay
        m.d.sync += [
            settles.eq(took),
            settled.eq(~looks.any() & ~self.offers & ~self.pipeline.replay_looks),
        ]
        with m.If(begun):
            m.d.sync += [leader.eq(misses.context.payload), busy.eq(1)]
        with m.Elif(settles):
            m.d.sync += busy.eq(0)
        # What is fetched may be older than an invalidation that covers it.  Of others it goes on,
        # or who sends them could keep it from coming to an end.  Known two cycles later, which is
        # before it is stored.
        op = self.invalidate.payload
        here, transferred = op.did == fill.device_id, Signal()
        m.d.sync += transferred.eq(self.transfer)

        def outdated(covered):
            covers, old = Signal(), Signal()
            m.d.sync += covers.eq(covered)
            with m.If(begun):
                m.d.sync += old.eq(0)
            with m.Elif(transferred & covers):
                m.d.sync += old.eq(1)
            return old

        covered = (op.kind == InvalidateKind.DDT) & (~op.dv | here)
        stale = outdated(covered)
        m.d.comb += [
            self.cache.fill_en.eq(took & ~stale & fill.context_valid),
            self.cache.fill_id.eq(fill.device_id),
            self.cache.fill_context.eq(fill.context),
        ]
        if self.config.pd8:
            # Its directory may be in a guest's memory.
            guest = op.gscid == fetch.guest.gscid
            covered = covered | (
                (op.kind == InvalidateKind.PDT) & here & (op.pscid == fill.process_id)
            )
            covered = covered | (
                (op.kind == InvalidateKind.GVMA) & fill.pdt_walk & (~op.gv | guest)
            )
            stale = outdated(covered)
            m.d.comb += [
                self.processes.fill_en.eq(took & ~stale & fill.process_valid),
                self.processes.fill_device.eq(fill.device_id),
                self.processes.fill_process.eq(fill.process_id),
                self.processes.fill_state.eq(fill.process),
            ]

    def _replays(self, m: Module) -> None:
        """Offer replays to the pipeline, one entry after another; the next is in a register."""
        misses, pipeline = self.misses, self.pipeline
        chosen, moves, first = Signal(8), Signal(), Signal(self.entries)
        m.d.comb += [
            moves.eq(~self.offers | pipeline.replay_taken),
            first.eq(lowest_bit(self.replaying)),
            # Fetches begin only when there are no replays.
            misses.replay_entry.eq(Mux(self.offers, chosen, misses.context.payload)),
            pipeline.replay_held.eq(misses.replay_held),
            pipeline.replay_held.entry.eq(chosen),
            pipeline.replay_valid.eq(self.offers),
        ]
        m.d.sync += self.replaying.eq(
            (self.replaying & ~Mux(moves, first, 0)) | self.resolver.replay
        )
        with m.If(moves):
            m.d.sync += [self.offers.eq(self.replaying.any()), chosen.eq(number_of(first))]

    def _walks(self, m: Module) -> None:
        """Start walks, at most ``config.walkers`` at once; hand their results on."""
        misses, walker, resolver, fetch = self.misses, self.walker, self.resolver, self.fetch
        active = Signal(range(self.config.walkers + 1))
        start, result = walker.start, walker.result
        room, ours = active != self.config.walkers, Signal()
        m.d.comb += [
            # The directory's walk, one at most, is not counted.
            ours.eq(~fetch.walk.valid),
            start.valid.eq(fetch.walk.valid | (misses.walk.valid & room)),
            fetch.walk.ready.eq(start.ready),
            misses.walk.ready.eq(start.ready & room & ours),
            walker.guest.eq(fetch.guest),
            walker.directory.eq(self.directory),
            walker.stale.eq(misses.stale),
            walker.stale_all.eq(self.transfer),
            misses.walk_entry.eq(walker.entry_index),
            walker.entry.eq(misses.walk_held),
            resolver.walk.payload.eq(result.payload),
            fetch.walked.payload.eq(result.payload),
            resolver.walk.valid.eq(result.valid & ~result.payload.directory),
            fetch.walked.valid.eq(result.valid & result.payload.directory),
            result.ready.eq(Mux(result.payload.directory, fetch.walked.ready, resolver.walk.ready)),
        ]
        with m.If(ours):
            m.d.comb += start.payload.index.eq(misses.walk.payload)
        with m.Else():
            m.d.comb += start.payload.eq(fetch.walk.payload)
        connect(m, resolver.fill, self.iotlb.fill)
        connect(m, walker.memory, flipped(self.memory))
        connect(m, fetch.memory, flipped(self.directory_memory))
        begun = start.valid & start.ready & ours
        ended = resolver.walk.valid & resolver.walk.ready
        m.d.sync += active.eq(active + begun - ended)

    def _drain(self, m: Module) -> None:
        """Count requests by epoch; a drain begins a new one and waits for the old to end."""
        width = range(self.entries + PIPELINE_DEPTH + Backlog.PLACES + 2)
        counts = [Signal(width, name=f"epoch{i}") for i in range(2)]
        draining, epoch, came = Signal(), self.pipeline.epoch, Signal(2)
        for i, count in enumerate(counts):
            m.d.sync += [
                came[i].eq(self.pipeline.accepted & (epoch == i)),
                count.eq(count + came[i] - self.answerer.answered[i]),
            ]
        with m.If(self.drain.request & ~draining):
            m.d.sync += [draining.eq(1), epoch.eq(~epoch)]
        with m.Elif(~self.drain.request):
            m.d.sync += draining.eq(0)
        old = Mux(epoch, counts[0] | came[0], counts[1] | came[1])
        m.d.comb += self.drain.done.eq(draining & (old == 0))
