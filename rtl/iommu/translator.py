"""Translator: answers translation requests, one a cycle if they hit."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from models.spec.config import IommuConfig
from models.spec.iommu import Cause, DdtpMode, FaultRecord
from models.spec.iotlb import IotlbKey
from models.spec.translation import AddressType, TranslationResponse, TranslationStatus
from rtl.bus.arbiter import AxiReadArbiter
from rtl.bus.axi import Axi4
from rtl.iommu.context import ContextCache, ContextFetch
from rtl.iommu.iotlb import Iotlb
from rtl.iommu.misses import MissTable
from rtl.iommu.permissions import Held, fault_response, is_ats, record_fields
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


class _Verdict(data.Struct):
    """What is known of a request when it leaves the second stage of the pipeline."""

    held: Held
    key: IotlbKey
    cause: 12  # a fault already known
    lookup: 1  # its result comes from the IOTLB
    missing: 1  # its context is not there
    stale: 1


class Translator(wiring.Component):
    """Pipeline, caches, miss table and walker.

    A request passes three registers: its device context is looked for (1), its address space is
    known and the IOTLB is asked (2), the sets are compared (3); then it is answered, or becomes an
    entry of the miss table.  Requests that had waited for a context pass again as replays, which
    count once.

    Latency
    -------
    A hit accepted in cycle *n* is answered in cycle *n + 4*; one request a cycle.  A miss does not
    hold later requests up, as long as fewer than ``config.misses`` are outstanding.

    Members
    -------
    translate : ``In(TranslationPort())``
        Requests, and answers in any order.
    directory : ``In(DirectoryControl)``
        ddtp and fctl.
    invalidate : ``In(stream.Signature(Invalidate))``
        A transfer makes every later request ignore what it covers, and every walk under way leave
        the caches alone.
    drain : ``In(Drain())``
        Done when all requests accepted before have been answered.
    faults : ``Out(stream.Signature(FaultRecord))``
        Every fault to be recorded.
    request_event, walk_event : ``Out(Event)``
        What may be counted in this cycle.
    memory : ``Out(Axi4(...))``
        Reads of contexts and page tables.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        self.walker = Walker(config)
        self.id_width = self.walker.id_width + 1
        super().__init__(
            {
                "translate": In(TranslationPort()),
                "directory": In(DirectoryControl),
                "invalidate": In(stream.Signature(Invalidate)),
                "drain": In(Drain()),
                "faults": Out(stream.Signature(FaultRecord)),
                "request_event": Out(Event),
                "walk_event": Out(Event),
                "memory": Out(
                    Axi4(addr_width=config.pas, data_width=64, id_width=self.id_width, write=False)
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.cache = self.cache = ContextCache(config)
        m.submodules.fetch = self.fetch = ContextFetch(config)
        m.submodules.iotlb = self.iotlb = Iotlb(config)
        m.submodules.misses = self.misses = MissTable(config)
        m.submodules.walker = self.walker
        m.submodules.resolver = self.resolver = Resolver(config)
        m.submodules.verdicts = self.verdicts = fifo.SyncFIFO(
            width=_Verdict.as_shape().size, depth=4
        )
        m.submodules.records = self.records = fifo.SyncFIFOBuffered(
            width=FaultRecord.as_shape().size, depth=4
        )
        self.transfer = Signal()  # an invalidation is accepted
        self.replaying = Signal(self.entries)
        self._memory(m)
        head = self._front(m)
        self._ask(m, *head)
        self._answer(m)
        self._invalidations(m)
        self._contexts(m)
        self._walks(m)
        self._drain(m)
        return m

    def _memory(self, m: Module) -> None:
        m.submodules.arbiter = arbiter = AxiReadArbiter(
            addr_width=self.config.pas,
            data_width=64,
            id_widths=[self.walker.id_width, self.fetch.memory.signature.id_width],
        )
        connect(m, self.walker.memory, arbiter.up0)
        connect(m, self.fetch.memory, arbiter.up1)
        connect(m, arbiter.down, wiring.flipped(self.memory))

    def _front(self, m: Module):
        """First register: a new request or a replay.  Then look for its context."""
        request = self.translate.request
        first, first_valid = Signal(Held), Signal()
        second, second_valid, found = Signal(Held), Signal(), Signal()
        stale, leaves = Signal(), Signal()
        self.second_leaves = leaves
        moves = ~second_valid | leaves
        free = ~first_valid | moves

        # A replay first; else a new request if the miss table is sure to have room for it.
        self.inflight = Signal(range(8))
        replay_valid, replay_held = Signal(), Signal(Held)
        self.replay_taken = Signal()
        room = (self.misses.used + self.inflight) < self.entries
        m.d.comb += [
            self.replay_taken.eq(replay_valid & free),
            request.ready.eq(free & ~replay_valid & room),
        ]
        self.replay_valid, self.replay_held = replay_valid, replay_held
        self.accepted = Signal()
        self.epoch = Signal()
        m.d.comb += self.accepted.eq(request.valid & request.ready)
        with m.If(free):
            m.d.sync += [
                first_valid.eq(replay_valid | self.accepted),
                first.eq(replay_held),
            ]
            with m.If(~replay_valid):
                m.d.sync += [
                    first.request.eq(request.payload),
                    first.replay.eq(0),
                    first.epoch.eq(self.epoch),
                ]
        with m.If(moves):
            m.d.sync += [
                second_valid.eq(first_valid),
                second.eq(first),
                second.context.eq(Mux(self.cache.hit, self.cache.context.as_value(), 0)),
                found.eq(self.cache.hit),
                stale.eq(self.transfer),
            ]
        with m.Else():
            m.d.sync += stale.eq(stale | self.transfer)
        m.d.comb += [
            self.cache.device_id.eq(first.request.device_id),
            self.cache.read_index.eq(self.cache.index),
        ]
        return second, second_valid, found, stale

    def _ask(self, m: Module, held, valid, found, stale) -> None:
        """Judge what the context alone decides; ask the IOTLB."""
        request, context, mode = held.request, held.context, self.directory.mode
        verdict, lookup = Signal(_Verdict), self.iotlb.lookup
        index_bits = 6 if self.config.msi_flat else 7
        untranslated = request.at == AddressType.UNTRANSLATED
        translated = request.at == AddressType.TRANSLATED
        message = request.at == AddressType.MESSAGE
        bare = mode == DdtpMode.BARE
        wide = request.device_id[min(index_bits, self.config.device_id_bits) :].any()
        known = Signal()
        refused = (~untranslated & ~context.en_ats) | (request.pv & ~context.pdtv)
        refused |= message & ~context.en_pri
        m.d.comb += known.eq(found & (mode == DdtpMode.LVL1) & ~wide)
        cause = verdict.cause
        with m.If(mode == DdtpMode.OFF):
            m.d.comb += cause.eq(Cause.ALL_INBOUND_DISALLOWED)
        with m.Elif(bare):
            m.d.comb += cause.eq(Mux(untranslated, 0, Cause.TYPE_DISALLOWED))
        with m.Elif(wide):
            m.d.comb += cause.eq(Cause.TYPE_DISALLOWED)
        with m.Elif(found):
            m.d.comb += cause.eq(Mux(refused, Cause.TYPE_DISALLOWED, 0))
        with m.Else():
            m.d.comb += verdict.missing.eq(1)
        # A process directory that is Bare has no first stage; neither has a request without one.
        looks = known & ~refused & ~translated & ~message & (context.s_on | context.g_on)
        m.d.comb += [
            verdict.held.eq(held),
            verdict.lookup.eq(looks),
            verdict.stale.eq(stale | self.transfer),
            verdict.key.gv.eq(context.g_on),
            verdict.key.gscid.eq(context.gscid),
            verdict.key.pv.eq(context.s_on),
            verdict.key.pscid.eq(context.pscid),
            verdict.key.vpn.eq(request.iova[12:]),
        ]
        # Without a context there is nothing that DTF could silence.
        with m.If(~known):
            m.d.comb += verdict.held.context.eq(0)
        m.d.comb += [
            lookup.payload.key.eq(verdict.key),
            lookup.payload.device_id.eq(request.device_id),
            lookup.payload.tag.eq(request.tag),
            lookup.payload.write.eq(request.write),
            lookup.payload.exec.eq(request.exec),
            lookup.payload.priv.eq(request.priv),
            lookup.payload.ats.eq(is_ats(request)),
            lookup.valid.eq(valid & looks & self.verdicts.w_rdy),
            self.second_leaves.eq(self.verdicts.w_rdy & (~looks | lookup.ready)),
            self.verdicts.w_data.eq(verdict),
            self.verdicts.w_en.eq(valid & self.second_leaves),
        ]

    def _answer(self, m: Module) -> None:
        """Answer the oldest request, or hand it to the miss table."""
        verdict = data.View(_Verdict, self.verdicts.r_data)
        valid, result = self.verdicts.r_rdy, self.iotlb.result
        held, request = verdict.held, verdict.held.request
        response = self.translate.response
        known = valid & (~verdict.lookup | result.valid)
        waits = verdict.missing | (verdict.lookup & ~result.payload.hit)
        record, own = Signal(FaultRecord), Signal(TranslationResponse)
        recorded = Signal()
        beyond = request.iova[self.config.pas :].any()
        cause = Signal(12)
        m.d.comb += cause.eq(verdict.cause)
        plain = ~verdict.lookup & (verdict.cause == 0) & ~verdict.missing
        with m.If(plain & beyond & (request.at != AddressType.MESSAGE)):
            m.d.comb += cause.eq(Mux(request.exec, 1, Mux(request.write, 7, 5)))
        m.d.comb += recorded.eq(record_fields(m, record, held, cause, Const(0, 64), Const(0, 1)))
        with m.If(cause != 0):
            fault_response(m, own, held, cause)
        with m.Else():
            self._grant(m, own, verdict)

        # The resolver's answers come first, unless ours is being offered already.
        resolver, offering = self.resolver, Signal()
        mine = Signal()
        fault_first = recorded & ~self.records.w_rdy
        m.d.comb += [
            mine.eq(known & ~waits & ~fault_first & (offering | ~resolver.response.valid)),
            response.valid.eq(mine | (resolver.response.valid & ~offering)),
            response.payload.eq(Mux(mine, own.as_value(), resolver.response.payload.as_value())),
            resolver.response.ready.eq(response.ready & ~mine),
        ]
        m.d.sync += offering.eq(mine & ~response.ready)
        done = Signal()
        # Freeing an entry is shared with the resolver, which frees only when it answers.
        m.d.comb += [
            done.eq((mine & response.ready) | (known & waits)),
            self.verdicts.r_en.eq(done),
            result.ready.eq(done & verdict.lookup),
        ]
        resolver_frees = resolver.free_en
        m.d.comb += [
            self.misses.free_en.eq(resolver_frees | (mine & response.ready & held.replay)),
            self.misses.free_entry.eq(Mux(resolver_frees, resolver.free_entry, held.entry)),
            self.misses.allocate_en.eq(known & waits),
            self.misses.allocate.held.eq(held),
            self.misses.allocate.key.eq(verdict.key),
            self.misses.allocate.for_context.eq(verdict.missing),
        ]
        level = Signal(range(6))
        stale_count = Signal(range(6))
        m.d.comb += level.eq(
            self.verdicts.level + (self.verdicts.w_en & ~done) - (done & ~self.verdicts.w_en)
        )
        with m.If(self.transfer):
            m.d.sync += stale_count.eq(level)
        with m.Elif(done & (stale_count != 0)):
            m.d.sync += stale_count.eq(stale_count - 1)
        m.d.comb += self.misses.allocate.stale.eq(verdict.stale | (stale_count != 0))
        fresh = self.accepted
        leaves = done & ~held.replay
        m.d.sync += self.inflight.eq(self.inflight + fresh - leaves)
        self._records(m, mine, mine & response.ready & recorded, record)
        self._count(m, done, verdict, result)
        self.answered = Signal(2)
        answers = response.valid & response.ready
        which = Mux(mine, held.epoch, resolver.epoch)
        m.d.comb += self.answered.eq(Cat(answers & ~which, answers & which))

    def _grant(self, m: Module, own, verdict) -> None:
        """A success from the IOTLB, or one that needs no translation."""
        request, result = verdict.held.request, self.iotlb.result.payload
        ats = is_ats(request)
        m.d.comb += [
            own.tag.eq(request.tag),
            own.status.eq(TranslationStatus.SUCCESS),
            own.prpr.eq(verdict.held.context.prpr),
        ]
        with m.If(verdict.lookup):
            m.d.comb += [
                own.spa.eq(Cat(request.iova[:12], result.ppn)),
                own.size.eq(result.size),
                own.r.eq(result.r),
                own.w.eq(result.w & result.dirty & (request.write | ~ats)),
                own.x.eq(result.x & (result.r | ~ats) & (request.exec | ~ats)),
                own.pbmt.eq(result.pbmt),
            ]
        with m.Else():
            m.d.comb += [
                own.spa.eq(request.iova),
                own.size.eq(12),
                own.r.eq(1),
                own.w.eq(request.write | ~ats),
                own.x.eq(request.exec | ~ats),
            ]

    def _records(self, m: Module, offering, mine, record) -> None:
        """Queue fault records of both sides; room for one that is being offered is not taken."""
        fault = self.resolver.fault
        m.d.comb += [
            self.records.w_data.eq(Mux(mine, record.as_value(), fault.payload.as_value())),
            self.records.w_en.eq(mine | (fault.valid & ~offering)),
            fault.ready.eq(~offering & self.records.w_rdy),
            self.faults.payload.eq(self.records.r_data),
            self.faults.valid.eq(self.records.r_rdy),
            self.records.r_en.eq(self.faults.ready),
        ]

    def _count(self, m: Module, done, verdict, result) -> None:
        """Count a request when it leaves the pipeline for the first time."""
        event, held = self.request_event, verdict.held
        request, once = held.request, ~held.replay
        m.d.comb += [
            event.valid.eq(done),
            event.untranslated.eq(once & (request.at == AddressType.UNTRANSLATED)),
            event.translated.eq(once & (request.at == AddressType.TRANSLATED)),
            event.ats.eq(once & is_ats(request)),
            event.lookup.eq(verdict.lookup),
            event.tlb_miss.eq(verdict.lookup & ~result.payload.hit),
            event.device_id.eq(request.device_id),
            event.process_id.eq(request.process_id),
            event.pv.eq(request.pv),
            event.gscid.eq(verdict.key.gscid),
            event.gscv.eq(verdict.key.gv),
            event.pscid.eq(verdict.key.pscid),
            event.pscv.eq(verdict.key.pv),
        ]

    def _invalidations(self, m: Module) -> None:
        """IOTINVAL to the IOTLB, IODIR to the context cache; walks under way become stale."""
        port, op = self.invalidate, self.invalidate.payload
        iotlb = self.iotlb.invalidate
        pages = (op.kind == InvalidateKind.VMA) | (op.kind == InvalidateKind.GVMA)
        m.d.comb += [
            iotlb.valid.eq(port.valid & pages),
            iotlb.payload.gvma.eq(op.kind == InvalidateKind.GVMA),
            port.ready.eq(~pages | iotlb.ready),
            self.transfer.eq(port.valid & port.ready),
            self.misses.stale_all.eq(self.transfer),
            self.resolver.stale_all.eq(self.transfer),
            self.cache.clear_en.eq(self.transfer & ~pages),
            self.cache.clear_all.eq(~op.dv),
            self.cache.clear_id.eq(op.did),
        ]
        for name in ("av", "pscv", "gv", "nl", "s", "pscid", "gscid", "addr"):
            m.d.comb += iotlb.payload[name].eq(op[name])

    def _contexts(self, m: Module) -> None:
        """Fetch contexts for those who wait, fill the cache, replay them."""
        misses, fetch, resolver = self.misses, self.fetch, self.resolver
        leader, busy, stale = Signal(8), Signal(), Signal()
        m.d.comb += [
            fetch.directory.eq(self.directory),
            fetch.request.payload.eq(misses.context_id),
            # One at a time, and not before those who waited for the last have passed.
            fetch.request.valid.eq(misses.context.valid & ~busy & ~self.replaying.any()),
            misses.context.ready.eq(fetch.request.ready & fetch.request.valid),
            resolver.context_leader.eq(leader),
        ]
        connect(m, fetch.fill, resolver.context)
        took = fetch.fill.valid & fetch.fill.ready
        with m.If(fetch.request.valid & fetch.request.ready):
            m.d.sync += [leader.eq(misses.context.payload), busy.eq(1), stale.eq(0)]
        with m.Elif(took):
            m.d.sync += busy.eq(0)
        with m.If(busy & self.transfer):
            m.d.sync += stale.eq(1)
        fill = fetch.fill.payload
        m.d.comb += [
            self.cache.fill_en.eq(took & (fill.cause == 0) & ~stale & ~self.transfer),
            self.cache.fill_id.eq(fill.device_id),
            self.cache.fill_context.eq(fill.context),
        ]
        self._replays(m)
        # Walks are counted by the resolver; a directory walk waits for a cycle without one.
        counted, device = Signal(), Signal(24)
        event = self.walk_event
        m.d.comb += event.eq(resolver.event)
        with m.If(~resolver.event.valid):
            m.d.comb += [event.valid.eq(counted), event.ddt_walk.eq(1), event.device_id.eq(device)]
            for name in ("first_stage_walk", "second_stage_walk", "gscv", "pscv", "pv"):
                m.d.comb += event[name].eq(0)
            m.d.sync += counted.eq(0)
        with m.If(took):
            m.d.sync += [counted.eq(1), device.eq(fill.device_id)]

    def _replays(self, m: Module) -> None:
        """Offer replays to the pipeline, one entry after another."""
        misses, resolver = self.misses, self.resolver
        chosen = Signal(8)
        for i in reversed(range(self.entries)):
            with m.If(self.replaying[i]):
                m.d.comb += chosen.eq(i)
        m.d.comb += [
            misses.members_of.eq(resolver.members_of),
            misses.detach.eq(resolver.replay),
            misses.close_en.eq(resolver.close_en),
            misses.close_entry.eq(resolver.close_entry),
            misses.replay_entry.eq(chosen),
            self.replay_held.eq(misses.replay_held),
            self.replay_held.replay.eq(1),
            self.replay_held.entry.eq(chosen),
            self.replay_valid.eq(self.replaying.any()),
            misses.read_entry.eq(resolver.read_entry),
            resolver.read_held.eq(misses.read_held),
            resolver.read_key.eq(misses.read_key),
            resolver.members.eq(misses.members),
            resolver.stale.eq(misses.stale),
        ]
        taken = Mux(self.replay_taken, 1 << chosen, 0)
        m.d.sync += self.replaying.eq((self.replaying & ~taken) | resolver.replay)

    def _walks(self, m: Module) -> None:
        """Start walks, at most ``config.walkers`` at once; hand their results on."""
        misses, walker, resolver = self.misses, self.walker, self.resolver
        active = Signal(range(self.config.walkers + 1))
        held = misses.walk_held
        start = walker.start
        room = active != self.config.walkers
        m.d.comb += [
            start.valid.eq(misses.walk.valid & room),
            misses.walk.ready.eq(start.ready & room),
            start.payload.index.eq(misses.walk.payload),
            start.payload.iova.eq(held.request.iova),
            start.payload.g_on.eq(held.context.g_on),
            start.payload.g_ppn.eq(held.context.g_ppn),
            start.payload.s_on.eq(held.context.s_on),
            start.payload.s_ppn.eq(held.context.s_ppn),
        ]
        connect(m, walker.result, resolver.walk)
        connect(m, resolver.fill, self.iotlb.fill)
        begun = start.valid & start.ready
        ended = walker.result.valid & walker.result.ready
        m.d.sync += active.eq(active + begun - ended)

    def _drain(self, m: Module) -> None:
        """Count requests by epoch; a drain begins a new one and waits for the old to end."""
        width = range(self.entries + PIPELINE_DEPTH + 2)
        counts = [Signal(width, name=f"epoch{i}") for i in range(2)]
        draining = Signal()
        for i, count in enumerate(counts):
            m.d.sync += count.eq(count + (self.accepted & (self.epoch == i)) - self.answered[i])
        with m.If(self.drain.request & ~draining):
            m.d.sync += [draining.eq(1), self.epoch.eq(~self.epoch)]
        with m.Elif(~self.drain.request):
            m.d.sync += draining.eq(0)
        old = Mux(self.epoch, counts[0], counts[1])
        m.d.comb += self.drain.done.eq(draining & (old == 0))
