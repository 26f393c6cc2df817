"""Sums of frames while they are written into their slots."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.nic.byte_memory import BEAT_BYTES
from rtl.nic.offload.sums import SUM_LATENCY, LaneSum, add

__all__ = ["SlotSums"]


class SlotSums(wiring.Component):
    """One sum per slot, of all that has been written into it since it was taken.

    A row says by one bit whether its sum is of the slot's present frame: it differs from that of
    another RAM, which is set to differ when the slot is taken.

    Latency
    -------
    What is written counts ``SUM_LATENCY + 1`` cycles later; one beat per cycle.

    Parameters
    ----------
    slots : int
    looks : int
        Sums that can be looked at in one cycle.

    Members
    -------
    en, slot, data, mask, extra : ``In``
        A beat that is written: its bytes that count, and a word that is added.
    taken_en, taken : ``In``
        A slot is taken: its sum is 0.
    look0, look1, ... : ``In(8)``; sum0, sum1, ... : ``Out(16)``
        Sums of slots, in the same cycle.
    """

    def __init__(self, slots: int, looks: int):
        self.slots, self.looks = slots, looks
        super().__init__(
            {
                "en": In(1),
                "slot": In(8),
                "data": In(8 * BEAT_BYTES),
                "mask": In(BEAT_BYTES),
                "extra": In(16),
                "taken_en": In(1),
                "taken": In(8),
            }
            | {f"look{number}": In(8) for number in range(looks)}
            | {f"sum{number}": Out(16) for number in range(looks)}
        )

    def elaborate(self, platform):
        m = Module()
        row = data.StructLayout({"sum": 16, "turn": 1})
        m.submodules.sums = sums = Memory(shape=row, depth=self.slots, init=[])
        m.submodules.turns = turns = Memory(shape=1, depth=self.slots, init=[])
        m.submodules.lanes = lanes = LaneSum()
        write, turn = sums.write_port(), turns.write_port()
        before, old = (sums.read_port(domain="comb") for _ in range(2))
        now = turns.read_port(domain="comb")
        slot, valid = self.slot, self.en
        for stage in range(SUM_LATENCY):
            later, there = Signal(8, name=f"slot{stage}"), Signal(name=f"valid{stage}")
            m.d.sync += [later.eq(slot), there.eq(valid)]
            slot, valid = later, there
        m.d.comb += [
            lanes.data.eq(self.data),
            lanes.mask.eq(self.mask),
            lanes.extra.eq(self.extra),
            before.addr.eq(slot),
            now.addr.eq(slot),
            write.addr.eq(slot),
            write.en.eq(valid),
            write.data.turn.eq(now.data),
            write.data.sum.eq(
                add(m, Mux(before.data.turn == now.data, before.data.sum, 0), lanes.sum, "total")
            ),
            old.addr.eq(self.taken),
            turn.addr.eq(self.taken),
            turn.en.eq(self.taken_en),
            turn.data.eq(~old.data.turn),
        ]
        for number in range(self.looks):
            place, out = getattr(self, f"look{number}"), getattr(self, f"sum{number}")
            found, seen = sums.read_port(domain="comb"), turns.read_port(domain="comb")
            m.d.comb += [
                found.addr.eq(place),
                seen.addr.eq(place),
                out.eq(Mux(found.data.turn == seen.data, found.data.sum, 0)),
            ]
        return m
