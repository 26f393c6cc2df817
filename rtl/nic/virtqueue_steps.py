"""Steps of a queue's thread: virtio 1.3, 2.7 (split virtqueues) and 5.1.6 (network device).

One method per phase.  A step changes the working state, may ask for one DMA, and says what
comes next: another step, a DMA to wait for, sleep, or the queue's end with an error.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data

from models.spec.config import NicConfig
from models.spec.nic import QueueError, Stat
from models.spec.virtio import (
    AVAIL_F_NO_INTERRUPT,
    Descriptor,
    DescriptorFlag,
    NetHeader,
    UsedElement,
)
from rtl.nic.seams import DmaStatus, LocalMemory
from rtl.nic.virtqueue_state import BEATS, Phase, ScratchBeat

__all__ = ["HEADER_BYTES", "Steps"]

#: Bytes of virtio_net_hdr.
HEADER_BYTES = NetHeader.as_shape().size // 8
_SHORTEST = 14


class Steps:
    """Builds the steps into a module.

    Parameters
    ----------
    m : Module
        Where.
    config : NicConfig
        Sizes.
    state : QueueState view
        Working state, registers.
    queue, function, transmits, first : Value
        Whose it is; ``first`` of its function.
    slot_there : Value
        A free TX slot is offered.
    beat : Value
        The scratch beat that belongs to the phase.
    status : DmaStatus
        How the DMA ended that the phase has waited for.
    """

    def __init__(self, m: Module, config: NicConfig, *, state, queue, function, transmits,
                 first, slot_there, beat, status):  # fmt: skip
        self.m, self.config, self.s = m, config, state
        self.queue, self.function, self.transmits = queue, function, transmits
        self.first, self.slot_there, self.beat, self.status = first, slot_there, beat, status
        # What a step says.
        self.issue, self.sleep, self.wait_slot = Signal(), Signal(), Signal()
        self.failed, self.error = Signal(), Signal(QueueError)
        self.write, self.iova, self.length = Signal(), Signal(64), Signal(16)
        self.memory, self.offset = Signal(LocalMemory), Signal(24)
        self.hurried = Signal()
        self.out_en, self.out_beat, self.out_data = Signal(), Signal(ScratchBeat), Signal(128)
        self.stat_en, self.stat, self.amount = Signal(), Signal(Stat), Signal(32)
        self.take_slot, self.pop = Signal(), Signal()
        self.send, self.release, self.interrupt = Signal(), Signal(), Signal()

    def go(self, phase) -> None:
        """Take another step."""
        self.m.d.sync += self.s.phase.eq(phase)

    def dma(self, phase, *, write, iova, length, memory, offset) -> None:
        """Ask for a DMA and go on at ``phase`` when it has ended."""
        self.m.d.comb += [
            self.issue.eq(1),
            self.write.eq(write),
            self.iova.eq(iova),
            self.length.eq(length),
            self.memory.eq(memory),
            self.offset.eq(offset),
            # A transmitter that has a slot waits for no page: others need slots too.
            self.hurried.eq(self.transmits & self.s.has_frame & ~self.release),
        ]
        self.go(phase)

    def scratch(self, phase, beat, *, write, iova, length, at=0) -> None:
        """Ask for a DMA through scratch memory."""
        offset = ((self.queue * BEATS + beat) << 4) + at
        self.dma(
            phase,
            write=write,
            iova=iova,
            length=length,
            memory=LocalMemory.SCRATCH,
            offset=offset,
        )

    def fail(self, error) -> None:
        """Stop the queue."""
        self.m.d.comb += [self.failed.eq(1), self.error.eq(error)]

    def count(self, stat, amount) -> None:
        """Add to a counter of the function."""
        self.m.d.comb += [self.stat_en.eq(1), self.stat.eq(stat), self.amount.eq(amount)]

    def ring_error(self):
        """Reason for a ring access that did not succeed."""
        return Mux(
            self.status == DmaStatus.FAILURE,
            QueueError.PAGE_REQUEST_FAILED,
            Mux(self.status == DmaStatus.BUS, QueueError.BUS, QueueError.RING_ADDRESS),
        )

    def read_avail(self) -> None:
        """Read flags and index of the available ring."""
        self.scratch(Phase.AVAIL, ScratchBeat.AVAIL, write=0, iova=self.s.driver, length=4)

    def build(self) -> None:
        """All phases."""
        m, s = self.m, self.s
        waits = (Phase.AVAIL, Phase.ENTRY, Phase.DESC, Phase.USED_ELEMENT, Phase.USED_INDEX)
        ring = Cat(s.phase == phase for phase in waits).any()
        with m.If((s.phase == Phase.DESC) & (self.status == DmaStatus.ABSENT)):
            self._give_up_slot()
            self.read_descriptor(s.next)  # the first of a chain is read without a slot
        with m.Elif(ring & (self.status != DmaStatus.OK)):
            self.fail(self.ring_error())
        with m.Else():
            with m.Switch(s.phase):
                for phase in Phase:
                    with m.Case(phase):
                        getattr(self, f"on_{phase.name.lower()}")()

    def _give_up_slot(self) -> None:
        """Give the slot back because a page is not there; go on without one to touch the rest."""
        self.m.d.comb += self.release.eq(1)
        self.m.d.sync += [self.s.has_frame.eq(0), self.s.touch.eq(1)]

    def on_start(self) -> None:
        """A function receives on its first queue alone."""
        m, s = self.m, self.s
        with m.If(~self.transmits & ~self.first):
            m.d.comb += self.sleep.eq(1)
        with m.Elif(s.next_avail != s.seen):
            self.go(Phase.NEXT_ENTRY)
        with m.Else():
            self.read_avail()

    def on_avail(self) -> None:
        m, s = self.m, self.s
        flags, index = self.beat[:16], self.beat[16:32]
        ahead = Signal(16)
        m.d.comb += ahead.eq(index - s.next_avail)
        with m.If(ahead > s.size):
            self.fail(QueueError.BAD_INDEX)
        with m.Else():
            m.d.sync += [s.seen.eq(index), s.owed.eq(0)]
            with m.If(s.owed & ~(flags & AVAIL_F_NO_INTERRUPT).any()):
                self.go(Phase.INTERRUPT)
            with m.Elif(ahead == 0):
                self._rest()
            with m.Else():
                self.go(Phase.NEXT_ENTRY)

    def _rest(self) -> None:
        """Nothing to do before a doorbell."""
        self.m.d.comb += self.sleep.eq(1)
        self.go(Phase.START)

    def on_interrupt(self) -> None:
        m, s = self.m, self.s
        m.d.comb += self.interrupt.eq(1)
        with m.If(s.next_avail == s.seen):
            self._rest()
        with m.Else():
            self.go(Phase.NEXT_ENTRY)

    def on_pop(self) -> None:
        """The engine has put the answer into the state."""
        m, s = self.m, self.s
        with m.If(s.has_frame):
            self.go(Phase.NEXT_ENTRY)
        with m.Else():  # the next frame wakes the thread
            m.d.comb += self.sleep.eq(1)
            self.go(Phase.START)

    def on_next_entry(self) -> None:
        """A receiver takes a frame when it knows of a buffer, lest frames wait out of quota."""
        m, s = self.m, self.s
        at = s.next_avail & (s.size - 1)
        with m.If(~s.has_frame & ~self.transmits):
            m.d.comb += self.pop.eq(1)
            self.go(Phase.POP)
        with m.Else():
            self.scratch(
                Phase.ENTRY,
                ScratchBeat.ENTRY,
                write=0,
                iova=s.driver + 4 + (at << 1),
                length=2,
            )

    def read_descriptor(self, index) -> None:
        self.scratch(
            Phase.DESC,
            ScratchBeat.DESCRIPTOR,
            write=0,
            iova=self.s.desc + (index << 4),
            length=16,
        )

    def on_entry(self) -> None:
        m, s = self.m, self.s
        head = self.beat[:16]
        with m.If(head >= s.size):
            self.fail(QueueError.BAD_HEAD)
        with m.Else():
            m.d.sync += [
                s.head.eq(head),
                s.count.eq(1),
                s.header_left.eq(HEADER_BYTES),
                s.drop.eq(0),
                s.touch.eq(0),
                s.position.eq(0),
            ]
            # A receiver's header says that one buffer holds the frame (5.1.6.4).
            header = NetHeader.const({"num_buffers": 1}).as_bits()
            m.d.comb += [
                self.out_en.eq(~self.transmits),
                self.out_beat.eq(ScratchBeat.HEADER),
                self.out_data.eq(header),
            ]
            self.read_descriptor(head)

    def on_desc(self) -> None:
        m, s = self.m, self.s
        descriptor = data.View(Descriptor, self.beat)
        flags = descriptor.flags
        writable = (flags & int(DescriptorFlag.WRITE)).any()
        with m.If((flags & int(DescriptorFlag.INDIRECT)).any()):
            self.fail(QueueError.BAD_FLAGS)
        with m.Elif(writable == self.transmits):
            self.fail(QueueError.BAD_CHAIN)
        with m.Else():
            m.d.sync += [
                s.address.eq(descriptor.addr),
                s.left.eq(descriptor.len),
                s.more.eq((flags & int(DescriptorFlag.NEXT)).any()),
                s.next.eq(descriptor.next),
            ]
            self.go(Phase.SEGMENT)

    def on_segment(self) -> None:
        """Header bytes first, then the frame."""
        m, s = self.m, self.s
        header = s.header_left != 0
        wanted = Signal(16)
        frame_left = (s.length - s.position)[:16]
        room = (self.config.frame_bytes - s.position)[:16]
        limit = Mux(header, s.header_left, Mux(self.transmits, room, frame_left))
        m.d.comb += wanted.eq(Mux(s.left < limit, s.left, limit))
        complete = ~self.transmits & ~header & (frame_left == 0)
        with m.If(complete):
            self.go(Phase.FINISH)
        with m.Elif((s.left == 0) | s.drop):
            self.go(Phase.LINK)
        with m.Elif(self.transmits & ~header & (s.left > room)):
            m.d.sync += s.drop.eq(1)
            self.go(Phase.LINK)
        with m.Elif(self.transmits & ~header & ~s.has_frame & ~s.touch):
            self.go(Phase.SEGMENT)
            with m.If(self.slot_there):
                m.d.comb += self.take_slot.eq(1)
            with m.Else():
                m.d.comb += [self.sleep.eq(1), self.wait_slot.eq(1)]
        with m.Else():
            m.d.sync += s.moving.eq(wanted)
            at = (self.queue * BEATS + ScratchBeat.HEADER) * 16 + HEADER_BYTES - s.header_left
            frame = s.slot * self.config.frame_bytes + s.position
            self.dma(
                Phase.MOVED,
                write=~self.transmits,
                iova=s.address,
                length=wanted,
                memory=Mux(
                    header,
                    LocalMemory.SCRATCH,
                    Mux(self.transmits & s.touch, LocalMemory.NOWHERE, s.memory),
                ),
                offset=Mux(header, at, frame),
            )

    def on_moved(self) -> None:
        m, s = self.m, self.s
        header = s.header_left != 0
        with m.Switch(self.status):
            with m.Case(DmaStatus.OK):
                self.go(Phase.SEGMENT)
                # Touched, and nothing was in the slot yet: read it once more, into a slot.
                with m.If(self.transmits & s.touch & (s.position == 0) & ~header):
                    m.d.sync += s.touch.eq(0)
                with m.Else():
                    m.d.sync += [
                        s.address.eq(s.address + s.moving),
                        s.left.eq(s.left - s.moving),
                    ]
                    with m.If(header):
                        m.d.sync += s.header_left.eq(s.header_left - s.moving[:4])
                    with m.Else():
                        m.d.sync += s.position.eq(s.position + s.moving)
            with m.Case(DmaStatus.ABSENT):
                self._give_up_slot()
                self.go(Phase.SEGMENT)
            with m.Case(DmaStatus.INVALID):  # this chain alone fails
                m.d.sync += s.drop.eq(1)
                self.go(Phase.FINISH)
            with m.Case(DmaStatus.FAILURE):
                self.fail(QueueError.PAGE_REQUEST_FAILED)
            with m.Case(DmaStatus.BUS):
                self.fail(QueueError.BUS)
            with m.Default():
                self.fail(QueueError.BUFFER_ADDRESS)

    def on_link(self) -> None:
        m, s = self.m, self.s
        with m.If(s.more):
            with m.If(s.next >= s.size):
                self.fail(QueueError.BAD_HEAD)
            with m.Elif(s.count >= s.size):
                self.fail(QueueError.BAD_CHAIN)
            with m.Else():
                m.d.sync += s.count.eq(s.count + 1)
                self.read_descriptor(s.next)
        with m.Elif(self.transmits):
            self.go(Phase.FINISH)
        with m.Elif((s.header_left == 0) & (s.position == s.length)):
            self.go(Phase.FINISH)
        with m.Else():  # the driver's buffer is too small for the frame
            self.fail(QueueError.BAD_LENGTH)

    def on_finish(self) -> None:
        """Judge what a transmitter has gathered; count."""
        m, s = self.m, self.s
        header = data.View(NetHeader, self.beat[: 8 * HEADER_BYTES])
        asks = header.flags.any() | header.gso_type.any()
        short = (s.header_left != 0) | (s.position < _SHORTEST)
        with m.If(~self.transmits):
            with m.If(s.drop):
                self.count(Stat.RX_DROPPED_FULL, 1)
            with m.Else():
                self.count(Stat.RX_PACKETS, 1)
            self.go(Phase.RELEASE)
        with m.Elif(s.drop | short | asks):
            m.d.sync += s.drop.eq(1)
            self.count(Stat.TX_DROPPED, 1)
            self.go(Phase.USED)
            with m.If(s.has_frame):
                self.go(Phase.RELEASE)
        with m.Elif(s.touch):
            self.go(Phase.NEXT_ENTRY)
        with m.Else():
            self.count(Stat.TX_PACKETS, 1)
            self.go(Phase.SEND)

    def on_send(self) -> None:
        self.count(Stat.TX_BYTES, self.s.position)
        self.m.d.comb += self.send.eq(1)
        self.m.d.sync += self.s.has_frame.eq(0)
        self.go(Phase.USED)

    def on_release(self) -> None:
        with self.m.If(~self.s.drop):
            self.count(Stat.RX_BYTES, self.s.length)
        self.m.d.comb += self.release.eq(1)
        self.m.d.sync += self.s.has_frame.eq(0)
        self.go(Phase.USED)

    def on_used(self) -> None:
        m, s = self.m, self.s
        element = Signal(UsedElement)
        at = s.used_index & (s.size - 1)
        written = Mux(self.transmits | s.drop, 0, s.length + HEADER_BYTES)
        m.d.comb += [
            element.id.eq(s.head),
            element.len.eq(written),
            self.out_en.eq(1),
            self.out_beat.eq(ScratchBeat.USED_ELEMENT),
            self.out_data.eq(element.as_value()),
        ]
        self.scratch(
            Phase.USED_ELEMENT,
            ScratchBeat.USED_ELEMENT,
            write=1,
            iova=s.device + 4 + (at << 3),
            length=8,
        )

    def on_used_element(self) -> None:
        m, s = self.m, self.s
        m.d.comb += [
            self.out_en.eq(1),
            self.out_beat.eq(ScratchBeat.USED_INDEX),
            self.out_data.eq((s.used_index + 1)[:16]),
        ]
        self.scratch(Phase.USED_INDEX, ScratchBeat.USED_INDEX, write=1, iova=s.device + 2, length=2)

    def on_used_index(self) -> None:
        """Flags are read after the index is visible, so that no interrupt is missed (2.7.7.1)."""
        m, s = self.m, self.s
        m.d.sync += [
            s.used_index.eq(s.used_index + 1),
            s.next_avail.eq(s.next_avail + 1),
            s.owed.eq(1),
        ]
        self.read_avail()
