"""Reads that wait for messages: what software has masked is silent once it has read something."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from models.spec.nic import ADDRESS_BITS
from rtl.bus.lite import RegisterPort
from rtl.nic.register_map import Page, is_config, is_management, page_of
from rtl.nic.seams import Interrupt

__all__ = ["ReadOrder"]


class ReadOrder(wiring.Component):
    """Holds the answer of a read back until all messages before it have their responses.

    A read's completion does not pass messages (PCI Base 6.0, 2.4.1), and so a vector that was
    masked, or taken from a queue (virtio 1.3, 4.1.5.1.2), brings no message after a read.  Only
    what software writes can matter to it: without a write since the last such read, but for
    doorbells, a read does not wait.  It waits by a fence behind the interrupts that others had on
    offer when it was answered, and these are as many as there are others: so interrupts of one
    function keep nobody waiting for long.

    Latency
    -------
    Accesses pass in the same cycle.  The answer of a read that waits comes three cycles and the
    fence's way later.

    Parameters
    ----------
    sources : int
        Who else has interrupts.

    Members
    -------
    bus : ``In(RegisterPort)``; port : ``Out(RegisterPort)``
    offers : ``In(sources)``
        Interrupts on offer, each held until it is taken.
    taken : ``In(sources)``
        They are, in this cycle.
    interrupt : ``Out(stream)`` of Interrupt
        The fence.
    pushed : ``In(1)``
        It has met no message under way.
    """

    def __init__(self, sources: int):
        port = RegisterPort(addr_width=ADDRESS_BITS)
        super().__init__(
            {
                "bus": In(port),
                "port": Out(port),
                "offers": In(sources),
                "taken": In(sources),
                "interrupt": Out(stream.Signature(Interrupt)),
                "pushed": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, port = self.bus, self.port
        request, addr = bus.request.payload, bus.request.payload.addr
        wrote, reads = Signal(), Signal()
        waiting, answer = Signal.like(self.offers), Signal(32)
        doorbell = ~is_management(addr) & ~is_config(addr) & (page_of(addr) == Page.NOTIFY)
        m.d.comb += [
            self.interrupt.payload.fence.eq(1),
            self.interrupt.payload.read.eq(1),
            port.request.payload.eq(request),
        ]
        with m.FSM():
            with m.State("PASS"):
                m.d.comb += [
                    port.request.valid.eq(bus.request.valid),
                    bus.request.ready.eq(port.request.ready),
                    bus.response.payload.eq(port.response.payload),
                ]
                with m.If(bus.request.valid & bus.request.ready):
                    m.d.sync += reads.eq(~request.write)
                    with m.If(request.write & ~doorbell):
                        m.d.sync += wrote.eq(1)
                with m.If(reads & wrote):
                    m.d.comb += port.response.ready.eq(1)
                    m.d.sync += [answer.eq(port.response.payload), waiting.eq(self.offers)]
                    with m.If(port.response.valid):
                        m.next = "OFFERS"
                with m.Else():
                    m.d.comb += [
                        bus.response.valid.eq(port.response.valid),
                        port.response.ready.eq(bus.response.ready),
                    ]
            with m.State("OFFERS"):
                m.d.sync += waiting.eq(waiting & self.offers & ~self.taken)
                with m.If(waiting == 0):
                    m.next = "FENCE"
            with m.State("FENCE"):
                m.d.comb += self.interrupt.valid.eq(1)
                with m.If(self.interrupt.ready):
                    m.next = "PUSH"
            with m.State("PUSH"):
                with m.If(self.pushed):
                    m.d.sync += wrote.eq(0)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [bus.response.valid.eq(1), bus.response.payload.eq(answer)]
                with m.If(bus.response.ready):
                    m.next = "PASS"
        return m
