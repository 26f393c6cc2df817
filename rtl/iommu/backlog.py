"""Requests that miss beyond their device's share of the miss table."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.config import IommuConfig
from models.spec.translation import TAG_BITS
from rtl.bus.ram import SETTLED
from rtl.iommu.requests import Again, Held, Lane
from rtl.iommu.seams import PIPELINE_DEPTH

__all__ = ["Backlog", "device_entries"]


def device_entries(config: IommuConfig) -> int:
    """Most entries of the miss table that a device has if no other misses as much.

    One more than ``misses``, so that a walk is ready when another ends; and one that was on its way
    when the device got the last of these.
    """
    return config.misses + 2


class Backlog(wiring.Component):
    """Keeps misses that may not have an entry of the miss table yet, and sends them again.

    A device that has its share of entries is limited until none of its misses waits any more: they
    have a lane of their own.  One device is at a time; the entries left are less than another's
    share.  While the table is full, or somebody waits for that already, misses of others wait in a
    common lane; so does a second device that floods.  Hits wait for nobody, and no client has to
    wait because others miss.

    A lane is in order.  Its first passes the pipeline again, before new requests, as soon as there
    is an entry for it; at most every other cycle, so that new requests have theirs.

    Latency
    -------
    ``keep`` follows ``arrive`` in the same cycle.  From a free entry to ``again`` 3 cycles.

    Members
    -------
    coming : ``In(24)``; comes : ``In(1)``
        device_id of ``arrive`` from the next cycle on, until another comes.
    arrive_en : ``In(1)``; arrive : ``In(Held)``
        A request that has no entry has missed.
    keep : ``Out(1)``
        It waits here; else it gets the entry ``chosen`` now.
    chosen : ``In(entries)``; same_device : ``In(entries)``
        Of the miss table for ``arrive``: the entry, and entries in use that are the device's.
    freed : ``In(entries)``
        Given back in this cycle.
    ends : ``In(range(entries + 1))``
        How many ``freed`` has: two at the most of the miss table's, which it need not count.
    lands : ``In(Lane)``
        A request of ``again`` has come to the end of the pipeline; ``NONE`` if none has.
    again : ``Out(stream.Signature(Again))``
    room : ``Out(1)``
        New requests may be accepted.
    """

    #: Of each lane; one for every tag and what the pipeline may hold beside.
    PLACES = 1 << TAG_BITS
    #: Of these, kept for what the pipeline may hold when ``room`` falls.
    MARGIN = 2 * PIPELINE_DEPTH

    def __init__(self, config: IommuConfig):
        self.entries = config.misses + PIPELINE_DEPTH
        self.share = device_entries(config) - 1
        super().__init__(
            {
                "coming": In(24),
                "comes": In(1),
                "arrive_en": In(1),
                "arrive": In(Held),
                "keep": Out(1),
                "chosen": In(self.entries),
                "same_device": In(self.entries),
                "freed": In(self.entries),
                "ends": In(range(self.entries + 1)),
                "lands": In(Lane),
                "again": Out(stream.Signature(Again)),
                "room": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        held, entries = self.arrive, range(self.entries)
        # Of the lanes: the device that has its share, and all others.
        levels = [Signal(range(self.PLACES + 1), name=f"level{n}") for n in range(2)]
        flying = [Signal(range(self.PLACES + 1), name=f"flying{n}") for n in range(2)]
        own, common = Signal(), Signal()
        # Entries in use, and who flies: of both lanes.  How many are left: none, one, or more.
        claimed, full = Signal(range(2 * self.PLACES)), Signal()
        one_free, more_free = Signal(), Signal(init=1)
        # Lanes in which somebody waits.
        queued = Signal(2)
        # The limited device's next has an entry within its share.  Of the cycle before: what has
        # left since keeps its lane from sending another, and no new one gets an entry.
        spare = Signal()
        # The device that is at its limit, or else the last one that got an entry; its entries.
        limited, many, same = Signal(), Signal(), Signal()
        device, mine, entry = Signal(24), Signal(self.entries), Signal(self.entries)
        count, gets = Signal(range(self.entries + 1)), Signal()
        m.d.comb += [
            own.eq(limited & same & (held.lane != Lane.OWN)),
            common.eq(~own & (held.lane == Lane.NONE) & (full | queued[1])),
            self.keep.eq(own | common),
            self.room.eq(levels[0] + levels[1] < self.PLACES - self.MARGIN),
            count.eq(sum((mine[i] for i in entries), start=0)),
            many.eq(count >= self.share),
            gets.eq(self.arrive_en & ~self.keep),
            entry.eq(Mux(gets, self.chosen, 0)),
        ]
        waits = queued[0] | (flying[0] != 0) | (self.arrive_en & own)
        m.d.sync += limited.eq(many | waits)
        changes = Signal()
        m.d.comb += changes.eq(~(limited | many | ~gets))
        with m.If(changes):
            m.d.sync += [
                device.eq(held.request.device_id),
                mine.eq((self.same_device & ~self.freed) | entry),
            ]
        with m.Else():
            m.d.sync += mine.eq((mine & ~self.freed) | Mux(same, entry, 0))
        # Whether it is that device's is known when it arrives.
        with m.If(self.comes):
            m.d.sync += same.eq(
                Mux(changes, held.request.device_id == self.coming, device == self.coming)
            )
        with m.Elif(changes):
            m.d.sync += same.eq(1)
        # A new request may get an entry in the very cycle, unless somebody waits for a full table.
        # Who lands, and what is given back, is counted a cycle later: it is claimed until then.
        landed, ended = Signal(Lane), Signal.like(self.ends)
        m.d.sync += [landed.eq(self.lands), ended.eq(self.ends)]
        m.d.sync += spare.eq(count + flying[0] < self.share)
        may = Cat(
            queued[0] & spare & (more_free | (one_free & queued[1])),
            queued[1] & (more_free | one_free),
        )
        leaves = self._lanes(m, Cat(own, common), may, landed, levels, flying, queued)
        # But for who gets one, which is known last.
        others = Signal.like(claimed)
        m.d.comb += others.eq(claimed - ended + leaves - (landed != Lane.NONE))
        few = [others >= self.entries - n for n in range(3)]
        m.d.sync += [
            claimed.eq(others + gets),
            full.eq(Mux(gets, few[1], few[0])),
            one_free.eq(Mux(gets, few[2] & ~few[1], few[1] & ~few[0])),
            more_free.eq(Mux(gets, ~few[2], ~few[1])),
        ]
        return m

    def _lanes(self, m: Module, to, may, landed, levels, flying, queued) -> Signal:
        """Two queues in one RAM: ``to`` is the one that is entered, ``may`` whose first leaves.

        Returns whether one leaves.
        """
        # What leaves has come in an earlier cycle.
        m.submodules.ram = ram = memory.Memory(
            shape=Again, depth=2 * self.PLACES, init=[], attrs=SETTLED
        )
        write, read = ram.write_port(), ram.read_port()
        heads = [Signal(range(self.PLACES), name=f"head{n}") for n in range(2)]
        tails = [Signal(range(self.PLACES), name=f"tail{n}") for n in range(2)]
        again, held = self.again, self.arrive
        lane, last, leaves, enters = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            lane.eq(Mux(last, ~may[0], may[1])),  # in turn
            leaves.eq(may.any() & ~again.valid),
            enters.eq(self.arrive_en & to.any()),
            read.en.eq(leaves),
            read.addr.eq(Cat(Mux(lane, heads[1], heads[0]), lane)),
            write.en.eq(enters),
            write.addr.eq(Cat(Mux(to[1], tails[1], tails[0]), to[1])),
            write.data.request.eq(held.request),
            write.data.epoch.eq(held.epoch),
            write.data.counted.eq(held.counted),
            write.data.lane.eq(Mux(to[1], Lane.COMMON, Lane.OWN)),
            again.payload.eq(read.data),
        ]
        with m.If(leaves):
            m.d.sync += [again.valid.eq(1), last.eq(lane)]
        with m.Elif(again.ready):
            m.d.sync += again.valid.eq(0)
        for number, name in enumerate((Lane.OWN, Lane.COMMON)):
            came, left = enters & to[number], leaves & (lane == number)
            m.d.sync += [
                tails[number].eq(tails[number] + came),
                heads[number].eq(heads[number] + left),
                levels[number].eq(levels[number] + came - left),
                queued[number].eq(came | (levels[number] > 1) | (queued[number] & ~left)),
                flying[number].eq(flying[number] + left - (landed == name)),
            ]
        return leaves
