"""Requests that wait: for a walk, for another's walk of the same page, or for a context."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.translation import TranslationRequest
from rtl.bus.priority import lowest_bit, number_of
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
    offer : ``In(1)``; allocate_en : ``In(1)``; allocate : ``In(Allocate)``
        Store a request that is on offer; never more than there are entries, those given back in
        the cycle before not among them.  A replayed one keeps its entry.
    free_en, free_entry; release_en, release_entry
        Give entries back.
    chosen : ``Out(entries)``; same_device : ``Out(entries)``
        Where ``allocate`` goes, and which entries in use are its device's; with ``allocate_en`` or
        without.
    walk : ``Out(stream.Signature(8))``
        Leaders whose walk is to begin, from the cycle after their allocation on; what is offered
        may change while it waits.
    context : ``Out(stream.Signature(8))``
        Leaders whose contexts are to be fetched.
    closes : ``In(entries)``
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
        self.match = Signal(self.entries)  # leaders that ``allocate`` may join
        super().__init__(
            {
                "coming": In(TranslationRequest),
                "comes": In(1),
                "offer": In(1),
                "allocate_en": In(1),
                "allocate": In(Allocate),
                "free_en": In(1),
                "free_entry": In(8),
                "release_en": In(1),
                "release_entry": In(8),
                "chosen": Out(self.entries),
                "same_device": Out(self.entries),
                "walk": Out(stream.Signature(8)),
                "context": Out(stream.Signature(8)),
                "closes": In(self.entries),
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
        busy, contexts = Signal(count), Signal(count)
        joins = Signal(count)  # a leader that may still be joined
        request, coming = new.held.request, self.coming
        who, how = Signal(len(_requester(request))), Signal(len(_access(request)))
        m.d.comb += [who.eq(_requester(request)), how.eq(_access(request))]
        devices = len(request.device_id)
        comes_who, comes_how = _requester(coming), _access(coming)

        def equals(who, how):
            """Whether what comes is of the same device, of the same requester, and all the same."""
            requester = who == comes_who
            return Cat(
                who[:devices] == comes_who[:devices], requester, requester & (how == comes_how)
            )

        bits = self.bits
        leaders = [Signal(bits, name=f"leader{i}") for i in range(count)]
        whos = [Signal(len(who), name=f"who{i}") for i in range(count)]
        hows = [Signal(len(how), name=f"how{i}") for i in range(count)]

        # Where the request goes, and whom it may join.
        place, leader = Signal(bits), Signal(bits)
        match = self.match
        # An entry in which nobody is may be written for nothing: who stays is known late.
        takes, writes = Signal(count), Signal(count)
        m.d.comb += writes.eq(Mux(self.offer, self.chosen, 0))
        # The next one is known from a register: what is given back is not found for a cycle.
        free, replay = Signal(count, init=1), new.held.replay
        kept = Cat(new.held.entry == i for i in range(count))
        fresh = self.allocate_en & ~replay
        m.d.comb += [
            self.chosen.eq(Mux(replay, kept, free)),
            place.eq(number_of(self.chosen)),
        ]
        m.d.sync += free.eq(Mux(fresh, lowest_bit(~(busy | free)), lowest_bit(~busy)))
        for i in range(count):
            equal = Signal(3, name=f"equal{i}")
            m.d.comb += takes[i].eq(self.allocate_en & self.chosen[i])
            with m.If(self.comes):
                # With what goes into the entry meanwhile, or with what is there.
                m.d.sync += equal.eq(Mux(writes[i], equals(who, how), equals(whos[i], hows[i])))
            m.d.comb += self.same_device[i].eq(busy[i] & equal[0])
            same_walk = ~contexts[i] & equal[2]
            m.d.comb += match[i].eq(
                joins[i] & ~self.closes[i] & Mux(new.for_context, contexts[i] & equal[1], same_walk)
            )
        # Of what is the same one leads at most: a second would have joined the first.
        m.d.comb += leader.eq(number_of(match))

        for i in range(count):
            freed = self.free_en & (self.free_entry[:bits] == i)
            released = self.release_en & (self.release_entry[:bits] == i)
            with m.If(freed | released):
                m.d.sync += [busy[i].eq(0), joins[i].eq(0)]
            with m.If(self.closes[i] | self.stale_all):
                m.d.sync += joins[i].eq(0)
            with m.If(self.stale_all):
                m.d.sync += self.stale[i].eq(1)
            with m.If(self.detach[i]):
                m.d.sync += [leaders[i].eq(i), joins[i].eq(0)]
            with m.If(writes[i]):
                m.d.sync += [
                    contexts[i].eq(new.for_context),
                    leaders[i].eq(Mux(match.any(), leader, place)),
                    whos[i].eq(who),
                    hows[i].eq(how),
                ]
            with m.If(takes[i]):
                m.d.sync += [
                    busy[i].eq(1),
                    joins[i].eq(~match.any() & ~new.stale & ~self.stale_all),
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
            write.en.eq(self.offer & self.chosen.any()),
            walk.addr.eq(self.walk_entry),
            read.addr.eq(self.read_entry),
            self.read_held.eq(read.data),
            replay.addr.eq(self.replay_entry),
            self.replay_held.eq(replay.data),
        ]
        m.d.sync += self.walk_held.eq(walk.data)

    def _queues(self, m: Module, place, match) -> None:
        """Leaders in the order in which they came; a walk may begin in place of being queued."""
        leads, fetched, led = Signal(), Signal(), Signal.like(place)
        m.d.sync += [
            leads.eq(self.allocate_en & ~match.any()),
            fetched.eq(self.allocate.for_context),
            led.eq(place),
        ]
        m.submodules.walks = walks = fifo.SyncFIFOBuffered(width=self.bits, depth=self.entries)
        m.submodules.fetches = fetches = fifo.SyncFIFOBuffered(width=self.bits, depth=self.entries)
        at_once = Signal()
        m.d.comb += [
            at_once.eq(leads & ~fetched & (walks.level == 0)),
            self.walk.valid.eq(walks.r_rdy | at_once),
            self.walk.payload.eq(Mux(walks.r_rdy, walks.r_data, led)),
            walks.w_data.eq(led),
            walks.w_en.eq(leads & ~fetched & ~(at_once & self.walk.ready)),
            walks.r_en.eq(self.walk.ready),
            fetches.w_data.eq(led),
            fetches.w_en.eq(leads & fetched),
            self.context.payload.eq(fetches.r_data),
            self.context.valid.eq(fetches.r_rdy),
            fetches.r_en.eq(self.context.ready),
        ]
