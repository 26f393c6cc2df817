"""Receive FIFOs: frames that wait for a function's driver to offer a buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from models.spec.config import BACKUP_TRANSIT, NicConfig
from models.spec.nic import Stat
from rtl.bus.ram import SETTLED
from rtl.bus.stream import StreamArbiter, StreamFifo, StreamRegister
from rtl.nic.backup import Backup
from rtl.nic.backup.ports import BackupPorts
from rtl.nic.seams import (
    Arrival,
    FrameRef,
    HeadRead,
    LocalMemory,
    PolicyWrite,
    RxPop,
    StatEvent,
    TxFrame,
    lost,
)
from rtl.nic.steering import Steering
from rtl.nic.toeplitz import Steered

__all__ = ["ReceiveFifos"]


class ReceiveFifos(wiring.Component):
    """One FIFO per queue pair of each function, all in one RAM; a quota per function and memory.

    A frame that is pushed goes through :class:`~rtl.nic.steering.Steering` into the FIFO of its
    queue pair.  Frames of the TX and of the RX memory wait in one order, but are counted apart
    from when they are pushed until they are given back, so that a function whose driver sleeps
    keeps at most its share of either memory; the shares together leave a slot free (``NicConfig``).

    Counts are in two small RAMs, of what was pushed and given back; the FIFOs' ends in two others.
    Each is written by one side.
    With ``config.backup`` frames for a queue that waits for a page go to memory and come back
    (:class:`~rtl.nic.backup.backup.Backup`).  For these a few more have ``room`` than the quota
    has; in the TX memory, where they come back to, they count like others.
    What waits for a function that does not receive is taken out and given back, one FIFO looked at
    per cycle in which the engine neither pops nor gives back.  So is what waits for a queue that is
    down, and counted as dropped; and where a function's frames are steered, the oldest for a queue
    for which so many wait that the quotas leave no place for each other one: a queue must not keep
    others of its function waiting.

    Latency
    -------
    Without steering a frame pushed in one cycle can be popped 3 cycles later.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    ready : ``Out(1)``
        Cleared after reset; push nothing before.
    function : ``In(8)``
        Whose FIFOs ``room`` and ``push`` are about.
    frame : ``In(FrameRef)``
    room : ``Out(1)``
        The quota has room for a frame of the memory of ``frame``.
    push, accepts : ``In(1)``, ``Out(1)``
        Takes ``frame``; only with ``room`` and ``accepts``.
    arrival : ``Out(stream)`` of Arrival
    pop : ``In(RxPop)``
    receiving : ``In(functions)``
    down : ``In(receivers)``
        Receive queues that take no frames.
    release : ``Out(stream)`` of FrameRef
        Frames that are taken out, and what has gone to a backup ring.
    stat : ``Out(stream)`` of StatEvent
    quiet : ``In(1)``
        Nobody has looked at ``room`` who has not pushed yet.
    backup : ``In(BackupPorts)``
    head : ``Out(HeadRead)``; stored : ``In(PolicyWrite)``; steering : ``In(functions)``
        See :class:`~rtl.nic.steering.Steering`.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        self.quotas = config.tx_quota, config.rx_quota
        self.index_bits = ceil_log2(1 + sum(self.quotas))
        self.steers = config.queue_pairs > 1 and (config.multiqueue or config.rss)
        super().__init__(
            {
                "ready": Out(1),
                "function": In(8),
                "frame": In(FrameRef),
                "room": Out(1),
                "push": In(1),
                "accepts": Out(1),
                "arrival": Out(stream.Signature(Arrival)),
                "pop": In(RxPop()),
                "receiving": In(config.functions),
                "down": In(config.receivers),
                "stat": Out(stream.Signature(StatEvent)),
                "release": Out(stream.Signature(FrameRef)),
                "head": Out(HeadRead()),
                "stored": In(PolicyWrite()),
                "steering": In(config.functions),
                "quiet": In(1),
            }
            | ({"backup": In(BackupPorts(config))} if config.backup else {})
        )

    def elaborate(self, platform):
        m = Module()
        functions, receivers = self.config.functions, self.config.receivers
        bits, pairs = self.index_bits, self.config.queue_pairs
        depth = max(2, functions)
        counts = data.StructLayout({"tx": bits, "rx": bits})  # modulo the places
        m.submodules.pushed = pushed = Memory(shape=counts, depth=depth, init=[])
        m.submodules.gone = gone = Memory(shape=counts, depth=depth, init=[])
        m.submodules.tails = tails = Memory(shape=bits, depth=max(2, receivers), init=[])
        m.submodules.heads = heads = Memory(shape=bits, depth=max(2, receivers), init=[])
        # A frame counts from the cycle after it was put there.
        m.submodules.frames = frames = Memory(
            shape=FrameRef, depth=receivers << bits, init=[], attrs=SETTLED
        )
        m.submodules.kinds = kinds = Memory(shape=1, depth=receivers << bits, init=[])

        # Every FIFO in turn: to clear it after reset, to look whether its function receives.
        scan, owner, pair = Signal(range(max(2, receivers))), Signal(8), Signal(3)
        self.clearing = clearing = Signal(init=1)
        m.d.comb += self.ready.eq(~clearing)
        self.looked = Signal()  # at the one whose turn it is
        with m.If(clearing | self.looked):
            m.d.sync += [scan.eq(scan + 1), pair.eq(pair + 1)]
            with m.If(pair == pairs - 1):
                m.d.sync += [pair.eq(0), owner.eq(owner + 1)]
            with m.If(scan == receivers - 1):
                m.d.sync += [scan.eq(0), owner.eq(0), pair.eq(0), clearing.eq(0)]
        self.scan, self.owner, self.pair = scan, owner, pair

        self.given_en = Signal()
        self._claim(m, pushed, gone)
        if self.config.backup:
            self._keep(m)
        self._put(m, tails, frames, kinds)
        self._take(m, tails, heads, frames, kinds, gone)
        return m

    def _claim(self, m: Module, pushed, gone) -> None:
        """Count a frame that is pushed, and send it on to be steered."""
        claim, given = pushed.write_port(), gone.read_port(domain="comb")
        claimed = pushed.read_port(domain="comb")
        ours, theirs, bits = claimed.data, given.data, self.index_bits
        from_rx, waiting_tx, waiting_rx = Signal(), Signal(bits), Signal(bits)
        self.within = within = Signal()  # the quota
        m.submodules.queue = queue = StreamRegister(TxFrame)
        m.d.comb += [
            claimed.addr.eq(self.function),
            given.addr.eq(self.function),
            from_rx.eq(self.frame.memory == LocalMemory.RX),
            waiting_tx.eq(ours.tx - theirs.tx),
            waiting_rx.eq(ours.rx - theirs.rx),
            within.eq(Mux(from_rx, waiting_rx < self.quotas[1], waiting_tx < self.quotas[0])),
            self.room.eq(within),
            claim.addr.eq(Mux(self.clearing, self.owner, self.function)),
            claim.en.eq(self.clearing | (self.push & within)),
            queue.i.payload.frame.eq(self.frame),
            queue.i.payload.function.eq(self.function),
            queue.i.valid.eq(self.push),
            self.accepts.eq(queue.i.ready),
        ]
        with m.If(~self.clearing):
            m.d.comb += [
                claim.data.tx.eq(ours.tx + ~from_rx),
                claim.data.rx.eq(ours.rx + from_rx),
            ]
        if self.config.backup:
            self._claim_back(m, pushed, gone, claim)
        m.submodules.steered = steered = StreamRegister(Steered)
        if self.steers:
            m.submodules.steering = steering = Steering(self.config)
            connect(m, queue.o, steering.i)
            connect(m, steering.o, steered.i)
            connect(m, steering.head, flipped(self.head))
            connect(m, flipped(self.stored), steering.stored)
            m.d.comb += steering.steering.eq(self.steering)
        else:
            m.d.comb += [
                steered.i.valid.eq(queue.o.valid),
                steered.i.payload.frame.eq(queue.o.payload.frame),
                steered.i.payload.function.eq(queue.o.payload.function),
                queue.o.ready.eq(steered.i.ready),
            ]
        self.steered = steered.o

    def _claim_back(self, m: Module, pushed, gone, claim) -> None:
        """Count a frame that is to come back from a backup ring, when the quota has room."""
        ports, bits = self.backup, self.index_bits
        m.submodules.rings = self.rings = rings = Backup(self.config)
        ours, theirs = (ram.read_port(domain="comb") for ram in (pushed, gone))
        m.d.comb += [
            ours.addr.eq(rings.claim_function),
            theirs.addr.eq(rings.claim_function),
            rings.claimed.eq(
                rings.claim
                & self.quiet
                & ~self.push
                & ~self.clearing
                & ((ours.data.tx - theirs.data.tx)[:bits] < self.quotas[0])
            ),
        ]
        with m.If(rings.claimed):
            m.d.comb += [
                claim.en.eq(1),
                claim.addr.eq(rings.claim_function),
                claim.data.tx.eq(ours.data.tx + 1),
                claim.data.rx.eq(ours.data.rx),
            ]
        for name in ("request", "finding", "note"):
            connect(m, getattr(rings, name), flipped(getattr(ports, name)))
        for name in ("alloc", "done", "store"):
            connect(m, flipped(getattr(ports, name)), getattr(rings, name))
        connect(m, flipped(self.stored), rings.stored)
        m.d.comb += [
            rings.waits.eq(ports.waits),
            ports.needs_slot.eq(rings.needs_slot),
            ports.emptying.eq(rings.emptying),
            rings.note_free.eq(ports.note_free),
            rings.receiving.eq(self.receiving),
            rings.clearing.eq(self.clearing),
            rings.clear.eq(self.scan),
        ]

    def _keep(self, m: Module) -> None:
        """Frames in transit; what the backup rings let through."""
        rings, steered = self.rings, self.steered
        transit, begins, ends = Signal(range(64)), Signal(), Signal()
        m.submodules.transits = transits = StreamFifo(1, 8)
        more, function = Signal(), self.function
        m.d.comb += [
            more.eq(self.rings.spills.bit_select(function, 1) & (transit < BACKUP_TRANSIT)),
            self.room.eq((self.within | more) & ~self.rings.refuses.bit_select(function, 1)),
            transits.i.valid.eq(self.push),
            transits.i.payload.eq(~self.within),
            begins.eq(self.push & ~self.within),
            rings.i.valid.eq(steered.valid & transits.o.valid),
            rings.i.payload.eq(steered.payload),
            rings.transit.eq(transits.o.payload),
            transits.o.ready.eq(steered.valid & rings.i.ready),
            steered.ready.eq(rings.i.ready & transits.o.valid),
        ]
        given = rings.given
        m.d.comb += [
            self.given_en.eq(given.valid & ~given.payload.transit),
            given.ready.eq(given.payload.transit | ~self.pop.back),
            ends.eq(given.valid & given.payload.transit),
        ]
        m.d.sync += transit.eq(transit + begins - ends)
        self.steered = rings.o

    def _put(self, m: Module, tails, frames, kinds) -> None:
        """Into the FIFO of a queue pair; there is a place, as it was counted."""
        bits, found, arrival = self.index_bits, self.steered, self.arrival
        put_frame, put_kind = frames.write_port(), kinds.write_port()
        move, tail = tails.write_port(), tails.read_port(domain="comb")
        receiver, done = Signal(range(max(2, self.config.receivers))), Signal()
        told = StreamRegister(Arrival)
        m.submodules.told = told
        connect(m, told.o, flipped(arrival))
        m.d.comb += [
            receiver.eq(found.payload.function * self.config.queue_pairs + found.payload.pair),
            told.i.valid.eq(found.valid),
            told.i.payload.function.eq(found.payload.function),
            told.i.payload.pair.eq(found.payload.pair),
            found.ready.eq(told.i.ready),
            done.eq(found.valid & found.ready),
            tail.addr.eq(receiver),
            move.addr.eq(Mux(self.clearing, self.scan, receiver)),
            move.en.eq(self.clearing | done),
            move.data.eq(Mux(self.clearing, 0, tail.data + 1)),
            put_frame.data.eq(found.payload.frame),
            put_kind.data.eq(found.payload.frame.memory == LocalMemory.RX),
        ]
        for port in (put_frame, put_kind):
            m.d.comb += [port.en.eq(done), port.addr.eq(Cat(tail.data[:bits], receiver))]

    def _take(self, m: Module, tails, heads, frames, kinds, gone) -> None:
        """Out of a FIFO, for the engine or to give back."""
        m.submodules.returns = returns = StreamRegister(FrameRef)
        m.submodules.dropped = dropped = StreamRegister(StatEvent)
        if self.config.backup:
            m.submodules.releases = releases = StreamArbiter(FrameRef, 2)
            connect(m, returns.o, releases.i0)
            connect(m, self.rings.release, releases.i1)
            connect(m, releases.o, flipped(self.release))
            m.submodules.stats = stats = StreamArbiter(StatEvent, 2)
            connect(m, dropped.o, stats.i0)
            connect(m, self.rings.stat, stats.i1)
            connect(m, stats.o, flipped(self.stat))
        else:
            connect(m, returns.o, flipped(self.release))
            connect(m, dropped.o, flipped(self.stat))
        get_frame, get_kind = frames.read_port(), kinds.read_port(domain="comb")
        tail, head = tails.read_port(domain="comb"), heads.read_port(domain="comb")
        move, pop = heads.write_port(), self.pop
        receiver, taken = Signal(range(max(2, self.config.receivers))), Signal()
        ceases, crowded, goes, returned, returning = (Signal() for _ in range(5))
        filled, shut = tail.data != head.data, self.down.bit_select(receiver, 1)
        m.d.comb += [
            receiver.eq(
                Mux(pop.looks, pop.function * self.config.queue_pairs + pop.pair, self.scan)
            ),
            tail.addr.eq(receiver),
            head.addr.eq(receiver),
            ceases.eq(~self.receiving.bit_select(self.owner, 1)),
            goes.eq((ceases | crowded | shut) & filled),
            # Of two in a row the second would find no place.
            returned.eq(
                ~pop.looks
                & ~pop.back
                & ~self.given_en
                & returns.i.ready
                & dropped.i.ready
                & ~returning
                & ~self.clearing
                & goes
            ),
            self.looked.eq(~pop.looks & (~goes | returned)),
            taken.eq((pop.en & filled & ~shut & ~self.clearing) | returned),
            get_frame.addr.eq(Cat(head.data, receiver)),
            get_kind.addr.eq(Cat(head.data, receiver)),
            move.addr.eq(receiver),
            move.en.eq(self.clearing | taken),
            move.data.eq(Mux(self.clearing, 0, head.data + 1)),
        ]
        if self.steers:
            most = max(1, min(self.quotas) - (self.config.queue_pairs - 1))
            crowds = (tail.data - head.data)[: self.index_bits] > most
            m.d.comb += crowded.eq(crowds & self.steering.bit_select(self.owner, 1))
        with m.If(self.clearing):
            m.d.comb += receiver.eq(self.scan)
        self._count_gone(m, gone, returned, get_kind.data)
        m.d.sync += [returning.eq(returned), pop.valid.eq(pop.en & taken)]
        m.d.comb += [
            pop.frame.eq(get_frame.data),
            returns.i.valid.eq(returning),
            returns.i.payload.eq(get_frame.data),
            dropped.i.valid.eq(returned),
            *lost(
                dropped.i.payload,
                self.owner,
                self.pair,
                why=Mux(shut | ceases, Stat.RX_DROPPED_QUEUE, Stat.RX_DROPPED_FULL),
            ),
        ]

    def _count_gone(self, m: Module, gone, returned, kind) -> None:
        """Count what the engine gives back, and what was given back here."""
        write, read = gone.write_port(), gone.read_port(domain="comb")
        function, from_rx = Signal(8), Signal()
        m.d.comb += [
            function.eq(Mux(self.pop.back, self.pop.back_function, self.owner)),
            from_rx.eq(Mux(self.pop.back, self.pop.back_memory == LocalMemory.RX, kind)),
            read.addr.eq(function),
            write.addr.eq(Mux(self.clearing, self.owner, function)),
            write.en.eq(self.clearing | self.pop.back | returned | self.given_en),
        ]
        if self.config.backup:
            given = self.rings.given.payload
            with m.If(self.given_en & ~self.pop.back):
                m.d.comb += [function.eq(given.function), from_rx.eq(given.received)]
        with m.If(~self.clearing):
            m.d.comb += [
                write.data.tx.eq(read.data.tx + ~from_rx),
                write.data.rx.eq(read.data.rx + from_rx),
            ]
