"""Registers of all functions behind one AXI4-Lite port."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import ADDRESS_BITS, MANAGEMENT, FunctionControl, Stat, queue_error_offset
from models.spec.virtio_net import control_queue
from rtl.bus.axi import Axi4Lite
from rtl.bus.lite import LiteSubordinate, RegisterPort
from rtl.bus.stream import StreamArbiter, StreamRegister, StreamStage
from rtl.nic.common_config import COMMON_REGISTERS, CommonConfig
from rtl.nic.doorbells import Doorbells
from rtl.nic.mailbox import MAILBOX_REGISTERS, Mailbox
from rtl.nic.management import Management
from rtl.nic.pci_config import PciConfig
from rtl.nic.pci_state import PriPort
from rtl.nic.read_order import ReadOrder
from rtl.nic.register_map import (
    BLOCK_BITS,
    PAGE_BITS,
    Page,
    block_function_of,
    function_of,
    is_management,
    page_of,
)
from rtl.nic.seams import (
    Doorbell,
    ErrorReport,
    FilterChange,
    Interrupt,
    PolicyWrite,
    QueueCommand,
    StatEvent,
    VectorWrite,
)
from rtl.nic.stats import StatRead

__all__ = ["Registers"]


class Registers(wiring.Component):
    """BARs of all functions, management pages, PCI configuration (:mod:`models.spec.nic`).

    What is not defined reads 0, and writes to it are ignored; what PCI configuration does not let
    through reads all ones; every access is answered OKAY.  A function is enabled if the PF's owner
    and its own configuration space enable it.
    Registers of 8 and 16 bits may be written with strobes.

    Latency
    -------
    A notification is answered four cycles after its address was accepted, and never waits for
    the engine: it sets a bit.  It waits while the one before it is being counted.  Other accesses
    wait for :class:`CommonConfig`, :class:`Management` or :class:`~rtl.nic.msix.Msix`.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(Axi4Lite)``
    msix : ``Out(RegisterPort)``
        Accesses to MSI-X tables and pending bits.
    stat : ``Out(StatRead)``
    count : ``Out(stream)`` of StatEvent
        Notifications.
    doorbell : ``Out(stream)`` of Doorbell
        Of queues that run.
    command : ``Out(stream)`` of QueueCommand
    stopped : ``In(stream)`` of 16
    error : ``In(stream)`` of ErrorReport
    interrupt : ``Out(stream)`` of Interrupt
        Configuration changes, what software raises, and fences.
    told : ``Out(data_queues)``
        Queues whose drivers may be told of used buffers.
    ending : ``Out(8)``; held, fenced : ``In(1)``
        A function whose reset is to end; whether an interrupt of it was raised elsewhere and not
        yet taken; the fence behind its interrupts has no message before it any more.
    offer, offer_taken, pushed : ``In(1)``
        Of the :class:`~rtl.nic.read_order.ReadOrder`: interrupts that are raised elsewhere.
    controls : ``Out(ArrayLayout(FunctionControl))``
        What a function may do.
    granted : ``Out(functions)``
        Those that the hypervisor has enabled, be they bus masters or not.
    messages : ``Out(functions)``
        Functions that may send MSI-X messages.
    clear : ``Out(functions)``, cleared : ``In(functions)``
        MSI-X tables to reset, and those that have been.
    pri : ``Out(PriPort)``
    forget : ``Out(queues)``
        Queues that are reset in this cycle; ``function * 2 * queue_pairs + queue`` numbers them.
    filter : ``Out(stream)`` of FilterChange
    stored : ``Out(PolicyWrite)``
        Writes of what the switch and receive steering go by.
    steering : ``Out(functions)``
        Functions that spread what they receive over their queue pairs.
    live : ``Out(functions)``
        Functions whose driver has set DRIVER_OK.
    down, closed : ``Out(receivers)``; under_way : ``In(receivers)``
        Receive queues that take no frames; those of them of which software has said so; those with
        frames that may still be received.
    used : ``In(1)``; pin : ``Out(1)``
        Buffers of the PF were used of which its driver wants to know; its interrupt pin.
    page_timeout : ``Out(32)``; fault_stall : ``Out(1)``
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(Axi4Lite(addr_width=ADDRESS_BITS)),
                "msix": Out(RegisterPort(addr_width=ADDRESS_BITS)),
                "stat": Out(StatRead()),
                "count": Out(stream.Signature(StatEvent)),
                "doorbell": Out(stream.Signature(Doorbell)),
                "command": Out(stream.Signature(QueueCommand)),
                "stopped": In(stream.Signature(16)),
                "error": In(stream.Signature(ErrorReport)),
                "interrupt": Out(stream.Signature(Interrupt)),
                "told": Out(config.data_queues),
                "ending": Out(8),
                "held": In(1),
                "fenced": In(1),
                "offer": In(1),
                "offer_taken": In(1),
                "pushed": In(1),
                "controls": Out(data.ArrayLayout(FunctionControl, config.functions)),
                "granted": Out(config.functions),
                "messages": Out(config.functions),
                "clear": Out(config.functions),
                "cleared": In(config.functions),
                "pri": Out(PriPort()),
                "forget": Out(config.data_queues),
                "vector": Out(VectorWrite()),
                "down": Out(config.receivers),
                "closed": Out(config.receivers),
                "under_way": In(config.receivers),
                "filter": Out(stream.Signature(FilterChange)),
                "stored": Out(PolicyWrite()),
                "steering": Out(config.functions),
                "live": Out(config.functions),
                "used": In(1),
                "pin": Out(1),
                "page_timeout": Out(32),
                "fault_stall": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions = self.config.functions
        m.submodules.lite = lite = LiteSubordinate(addr_width=ADDRESS_BITS)
        m.submodules.pci = pci = PciConfig(self.config)
        m.submodules.common = common = CommonConfig(self.config)
        m.submodules.management = management = Management(self.config)
        m.submodules.doorbells = doorbells = Doorbells(self.config)
        m.submodules.mailbox = mailbox = Mailbox(self.config)
        m.submodules.interrupts = interrupts = StreamArbiter(Interrupt, 3)
        m.submodules.order = order = ReadOrder(3)
        connect(m, flipped(self.bus), lite.bus)
        connect(m, lite.port, order.bus)
        connect(m, order.port, pci.bus)
        connect(m, pci.pri, flipped(self.pri))
        for name in ("stat", "filter", "stored"):
            connect(m, getattr(management, name), flipped(getattr(self, name)))
        connect(m, doorbells.doorbell, flipped(self.doorbell))
        connect(m, common.command, flipped(self.command))
        connect(m, common.vector, flipped(self.vector))
        connect(m, common.interrupt, interrupts.i0)
        connect(m, mailbox.interrupt, interrupts.i1)
        connect(m, order.interrupt, interrupts.i2)
        connect(m, interrupts.o, flipped(self.interrupt))
        connect(m, common.post, mailbox.post)
        for name in ("stopped", "error"):
            connect(m, flipped(getattr(self, name)), getattr(common, name))
        m.d.comb += [
            management.mac_of.eq(common.mac_of),
            common.mac.eq(management.mac),
            management.unsteer.eq(common.resets),
            self.steering.eq(management.steering),
            self.closed.eq(management.closed),
            management.under_way.eq(self.under_way),
            common.links.eq(
                Cat(
                    management.controls[n].enable & ~management.controls[n].link_down
                    for n in range(functions)
                )
            ),
            common.changed.eq(management.changed),
            self.forget.eq(common.forget),
            self.down.eq(common.down | management.closed),
            self.told.eq(common.told),
            self.ending.eq(common.ending),
            mailbox.ending.eq(common.ending),
            common.held.eq(self.held | mailbox.holds),
            common.attended.eq(Cat(management.controls[n].attended for n in range(functions))),
            common.unread.eq(mailbox.resets),
            common.unread_queues.eq(mailbox.queue_resets),
            common.fenced.eq(self.fenced),
            order.offers.eq(Cat(self.offer, common.interrupt.valid, mailbox.interrupt.valid)),
            order.taken.eq(Cat(self.offer_taken, common.interrupt.ready, mailbox.interrupt.ready)),
            order.pushed.eq(self.pushed),
            common.flr.eq(pci.flr),
            pci.resetting.eq(common.resets),
            pci.cleared.eq(self.cleared),
            self.clear.eq(pci.clear),
            self.live.eq(common.live),
            common.used.eq(self.used),
            common.by_pin.eq(pci.by_pin),
            common.pin_enabled.eq(pci.pin_enabled),
            pci.waiting.eq(common.waiting),
            self.pin.eq(common.pin),
            self.page_timeout.eq(management.page_timeout),
            self.fault_stall.eq(management.fault_stall),
        ]
        # A cycle later, as a doorbell that waits to be taken may be.
        m.d.sync += [doorbells.able.eq(common.able), doorbells.forget.eq(common.forget)]
        for number in range(functions):
            control, granted = self.controls[number], management.controls[number]
            m.d.comb += [
                control.eq(granted),
                control.enable.eq(granted.enable & pci.masters[number]),
                control.ats.eq(granted.ats & pci.ats[number]),
                self.messages[number].eq(granted.enable & pci.messages[number]),
                self.granted[number].eq(granted.enable),
            ]

        # Whose access it is
        port = RegisterPort(addr_width=ADDRESS_BITS).flip().create()
        m.submodules.requests = requests = StreamStage(port.request.payload.shape())
        connect(m, pci.down.request, requests.i)
        connect(m, requests.o, port.request)
        connect(m, port.response, pci.down.response)
        addr = port.request.payload.addr
        to_common, to_management, to_msix, to_mailbox = (Signal() for _ in range(4))
        word, error_word = addr[2:BLOCK_BITS], queue_error_offset(0) // 4
        is_error = (word >= error_word) & (word < error_word + self.config.queues_per_function)
        with m.If(is_management(addr)):
            with m.If(block_function_of(addr) < functions):
                m.d.comb += [
                    to_common.eq(is_error | self._among(word, COMMON_REGISTERS)),
                    to_mailbox.eq(self._among(word, MAILBOX_REGISTERS)),
                    to_management.eq(~to_common & ~to_mailbox),
                ]
        with m.Elif(function_of(addr) < functions):
            page = page_of(addr)
            m.d.comb += to_common.eq(page == Page.CONFIG)
            m.d.comb += to_msix.eq((page == Page.MSIX_TABLE) | (page == Page.MSIX_PBA))
        targets = {
            common.bus: to_common,
            mailbox.bus: to_mailbox,
            management.bus: to_management,
            flipped(self.msix): to_msix,
        }
        m.submodules.counted = counted = StreamRegister(StatEvent)
        connect(m, counted.o, flipped(self.count))
        nowhere = self._route(m, port, targets, counted.i.ready)
        self._ring(m, port.request, common, doorbells, mailbox, nowhere, counted.i)
        return m

    @staticmethod
    def _among(word, names):
        """Whether a word is one of these registers of a management block."""
        return Cat(word == MANAGEMENT[name].offset // 4 for name in names).any()

    @staticmethod
    def _route(m: Module, port, targets, able):
        """Pass accesses to targets, answer 0 to others; returns that one of these is accepted."""
        answering, taken = Signal(), Signal()
        nowhere = Signal()
        m.d.comb += nowhere.eq(~Cat(targets.values()).any())
        with m.If(nowhere):
            m.d.comb += [port.request.ready.eq(~answering & able), taken.eq(port.request.valid)]
        # One access at a time: whoever answers was asked.
        with m.If(port.response.ready):
            m.d.sync += answering.eq(0)
        with m.If(taken & port.request.ready):
            m.d.sync += answering.eq(1)
        m.d.comb += port.response.valid.eq(answering)
        for target, chosen in targets.items():
            m.d.comb += [
                target.request.payload.eq(port.request.payload),
                target.request.valid.eq(port.request.valid & chosen),
                target.response.ready.eq(port.response.ready),
            ]
            with m.If(chosen):
                m.d.comb += port.request.ready.eq(target.request.ready)
            with m.If(target.response.valid):
                m.d.comb += [
                    port.response.valid.eq(1),
                    port.response.payload.eq(target.response.payload),
                ]
        return taken & port.request.ready

    def _ring(self, m: Module, request, common, doorbells, mailbox, accepted, count) -> None:
        """A write to a word of a notify page rings the queue of the word."""
        addr, last = request.payload.addr, 2 * self.config.queue_pairs
        function, word = function_of(addr), addr[2:PAGE_BITS]
        rings, controls = Signal(), Signal()
        m.d.comb += rings.eq(
            accepted
            & request.payload.write
            & request.payload.strb.any()
            & ~is_management(addr)
            & (page_of(addr) == Page.NOTIFY)
            & (function < self.config.functions)
        )
        if self.config.control_queue:
            second = common.second.bit_select(function, 1)
            number = Mux(second, control_queue(1), last)
            m.d.comb += controls.eq((word == number) & common.controlled.bit_select(function, 1))
        m.d.sync += [
            doorbells.queue.eq(function * last + word),
            doorbells.ring.eq(rings & (word < last)),
        ]
        m.d.comb += [
            mailbox.ring.eq(rings & controls),
            mailbox.ring_function.eq(function),
            count.valid.eq(rings & (word < self.config.queues_per_function)),
            count.payload.function.eq(function),
            count.payload.queue.eq(word),
            count.payload.queued.eq(word < last),
            count.payload.stat.eq(Stat.NOTIFICATIONS),
            count.payload.amount.eq(1),
        ]
