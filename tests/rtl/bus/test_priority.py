"""The first of several bits, against the sentence that says which."""

import pytest
from amaranth.hdl import Module, Signal

from rtl.bus.priority import above, lowest, lowest_bit, number_of
from tests.rtl.agents import run, seeded


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 18, 36])
def test_the_lowest_bit_has_its_number(count):
    m, rng = Module(), seeded(19)
    bits, index = Signal(count), Signal(range(max(2, count)))
    one, number, later = Signal(count), Signal(range(max(2, count))), Signal(count)
    lowest(m, bits, index)
    m.d.comb += [one.eq(lowest_bit(bits)), number.eq(number_of(one)), later.eq(above(index, count))]
    m.d.sync += Signal().eq(1)
    values = [0, *(1 << n for n in range(count)), (1 << count) - 1]
    values += [rng.getrandbits(count) & rng.getrandbits(count) for _ in range(100)]

    async def bench(ctx):
        for value in values:
            ctx.set(bits, value)
            first = (value & -value).bit_length() - 1 if value else 0
            assert ctx.get(index) == ctx.get(number) == first
            assert ctx.get(one) == value & -value
            assert ctx.get(later) == sum(1 << n for n in range(first + 1, count))

    run(m, bench)
