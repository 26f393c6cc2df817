"""The PF's mailbox: what functions have for the hypervisor's software."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import NicConfig
from models.spec.nic import MANAGEMENT, MailboxEvent
from models.spec.virtio import MSI_NO_VECTOR
from rtl.bus.lite import RegisterPort
from rtl.bus.priority import lowest
from rtl.bus.stream import StreamStage
from rtl.nic.register_map import BLOCK_BITS, block_function_of
from rtl.nic.seams import Interrupt

__all__ = ["MAILBOX_REGISTERS", "EventPost", "Mailbox"]

WORD_BITS = 32
#: Registers of a management block that are here.
MAILBOX_REGISTERS = ("events", "mailbox", "mailbox_vector")
_EVENT_BITS = max(MailboxEvent).bit_length()


class EventPost(wiring.Signature):
    """Tells the hypervisor's software of something that a function did."""

    def __init__(self):
        super().__init__({"en": Out(1), "function": Out(8), "events": Out(_EVENT_BITS)})


class Mailbox(wiring.Component):
    """Events of every function.

    The first event of a function that has none raises the PF's mailbox vector.  Who resets an
    ``attended`` function waits until software has cleared what it was told of it.

    Latency
    -------
    An access takes two cycles.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    bus : ``In(RegisterPort)``
        Accesses to ``MAILBOX_REGISTERS`` of a management block.
    ring : ``In(1)``; ring_function : ``In(8)``
        The control queue of a function was notified.
    post : ``In(EventPost)``
    resets, queue_resets : ``Out(functions)``
        RESET and QUEUE_RESET of each function's events.
    interrupt : ``Out(stream)`` of Interrupt
    ending : ``In(8)``; holds : ``Out(1)``
        Whether there is an interrupt of a function that has not been taken, a cycle ago.
    """

    def __init__(self, config: NicConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(RegisterPort(addr_width=24)),
                "ring": In(1),
                "ring_function": In(8),
                "post": In(EventPost()),
                "resets": Out(config.functions),
                "queue_resets": Out(config.functions),
                "interrupt": Out(stream.Signature(Interrupt)),
                "ending": In(8),
                "holds": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        functions, request, response = self.config.functions, self.bus.request, self.bus.response
        access, answer = Signal.like(request.payload), Signal(WORD_BITS)
        events = Signal(data.ArrayLayout(_EVENT_BITS, functions))
        vector, wanted = Signal(16, init=MSI_NO_VECTOR), Signal()
        m.submodules.interrupts = interrupts = StreamStage(Interrupt)
        connect(m, interrupts.o, flipped(self.interrupt))
        raised = interrupts.i
        function, word = block_function_of(access.addr), access.addr[2:BLOCK_BITS]
        strobes = Cat(strobe.replicate(8) for strobe in access.strb)
        written = access.data & strobes
        of_pf, clear = function == 0, Signal(_EVENT_BITS)

        def at(name: str):
            return word == MANAGEMENT[name].offset // 4

        first, some = Signal(range(max(2, functions))), Signal(functions)
        lowest(m, some, first)
        m.d.comb += response.payload.eq(answer)
        m.d.sync += self.holds.eq(
            interrupts.o.valid & (interrupts.o.payload.function == self.ending)
        )
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += [access.eq(request.payload), answer.eq(0)]
                with m.If(request.valid):
                    m.next = "ACCESS"
                with m.Elif(wanted):
                    m.d.comb += [
                        raised.payload.vector.eq(vector),
                        raised.valid.eq(vector != MSI_NO_VECTOR),
                    ]
                    with m.If(raised.ready | ~raised.valid):
                        m.d.sync += wanted.eq(0)
            with m.State("ACCESS"):
                m.next = "RESPOND"
                with m.If(at("events")):
                    m.d.sync += answer.eq(Mux(access.write, 0, events[function]))
                    m.d.comb += clear.eq(Mux(access.write, written, 0))
                with m.If(at("mailbox") & of_pf & ~access.write):
                    m.d.sync += answer.eq(Mux(some.any(), first + 1, 0))
                with m.If(at("mailbox_vector") & of_pf & access.write):
                    m.d.sync += vector.eq((vector & ~strobes[:16]) | written[:16])
                with m.Elif(at("mailbox_vector") & ~access.write):
                    m.d.sync += answer.eq(Mux(of_pf, vector, MSI_NO_VECTOR))
            with m.State("RESPOND"):
                m.d.comb += response.valid.eq(1)
                with m.If(response.ready):
                    m.next = "IDLE"

        fresh = Signal(functions)
        for number in range(functions):
            known, come = events[number], Signal(_EVENT_BITS, name=f"come{number}")
            rung = self.ring & (self.ring_function == number)
            posted = self.post.en & (self.post.function == number)
            cleared = Mux(function == number, clear, 0)
            m.d.comb += [
                come.eq(Mux(rung, int(MailboxEvent.CONTROL), 0) | Mux(posted, self.post.events, 0)),
                some[number].eq(known.any()),
                self.resets[number].eq((known & int(MailboxEvent.RESET)).any()),
                self.queue_resets[number].eq((known & int(MailboxEvent.QUEUE_RESET)).any()),
                fresh[number].eq(come.any() & ~(known & ~cleared).any()),
            ]
            if self.config.control_queue:
                m.d.sync += known.eq((known & ~cleared) | come)
        if self.config.control_queue:
            with m.If(fresh.any()):
                m.d.sync += wanted.eq(1)
        return m
