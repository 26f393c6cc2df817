"""From a slot to an entry of a backup ring."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
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
from rtl.nic.seams import DmaDone, DmaRequest, DmaStatus, FrameRef, LocalMemory, StatEvent

__all__ = ["JOBS", "Spill"]

#: Frames that are written at once; each has two DMA requests, and so two tags.
JOBS = 2
#: Place of a number from NOWHERE in its 16 bytes.
_NUMBER_AT = 10


class Spill(wiring.Component):
    """Writes frames into backup rings, and gives their slots back.

    A frame and what is known of it are two writes.  If one does not end well the ring is not to be
    had: it is ``broken``.

    Latency
    -------
    8 cycles and a DMA write; two frames at once.

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
        Tags 0 to ``2 * JOBS - 1`` of the backup rings.
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
        job = data.StructLayout(
            {"kept": Kept, "busy": 1, "frame": 1, "number": 1, "bad": 1}  # writes under way
        )
        jobs = [Signal(job, name=f"job{number}") for number in range(JOBS)]
        first, last = Signal(range(JOBS)), Signal(range(JOBS))  # the oldest; the next
        oldest, kept = Signal(job), self.i.payload
        with m.Switch(first):
            for number in range(JOBS):
                with m.Case(number):
                    m.d.comb += oldest.eq(jobs[number])
        full = Signal()
        with m.Switch(last):
            for number in range(JOBS):
                with m.Case(number):
                    m.d.comb += full.eq(jobs[number].busy)
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
        complete = oldest.busy & ~oldest.frame & ~oldest.number
        self._requests(m, address, last)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(complete & calm):
                    self._give(m, oldest.kept, Stat.RX_BACKUP, ~oldest.bad)
                    m.d.comb += [self.written.eq(1), self.broken.eq(oldest.bad)]
                    m.d.sync += first.eq(first + 1)
                    for number in range(JOBS):
                        with m.If(first == number):
                            m.d.sync += jobs[number].busy.eq(0)
                with m.Elif(self.i.valid & kept.drop):
                    with m.If(calm):
                        self._give(m, kept, Stat.RX_DROPPED_FULL, 1)
                        m.d.comb += self.i.ready.eq(1)
                with m.Elif(self.i.valid & ~full):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "FRAME"
            with m.State("FRAME"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "NUMBER"
            with m.State("NUMBER"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.comb += [self.taken.eq(1), self.i.ready.eq(1)]
                    m.d.sync += last.eq(last + 1)
                    for number in range(JOBS):
                        with m.If(last == number):
                            m.d.sync += [
                                jobs[number].kept.eq(kept),
                                jobs[number].busy.eq(1),
                            ]
                    m.next = "IDLE"
        self._ends(m, jobs, last, self.request.valid & self.request.ready)
        return m

    def _requests(self, m: Module, address, last) -> None:
        """The two writes of a frame."""
        request, frame = self.request.payload, self.i.payload.frame
        number, entry = Signal(16), Signal(BackupEntry)
        bits = exact_log2(2 * self.config.frame_bytes)
        self.second = second = Signal()
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += second.eq(~second)
        m.d.comb += [
            entry.length.eq(frame.length),
            entry.checksum.eq(self.finding.finding),
            number.eq(entry.as_value()[:16]),
            request.tag.eq(entry_tag(self.config, 2 * last + second)),
            request.function.eq(0),
            request.write.eq(1),
            request.hurried.eq(1),
            request.iova.eq(address.address + Mux(second, 0, BACKUP_FRAME_OFFSET)),
            request.length.eq(Mux(second, 2, frame.length)),
            request.memory.eq(Mux(second, LocalMemory.NOWHERE, frame.memory)),
            request.offset.eq(
                Mux(
                    second,
                    (number << 4) | _NUMBER_AT,
                    (frame.slot << bits) + BACKUP_FRAME_OFFSET,
                )
            ),
        ]

    def _ends(self, m: Module, jobs, last, asked) -> None:
        """Note what has been asked for, and how it ended."""
        tag = Signal(2 * JOBS)
        m.d.comb += [
            self.done.ready.eq(1),
            tag.eq(self.done.payload.tag - self.config.engine_tags),
        ]
        for number, job in enumerate(jobs):
            for place, name in enumerate(("frame", "number")):
                with m.If(self.done.valid & (tag == 2 * number + place)):
                    m.d.sync += job[name].eq(0)
                    with m.If(self.done.payload.status != DmaStatus.OK):
                        m.d.sync += job.bad.eq(1)
                with m.If(asked & (last == number) & (self.second == place)):
                    m.d.sync += job[name].eq(1)
                    if not place:
                        m.d.sync += job.bad.eq(0)

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
            event.payload.stat.eq(stat),
            event.payload.amount.eq(1),
        ]
