"""From a slot to an entry of a backup ring."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.ethernet import MACS_BYTES, VLAN_TAG_BYTES
from models.spec.nic import BACKUP_FRAME_OFFSET, BackupEntry, Stat
from rtl.nic.backup.records import (
    COUNTER_BITS,
    Given,
    Kept,
    RingAddress,
    RingRead,
    entry_tag,
    outgoing,
    receiver_bits,
)
from rtl.nic.offload.findings import FindingRead
from rtl.nic.seams import (
    DmaDone,
    DmaRequest,
    DmaStatus,
    FrameForm,
    FrameRef,
    LocalMemory,
    StatEvent,
    receive_queue,
)

__all__ = ["JOBS", "Spill"]

#: Frames that are written at once, and tags of each: so many of its pieces are on their way.
JOBS, JOB_TAGS = 2, 2
#: Bytes of a piece: others' writes wait for one of them at the most.
PIECE_BYTES = 256
#: Place of a tag in an entry, and of what is behind it.
_TAG = BACKUP_FRAME_OFFSET + MACS_BYTES
_BEHIND_TAG = _TAG + VLAN_TAG_BYTES
#: Place of a number from NOWHERE in its 16 bytes.
_NUMBER_AT = 10


class _Job(data.Struct):
    """A frame that is being written."""

    kept: Kept
    address: 64  # of its entry
    entry: BackupEntry
    at: 15  # the next piece, from the entry's begin
    more: 1  # there is one
    asked: JOB_TAGS  # writes under way
    busy: 1
    bad: 1


class Spill(wiring.Component):
    """Writes frames into backup rings, and gives their slots back.

    What is known of a frame is written first, then the frame as its receiver has it, in pieces that
    end where a burst does, or where a tag is left out or added.  If a write does not end well the
    ring is not to be had: it is ``broken``.

    Latency
    -------
    9 cycles, and a DMA write per two pieces; two frames at once.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    i : ``In(stream)`` of Kept
    receiver : ``Out``; place : ``In``
        Whose ring the oldest frame goes to, and the entry that is next there.
    taken : ``Out(1)``
        The entry at ``place`` of ``receiver`` is in use.
    written, written_receiver : ``Out``
        An entry is complete.
    broken, broken_function : ``Out``
        A ring is not to be had.
    ring : ``Out(RingRead)``; finding : ``Out(FindingRead)``
    request : ``Out(stream)`` of DmaRequest; done : ``In(stream)`` of DmaDone
        Tags 0 to ``JOBS * JOB_TAGS - 1`` of the backup rings.
    release : ``Out(stream)`` of FrameRef; given : ``Out(stream)`` of Given
    stat : ``Out(stream)`` of StatEvent
    """

    def __init__(self, config: NicConfig):
        self.config = config
        receiver = receiver_bits(config)
        super().__init__(
            {
                "i": In(stream.Signature(Kept)),
                "receiver": Out(receiver),
                "place": In(COUNTER_BITS),
                "taken": Out(1),
                "written": Out(1),
                "written_receiver": Out(receiver),
                "broken": Out(1),
                "broken_function": Out(8),
                "ring": Out(RingRead()),
                "finding": Out(FindingRead()),
                "request": Out(stream.Signature(DmaRequest)),
                "done": In(stream.Signature(DmaDone)),
                "release": Out(stream.Signature(FrameRef)),
                "given": Out(stream.Signature(Given)),
                "stat": Out(stream.Signature(StatEvent)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, pairs = self.config, self.config.queue_pairs
        m.submodules.address = address = RingAddress(config)
        connect(m, address.read, flipped(self.ring))
        self.out = outgoing(m, self, release=FrameRef, given=Given, stat=StatEvent)
        jobs = Array(Signal(_Job, name=f"job{number}") for number in range(JOBS))
        first, last = Signal(range(JOBS)), Signal(range(JOBS))  # the oldest; the next
        oldest, following, kept = jobs[first], jobs[last], self.i.payload
        m.d.comb += [
            self.receiver.eq(kept.function * pairs + kept.pair),
            self.written_receiver.eq(oldest.kept.function * pairs + oldest.kept.pair),
            self.broken_function.eq(oldest.kept.function),
            address.function.eq(kept.function),
            address.pair.eq(kept.pair),
            address.place.eq(self.place),
            self.finding.memory.eq(kept.frame.memory),
            self.finding.slot.eq(kept.frame.slot),
        ]
        calm = Cat(port.ready for port in self.out.values()).all()
        complete = oldest.busy & ~oldest.more & ~oldest.asked.any()
        which, tag, due = self._next_piece(m, jobs, first)
        self._pieces(m, jobs, which, tag)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(complete & calm):
                    self._give(m, oldest.kept, Stat.RX_BACKUP, ~oldest.bad)
                    m.d.comb += [self.written.eq(1), self.broken.eq(oldest.bad)]
                    m.d.sync += [first.eq(first + 1), oldest.busy.eq(0)]
                with m.Elif(self.i.valid & kept.drop):
                    with m.If(calm):
                        self._give(m, kept, Stat.RX_DROPPED_FULL, 1)
                        m.d.comb += self.i.ready.eq(1)
                with m.Elif(due):
                    m.next = "PIECE"
                with m.Elif(self.i.valid & ~following.busy):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [self.taken.eq(1), self.i.ready.eq(1)]
                m.d.sync += [
                    last.eq(last + 1),
                    following.kept.eq(kept),
                    following.address.eq(address.address),
                    following.entry.length.eq(self._length(kept.frame)),
                    following.entry.checksum.eq(self.finding.finding),
                    following.at.eq(0),
                    following.more.eq(1),
                    following.busy.eq(1),
                    following.bad.eq(0),
                ]
                m.next = "IDLE"
            with m.State("PIECE"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "IDLE"
        return m

    def _next_piece(self, m: Module, jobs, first):
        """Look, while nothing is asked for, for a piece with a tag, of the older frame first."""
        which, tag = Signal(range(JOBS)), Signal(range(JOB_TAGS))
        due = Signal()
        for number in reversed(range(JOBS)):
            place = (first + number)[: exact_log2(JOBS)]
            job = jobs[place]
            with m.If(job.busy & job.more & ~job.asked.all()):
                m.d.comb += due.eq(1)
                with m.If(~self.request.valid):
                    m.d.sync += [which.eq(place), tag.eq(job.asked[0])]
        return which, tag, due

    def _pieces(self, m: Module, jobs, which, tag) -> None:
        """Ask for pieces, and note how they end."""
        request, job = self.request.payload, jobs[which]
        bits = exact_log2(2 * self.config.frame_stride)
        end, after, place = Signal(15), Signal(15), Signal(bits)
        shift = Signal(signed(VLAN_TAG_BYTES.bit_length() + 1))  # of the frame in its slot
        begins = job.at == 0
        m.d.comb += [
            end.eq(job.entry.length + BACKUP_FRAME_OFFSET),
            after.eq((job.at | (PIECE_BYTES - 1)) + 1),
            request.tag.eq(entry_tag(self.config, JOB_TAGS * which + tag)),
            request.function.eq(0),
            request.write.eq(1),
            request.hurried.eq(1),
            request.yields.eq(1),
            request.iova.eq(job.address + job.at),
            request.length.eq(Mux(after < end, after, end) - job.at),
            request.memory.eq(job.kept.frame.memory),
            place.eq(job.at + shift),
            request.offset.eq(Cat(place, job.kept.frame.slot)),
        ]
        untagged = job.kept.frame.form == FrameForm.UNTAGGED
        tagged = job.kept.frame.form == FrameForm.TAGGED
        with m.If((untagged | tagged) & (job.at == BACKUP_FRAME_OFFSET)):
            m.d.comb += after.eq(_TAG)
        with m.Elif(untagged):
            m.d.comb += shift.eq(VLAN_TAG_BYTES)
        with m.Elif(tagged & (job.at == _TAG)):  # before the frame, as DMA sees its slot
            m.d.comb += [after.eq(_BEHIND_TAG), place.eq(0)]
        with m.Elif(tagged):
            m.d.comb += shift.eq(-VLAN_TAG_BYTES)
        with m.If(begins):
            m.d.comb += [
                after.eq(BACKUP_FRAME_OFFSET),
                request.length.eq(2),
                request.memory.eq(LocalMemory.NOWHERE),
                request.offset.eq((Cat(job.entry.length, job.entry.checksum) << 4) | _NUMBER_AT),
            ]
        number = Signal(range(JOBS * JOB_TAGS))  # job and tag of what has ended
        ended, its_tag = jobs[number >> exact_log2(JOB_TAGS)], number[: exact_log2(JOB_TAGS)]
        m.d.comb += [
            self.done.ready.eq(1),
            number.eq(self.done.payload.tag - self.config.engine_tags),
        ]
        with m.If(self.done.valid):
            m.d.sync += ended.asked.bit_select(its_tag, 1).eq(0)
            with m.If(self.done.payload.status != DmaStatus.OK):
                m.d.sync += ended.bad.eq(1)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [
                job.at.eq(after),
                job.more.eq(after < end),
                job.asked.bit_select(tag, 1).eq(1),
            ]

    @staticmethod
    def _length(frame):
        """Bytes that the receiver of a frame has of it."""
        less, more = frame.form == FrameForm.UNTAGGED, frame.form == FrameForm.TAGGED
        return frame.length + Mux(less, -VLAN_TAG_BYTES, Mux(more, VLAN_TAG_BYTES, 0))

    def _give(self, m: Module, kept, stat: Stat, counts) -> None:
        """Give a frame's slot back, and its place in the quota."""
        release, given, event = self.out["release"], self.out["given"], self.out["stat"]
        m.d.comb += [
            release.valid.eq(1),
            release.payload.eq(kept.frame),
            given.valid.eq(1),
            given.payload.function.eq(kept.function),
            given.payload.received.eq(kept.frame.memory == LocalMemory.RX),
            given.payload.transit.eq(kept.transit),
            event.valid.eq(counts),
            event.payload.function.eq(kept.function),
            event.payload.queue.eq(receive_queue(kept.pair)),
            event.payload.queued.eq(1),
            event.payload.stat.eq(stat),
            event.payload.amount.eq(1),
        ]
