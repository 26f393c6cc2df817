"""Hardware performance monitor of the IOMMU."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig
from models.spec.iommu import HpmEvent
from rtl.bus.lite import RegisterPort
from rtl.bus.registers import RegisterBank
from rtl.iommu.register_file import PAGE_ADDR_WIDTH
from rtl.iommu.seams import Event

__all__ = ["Counters"]

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


class Selector(data.Struct):
    """A selector as :class:`EventFilter` wants it; registered once per counter."""

    kinds: len(EVENTS)  # one-hot, in the order of EVENTS; only what IDT allows
    ignored: 24  # bits of DID_GSCID that match anything
    pid_pscid: 20
    did_gscid: 24
    pv_pscv: 1
    dv_gscv: 1
    idt: 1


class EventFilter(wiring.Component):
    """Does an event count for a selector?  Registered, one cycle.

    Members
    -------
    selector : ``In(Selector)``
    event : ``In(Event)``
    hit : ``Out(1)``
    """

    selector: In(Selector)
    event: In(Event)
    hit: Out(1)

    def elaborate(self, platform):
        m = Module()
        selector, event = self.selector, self.event
        kinds = Cat(event[bit] for bit, _ in EVENTS.values())
        process = Mux(selector.idt, event.pscid, event.process_id)
        process_valid = Mux(selector.idt, event.pscv, event.pv)
        device = Mux(selector.idt, event.gscid, event.device_id)
        device_valid = ~selector.idt | event.gscv
        process_hit = process_valid & (process == selector.pid_pscid)
        device_hit = device_valid & ~((device ^ selector.did_gscid) & ~selector.ignored).any()
        m.d.sync += self.hit.eq(
            event.valid
            & (kinds & selector.kinds).any()
            & (~selector.pv_pscv | process_hit)
            & (~selector.dv_gscv | device_hit)
        )
        return m


class Counters(wiring.Component):
    """Counters of cycles and events, their selectors, overflow and inhibition.

    Both event ports may fire in a cycle, and count both.  A counter that overflows with its OF 0
    sets OF and raises the interrupt condition for one cycle.  A write by software wins over
    counting.  An eventID that there is not is stored and counts nothing.

    Latency
    -------
    An event has counted two cycles later.

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

    def _bank(self, count: int) -> RegisterBank:
        if not self.config.hpm:
            return RegisterBank([], addr_width=PAGE_ADDR_WIDTH)
        counters, selectors = regs.IOHPMCTR[:count], regs.IOHPMEVT[:count]
        bits = (1 << self.config.hpm_bits) - 1
        return RegisterBank(
            [regs.IOCOUNTOVF, regs.IOCOUNTINH, regs.IOHPMCYCLES, *counters, *selectors],
            addr_width=PAGE_ADDR_WIDTH,
            writable={
                "iocountinh": (1 << count + 1) - 1,
                "iohpmcycles": (bits & regs.IOHPMCYCLES["counter"].mask)
                | regs.IOHPMCYCLES["of"].mask,
            }
            | {counter.name: bits for counter in counters},
            loadable=["iohpmcycles", *(entry.name for entry in (*counters, *selectors))],
        )

    def elaborate(self, platform):
        m = Module()
        count = self.config.hpm_counters if self.config.hpm else 0
        m.submodules.bank = bank = self._bank(count)
        connect(m, flipped(self.bus), bank.bus)
        if not self.config.hpm:
            return m

        cycles = bank.iohpmcycles
        width = min(self.config.hpm_bits, 63)
        total = Signal(width + 1)
        overflowed = Signal(count + 1)
        m.d.comb += [
            total.eq(cycles.counter[:width] + 1),
            bank.iohpmcycles_load.eq(~bank.iocountinh.cy),
            bank.iohpmcycles_next.counter.eq(total[:width]),
            bank.iohpmcycles_next.of.eq(cycles.of | total[width]),
            overflowed[0].eq(total[width] & ~cycles.of & ~bank.iocountinh.cy),
        ]
        for index in range(count):
            self._counter(m, bank, index, overflowed[index + 1])
        flags = [getattr(bank, register.name)["of"] for register in regs.IOHPMEVT[:count]]
        m.d.comb += bank.iocountovf_in.as_value().eq(Cat(cycles.of, *flags))
        m.d.sync += self.interrupt.eq(overflowed.any())
        return m

    def _counter(self, m: Module, bank: RegisterBank, index: int, overflowed) -> None:
        """One event counter with its selector; ``index`` from 0."""
        counter_name, selector_name = regs.IOHPMCTR[index].name, regs.IOHPMEVT[index].name
        value = getattr(bank, counter_name).counter
        selector = getattr(bank, selector_name)
        decoded = self._decode(m, selector)
        hits = []
        for port in ("request_event", "walk_event"):
            m.submodules[f"{port}_{index}"] = entry = EventFilter()
            m.d.comb += [entry.selector.eq(decoded), entry.event.eq(getattr(self, port))]
            hits.append(entry.hit)
        bits = self.config.hpm_bits
        total, inhibited = Signal(bits + 1), bank.iocountinh.hpm[index]
        load = ~inhibited & (hits[0] | hits[1])
        selector_next = getattr(bank, f"{selector_name}_next")
        m.d.comb += [
            total.eq(value[:bits] + hits[0] + hits[1]),
            getattr(bank, f"{counter_name}_load").eq(load),
            getattr(bank, f"{counter_name}_next").counter.eq(total[:bits]),
            overflowed.eq(load & total[bits] & ~selector.of),
            getattr(bank, f"{selector_name}_load").eq(overflowed),
            selector_next.eq(selector),
            selector_next.of.eq(1),
        ]

    @staticmethod
    def _decode(m: Module, selector):
        """Registered form of a selector."""
        decoded = Signal(Selector)
        allowed = {
            number: 1 if by_soft_context else ~selector.idt
            for number, (_, by_soft_context) in EVENTS.items()
        }
        # DMASK: the lowest 0 of the field and the bits below it match anything.
        field = selector.did_gscid
        m.d.sync += [
            decoded.kinds.eq(Cat((selector.eventid == n) & allowed[n] for n in EVENTS)),
            decoded.ignored.eq(Mux(selector.dmask, field ^ (field + 1), 0)),
            decoded.pid_pscid.eq(selector.pid_pscid),
            decoded.did_gscid.eq(field),
            decoded.pv_pscv.eq(selector.pv_pscv),
            decoded.dv_gscv.eq(selector.dv_gscv),
            decoded.idt.eq(selector.idt),
        ]
        return decoded
