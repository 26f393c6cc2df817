"""Requests that wait: for a walk, for another's walk of the same page, or for a context."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbKey
from rtl.iommu.permissions import Held
from rtl.iommu.seams import PIPELINE_DEPTH

__all__ = ["Allocate", "MissTable", "Waiters"]


class Allocate(data.Struct):
    """A request that cannot be answered yet."""

    held: Held
    key: IotlbKey
    for_context: 1
    stale: 1  # its context may be older than the last invalidation


class Waiters(data.Struct):
    """Which entry led, and all entries that waited for it are to be resolved."""

    leader: 8
    for_context: 1


class MissTable(wiring.Component):
    """Entries with their requests in RAM, and who waits for whom.

    The first to miss a page (or a context) leads; later ones join it as long as it is neither
    resolved nor older than an invalidation.

    Members
    -------
    allocate_en : ``In(1)``; allocate : ``In(Allocate)``
        Store a request; the caller keeps to ``used``.  A replayed one keeps its entry.
    free_en, free_entry
        Give an entry back.
    used : ``Out(range(entries + 1))``
        Entries that are not free.
    walk : ``Out(stream.Signature(8))``
        Leaders whose walk is to begin.
    context : ``Out(stream.Signature(8))``
        Leaders whose context is to be fetched; ``context_id`` is its device.
    close_en, close_entry
        From now on nobody joins this leader.
    members : ``Out(entries)``
        Entries that wait for ``members_of``, itself included.
    detach : ``In(entries)``
        These wait for nobody any more; their leader's entry may be used again before theirs.
    stale_all : ``In(1)``
        An invalidation: no fill by any walk under way.
    stale : ``Out(entries)``
        What ``stale_all`` has met.
    read_entry : ``In(8)``; read_held : ``Out(Held)``; read_key : ``Out(IotlbKey)``
        Look at an entry; the cycle after.
    replay_entry : ``In(8)``; replay_held : ``Out(Held)``
        Look at an entry at once, for a replay.
    walk_held
        The request at the head of ``walk``.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        super().__init__(
            {
                "allocate_en": In(1),
                "allocate": In(Allocate),
                "joined": Out(1),
                "free_en": In(1),
                "free_entry": In(8),
                "used": Out(range(self.entries + 1)),
                "walk": Out(stream.Signature(8)),
                "walk_held": Out(Held),
                "context": Out(stream.Signature(8)),
                "context_id": Out(24),
                "close_en": In(1),
                "close_entry": In(8),
                "members_of": In(8),
                "members": Out(self.entries),
                "detach": In(self.entries),
                "stale_all": In(1),
                "stale": Out(self.entries),
                "read_entry": In(8),
                "read_held": Out(Held),
                "replay_entry": In(8),
                "replay_held": Out(Held),
                "read_key": Out(IotlbKey),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count, new = self.entries, self.allocate
        busy, leads, contexts = Signal(count), Signal(count), Signal(count)
        open_ = Signal(count)
        leaders = [Signal(8, name=f"leader{i}") for i in range(count)]
        keys = [Signal(IotlbKey, name=f"key{i}") for i in range(count)]
        devices = [Signal(24, name=f"device{i}") for i in range(count)]

        # Where the request goes, and whom it may join.
        place, leader, match = Signal(8), Signal(8), Signal(count)
        for i in reversed(range(count)):
            with m.If(~busy[i]):
                m.d.comb += place.eq(i)
        with m.If(new.held.replay):
            m.d.comb += place.eq(new.held.entry)
        index = 0
        for i in range(count):
            same_page = keys[i].as_value() == new.key.as_value()
            same_device = devices[i] == new.held.request.device_id
            m.d.comb += match[i].eq(
                busy[i]
                & open_[i]
                & leads[i]
                & (contexts[i] == new.for_context)
                & Mux(new.for_context, same_device, same_page & ~self.stale[i])
            )
            index = index | Mux(match[i] & (match[:i] == 0), i, 0)
        m.d.comb += [leader.eq(index), self.joined.eq(match.any())]

        for i in range(count):
            here = self.allocate_en & (place == i)
            with m.If(self.free_en & (self.free_entry == i)):
                m.d.sync += [busy[i].eq(0), leads[i].eq(0)]
            with m.If(self.close_en & (self.close_entry == i)):
                m.d.sync += open_[i].eq(0)
            with m.If(self.stale_all):
                m.d.sync += self.stale[i].eq(1)
            with m.If(self.detach[i]):
                m.d.sync += [leaders[i].eq(i), leads[i].eq(0)]
            with m.If(here):
                m.d.sync += [
                    busy[i].eq(1),
                    leads[i].eq(~match.any()),
                    open_[i].eq(1),
                    contexts[i].eq(new.for_context),
                    leaders[i].eq(Mux(match.any(), leader, place)),
                    keys[i].eq(new.key),
                    devices[i].eq(new.held.request.device_id),
                    self.stale[i].eq(new.stale | self.stale_all),
                ]
            m.d.comb += self.members[i].eq(busy[i] & (leaders[i] == self.members_of))
        fresh = self.allocate_en & ~self.allocate.held.replay
        m.d.sync += self.used.eq(self.used + fresh - self.free_en)
        self._storage(m, place)
        self._queues(m, place, match, devices)
        return m

    def _storage(self, m: Module, place) -> None:
        """Requests in RAM, with a port for whoever resolves and one for walks."""
        shape = data.StructLayout({"held": Held, "key": IotlbKey})
        m.submodules.ram = ram = memory.Memory(shape=shape, depth=max(2, self.entries), init=[])
        write = ram.write_port()
        read, walk = ram.read_port(transparent_for=(write,)), ram.read_port(domain="comb")
        replay = ram.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(place),
            write.data.held.eq(self.allocate.held),
            write.data.key.eq(self.allocate.key),
            write.en.eq(self.allocate_en),
            read.addr.eq(self.read_entry),
            read.en.eq(1),
            self.read_held.eq(read.data.held),
            self.read_key.eq(read.data.key),
            replay.addr.eq(self.replay_entry),
            self.replay_held.eq(replay.data.held),
            walk.addr.eq(self.walk.payload),
            self.walk_held.eq(walk.data.held),
        ]

    def _queues(self, m: Module, place, match, devices) -> None:
        """Leaders in the order in which they came."""
        for name, port, wanted in (
            ("walks", self.walk, ~self.allocate.for_context),
            ("fetches", self.context, self.allocate.for_context),
        ):
            queue = fifo.SyncFIFOBuffered(width=8, depth=self.entries)
            m.submodules[name] = queue
            m.d.comb += [
                queue.w_data.eq(place),
                queue.w_en.eq(self.allocate_en & wanted & ~match.any()),
                port.payload.eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
        chosen = 0
        for i, device in enumerate(devices):
            chosen = chosen | Mux(self.context.payload == i, device, 0)
        m.d.comb += self.context_id.eq(chosen)
