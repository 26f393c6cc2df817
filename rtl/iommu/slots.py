"""Slots of transactions that keep AXI's order per ID."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SlotTable"]


class SlotTable(wiring.Component):
    """Who came before whom under the same AXI ID.

    A slot remembers the youngest earlier transaction of its ID that is not finished.  It may be
    issued when it has none or that one was issued; it is ``first`` when it has none, and only then
    may an error be answered in its place.

    Parameters
    ----------
    slots : int
        Transactions, a power of two from 2.
    id_width : int
        Bits of an AXI ID.

    Members
    -------
    available, slot : ``Out``
        A slot is free, and which.
    allocate, id : ``In``
        Take ``slot`` for a transaction of ``id``; only if ``available``.
    issue, issued_slot : ``In``
        The slot's transaction was issued.
    answer, answer_id : ``In``
        The oldest issued transaction of the ID is finished.
    error, error_slot : ``In``
        This transaction, which was not issued, is finished.
    live : ``Out(slots)``
    first : ``Out(slots)``
        No earlier one of the same ID is live.
    in_turn : ``Out(slots)``
        Order allows to issue it, and it was not.
    finished : ``Out(slots)``
        Slots that become free in this cycle.
    """

    def __init__(self, *, slots: int, id_width: int):
        if slots < 2 or slots & (slots - 1):
            raise ValueError(f"Slots must be a power of two from 2, not {slots!r}")
        self.slots, self.id_width = slots, id_width
        number = range(slots)
        super().__init__(
            {
                "available": Out(1),
                "slot": Out(number),
                "allocate": In(1),
                "id": In(id_width),
                "issue": In(1),
                "issued_slot": In(number),
                "answer": In(1),
                "answer_id": In(id_width),
                "error": In(1),
                "error_slot": In(number),
                "live": Out(slots),
                "first": Out(slots),
                "in_turn": Out(slots),
                "finished": Out(slots),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = range(self.slots)
        issued, follows, youngest = (Signal(self.slots) for _ in range(3))
        ids = Array(Signal(self.id_width, name=f"id{n}") for n in slots)
        earlier = Array(Signal(slots, name=f"earlier{n}") for n in slots)
        same = Signal(self.slots)  # the youngest live transaction of the new one's ID
        before = Signal(slots)

        for n in reversed(slots):
            with m.If(~self.live[n]):
                m.d.comb += [self.slot.eq(n), self.available.eq(1)]
        for n in slots:
            with m.If(same[n]):
                m.d.comb += before.eq(n)
            m.d.comb += [
                same[n].eq(self.live[n] & youngest[n] & (ids[n] == self.id)),
                self.first[n].eq(self.live[n] & ~follows[n]),
                self.in_turn[n].eq(
                    self.live[n] & ~issued[n] & (~follows[n] | issued.bit_select(earlier[n], 1))
                ),
                self.finished[n].eq(
                    (self.answer & self.first[n] & issued[n] & (ids[n] == self.answer_id))
                    | (self.error & (self.error_slot == n))
                ),
            ]
            with m.If(follows[n] & self.finished.bit_select(earlier[n], 1)):
                m.d.sync += follows[n].eq(0)
            with m.If(self.finished[n]):
                m.d.sync += self.live[n].eq(0)
            with m.If(self.issue & (self.issued_slot == n)):
                m.d.sync += issued[n].eq(1)
            with m.If(self.allocate):
                with m.If(same[n]):
                    m.d.sync += youngest[n].eq(0)
                with m.If(self.slot == n):
                    m.d.sync += [
                        self.live[n].eq(1),
                        issued[n].eq(0),
                        youngest[n].eq(1),
                        ids[n].eq(self.id),
                        earlier[n].eq(before),
                        follows[n].eq((same & ~self.finished).any()),
                    ]
        return m
