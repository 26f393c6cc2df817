"""From an entry of a backup ring to a slot, and on to the queue's receive FIFO."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import BACKUP_TAGS, NicConfig
from models.spec.ethernet import MACS_BYTES
from models.spec.nic import BACKUP_FRAME_OFFSET, BackupEntry, Stat
from rtl.nic.backup.records import (
    COUNTER_BITS,
    Given,
    RingAddress,
    RingRead,
    entry_tag,
    outgoing,
    receiver_bits,
)
from rtl.nic.backup.spill import JOB_TAGS
from rtl.nic.backup.spill import JOBS as SPILL_JOBS
from rtl.nic.offload.findings import FindingNote
from rtl.nic.seams import (
    BACKUP_BIT,
    DmaDone,
    DmaRequest,
    DmaStatus,
    FrameRef,
    LocalMemory,
    StatEvent,
    StorePort,
    lost,
)
from rtl.nic.toeplitz import Steered

__all__ = ["JOBS", "Restore"]

#: Entries that are read at once.
_FIRST_TAG = SPILL_JOBS * JOB_TAGS
JOBS = BACKUP_TAGS - _FIRST_TAG


class _Job(data.Struct):
    """An entry that is being read."""

    function: 8
    pair: 3
    address: 64
    entry: BackupEntry
    known: 1  # ``entry`` has come
    slot: 8
    has_slot: 1
    asked: 1  # for the frame
    ended: 1
    bad: 1


class Restore(wiring.Component):
    """Reads entries of backup rings into slots of the TX memory, and hands the frames on.

    Queues take turns, those that wait for a page and those without room in their quota aside.  Of
    an entry first is read what says how long the frame is.  Frames come out in the order in which
    their entries were taken up.

    Latency
    -------
    8 cycles and two DMA reads; four frames at once.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    receiver, owner, pair : ``Out``
        The queue that is looked at, its function and its number there.
    place : ``In``; wanted : ``In(1)``
        The entry that is next, and whether it may be taken up.
    fetched : ``Out(1)``
        It is.
    flush, waiting : ``In``; flushed : ``Out(1)``
        The queue's ring is to be emptied of so many frames; it is, in this cycle.
    left, left_receiver : ``Out``
        An entry is not needed any more.
    discards : ``In(1)``
        What comes for ``left_receiver`` is to be thrown away.
    claim : ``Out(1)``; claimed : ``In(1)``
        Wants a place in the quota of ``owner`` for a frame of the TX memory, in this cycle.
    ring : ``Out(RingRead)``
    note : ``Out(FindingNote)``; note_free : ``In(1)``
        What is known of the checksum of a frame that is handed on, while it can be noted.
    alloc : ``In(stream)`` of 8; needs_slot : ``Out(1)``
        Free slots of the TX memory; it would take one, now or soon.
        Slots of the TX memory.
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
    store : ``In(StorePort)``
        DMA, of which what is read to scratch memory with ``BACKUP_BIT`` is looked at.
    o : ``Out(stream)`` of Steered
    release : ``Out(stream)`` of FrameRef; given : ``Out(stream)`` of Given
    stat : ``Out(stream)`` of StatEvent
        Frames that are thrown away.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        receiver = receiver_bits(config)
        super().__init__(
            {
                "receiver": Out(receiver),
                "owner": Out(8),
                "pair": Out(3),
                "place": In(COUNTER_BITS),
                "wanted": In(1),
                "fetched": Out(1),
                "flush": In(1),
                "waiting": In(COUNTER_BITS),
                "flushed": Out(1),
                "left": Out(1),
                "left_receiver": Out(receiver),
                "discards": In(1),
                "claim": Out(1),
                "claimed": In(1),
                "ring": Out(RingRead()),
                "note": Out(FindingNote()),
                "note_free": In(1),
                "alloc": In(stream.Signature(8)),
                "needs_slot": Out(1),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "store": In(StorePort()),
                "o": Out(stream.Signature(Steered)),
                "release": Out(stream.Signature(FrameRef)),
                "given": Out(stream.Signature(Given)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.address = address = RingAddress(config)
        connect(m, address.read, flipped(self.ring))
        self.out = outgoing(m, self, o=Steered, release=FrameRef, given=Given, stat=StatEvent)
        self.jobs = Array(Signal(_Job, name=f"job{number}") for number in range(JOBS))
        bits = JOBS.bit_length()
        # In turn: taken up, asked for, handed on.
        self.begun, self.asked, self.ended = (Signal(bits, name=n) for n in ("b", "a", "e"))
        self.oldest, self.next = self._job(self.ended), self._job(self.asked)
        oldest, following = self.oldest, self.next
        calm = Cat(port.ready for port in self.out.values()).all()
        room = (self.begun - self.ended)[:bits] != JOBS
        waits = (self.asked != self.begun) & following.known
        done = (self.ended != self.asked) & oldest.ended
        m.d.comb += self.needs_slot.eq(waits & ~following.bad)
        self._turns(m)
        self._ends(m)
        m.d.comb += [
            address.function.eq(self.owner),
            address.pair.eq(self.pair),
            address.place.eq(self.place),
            self.left_receiver.eq(oldest.function * config.queue_pairs + oldest.pair),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(done & calm & self.note_free):
                    self._hand_on(m)
                    m.d.sync += self.ended.eq(self.ended + 1)
                with m.Elif(waits & following.bad):
                    self._set(m, self.asked, ended=1)
                    m.d.sync += self.asked.eq(self.asked + 1)
                with m.Elif(waits & self.alloc.valid):
                    m.d.comb += self.alloc.ready.eq(1)
                    self._set(m, self.asked, slot=self.alloc.payload, has_slot=1)
                    m.next = "FRAME"
                with m.Elif(self.flush & calm):
                    m.d.comb += self.flushed.eq(1)
                    self._drop(m, self.owner, self.pair, self.waiting, self.waiting.any())
                    m.next = "TURN"
                with m.Elif(self.wanted & room):
                    m.d.comb += self.claim.eq(1)
                    m.next = "TURN"
                    with m.If(self.claimed):
                        m.next = "LOOK"
                with m.Else():
                    m.next = "TURN"
            with m.State("LOOK"):
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "ENTRY"
            with m.State("ENTRY"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.comb += self.fetched.eq(1)
                    self._set(m, self.begun, function=self.owner, pair=self.pair,
                              address=address.address, known=0, has_slot=0, asked=0, ended=0,
                              bad=0)  # fmt: skip
                    m.d.sync += self.begun.eq(self.begun + 1)
                    m.next = "TURN"
            with m.State("FRAME"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    self._set(m, self.asked, asked=1)
                    m.d.sync += self.asked.eq(self.asked + 1)
                    m.next = "IDLE"
            with m.State("TURN"):
                m.d.comb += self.scan.eq(1)
                m.next = "IDLE"
        self._request(m, address, fsm.ongoing("FRAME"))
        return m

    def _drop(self, m: Module, function, pair, amount, any_) -> None:
        """Count frames that are thrown away."""
        stat = self.out["stat"]
        m.d.comb += [
            stat.valid.eq(any_),
            *lost(stat.payload, function, pair, amount, why=Stat.RX_DROPPED_FULL),
        ]

    def _job(self, place):
        """The job at a place."""
        return self.jobs[place[: exact_log2(JOBS)]]

    def _set(self, m: Module, place, **fields) -> None:
        """Change the job at a place."""
        job = self._job(place)
        m.d.sync += [getattr(job, name).eq(value) for name, value in fields.items()]

    def _turns(self, m: Module) -> None:
        """Queues are looked at one after the other."""
        self.scan = Signal()
        with m.If(self.scan):
            m.d.sync += [self.receiver.eq(self.receiver + 1), self.pair.eq(self.pair + 1)]
            with m.If(self.pair == self.config.queue_pairs - 1):
                m.d.sync += [self.pair.eq(0), self.owner.eq(self.owner + 1)]
            with m.If(self.receiver == self.config.receivers - 1):
                m.d.sync += [self.receiver.eq(0), self.owner.eq(0), self.pair.eq(0)]

    def _request(self, m: Module, address, frame) -> None:
        """Ask for an entry, or its frame."""
        request, following = self.request.payload, self.next
        bits, place = exact_log2(2 * self.config.frame_stride), Signal(range(JOBS))
        m.d.comb += [
            place.eq(Mux(frame, self.asked, self.begun)),
            request.tag.eq(entry_tag(self.config, _FIRST_TAG + place)),
            request.function.eq(0),
            request.hurried.eq(1),
            request.yields.eq(1),
            request.iova.eq(address.address),
            request.length.eq(BACKUP_FRAME_OFFSET),
            request.memory.eq(LocalMemory.SCRATCH),
            request.offset.eq((1 << BACKUP_BIT) | (place << 4)),
        ]
        with m.If(frame):
            m.d.comb += [
                request.iova.eq(following.address + BACKUP_FRAME_OFFSET),
                request.length.eq(following.entry.length),
                request.memory.eq(LocalMemory.TX),
                request.offset.eq((following.slot << bits) + BACKUP_FRAME_OFFSET),
            ]

    def _ends(self, m: Module) -> None:
        """What has come, and how it ended."""
        store, done = self.store, self.done.payload
        here = store.en & (store.memory == LocalMemory.SCRATCH) & store.addr[BACKUP_BIT]
        failed = done.status != DmaStatus.OK
        m.d.comb += self.done.ready.eq(1)
        for number, job in enumerate(self.jobs):
            with m.If(here & (store.addr[4 : 4 + exact_log2(JOBS)] == number)):
                m.d.sync += job.entry.eq(store.data[:16])
            ours = done.tag - self.config.engine_tags == _FIRST_TAG + number
            with m.If(self.done.valid & ours):
                length = job.entry.length
                m.d.sync += job.bad.eq(failed)
                with m.If(job.asked):
                    m.d.sync += job.ended.eq(1)
                with m.Else():
                    m.d.sync += job.known.eq(1)
                    with m.If((length < MACS_BYTES) | (length > self.config.longest_frame)):
                        m.d.sync += job.bad.eq(1)

    def _hand_on(self, m: Module) -> None:
        """The oldest frame goes to its queue's FIFO, or is thrown away."""
        job, frame = self.oldest, Signal(FrameRef)
        out, release, given = self.out["o"], self.out["release"], self.out["given"]
        m.d.comb += [
            frame.memory.eq(LocalMemory.TX),
            frame.slot.eq(job.slot),
            frame.length.eq(job.entry.length),
            self.left.eq(1),
            out.payload.frame.eq(frame),
            out.payload.function.eq(job.function),
            out.payload.pair.eq(job.pair),
            release.payload.eq(frame),
            given.payload.function.eq(job.function),
            self.note.slot.eq(job.slot),
            self.note.finding.eq(job.entry.checksum),
        ]
        with m.If(job.bad | self.discards):
            m.d.comb += [release.valid.eq(job.has_slot), given.valid.eq(1)]
            self._drop(m, job.function, job.pair, 1, 1)
        with m.Else():
            m.d.comb += [out.valid.eq(1), self.note.en.eq(1)]
