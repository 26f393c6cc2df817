"""Virtio common configuration of all functions, and the life of their queues."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from models.spec.config import NicConfig
from models.spec.nic import Isr, MailboxEvent
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus
from rtl.bus.lite import RegisterPort
from rtl.bus.priority import lowest
from rtl.bus.ram import SETTLED
from rtl.nic.common_access import SoftwareAccess
from rtl.nic.config_state import (
    ERROR_WORD,
    QUEUE_SHIFT,
    QUEUE_WORDS,
    FunctionRow,
    QueueWords,
)
from rtl.nic.control_queues import ControlQueues
from rtl.nic.interrupt_pin import InterruptPin
from rtl.nic.mailbox import EventPost
from rtl.nic.queue_life import QueueLife
from rtl.nic.register_map import block_function_of, function_of, is_management
from rtl.nic.reset_fence import ResetFence
from rtl.nic.seams import ErrorReport, Interrupt, QueueCommand, QueueOp, VectorWrite

__all__ = ["COMMON_REGISTERS", "CommonConfig"]

WORD_BITS = 32
#: Registers of a management block that are here, beside queue errors.
COMMON_REGISTERS = (
    *("status", "features_low", "features_high", "queue_enables", "queue_resets"),
    *("control_size", "control_vector"),
    *(
        f"control_{area}_{half}"
        for area in ("desc", "driver", "device")
        for half in ("low", "high")
    ),
)


class CommonConfig(wiring.Component):
    """Common configuration, ISR status and device configuration (virtio 1.3, 4.1.4, 5.1.4).

    Control queues are set up like others, but the engine never hears of them: software answers them
    (:class:`~rtl.nic.mailbox.Mailbox`), which finds in the management block how they are set up.

    One thing at a time: an access of software, an answer or error of the engine, a command to it.
    A function's state is a row of one RAM, a queue's eight words of another; only what steers is
    in flip-flops: per queue whether it is enabled, running, stopping, resetting.

    Queues run from DRIVER_OK (or ``queue_enable``, if that is later) to a reset of the queue or the
    function.  A reset is over when the engine has stopped each queue that ran, software has taken
    note if it answers the function's control queue (``attended``), and no message of the function
    is under way (:class:`~rtl.nic.reset_fence.ResetFence`); until then
    ``device_status`` or ``queue_reset`` read what they read before, writes to a function in reset
    are ignored, and other functions notice nothing.  What the driver may not write is ignored:
    registers of an enabled queue (but ``queue_reset`` and its vector), sizes that are too large or,
    of split rings, no power of two, clearing status bits, features after FEATURES_OK.  FEATURES_OK
    stays clear unless VERSION_1 and ACCESS_PLATFORM are accepted and nothing is that was not
    offered; DRIVER_OK needs FEATURES_OK.  A vector that is not there reads back as MSI_NO_VECTOR.

    Latency
    -------
    An access takes three cycles, and up to ten more behind another operation; the end of a reset
    of a function takes eight cycles per queue, behind its fence.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``
        Accesses to the first page of a BAR, to ``COMMON_REGISTERS`` and queue errors in a block.
    mac_of : ``Out(8)``; mac : ``In(48)``
        MAC of a function, in the same cycle.
    links : ``In(functions)``
        Link status of each function.
    flr : ``In(functions)``
        Functions to reset as their drivers would; held until ``resets``.
    resets : ``Out(functions)``
        Functions whose reset goes on.
    changed : ``In(functions)``
        The device configuration of these functions has changed: raises the generation and notifies.
    command : ``Out(stream)`` of QueueCommand
    stopped : ``In(stream)`` of 16
        Queues that have stopped, after a DISABLE each.
    error : ``In(stream)`` of ErrorReport
        Queues that stopped by themselves; their functions then need a reset.
    interrupt : ``Out(stream)`` of Interrupt
        Configuration changes, and fences.
    told : ``Out(data_queues)``
        Queues whose drivers may be told of used buffers.
    attended : ``In(functions)``
        With a control queue, resets of these functions and of that queue wait for software.
    unread, unread_queues : ``In(functions)``
        RESET and QUEUE_RESET of their events, a cycle behind ``post``.
    ending : ``Out(8)``; held, fenced : ``In(1)``
        Of the :class:`~rtl.nic.reset_fence.ResetFence`.
    live : ``Out(functions)``
        Functions whose driver has set DRIVER_OK and which are not in reset.
    able : ``Out(data_queues)``
        Queues that run and may be notified.
    forget : ``Out(data_queues)``
        Queues that were reset in this cycle.
    vector : ``Out(VectorWrite)``
        A queue that frames go through has another vector, or none.
    down : ``Out(receivers)``
        Receive queues that are not enabled, or in reset, or have failed.
    controlled : ``Out(functions)``
        Functions whose control queue may be notified.
    second : ``Out(functions)``
        Functions whose control queue is number 2, though they have more queue pairs.
    post : ``Out(EventPost)``
        Resets, and drivers that are ready.
    used, by_pin, pin_enabled : ``In(1)``; waiting, pin : ``Out(1)``
        Of the PF's :class:`~rtl.nic.interrupt_pin.InterruptPin`.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=24)),
                "mac_of": Out(8),
                "mac": In(48),
                "links": In(config.functions),
                "flr": In(config.functions),
                "resets": Out(config.functions),
                "changed": In(config.functions),
                "command": Out(stream.Signature(QueueCommand)),
                "stopped": In(stream.Signature(16)),
                "error": In(stream.Signature(ErrorReport)),
                "interrupt": Out(stream.Signature(Interrupt)),
                "told": Out(config.data_queues),
                "attended": In(config.functions),
                "unread": In(config.functions),
                "unread_queues": In(config.functions),
                "ending": Out(8),
                "held": In(1),
                "fenced": In(1),
                "live": Out(config.functions),
                "able": Out(config.data_queues),
                "forget": Out(config.data_queues),
                "vector": Out(VectorWrite()),
                "down": Out(config.receivers),
                "controlled": Out(config.functions),
                "second": Out(config.functions),
                "post": Out(EventPost()),
                "used": In(1),
                "by_pin": In(1),
                "pin_enabled": In(1),
                "waiting": Out(1),
                "pin": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._storage(m)
        self._wants(m)
        self._tell(m)
        software, self.life = SoftwareAccess(self), QueueLife(self)
        software.wire(m)
        with m.If(self.command.ready):
            m.d.sync += self.command.valid.eq(0)
        with m.If(self.interrupt.ready):
            m.d.sync += self.interrupt.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                self._choose(m)
            with m.State("SETTLE"):  # what there is to do is known anew
                m.next = "IDLE"
            self.life.sweep(m)
            self._report(m)
            self._notify(m)
            software.states(m)
            self.life.start(m)
        return m

    # Storage and what is under way

    def _storage(self, m: Module) -> None:
        config = self.config
        m.submodules.rows = rows = Memory(shape=FunctionRow, depth=config.functions, init=[])
        # What is read beside a write is not looked at.
        depth = config.queues * QUEUE_WORDS
        words = Memory(shape=WORD_BITS, depth=depth, init=[], attrs=SETTLED)
        m.submodules.words = words
        self.row_read, self.row_write = rows.read_port(), rows.write_port()
        self.word_read, self.word_write = words.read_port(), words.write_port()

        self.enabled = Signal(config.queues)  # queue_enable
        self.forgotten = Signal(config.queues)
        self.running = Signal(config.queues)  # ENABLE was sent, and no DISABLE answered
        self.stopping = Signal(config.queues)  # DISABLE was sent and not answered
        self.resetting = Signal(config.queues)  # queue_reset
        self.failed = Signal(config.queues)  # it has stopped by itself
        self.was_reset = Signal(config.queues)  # alone, and software has not said that it knows
        self.driver_ok = Signal(config.functions)
        self.levelled = Signal(config.functions)  # it is reset as by a function level reset
        # Software has been told of a reset, or of that of a control queue, that has not ended
        self.posted, self.queue_posted = Signal(config.functions), Signal(config.functions)
        self.unseen = Signal(config.functions)  # nobody has read the generation as it is
        # All functions are reset when the power comes.
        self.reset = Signal(config.functions, init=-1)
        self.fresh = Signal(init=1)
        self.notice = Signal(config.functions)  # a configuration change to notify
        self.moved = Signal(config.functions)  # a device configuration that changed

        self.access = Signal.like(self.bus.request.payload)
        self.function, self.queue = Signal(8), Signal(range(config.queues))
        self.answer = Signal(WORD_BITS)
        self.gathered, self.step = Signal(QueueWords), Signal(range(QUEUE_WORDS + 1))
        self.code = Signal.like(self.error.payload.error)
        self.sweep_word = Signal(range(config.queues * QUEUE_WORDS))
        self.sweep_left = Signal(range(config.queues_per_function * QUEUE_WORDS))
        self.sweep_all = Signal()  # of the whole function
        self.sweep_fenced = Signal()
        self._pin(m)
        m.d.comb += [
            self.bus.response.payload.eq(self.answer),
            self.row_read.addr.eq(self.function),
            self.row_write.addr.eq(self.function),
            self.row_write.data.eq(self.row_read.data),
            self.row_write.data.isr.eq(self.isr),
            self.live.eq(self.driver_ok & ~self.reset),
        ]
        m.submodules.control_queues = control = ControlQueues(config)
        self.control = control
        busy = self.command.valid.replicate(config.queues)
        m.d.comb += [
            self.able.eq(control.data(self.running & ~self.stopping & ~busy)),
            self.forget.eq(control.data(self.forgotten)),
            control.enabled.eq(self.enabled),
            control.live.eq(self.live),
            control.function.eq(self.function),
            control.queue.eq(self.queue),
            control.features.eq(self.row_read.data.driver_features),
            self.controlled.eq(control.controlled),
            self.second.eq(control.second),
        ]

    def _tell(self, m: Module) -> None:
        """Vectors, as they are stored; receive queues that take no frames."""
        control, write = self.control, self.word_write
        queue = write.addr >> QUEUE_SHIFT
        runs = self.enabled & ~self.resetting & ~self.failed
        m.d.sync += [
            self.vector.en.eq(write.en & (write.addr[:QUEUE_SHIFT] == 0) & control.is_data(queue)),
            self.vector.queue.eq(control.data_of(queue)),
            self.vector.vector.eq(write.data[QueueWords.as_shape()["msix_vector"].offset :]),
            self.down.eq(~control.data(runs)[::2]),
        ]

    def _pin(self, m: Module) -> None:
        """ISR status of the function that is looked at: that of the PF is in flip-flops."""
        m.submodules.pin = pin = InterruptPin()
        self.isr, physical = Signal(8), self.function == 0
        m.d.comb += [
            self.isr.eq(Mux(physical, pin.causes, self.row_read.data.isr)),
            pin.store.eq(self.row_write.en & physical),
            pin.stored.eq(self.row_write.data.isr),
            pin.used.eq(self.used),
            pin.by_pin.eq(self.by_pin),
            pin.enabled.eq(self.pin_enabled),
            self.waiting.eq(pin.waiting),
            self.pin.eq(pin.line),
        ]

    def _wants(self, m: Module) -> None:
        """What there is to do, and for whom first, as it was a cycle ago."""
        config = self.config
        per, functions = config.queues_per_function, range(config.functions)
        live = Cat(self.live[f].replicate(per) for f in functions)
        resets = Cat(self.reset[f].replicate(per) for f in functions)
        self.want_start = Signal(config.queues)
        self.want_stop = Signal(config.queues)
        # Of functions that may have raised no interrupt yet, and of others
        self.reset_done, reset_last = Signal(config.functions), Signal(config.functions)
        self.queue_reset_done, queue_last = Signal(config.queues), Signal(config.queues)
        ready = Cat(self.driver_ok[f].replicate(per) for f in functions)
        waits, queue_waits = self._attend(m)
        ends = Cat(self.reset[f] & ~self.running.word_select(f, per).any() for f in functions)
        ends &= ~waits
        queue_ends = self.resetting & ~self.running & ~resets & ~queue_waits
        m.d.sync += [
            self.want_start.eq(
                self.enabled & live & ~self.running & ~self.resetting & ~self.control.queues
            ),
            self.want_stop.eq(self.running & ~self.stopping & (self.resetting | resets)),
            self.queue_reset_done.eq(queue_ends & ~ready),
            self.reset_done.eq(ends & ~self.driver_ok),
            queue_last.eq(queue_ends & ready),
            reset_last.eq(ends & self.driver_ok),
            self.told.eq(self.control.data(self.enabled & live & ~self.resetting)),
        ]
        m.submodules.fence = self.fence = fence = ResetFence(config)
        m.d.comb += [
            fence.functions.eq(reset_last),
            fence.queues.eq(queue_last),
            fence.held.eq(self.held),
            fence.fenced.eq(self.fenced),
            self.ending.eq(fence.ending),
        ]
        self.first_reset, self.first_moved = Signal(8), Signal(8)
        self.first_notice = Signal(8)
        self.first_queue_reset, self.first_command = (Signal.like(self.queue) for _ in range(2))
        lowest(m, self.reset_done, self.first_reset)
        lowest(m, self.moved, self.first_moved)
        lowest(m, self.notice, self.first_notice)
        lowest(m, self.queue_reset_done, self.first_queue_reset)
        wanted = Signal(config.queues)
        m.d.comb += wanted.eq(Mux(self.want_stop.any(), self.want_stop, self.want_start))
        lowest(m, wanted, self.first_command)
        # Bits of ``moved`` and ``notice`` that are dealt with or raised in this cycle
        self.move_done, self.notice_done, self.raised = (Signal(config.functions) for _ in range(3))
        m.d.sync += [
            self.moved.eq((self.moved & ~self.move_done) | self.changed),
            self.notice.eq((self.notice & ~self.notice_done) | self.raised),
        ]
        m.d.comb += self.resets.eq(self.reset)
        m.d.sync += [
            self.reset.eq(self.reset | self.flr),
            self.levelled.eq(self.levelled | self.flr),
        ]
        with m.If(~self.reset.any()):
            m.d.sync += self.fresh.eq(0)

    def _attend(self, m: Module):
        """Tell software of resets that are to wait for it; returns functions and queues that do."""
        per, functions = self.config.queues_per_function, range(self.config.functions)
        attended, of_queues = Signal(self.config.functions), Signal(self.config.functions)
        m.d.comb += [
            attended.eq(self.attended & self.control.accepted & self.driver_ok & ~self.levelled),
            of_queues.eq(
                Cat(
                    (self.resetting & self.control.control).word_select(f, per).any()
                    for f in functions
                )
            ),
        ]
        self.want_post, self.first_post = Signal(self.config.functions), Signal(8)
        self.want_queue_post = Signal(self.config.functions)
        m.d.sync += [
            self.want_post.eq(self.reset & attended & ~self.posted),
            self.want_queue_post.eq(of_queues & attended & ~self.queue_posted & ~self.reset),
        ]
        lowest(m, self.want_post | self.want_queue_post, self.first_post)
        queue_waits = attended & ~(self.queue_posted & ~self.unread_queues)
        each = Cat(queue_waits[f].replicate(per) for f in functions)
        return attended & ~(self.posted & ~self.unread), self.control.control & each

    def _choose(self, m: Module) -> None:
        """Next operation; the row of its function is read meanwhile."""
        request, fence = self.bus.request, self.fence
        # The engine says that a queue failed before it says that it stopped; in that order, so that
        # the error of a queue is never noted in the row that a reset has made anew.
        with m.If(self.error.valid):
            m.d.comb += self.error.ready.eq(1)
            report = self.error.payload
            m.d.sync += [
                self.queue.eq(self.control.registers_of(report.queue)),
                self.function.eq(self.control.function_of_data(report.queue)),
                self.code.eq(report.error),
            ]
            with m.If(report.queue < self.config.data_queues):
                m.next = "ERROR"
        with m.Elif(self.stopped.valid):
            m.d.comb += self.stopped.ready.eq(1)
            with m.If(self.stopped.payload < self.config.data_queues):
                stopped = self.control.registers_of(self.stopped.payload)
                for bits in (self.running, self.stopping):
                    m.d.sync += bits.bit_select(stopped, 1).eq(0)
        with m.Elif(self.reset_done.any()):
            self.life.end_reset(m, self.first_reset, self.queue, 1)
        with m.Elif(self.queue_reset_done.any()):
            first = self.first_queue_reset
            self.life.end_reset(m, self.control.function_of(first), first, 0)
        with m.Elif(fence.back):
            m.d.sync += self.sweep_fenced.eq(1)
            self.life.end_reset(m, fence.ending, fence.ending_queue, fence.whole)
        with m.Elif(fence.goes & ~self.interrupt.valid):
            m.d.comb += fence.sent.eq(1)
            m.d.sync += [
                self.interrupt.valid.eq(1),
                self.interrupt.payload.function.eq(fence.ending),
                self.interrupt.payload.fence.eq(1),
                self.interrupt.payload.whole.eq(fence.whole),
            ]
        with m.Elif((self.want_post | self.want_queue_post).any()):
            whole = self.want_post.bit_select(self.first_post, 1)
            m.d.comb += [
                self.post.en.eq(1),
                self.post.function.eq(self.first_post),
                self.post.events.eq(Mux(whole, MailboxEvent.RESET, MailboxEvent.QUEUE_RESET)),
            ]
            with m.If(whole):
                m.d.sync += self.posted.bit_select(self.first_post, 1).eq(1)
            with m.Else():
                m.d.sync += self.queue_posted.bit_select(self.first_post, 1).eq(1)
            m.next = "SETTLE"
        # Before software may read: it has to see that something has changed (4.1.4.3.1).
        with m.Elif(self.moved.any()):
            m.d.comb += self.move_done.eq(1 << self.first_moved)
            m.d.sync += self.function.eq(self.first_moved)
            m.next = "MOVED"
        with m.Elif(request.valid):
            addr = request.payload.addr
            m.d.comb += request.ready.eq(1)
            m.d.sync += [
                self.access.eq(request.payload),
                self.function.eq(
                    Mux(is_management(addr), block_function_of(addr), function_of(addr))
                ),
            ]
            m.next = "ACCESS"
        with m.Elif((self.want_stop | self.want_start).any() & ~self.command.valid):
            m.d.sync += [
                self.queue.eq(self.first_command),
                self.function.eq(self.control.function_of(self.first_command)),
                self.step.eq(0),
            ]
            with m.If(self.want_stop.any()):
                m.d.sync += [
                    self.stopping.bit_select(self.first_command, 1).eq(1),
                    self.command.valid.eq(1),
                    self.command.payload.op.eq(QueueOp.DISABLE),
                    self.command.payload.queue.eq(self.control.data_of(self.first_command)),
                ]
            with m.Else():
                m.next = "GATHER"
        with m.Elif(self.notice.any() & ~self.interrupt.valid):
            m.d.comb += self.notice_done.eq(1 << self.first_notice)
            m.d.sync += self.function.eq(self.first_notice)
            m.next = "NOTICE"

    # Errors and changes

    def _report(self, m: Module) -> None:
        """Configuration changes: an error of a queue, or a new MAC or link state."""
        row = self.row_write.data

        def raise_change():
            with m.If(self.live.bit_select(self.function, 1)):
                m.d.comb += [
                    self.raised.eq(1 << self.function),
                    row.isr.eq(self.isr | Isr.CONFIG),
                ]

        with m.State("ERROR"):
            m.next = "REPORT"
        with m.State("REPORT"):
            m.d.comb += [
                self.word_write.en.eq(1),
                self.word_write.addr.eq(self.queue << QUEUE_SHIFT | ERROR_WORD),
                self.word_write.data.eq(self.code),
                self.row_write.en.eq(1),
                row.device_status.eq(
                    self.row_read.data.device_status | DeviceStatus.DEVICE_NEEDS_RESET
                ),
            ]
            m.d.sync += self.failed.bit_select(self.queue, 1).eq(1)
            raise_change()
            m.next = "IDLE"
        with m.State("MOVED"):
            m.next = "CHANGE"
        with m.State("CHANGE"):
            m.d.comb += [
                self.row_write.en.eq(1),
                # However often it changes: only so it is never again what it was (4.1.4.3.1).
                row.config_generation.eq(
                    self.row_read.data.config_generation + ~self.unseen.bit_select(self.function, 1)
                ),
            ]
            m.d.sync += self.unseen.bit_select(self.function, 1).eq(1)
            raise_change()
            m.next = "IDLE"

    def _notify(self, m: Module) -> None:
        """Interrupt of a configuration change."""
        vector = self.row_read.data.config_msix_vector
        with m.State("NOTICE"):
            m.next = "INTERRUPT"
        with m.State("INTERRUPT"):
            self.offer(m, vector, self.live.bit_select(self.function, 1))
            m.next = "IDLE"

    def offer(self, m: Module, vector, told) -> None:
        """Offer a vector of ``function``, if its driver may be told; nothing may be on offer."""
        m.d.sync += [
            self.interrupt.valid.eq((vector != MSI_NO_VECTOR) & told),
            self.interrupt.payload.fence.eq(0),
            self.interrupt.payload.function.eq(self.function),
            self.interrupt.payload.vector.eq(vector),
        ]
