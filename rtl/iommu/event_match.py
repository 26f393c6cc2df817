"""Which events which counters count, looked up digit by digit."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from models.spec import iommu_registers as regs
from models.spec.iommu import HpmEvent
from rtl.iommu.seams import Event

__all__ = ["EventMatch"]

#: Events, their bit in :class:`~rtl.iommu.seams.Event`, and whether GSCID and PSCID may filter
#: them (table "Standard events").
EVENTS = {
    HpmEvent.UNTRANSLATED_REQUEST: ("untranslated", False),
    HpmEvent.TRANSLATED_REQUEST: ("translated", False),
    HpmEvent.ATS_REQUEST: ("ats", False),
    HpmEvent.TLB_MISS: ("tlb_miss", True),
    HpmEvent.DDT_WALK: ("ddt_walk", False),
    HpmEvent.PDT_WALK: ("pdt_walk", False),
    HpmEvent.FIRST_STAGE_WALK: ("first_stage_walk", True),
    HpmEvent.SECOND_STAGE_WALK: ("second_stage_walk", True),
    HpmEvent.LOOKUP: ("lookup", True),
}
#: Bits of a digit: the address of a table in distributed RAM.
DIGIT = 4


def _digits(value) -> list:
    return [value[low : low + DIGIT] for low in range(0, len(value), DIGIT)]


def _selector_digits(selector, number) -> tuple[list, list]:
    """Whether a digit of this ``number`` satisfies a selector, for every digit of an event.

    Returns those that must all be satisfied, then those of which one is enough; the order is that
    of :func:`_event_digits`.
    """
    soft = selector.idt
    field = selector.did_gscid
    # DMASK: the lowest 0 of the field and the bits below it match anything.
    ignored = Mux(selector.dmask, field ^ (field + 1), 0)[: len(field)]
    device = [
        ((number ^ digit) & ~mask) == 0
        for digit, mask in zip(_digits(field), _digits(ignored), strict=True)
    ]
    process = [number == digit for digit in _digits(selector.pid_pscid)]
    any_device, any_process = ~selector.dv_gscv, ~selector.pv_pscv
    pv, pscv, gscv, valid = number
    # A GSCID has 16 bits.
    short = ~soft | ((field & ~ignored)[16:] == 0)
    flags = valid & (any_process | Mux(soft, pscv, pv)) & (any_device | (short & (~soft | gscv)))
    every = [
        *(soft | any_device | same for same in device),
        *(~soft | any_device | same for same in device[:4]),
        *(soft | any_process | same for same in process),
        *(~soft | any_process | same for same in process),
        flags,
    ]
    kinds = Cat(
        (selector.eventid == event) & (1 if by_soft_context else ~soft)
        for event, (_, by_soft_context) in EVENTS.items()
    )
    return every, [(number[: len(digit)] & digit).any() for digit in _digits(kinds)]


def _event_digits(event) -> tuple[list, list]:
    """Digits of an event."""
    every = [
        digit
        for field in (event.device_id, event.gscid, event.process_id, event.pscid)
        for digit in _digits(field)
    ]
    flags = Cat(event.pv, event.pscv, event.gscv, event.valid)
    return [*every, flags], _digits(Cat(event[bit] for bit, _ in EVENTS.values()))


class EventMatch(wiring.Component):
    """Compares the events of each cycle with all selectors.

    For every digit of an event a table in RAM says which counters it satisfies.  When a selector
    changes the tables are made anew; what they say of the other counters is the same meanwhile.

    Latency
    -------
    ``hits`` follow an event after two cycles.  The tables are made in 16 cycles per counter.

    Parameters
    ----------
    counters : int
        Programmable counters, at least 1.

    Members
    -------
    request_event, walk_event : ``In(Event)``
    request_hits, walk_hits : ``Out(counters)``
        Counters that count the event.
    start : ``In(1)``; busy : ``Out(1)``
        Make the tables; ``start`` only while not busy.
    index : ``Out(range(counters))``; selector : ``In(IOHPMEVT)``
        The selector that is wanted, in the same cycle, while busy.
    """

    def __init__(self, counters: int):
        self.counters = counters
        layout = regs.IOHPMEVT[0].layout
        super().__init__(
            {
                "request_event": In(Event),
                "walk_event": In(Event),
                "request_hits": Out(counters),
                "walk_hits": Out(counters),
                "start": In(1),
                "busy": Out(1),
                "index": Out(range(max(2, counters))),
                "selector": In(layout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        following, last = Signal(DIGIT), self.index == self.counters - 1
        with m.If(self.busy):
            m.d.sync += self.index.eq(self.index + 1)
            with m.If(last):
                m.d.sync += [self.index.eq(0), following.eq(following + 1)]
                m.d.sync += self.busy.eq(following != (1 << DIGIT) - 1)
        with m.Elif(self.start):
            m.d.sync += self.busy.eq(1)
        # A selector is looked at in the cycle after.
        selector, number, writes = Signal.like(self.selector), Signal(DIGIT), Signal()
        m.d.sync += [
            selector.eq(self.selector),
            number.eq(following),
            writes.eq(self.busy & last),
        ]
        every, one_of = _selector_digits(selector, number)
        events = []
        for name in ("request_event", "walk_event"):
            event = Signal(Event, name=f"{name}_seen")
            m.d.sync += event.eq(getattr(self, name))
            events.append(_event_digits(event))
        tables = [
            self._table(
                m,
                f"{kind}{place}",
                number,
                writes,
                satisfied,
                [event[side][place] for event in events],
            )
            for side, (kind, made) in enumerate((("every", every), ("one_of", one_of)))
            for place, satisfied in enumerate(made)
        ]
        for port, hits in enumerate((self.request_hits, self.walk_hits)):
            rows = [table[port] for table in tables]
            both, kinds = Const(-1, self.counters), 0
            for row in rows[: len(every)]:
                both = both & row
            for row in rows[len(every) :]:
                kinds = kinds | row
            m.d.sync += hits.eq(both & kinds)
        return m

    def _table(self, m: Module, name: str, number, writes, satisfied, digits) -> list:
        """One digit's table; returns what it says of the digits of both events."""
        ram = memory.Memory(shape=self.counters, depth=1 << len(digits[0]), init=[])
        m.submodules[name] = ram
        # Counters come one after the other; with the last the row is complete.
        row = Signal(self.counters, name=f"{name}_row")
        following = Cat(row[1:], satisfied)
        m.d.sync += row.eq(following)
        write = ram.write_port()
        m.d.comb += [
            write.addr.eq(number),
            write.data.eq(following),
            write.en.eq(writes & (number[len(digits[0]) :] == 0)),
        ]
        reads = [ram.read_port(domain="comb") for _ in digits]
        m.d.comb += [read.addr.eq(digit) for read, digit in zip(reads, digits, strict=True)]
        return [read.data for read in reads]
