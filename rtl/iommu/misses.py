"""Requests that wait: for a walk, for another's walk of the same page, or for a context."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.translation import TranslationRequest
from rtl.iommu.requests import Held
from rtl.iommu.seams import PIPELINE_DEPTH

__all__ = ["Allocate", "MissTable"]


class Allocate(data.Struct):
    """A request that cannot be answered yet."""

    held: Held
    for_context: 1
    stale: 1  # its context may be older than the last invalidation


def _requester(request):
    """What must be equal to wait for the same contexts."""
    return Cat(request.device_id, request.process_id, request.pv, request.at)


def _access(request):
    """What must be equal besides to wait for the same walk, so that its result is both's."""
    return Cat(
        request.priv,
        request.exec,
        request.write,
        request.also_read,
        request.debug,
        request.iova[12:],
    )


class MissTable(wiring.Component):
    """Entries with their requests in RAM, and who waits for whom.

    The first to miss a page (or a context) leads.  Later ones that want the same of the same page
    join it, as long as it is neither taken nor older than an invalidation.

    Members
    -------
    coming : ``In(TranslationRequest)``; comes : ``In(1)``
        What ``allocate`` has from the next cycle on, until something comes again: so entries are
        compared with it beforehand.
    allocate_en : ``In(1)``; allocate : ``In(Allocate)``
        Store a request; never more than there are entries.  A replayed one keeps its entry.
    free_en, free_entry; release_en, release_entry
        Give entries back.
    place : ``Out(8)``; same_device : ``Out(entries)``
        Where ``allocate`` goes, and which entries in use are its device's; with ``allocate_en`` or
        without.
    walk : ``Out(stream.Signature(8))``
        Leaders whose walk is to begin, from the cycle of their allocation on; what is offered may
        change while it waits.
    context : ``Out(stream.Signature(8))``
        Leaders whose contexts are to be fetched.
    close_en, close_entry
        From this cycle on nobody joins this leader.
    members_of : ``In(8)``; members : ``Out(entries)``
        Entries that wait for a leader, itself included, in the same cycle.
    detach : ``In(entries)``
        These wait for nobody any more; their leader's entry may be used again before theirs.
    stale_all : ``In(1)``
        An invalidation: no fill by any walk under way.
    stale : ``Out(entries)``
        What ``stale_all`` has met.
    walk_entry : ``In(8)``; walk_held : ``Out(Held)``
        The walker looks at an entry; the cycle after.
    read_entry : ``In(8)``; read_held : ``Out(Held)``
        The resolver looks at an entry, at once.
    replay_entry : ``In(8)``; replay_held : ``Out(Held)``
        Likewise for replays and for fetches of contexts.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self.entries = config.misses + PIPELINE_DEPTH
        self.bits = (self.entries - 1).bit_length()
        super().__init__(
            {
                "coming": In(TranslationRequest),
                "comes": In(1),
                "allocate_en": In(1),
                "allocate": In(Allocate),
                "free_en": In(1),
                "free_entry": In(8),
                "release_en": In(1),
                "release_entry": In(8),
                "place": Out(8),
                "same_device": Out(self.entries),
                "walk": Out(stream.Signature(8)),
                "context": Out(stream.Signature(8)),
                "close_en": In(1),
                "close_entry": In(8),
                "members_of": In(8),
                "members": Out(self.entries),
                "detach": In(self.entries),
                "stale_all": In(1),
                "stale": Out(self.entries),
                "walk_entry": In(8),
                "walk_held": Out(Held),
                "read_entry": In(8),
                "read_held": Out(Held),
                "replay_entry": In(8),
                "replay_held": Out(Held),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count, new = self.entries, self.allocate
        busy, leads, contexts = Signal(count), Signal(count), Signal(count)
        open_ = Signal(count)
        request, coming = new.held.request, self.coming
        who, how = Signal(len(_requester(request))), Signal(len(_access(request)))
        m.d.comb += [who.eq(_requester(request)), how.eq(_access(request))]
        # What comes, compared with what goes into an entry meanwhile, and with all others.
        devices = len(request.device_id)
        same = Cat(
            request.device_id == coming.device_id,
            who[devices:] == _requester(coming)[devices:],
            how == _access(coming),
        )
        bits = self.bits
        leaders = [Signal(bits, name=f"leader{i}") for i in range(count)]
        whos = [Signal(len(who), name=f"who{i}") for i in range(count)]
        hows = [Signal(len(how), name=f"how{i}") for i in range(count)]

        # Where the request goes, and whom it may join.
        place, leader, match = self.place, Signal(bits), Signal(count)
        takes = Signal(count)
        for i in reversed(range(count)):
            with m.If(~busy[i]):
                m.d.comb += place.eq(i)
        with m.If(new.held.replay):
            m.d.comb += place.eq(new.held.entry)
        index = 0
        for i in range(count):
            equal = Signal(3, name=f"equal{i}")
            m.d.comb += takes[i].eq(self.allocate_en & (place[:bits] == i))
            with m.If(self.comes):
                own = Cat(
                    whos[i][:devices] == coming.device_id,
                    whos[i][devices:] == _requester(coming)[devices:],
                    hows[i] == _access(coming),
                )
                m.d.sync += equal.eq(Mux(takes[i], same, own))
            m.d.comb += self.same_device[i].eq(busy[i] & equal[0])
            closes = self.close_en & (self.close_entry[:bits] == i)
            m.d.comb += match[i].eq(
                (busy[i] & leads[i] & open_[i] & ~closes & ~self.stale[i])
                & (contexts[i] == new.for_context)
                & equal[0]
                & equal[1]
                & (new.for_context | equal[2])
            )
            index = index | Mux(match[i] & (match[:i] == 0), i, 0)
        m.d.comb += leader.eq(index)

        for i in range(count):
            with m.If(self.free_en & (self.free_entry[:bits] == i)):
                m.d.sync += [busy[i].eq(0), leads[i].eq(0)]
            with m.If(self.release_en & (self.release_entry[:bits] == i)):
                m.d.sync += [busy[i].eq(0), leads[i].eq(0)]
            with m.If(self.close_en & (self.close_entry[:bits] == i)):
                m.d.sync += open_[i].eq(0)
            with m.If(self.stale_all):
                m.d.sync += self.stale[i].eq(1)
            with m.If(self.detach[i]):
                m.d.sync += [leaders[i].eq(i), leads[i].eq(0)]
            with m.If(takes[i]):
                m.d.sync += [
                    busy[i].eq(1),
                    leads[i].eq(~match.any()),
                    open_[i].eq(1),
                    contexts[i].eq(new.for_context),
                    leaders[i].eq(Mux(match.any(), leader, place)),
                    whos[i].eq(who),
                    hows[i].eq(how),
                    self.stale[i].eq(new.stale | self.stale_all),
                ]
            m.d.comb += self.members[i].eq(busy[i] & (leaders[i] == self.members_of[:bits]))
        self._storage(m, place)
        self._queues(m, place, match)
        return m

    def _storage(self, m: Module, place) -> None:
        """Requests in RAM, with a port for each who looks at them."""
        m.submodules.ram = ram = memory.Memory(shape=Held, depth=max(2, self.entries), init=[])
        write = ram.write_port()
        walk, read, replay = (ram.read_port(domain="comb") for _ in range(3))
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(self.allocate.held),
            write.en.eq(self.allocate_en),
            walk.addr.eq(self.walk_entry),
            read.addr.eq(self.read_entry),
            self.read_held.eq(read.data),
            replay.addr.eq(self.replay_entry),
            self.replay_held.eq(replay.data),
        ]
        m.d.sync += self.walk_held.eq(walk.data)

    def _queues(self, m: Module, place, match) -> None:
        """Leaders in the order in which they came; a walk may begin before it is queued."""
        leads = self.allocate_en & ~match.any()
        m.submodules.walks = walks = fifo.SyncFIFOBuffered(width=self.bits, depth=self.entries)
        m.submodules.fetches = fetches = fifo.SyncFIFOBuffered(width=self.bits, depth=self.entries)
        at_once = Signal()
        m.d.comb += [
            at_once.eq(leads & ~self.allocate.for_context & (walks.level == 0)),
            self.walk.valid.eq(walks.r_rdy | at_once),
            self.walk.payload.eq(Mux(walks.r_rdy, walks.r_data, place)),
            walks.w_data.eq(place),
            walks.w_en.eq(leads & ~self.allocate.for_context & ~(at_once & self.walk.ready)),
            walks.r_en.eq(self.walk.ready),
            fetches.w_data.eq(place),
            fetches.w_en.eq(leads & self.allocate.for_context),
            self.context.payload.eq(fetches.r_data),
            self.context.valid.eq(fetches.r_rdy),
            fetches.r_en.eq(self.context.ready),
        ]
