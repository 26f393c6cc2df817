"""Top of the backup rings: what goes there, and the counters of each ring."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import MANAGEMENT, BackupRing
from rtl.bus.stream import StreamArbiter, StreamFifo
from rtl.nic.backup.records import COUNTER_BITS, Given, Kept, receiver_bits
from rtl.nic.backup.restore import Restore
from rtl.nic.backup.spill import JOB_TAGS, JOBS, Spill
from rtl.nic.offload.findings import FindingNote, FindingRead
from rtl.nic.seams import DmaDone, DmaRequest, FrameRef, PolicyWrite, StatEvent, StorePort
from rtl.nic.toeplitz import Steered

__all__ = ["Backup"]

#: Frames that wait to be written.
_PLACES = 16
#: Counters of a ring, each behind the one before it.
_COUNTERS = ("entered", "taken", "written", "fetched", "left")


class Backup(wiring.Component):
    """Takes frames to backup rings while their receive queues wait for pages, and back in order.

    What comes for a queue that waits, or of which frames are still in its ring, goes into the ring
    (``BackupRing``); so does what is in transit, that is, all that the function's quota has no room
    for.  With the ring full, disabled or broken it is dropped and counted (RX_DROPPED_FULL).  A
    ring is emptied when its function ceases to receive, when it is disabled, and when a write to it
    fails, which is what breaks it until it is empty: what was in it is counted.  A read that fails
    costs its frame.

    Latency
    -------
    None for frames that pass.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of Steered; transit : ``In(1)``
        Frames and whether they are in transit.
    o : ``Out(stream)`` of Steered
        What may go to the receive FIFOs.
    waits : ``In(receivers)``; receiving : ``In(functions)``
        Receive queues that wait for a page; functions that receive.
    stored : ``In(PolicyWrite)``
    clearing, clear : ``In``
        After reset: the counters of this queue are cleared.
    spills, refuses : ``Out(functions)``
        Functions for which frames in transit may come; for which none may come.
    claim, claim_function : ``Out``; claimed : ``In(1)``
        See :class:`Restore`.
    given : ``Out(stream)`` of Given; release : ``Out(stream)`` of FrameRef
        Frames that no quota counts any more; slots.
    stat : ``Out(stream)`` of StatEvent
    alloc : ``In(stream)`` of 8; needs_slot : ``Out(1)``
        Slots of the TX memory.
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
    emptying : ``Out(functions)``
        Functions with frames in their rings.
    store : ``In(StorePort)``
    finding : ``Out(FindingRead)``; note : ``Out(FindingNote)``; note_free : ``In(1)``
        What is known of checksums of frames that go and come back.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        functions = config.functions
        super().__init__(
            {
                "i": In(stream.Signature(Steered)),
                "transit": In(1),
                "o": Out(stream.Signature(Steered)),
                "waits": In(config.receivers),
                "receiving": In(functions),
                "stored": In(PolicyWrite()),
                "clearing": In(1),
                "clear": In(receiver_bits(config)),
                "spills": Out(functions),
                "refuses": Out(functions),
                "claim": Out(1),
                "claim_function": Out(8),
                "claimed": In(1),
                "given": Out(stream.Signature(Given)),
                "release": Out(stream.Signature(FrameRef)),
                "stat": Out(stream.Signature(StatEvent)),
                "alloc": In(stream.Signature(8)),
                "needs_slot": Out(1),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "emptying": Out(functions),
                "store": In(StorePort()),
                "finding": Out(FindingRead()),
                "note": Out(FindingNote()),
                "note_free": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, receivers = self.config, self.config.receivers
        m.submodules.spill = self.spill = Spill(config)
        m.submodules.restore = self.restore = Restore(config)
        self.counters = {
            name: Memory(shape=COUNTER_BITS, depth=max(2, receivers), init=[]) for name in _COUNTERS
        }
        for name, ram in self.counters.items():
            m.submodules[name] = ram
        self.kept, self.flush = Signal(receivers), Signal(receivers)
        self._connect(m)
        self._rings(m)
        self._put(m)
        self._follow(m)
        return m

    def _connect(self, m: Module) -> None:
        """Streams of both sides together."""
        spill, restore = self.spill, self.restore
        arbiters = {}
        for name, shape in (("given", Given), ("release", FrameRef), ("stat", StatEvent),
                            ("request", DmaRequest)):  # fmt: skip
            m.submodules[f"{name}_arbiter"] = arbiters[name] = arbiter = StreamArbiter(shape, 2)
            connect(m, arbiter.o, flipped(getattr(self, name)))
        for number, side in enumerate((spill, restore)):
            for name, arbiter in arbiters.items():
                connect(m, getattr(side, name), arbiter.inputs[number])
        theirs = self.done.payload.tag < self.config.engine_tags + JOBS * JOB_TAGS
        for side, ours in ((spill, theirs), (restore, ~theirs)):
            m.d.comb += [
                side.done.valid.eq(self.done.valid & ours),
                side.done.payload.eq(self.done.payload),
            ]
        m.d.comb += self.done.ready.eq(1)
        connect(m, flipped(self.alloc), restore.alloc)
        m.d.comb += self.needs_slot.eq(restore.needs_slot)
        connect(m, flipped(self.store), restore.store)
        connect(m, spill.finding, flipped(self.finding))
        connect(m, restore.note, flipped(self.note))
        m.d.comb += [
            self.claim.eq(restore.claim),
            self.claim_function.eq(restore.owner),
            restore.claimed.eq(self.claimed),
            restore.note_free.eq(self.note_free),
        ]

    def _rings(self, m: Module) -> None:
        """What software has said of each function's ring."""
        stored, depth = self.stored, max(2, self.config.functions)
        words = {name: MANAGEMENT[name].offset // 4 for name in
                 ("backup_low", "backup_high", "backup")}  # fmt: skip
        rams = {}
        for name, word in words.items():
            rams[name] = ram = Memory(shape=32, depth=depth, init=[])
            m.submodules[name] = ram
            write = ram.write_port()
            m.d.comb += [
                write.en.eq(stored.en & (stored.word == word)),
                write.addr.eq(stored.function),
                write.data.eq(stored.data),
            ]
        for side in (self.spill, self.restore):
            ports = {name: ram.read_port() for name, ram in rams.items()}
            m.d.comb += [port.addr.eq(side.ring.function) for port in ports.values()]
            m.d.comb += [
                side.ring.base.eq(Cat(ports["backup_low"].data, ports["backup_high"].data)),
                side.ring.ring.eq(ports["backup"].data),
            ]
        self.enabled = Signal(self.config.functions)
        for number in range(self.config.functions):
            with m.If(stored.en & (stored.word == words["backup"]) & (stored.function == number)):
                m.d.sync += self.enabled[number].eq(BackupRing(stored.data).enable)
        self.sizes = rams["backup"].read_port(domain="comb")

    def _read(self, name: str, receiver, m: Module):
        """The counter of a queue."""
        port = self.counters[name].read_port(domain="comb")
        m.d.comb += port.addr.eq(receiver)
        return port.data

    def _write(self, m: Module, name: str, en, receiver, value) -> None:
        port = self.counters[name].write_port()
        m.d.comb += [
            port.en.eq(self.clearing | en),
            port.addr.eq(Mux(self.clearing, self.clear, receiver)),
            port.data.eq(Mux(self.clearing, 0, value)),
        ]

    def _put(self, m: Module) -> None:
        """Where a frame goes."""
        given, back, out = self.i, self.restore.o, self.o
        m.submodules.queue = queue = StreamFifo(Kept, _PLACES)
        connect(m, queue.o, self.spill.i)
        function = given.payload.function
        receiver = Signal(receiver_bits(self.config))
        entries, ring = Signal(COUNTER_BITS), BackupRing(self.sizes.data)
        keeps, drops, full, enabled = Signal(), Signal(), Signal(), Signal()
        entered = self._read("entered", receiver, m)
        left = self._read("left", receiver, m)
        known, waits = entered != left, self.waits.bit_select(receiver, 1)
        m.d.comb += [
            receiver.eq(function * self.config.queue_pairs + given.payload.pair),
            self.sizes.addr.eq(function),
            entries.eq(1 << ring.entries_log2),
            enabled.eq(self.enabled.bit_select(function, 1)),
            full.eq((entered - left)[:COUNTER_BITS] >= entries),
            keeps.eq(self.transit | known | (waits & enabled)),
            drops.eq(full | ~enabled | self.flush.bit_select(receiver, 1)),
            queue.i.valid.eq(given.valid & keeps),
            queue.i.payload.frame.eq(given.payload.frame),
            queue.i.payload.function.eq(function),
            queue.i.payload.pair.eq(given.payload.pair),
            queue.i.payload.transit.eq(self.transit),
            queue.i.payload.drop.eq(drops),
            # What comes back goes first: it is older.
            out.valid.eq(back.valid | (given.valid & ~keeps)),
            out.payload.eq(Mux(back.valid, back.payload, given.payload)),
            back.ready.eq(out.ready),
            given.ready.eq(Mux(keeps, queue.i.ready, out.ready & ~back.valid)),
        ]
        self.enters = Signal()
        m.d.comb += self.enters.eq(queue.i.valid & queue.i.ready & ~drops)
        self._write(m, "entered", self.enters, receiver, entered + 1)
        self.entering = receiver

    def _follow(self, m: Module) -> None:
        """The counters behind, and which queues have frames in their rings."""
        spill, restore, pairs = self.spill, self.restore, self.config.queue_pairs
        at, leaving, wrote = restore.receiver, restore.left_receiver, spill.written_receiver
        m.d.comb += spill.place.eq(self._read("taken", spill.receiver, m))
        self._write(m, "taken", spill.taken, spill.receiver, spill.place + 1)
        written = self._read("written", wrote, m)
        self._write(m, "written", spill.written, wrote, written + 1)

        entered, taken = self._read("entered", at, m), self._read("taken", at, m)
        complete, left = self._read("written", at, m), self._read("left", at, m)
        fetched = self._read("fetched", at, m)
        flushing, still = Signal(), Signal()
        m.d.comb += [
            flushing.eq(self.flush.bit_select(at, 1)),
            still.eq((entered == taken) & (taken == complete) & (fetched == left)),
            restore.place.eq(fetched),
            restore.waiting.eq(complete - fetched),
            restore.flush.eq(flushing & still),
            restore.wanted.eq(
                (fetched != complete)
                & ~flushing
                & ~self.waits.bit_select(at, 1)
                & self.receiving.bit_select(restore.owner, 1)
            ),
            restore.discards.eq(self.flush.bit_select(leaving, 1)),
        ]
        moved = Mux(restore.flushed, complete, fetched + 1)
        self._write(m, "fetched", restore.fetched | restore.flushed, at, moved)
        gone, last = self._read("left", leaving, m), self._read("entered", leaving, m)
        self._write(
            m,
            "left",
            restore.left | restore.flushed,
            Mux(restore.flushed, at, leaving),
            Mux(restore.flushed, complete, gone + 1),
        )
        enters, ends = Signal.like(self.kept), Signal.like(self.kept)
        flushed, broken = Signal.like(self.kept), Signal.like(self.kept)
        m.d.comb += [
            enters.eq(self.enters << self.entering),
            ends.eq((restore.left & ((gone + 1)[:COUNTER_BITS] == last)) << leaving),
            flushed.eq(restore.flushed << at),
        ]
        # Not only of queues that wait: what came back is in the TX memory, and guests' frames may
        # find no room there.
        m.d.comb += self.spills.eq(self.enabled)
        able = self.receiving & self.enabled
        for function in range(self.config.functions):
            here = slice(function * pairs, (function + 1) * pairs)
            gone_bad = spill.broken & (spill.broken_function == function)
            m.d.comb += [
                self.emptying[function].eq(self.kept[here].any()),
                broken[here].eq((gone_bad | ~able[function]).replicate(pairs)),
                self.refuses[function].eq(self.flush[here].any()),
            ]
        m.d.sync += [
            self.kept.eq((self.kept & ~ends & ~flushed) | enters),
            self.flush.eq((self.flush | (self.kept & broken)) & ~flushed & ~ends),
        ]
