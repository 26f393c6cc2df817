"""Sums of 16-bit words in ones' complement (RFC 1071)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.nic.byte_memory import BEAT_BYTES

__all__ = ["SUM_LATENCY", "LaneSum", "add", "exchanged", "folded"]

#: Cycles from a beat to its sum.
SUM_LATENCY = 4


def folded(m: Module, total, name: str):
    """16 bits congruent to ``total`` modulo FFFFh, 0 only for 0; for totals up to 24 bits."""
    once, twice = Signal(17, name=f"{name}_once"), Signal(16, name=f"{name}_folded")
    m.d.comb += [once.eq(total[:16] + total[16:]), twice.eq(once[:16] + once[16])]
    return twice


def add(m: Module, a, b, name: str):
    """16 bits congruent to the sum of two of 16 bits, 0 only if both are."""
    whole, out = Signal(17, name=f"{name}_whole"), Signal(16, name=f"{name}_sum")
    m.d.comb += [whole.eq(a + b), out.eq(whole[:16] + whole[16])]
    return out


def exchanged(word):
    """A word with its bytes exchanged."""
    return Cat(word[8:], word[:8])


class LaneSum(wiring.Component):
    """Ones' complement sum of the chosen bytes of a beat, and of one word more.

    Latency
    -------
    ``SUM_LATENCY`` cycles; one beat per cycle.

    Members
    -------
    data, mask, extra : ``In``
        A beat, its bytes that count, and a word that is added.
    sum : ``Out(16)``
        0 only if everything is 0.
    """

    data: In(8 * BEAT_BYTES)
    mask: In(BEAT_BYTES)
    extra: In(16)
    sum: Out(16)

    def elaborate(self, platform):
        m = Module()
        chosen, extra = Signal(8 * BEAT_BYTES), Signal(16)
        for lane in range(BEAT_BYTES):
            m.d.sync += chosen.word_select(lane, 8).eq(
                Mux(self.mask[lane], self.data.word_select(lane, 8), 0)
            )
        words = [chosen.word_select(n, 16) for n in range(BEAT_BYTES // 2)]
        pairs = [Signal(17, name=f"pair{n}") for n in range(len(words) // 2)]
        beside, total = Signal(16), Signal(20)
        m.d.sync += [
            extra.eq(self.extra),
            beside.eq(extra),
            total.eq((pairs[0] + pairs[1]) + (pairs[2] + pairs[3]) + beside),
        ]
        m.d.sync += [pair.eq(words[2 * n] + words[2 * n + 1]) for n, pair in enumerate(pairs)]
        m.d.sync += self.sum.eq(folded(m, total, "total"))
        return m
