"""Hardware performance monitor of the IOMMU."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig
from rtl.bus.lite import RegisterPort
from rtl.bus.registers import WORD_BITS, RegisterBank
from rtl.iommu.event_match import EventMatch
from rtl.iommu.register_file import PAGE_ADDR_WIDTH
from rtl.iommu.seams import Event

__all__ = ["Counters"]

#: Cycles from an event to its count in ``pending``.
_EVENT_DELAY = 3


class Counters(wiring.Component):
    """Counters of cycles and events, their selectors, overflow and inhibition.

    Both event ports may fire in a cycle, and count both.  A counter that overflows with its OF 0
    sets OF and raises the interrupt condition for one cycle.  An eventID that there is not is
    stored and counts nothing.

    Values and selectors are in RAM.  Every counter gathers a few counts, which one adder brings
    into the values in turn.  An access waits until every counter has had its turn: software sees
    whatever happened before.

    Latency
    -------
    With n = max(2, ``hpm_counters`` + 1): a counter that overflows says so within n + 7 cycles.  A
    read is answered n + 6 cycles after it was accepted, a write n + 7, and that of a selector
    16 ``hpm_counters`` + 1 after that; its counter stands still from the write on until it is
    answered.

    Parameters
    ----------
    config : IommuConfig
        ``hpm``, ``hpm_counters``, ``hpm_bits``.

    Members
    -------
    bus : ``In(RegisterPort)``
        iocountovf to iohpmevt.
    request_event, walk_event : ``In(Event)``
    interrupt : ``Out(1)``
        Condition of ipsr.pmip.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=PAGE_ADDR_WIDTH)),
                "request_event": In(Event),
                "walk_event": In(Event),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if not self.config.hpm:
            m.submodules.bank = bank = RegisterBank([], addr_width=PAGE_ADDR_WIDTH)
            connect(m, flipped(self.bus), bank.bus)
            return m
        # Counter 0 is iohpmcycles.
        count = self.count = self.config.hpm_counters + 1
        self.turns = max(2, count)
        self.overflows, self.inhibited = Signal(count), Signal(count)
        self.enabled = Signal(count, init=1)  # their selectors are as the match has them
        self.folds = Signal()  # counters take turns
        self.fresh = Signal(init=1)  # until all have had one after reset, RAM means 0
        self.turn = Signal(range(self.turns))
        self.index, self.half = Signal(range(self.turns)), Signal()
        self.stored, self.store = Signal(WORD_BITS), Signal(4)  # in whom ``stored`` is to be put
        self.match = None
        if count > 1:
            m.submodules.match = self.match = EventMatch(count - 1)
        pending = self._gather(m)
        values = self._values(m, pending)
        selectors = self._selectors(m)
        self._access(m, values, selectors)
        return m

    def _gather(self, m: Module):
        """Few bits per counter; returns what the one whose turn it is has."""
        hits = [(Const(1, 1),)]
        if self.match is not None:
            match = self.match
            m.d.comb += [
                match.request_event.eq(self.request_event),
                match.walk_event.eq(self.walk_event),
            ]
            hits += zip(match.request_hits, match.walk_hits, strict=True)
        # Between two turns there is one access at most, for three cycles.
        width = bits_for(2 * (self.turns + 4))
        waiting = [Signal(width, name=f"pending{i}") for i in range(self.count)]
        chosen = 0
        for i, (own, hit) in enumerate(zip(waiting, hits, strict=True)):
            counts = self.enabled[i] & ~self.inhibited[i]
            turn = self.folds & (self.turn == i)
            m.d.sync += own.eq(Mux(turn, 0, own) + sum(counts & bit for bit in hit))
            chosen = chosen | Mux(self.turn == i, own, 0)
        with m.If(self.folds):
            last = self.turn == self.turns - 1
            m.d.sync += self.turn.eq(Mux(last, 0, self.turn + 1))
            with m.If(last):
                m.d.sync += self.fresh.eq(0)
        return chosen

    def _values(self, m: Module, pending) -> list:
        """Values of counters in RAM; returns both words of counter ``index``, while none folds."""
        bits = self.config.hpm_bits
        value, more, whose = Signal(bits), Signal.like(pending), Signal.like(self.turn)
        total, adds, which = Signal(bits + 1), Signal(), Signal(self.count)
        m.d.comb += [
            total.eq(value + more),
            which.eq(Mux(adds, 1 << whose, 0)),
        ]
        m.d.sync += [adds.eq(self.folds & (self.turn < self.count)), whose.eq(self.turn)]
        m.d.sync += more.eq(pending)
        words = []
        for half, low in enumerate(range(0, bits, WORD_BITS)):
            width = min(WORD_BITS, bits - low)
            ram = memory.Memory(shape=width, depth=self.turns, init=[])
            m.submodules[f"values{half}"] = ram
            read, write = ram.read_port(domain="comb"), ram.write_port()
            m.d.comb += [
                read.addr.eq(Mux(self.folds, self.turn, self.index)),
                write.addr.eq(Mux(adds, whose, self.index)),
                write.data.eq(Mux(adds, total[low : low + width], self.stored)),
                write.en.eq(adds | self.store[half]),
            ]
            m.d.sync += value[low : low + width].eq(Mux(self.fresh, 0, read.data))
            words.append(read.data)
        carries = total[bits].replicate(self.count)
        if bits == 64:
            # Bit 63 of iohpmcycles is OF, and kept apart.
            with m.If(self.turn == 0):
                m.d.sync += value[63].eq(0)
            carries = Cat(total[63], carries[1:])
        new = which & carries & ~self.overflows
        m.d.sync += [
            self.overflows.eq(self.overflows | new),
            self.interrupt.eq(new.any()),
        ]
        return [*words, Const(0, 1)][:2]

    def _selectors(self, m: Module) -> list:
        """Selectors in RAM, and in the match; returns both words of selector ``index``."""
        if self.match is None:
            return [Const(0, 1), Const(0, 1)]
        match, words = self.match, []
        # That of counter n is in place n.
        place = Mux(match.busy, match.index + 1, self.index)
        for half in range(2):
            ram = memory.Memory(shape=WORD_BITS, depth=self.turns, init=[])
            m.submodules[f"selectors{half}"] = ram
            read, write = ram.read_port(domain="comb"), ram.write_port()
            m.d.comb += [
                read.addr.eq(place),
                write.addr.eq(Mux(self.fresh, self.turn, self.index)),
                write.data.eq(Mux(self.fresh, 0, self.stored)),
                write.en.eq(self.fresh | self.store[2 + half]),
            ]
            words.append(read.data)
        m.d.comb += match.selector.as_value().eq(Cat(*words))
        return words

    def _access(self, m: Module, values: list, selectors: list) -> None:
        """One access at a time."""
        request, response = self.bus.request, self.bus.response
        access = Signal.like(request.payload)
        rounds = self.turns + _EVENT_DELAY
        left, was = Signal(range(rounds + 1)), Signal(WORD_BITS)
        counter, selector, inhibit, data = self._decode(m, access, values, selectors)
        mask = Cat(strobe.replicate(8) for strobe in access.strb)
        m.d.comb += self.stored.eq((was & ~mask) | (access.data & mask))
        half = Cat(~self.half, self.half)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.folds.eq(1), request.ready.eq(~self.fresh)]
                m.d.sync += [access.eq(request.payload), left.eq(rounds - 1)]
                with m.If(request.valid & request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += self.folds.eq(1)
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "SETTLE"
            with m.State("SETTLE"):  # the last sum goes into RAM
                m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += was.eq(data)
                with m.If(access.write):
                    m.next = "STORE"
                with m.Else():
                    m.next = "ANSWER"
            with m.State("STORE"):
                m.d.comb += self.store.eq(
                    Cat(half & counter.replicate(2), half & selector.replicate(2))
                )
                with m.If(inhibit):
                    m.d.sync += self.inhibited.eq(self.stored)
                flagged = Mux(self.index == 0, counter, selector) & self.half
                with m.If(flagged):
                    m.d.sync += self.overflows.bit_select(self.index, 1).eq(self.stored[31])
                m.next = "ANSWER"
                if self.match is not None:
                    with m.If(selector):
                        m.d.comb += self.match.start.eq(1)
                        m.d.sync += self.enabled.bit_select(self.index, 1).eq(0)
                        m.next = "MATCH"
            if self.match is not None:
                with m.State("MATCH"):
                    m.d.comb += self.folds.eq(1)
                    with m.If(~self.match.busy):
                        m.d.sync += self.enabled.bit_select(self.index, 1).eq(1)
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    self.folds.eq(1),
                    response.valid.eq(1),
                    response.payload.eq(Mux(access.write, 0, was)),
                ]
                with m.If(response.ready):
                    m.next = "IDLE"

    def _decode(self, m: Module, access, values: list, selectors: list) -> tuple:
        """Which register an access is about, and its word."""
        counter, selector, inhibit = Signal(), Signal(), Signal()
        place, word = access.addr[3:], access.addr[2:]
        # Counters are in a row, and so are selectors.
        first, second = regs.IOHPMCYCLES.offset // 8, regs.IOHPMEVT[0].offset // 8 - 1
        # There is time enough.
        m.d.sync += [
            self.half.eq(access.addr[2]),
            counter.eq((place >= first) & (place < first + self.count)),
            selector.eq((place > second) & (place < second + self.count)),
            inhibit.eq(word == regs.IOCOUNTINH.offset // 4),
            self.index.eq(Mux(place > second, place - second, place - first)),
        ]
        overflow = self.overflows.bit_select(self.index, 1)
        low, high = (
            Mux(counter, value, 0) | Mux(selector, chosen, 0)
            for value, chosen in zip(values, selectors, strict=True)
        )
        data = Signal(WORD_BITS)
        m.d.comb += data.eq(
            Mux(self.half, high, low)
            | Mux(inhibit, self.inhibited, 0)
            | Mux(word == regs.IOCOUNTOVF.offset // 4, self.overflows, 0)
        )
        with m.If(self.half & ((counter & (self.index == 0)) | selector)):
            m.d.comb += data[31].eq(overflow)
        return counter, selector, inhibit, data
