"""Everything of the IOMMU that software sees: registers, queues, interrupts, counters."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import IommuConfig
from models.spec.iommu import FaultRecord
from models.spec.iommu_registers import MSI_CFG_TBL_ENTRIES
from models.spec.translation import (
    GroupResponse,
    InvalidationCompletion,
    InvalidationRequest,
    PageRequest,
)
from rtl.bus.arbiter import AxiWriteArbiter
from rtl.bus.axi import Axi4, Axi4Lite
from rtl.bus.lite import LiteSubordinate
from rtl.bus.stream import StreamArbiter
from rtl.iommu.command_queue import CommandQueue
from rtl.iommu.counters import Counters
from rtl.iommu.debug import DebugTranslation, TwoClients
from rtl.iommu.fault_queue import FaultQueue
from rtl.iommu.interrupts import Interrupts
from rtl.iommu.page_request_queue import PageRequestQueue
from rtl.iommu.register_file import PAGE_ADDR_WIDTH, RegisterFile
from rtl.iommu.requests import QosId
from rtl.iommu.seams import DirectoryControl, Drain, Event, Invalidate, TranslationPort

__all__ = ["Control", "DrainShare"]

#: Who writes memory: fences, fault records, page requests, messages.
WRITERS = 4


class DrainShare(wiring.Component):
    """Lets two requesters use one :class:`~rtl.iommu.seams.Drain`, one after the other.

    A requester may withdraw; below, a request stays until it is done.

    Members
    -------
    first, second : ``In(Drain)``
    down : ``Out(Drain)``
        ``request`` is low for at least a cycle between two requesters.
    """

    first: In(Drain())
    second: In(Drain())
    down: Out(Drain())

    def elaborate(self, platform):
        m = Module()
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.first.request):
                    m.next = "FIRST"
                with m.Elif(self.second.request):
                    m.next = "SECOND"
            for name, port in (("FIRST", self.first), ("SECOND", self.second)):
                with m.State(name):
                    m.d.comb += [
                        self.down.request.eq(1),
                        port.done.eq(port.request & self.down.done),
                    ]
                    with m.If(~port.request):
                        m.next = "WITHDRAWN"
                        with m.If(self.down.done):
                            m.next = "IDLE"
            with m.State("WITHDRAWN"):
                m.d.comb += self.down.request.eq(1)
                with m.If(self.down.done):
                    m.next = "IDLE"
        return m


class Control(wiring.Component):
    """The IOMMU without its translator.

    A write of ddtp is busy until the translator has answered what it had accepted before, and then
    the outside has finished the DMA that it had accepted.
    All accesses carry iommu_qosid as AxUSER if the configuration has QOSID; a value that software
    writes counts from the next cycle in which the channel offers nothing.

    Parameters
    ----------
    config : IommuConfig
        Capabilities and sizes.

    Members
    -------
    regs : ``In(Axi4Lite)``
        The 4 KiB register page.
    directory : ``Out(DirectoryControl)``
    invalidate : ``Out(stream)`` of Invalidate
    drain, fence : ``Out(Drain)``
        Of the translator and of the outside.
    faults : ``In(stream)`` of FaultRecord
    bridge_faults : ``In(stream)`` of FaultRecord
        Only with MSI_MRIF: faults of storing MSIs.
    request_event, walk_event : ``In(Event)``
    translate : ``Out(TranslationPort)``
        Look-ups for page requests, and translations of the debug registers.
    page_request, group_response, invalidation, invalidation_completion : streams
        Messages from and to devices.
    read, write : ``Out(Axi4)``
        Commands; fence data, records and MSIs.  ``write`` has IDs of ``write_id_width`` bits.
    held : ``In(1)``
        PCI configuration holds interrupt messages back.
    interrupts : ``Out(16)``
        Wires by vector, level.
    """

    def __init__(self, config: IommuConfig):
        self.config = config
        self._writes = AxiWriteArbiter(
            addr_width=config.pas, data_width=64, id_widths=[1] * WRITERS
        )
        self.write_id_width = self._writes.id_width
        bus = {"addr_width": config.pas, "data_width": 64}
        bus |= {"user": QosId if config.qosid else None}
        sources = {"faults": In(stream.Signature(FaultRecord))}
        if config.msi_mrif:
            sources["bridge_faults"] = In(stream.Signature(FaultRecord))
        super().__init__(
            sources
            | {
                "regs": In(Axi4Lite(addr_width=PAGE_ADDR_WIDTH)),
                "directory": Out(DirectoryControl),
                "invalidate": Out(stream.Signature(Invalidate)),
                "drain": Out(Drain()),
                "fence": Out(Drain()),
                "request_event": In(Event),
                "walk_event": In(Event),
                "translate": Out(TranslationPort()),
                "page_request": In(stream.Signature(PageRequest)),
                "group_response": Out(stream.Signature(GroupResponse)),
                "invalidation": Out(stream.Signature(InvalidationRequest)),
                "invalidation_completion": In(stream.Signature(InvalidationCompletion)),
                "read": Out(Axi4(**bus, id_width=1, write=False)),
                "write": Out(Axi4(**bus, id_width=self.write_id_width, read=False)),
                "held": In(1),
                "interrupts": Out(MSI_CFG_TBL_ENTRIES),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.lite = lite = LiteSubordinate(addr_width=PAGE_ADDR_WIDTH)
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.counters = counters = Counters(config)
        m.submodules.commands = commands = CommandQueue(config)
        m.submodules.fault_queue = fault_queue = FaultQueue(
            sources=3 if config.msi_mrif else 2, addr_width=config.pas
        )
        m.submodules.interrupts = interrupts = Interrupts(config)
        m.submodules.writes = writes = self._writes
        m.submodules.share = share = DrainShare()
        m.submodules.outside = outside = DrainShare()

        connect(m, flipped(self.regs), lite.bus)
        connect(m, lite.port, registers.bus)
        connect(m, registers.counters, counters.bus)
        connect(m, registers.msi, interrupts.bus)
        m.d.comb += [
            self.directory.eq(registers.directory),
            counters.request_event.eq(self.request_event),
            counters.walk_event.eq(self.walk_event),
            self.interrupts.eq(interrupts.lines),
            interrupts.held.eq(self.held),
        ]

        connect(m, registers.command, commands.registers)
        connect(m, commands.invalidate, flipped(self.invalidate))
        connect(m, commands.invalidation, flipped(self.invalidation))
        connect(m, flipped(self.invalidation_completion), commands.completion)
        self._own(m, commands.fetch.ar, self.read.ar, registers.directory.qos)
        connect(m, flipped(self.read.r), commands.fetch.r)
        connect(m, commands.fence, outside.first)
        connect(m, outside.down, flipped(self.fence))
        connect(m, commands.drain, share.first)
        connect(m, share.down, flipped(self.drain))
        again = Signal()
        m.d.comb += [
            commands.mode.eq(registers.directory.mode),
            commands.wsi.eq(registers.wsi),
            commands.be.eq(registers.directory.be),
            fault_queue.be.eq(registers.directory.be),
            interrupts.be.eq(registers.directory.be),
            registers.directory_busy.eq(share.second.request | outside.second.request | again),
        ]
        # A write while an earlier one drains is drained once more.
        with m.If(registers.directory_written):
            m.d.sync += again.eq(1)
        with m.If(share.second.request):
            m.d.sync += [
                share.second.request.eq(~share.second.done),
                outside.second.request.eq(share.second.done),
            ]
        with m.Elif(outside.second.request):
            m.d.sync += outside.second.request.eq(~outside.second.done)
        with m.Elif(again):
            m.d.sync += [share.second.request.eq(1), again.eq(registers.directory_written)]

        connect(m, registers.fault, fault_queue.registers)
        connect(m, flipped(self.faults), fault_queue.faults0)
        connect(m, interrupts.faults, fault_queue.faults1)
        if config.msi_mrif:
            connect(m, flipped(self.bridge_faults), fault_queue.faults2)

        connect(m, commands.write, writes.up0)
        connect(m, fault_queue.memory, writes.up1)
        connect(m, interrupts.memory, writes.up3)
        self._own(m, writes.down.aw, self.write.aw, registers.directory.qos)
        connect(m, writes.down.w, flipped(self.write.w))
        connect(m, flipped(self.write.b), writes.down.b)

        page_interrupt = self._pages(m, registers, commands, writes.up2)
        m.d.comb += [
            interrupts.causes.eq(
                Cat(commands.interrupt, fault_queue.interrupt, counters.interrupt, page_interrupt)
            ),
            interrupts.clear.eq(registers.clear),
            interrupts.icvec.eq(registers.icvec),
            interrupts.wsi.eq(registers.wsi),
            registers.pending.eq(interrupts.pending),
        ]
        return m

    def _own(self, m: Module, source, sink, qos) -> None:
        """Connect an address channel and put the IOMMU's own QoS ID to it."""
        m.d.comb += [sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        for field in source.payload.shape().members:
            m.d.comb += sink.payload[field].eq(source.payload[field])
        if self.config.qosid:
            user = Signal(QosId)
            m.d.comb += sink.payload.user.eq(user)
            with m.If(~source.valid):
                m.d.sync += user.eq(qos)

    def _lookups(self, m: Module, registers, pages) -> None:
        """Who looks contexts and translations up, on one port."""
        clients = [] if pages is None else [pages.translate]
        if self.config.dbg:
            m.submodules.debug = debug = DebugTranslation()
            connect(m, registers.debug, debug.registers)
            clients.append(debug.translate)
        if clients:
            m.submodules.lookups = lookups = TwoClients()
            for n, client in enumerate(clients):
                connect(m, client, getattr(lookups, f"client{n}"))
            connect(m, lookups.port, flipped(self.translate))

    def _pages(self, m: Module, registers, commands, memory):
        """Page requests and group responses; returns the interrupt condition."""
        if not self.config.ats:
            self._lookups(m, registers, None)
            m.d.comb += self.page_request.ready.eq(1)
            return 0
        m.submodules.pages = pages = PageRequestQueue(addr_width=self.config.pas)
        m.submodules.responses = responses = StreamArbiter(
            commands.group_response.payload.shape(), 2
        )
        connect(m, flipped(self.page_request), pages.request)
        self._lookups(m, registers, pages)
        m.d.comb += pages.be.eq(registers.directory.be)
        connect(m, registers.page, pages.registers)
        connect(m, pages.memory, memory)
        connect(m, commands.group_response, responses.i0)
        connect(m, pages.group_response, responses.i1)
        connect(m, responses.o, flipped(self.group_response))
        return pages.interrupt
