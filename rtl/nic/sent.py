"""Counts what guests send, and what nobody has."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.nic import Stat
from rtl.bus.stream import StreamRegister
from rtl.nic.seams import StatEvent, transmit_queue
from rtl.nic.verdict import Refusal

__all__ = ["Sent", "SentCounter"]


_REASONS = {
    Refusal.NONE: Stat.TX_DROPPED_NOBODY,
    Refusal.LINK: Stat.TX_DROPPED_LINK,
    Refusal.MAC: Stat.TX_DROPPED_MAC,
    Refusal.VLAN: Stat.TX_DROPPED_VLAN,
}


class Sent(data.Struct):
    """A frame that the switch has judged."""

    guest: 1
    source: 8
    pair: 3
    length: 16
    group: 1
    broadcast: 1
    refusal: Refusal
    nobody: 1
    owned: 1
    owner: 8


class SentCounter(wiring.Component):
    """Makes events of a frame, one after another.

    A guest's frame that may be sent is one of TX_PACKETS, and of TX_MULTICAST or TX_BROADCAST; one
    that may not of TX_DROPPED, and of the reason.  A frame that nobody has is RX_DROPPED_FILTER of
    the function whose MAC it is for; if there is none TX_DROPPED of its sender, and of that reason,
    or from the port RX_DROPPED_FILTER of the PF.

    Latency
    -------
    One event per cycle; frames without events none.

    Members
    -------
    sent : ``In(stream)`` of Sent
    stat : ``Out(stream)`` of StatEvent
    """

    sent: In(stream.Signature(Sent))
    stat: Out(stream.Signature(StatEvent))

    def elaborate(self, platform):
        m = Module()
        m.submodules.events = events = StreamRegister(StatEvent)
        connect(m, events.o, flipped(self.stat))
        now, frame = self.sent.payload, Signal(Sent)
        ok = now.guest & (now.refusal == Refusal.NONE)
        sender_blamed = now.guest & ~now.owned
        dropped, why = (now.guest & ~ok) | (now.nobody & sender_blamed), Signal(Stat)
        with m.Switch(frame.refusal):
            for refusal, stat in _REASONS.items():
                with m.Case(refusal):
                    m.d.comb += why.eq(stat)
        # Events that are left, in the order of ``kinds``
        left = Signal(6)
        kinds = (
            (ok, Stat.TX_PACKETS),
            (ok, Stat.TX_BYTES),
            (ok & now.group, Mux(frame.broadcast, Stat.TX_BROADCAST, Stat.TX_MULTICAST)),
            (dropped, Stat.TX_DROPPED),
            (dropped, why),
            (now.nobody & ~sender_blamed, Stat.RX_DROPPED_FILTER),
        )
        event = events.i.payload
        m.d.comb += [
            self.sent.ready.eq(~left.any()),
            events.i.valid.eq(left.any()),
            event.function.eq(frame.source),
            event.queue.eq(transmit_queue(frame.pair)),
            event.queued.eq(1),
            event.amount.eq(1),
        ]
        for number, (_, stat) in reversed(list(enumerate(kinds))):
            with m.If(left[number]):
                m.d.comb += event.stat.eq(stat)
        with m.If(left[:2] == 0b10):
            m.d.comb += event.amount.eq(frame.length)
        with m.If(left == 1 << len(kinds) - 1):
            m.d.comb += event.function.eq(frame.owner)
        with m.If(self.sent.ready):
            m.d.sync += frame.eq(now)
            with m.If(self.sent.valid):
                m.d.sync += left.eq(Cat(due for due, _ in kinds))
        with m.Elif(events.i.ready):
            m.d.sync += left.eq(left & (left - 1)[: len(left)])
        return m
