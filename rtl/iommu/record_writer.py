"""Writes records into a queue in memory that software reads: fault and page-request queue."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.iommu import PAGE_SHIFT
from rtl.bus.arbiter import set_address
from rtl.bus.axi import Axi4, Resp
from rtl.iommu.endian import in_order
from rtl.iommu.register_file import QueueRegisters

__all__ = ["RecordOutcome", "RecordWriter"]

BEAT_BITS = 64
BEAT_BYTES_LOG2 = 3
#: Places of the status bits in ``QueueRegisters.flags``: csr bits 8 and 9.
MEMORY_FAULT, OVERFLOW = 0, 1


class RecordOutcome(enum.IntEnum, shape=2):
    """What became of a record."""

    WRITTEN = 0
    OFF = 1  # the queue is off
    MEMORY_FAULT = 2  # the write failed, or an earlier one did and mf is still set
    FULL = 3  # no place, or of is still set


class RecordWriter(wiring.Component):
    """One report queue: its hardware index, its status bits and its writes.

    A record is accepted when it is in memory or dropped; the index moves after the write response,
    so whoever sees the index sees the record.  While ``mf`` or ``of`` is set, records are dropped.
    Enabling clears the index and both bits; disabling takes effect between records.

    Parameters
    ----------
    words : int
        64-bit words of a record, a power of two.
    addr_width : int
        Bits of a physical address.

    Members
    -------
    registers : ``In(QueueRegisters)``
    be : ``In(1)``
        Write each word big-endian.
    record : ``In(stream)`` of ``64 * words`` bits
    outcome : ``Out(RecordOutcome)``
        Valid in the cycle in which ``record`` is transferred.
    interrupt : ``Out(1)``
        Condition of the queue's bit in ipsr, interrupt enable included: a level for status bits, a
        pulse for a record written.
    memory : ``Out(Axi4)``, writes only
    """

    def __init__(self, *, words: int, addr_width: int):
        if words < 2 or words & (words - 1):
            raise ValueError(f"Words of a record must be a power of two from 2, not {words!r}")
        self.words = words
        super().__init__(
            {
                "registers": In(QueueRegisters()),
                "be": In(1),
                "record": In(stream.Signature(data.ArrayLayout(BEAT_BITS, words))),
                "outcome": Out(RecordOutcome),
                "interrupt": Out(1),
                "memory": Out(
                    Axi4(addr_width=addr_width, data_width=BEAT_BITS, id_width=1, read=False)
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        registers, memory = self.registers, self.memory
        beat_bits = self.words.bit_length() - 1
        tail, flags, set_flags = Signal(32), Signal(4), Signal(4)
        beat, failed = Signal(range(self.words)), Signal()
        # Known two cycles after an index has moved.
        following, full, settled = Signal(32), Signal(), Signal(2)
        address = (registers.ppn << PAGE_SHIFT) | (tail << (BEAT_BYTES_LOG2 + beat_bits))
        m.d.sync += [
            following.eq((tail + 1) & registers.mask),
            full.eq(following == registers.index),
            settled.eq(Cat(1, settled)),
        ]
        m.d.comb += [
            registers.position.eq(tail),
            registers.flags.eq(flags),
            *set_address(memory.aw, addr=address, size=BEAT_BYTES_LOG2, length=self.words - 1),
            memory.w.payload.data.eq(in_order(self.record.payload[beat], self.be)),
            memory.w.payload.strb.eq(-1),
            memory.w.payload.last.eq(beat == self.words - 1),
        ]
        # A status bit that is set in the cycle in which software clears it stays.
        m.d.sync += flags.eq(flags & ~registers.clear | set_flags)

        with m.FSM():
            with m.State("IDLE"):
                with m.If(registers.enable != registers.on):
                    m.d.sync += registers.on.eq(registers.enable)
                    with m.If(registers.enable):
                        m.d.sync += [tail.eq(0), flags.eq(0), settled.eq(0)]
                with m.Elif(self.record.valid & settled.all()):
                    with m.If(~registers.on):
                        m.d.comb += [self.outcome.eq(RecordOutcome.OFF), self.record.ready.eq(1)]
                    with m.Elif(flags[MEMORY_FAULT]):
                        m.d.comb += [
                            self.outcome.eq(RecordOutcome.MEMORY_FAULT),
                            self.record.ready.eq(1),
                        ]
                    with m.Elif(flags[OVERFLOW] | full):
                        m.d.comb += [
                            set_flags[OVERFLOW].eq(full),
                            self.outcome.eq(RecordOutcome.FULL),
                            self.record.ready.eq(1),
                        ]
                    with m.Else():
                        m.d.sync += memory.aw.valid.eq(1)
                        m.next = "ADDRESS"
            with m.State("ADDRESS"):
                with m.If(memory.aw.ready):
                    m.d.sync += [memory.aw.valid.eq(0), memory.w.valid.eq(1), beat.eq(0)]
                    m.next = "DATA"
            with m.State("DATA"):
                with m.If(memory.w.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(memory.w.payload.last):
                        m.d.sync += memory.w.valid.eq(0)
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += memory.b.ready.eq(1)
                m.d.sync += failed.eq(memory.b.payload.resp != Resp.OKAY)
                with m.If(memory.b.valid):
                    m.next = "END"
            with m.State("END"):  # those who wait for their turn are far from memory
                m.d.comb += [
                    self.record.ready.eq(1),
                    self.outcome.eq(Mux(failed, RecordOutcome.MEMORY_FAULT, RecordOutcome.WRITTEN)),
                    set_flags[MEMORY_FAULT].eq(failed),
                ]
                with m.If(~failed):
                    m.d.sync += [tail.eq(following), settled.eq(0)]
                m.next = "IDLE"

        written = self.record.valid & self.record.ready & (self.outcome == RecordOutcome.WRITTEN)
        # Status bits that enabling is about to clear raise nothing more.
        opens = registers.enable & ~registers.on
        # One cycle later, when the index has moved.
        pulse = Signal()
        m.d.sync += pulse.eq(written)
        m.d.comb += self.interrupt.eq(
            registers.interrupt_enable
            & (pulse | ((flags[MEMORY_FAULT] | flags[OVERFLOW]) & ~opens))
        )
        return m
