"""Register slice, arbiter and FIFO under back-pressure."""

from functools import partial

import pytest

from rtl.bus.stream import (
    StreamArbiter,
    StreamBypass,
    StreamFifo,
    StreamRegister,
    StreamStage,
)
from tests.rtl.agents import Sink, Source, run, seeded, wait_for

_FIVE = partial(StreamFifo, depth=5)


@pytest.mark.parametrize("kind", [StreamRegister, StreamStage, StreamBypass, _FIVE])
@pytest.mark.parametrize(("push", "pull"), [(0, 0), (0.5, 0), (0, 0.5), (0.4, 0.6)])
def test_payloads_come_out_once_and_in_order(kind, push, pull):
    dut = kind(16)
    rng = seeded(1)
    source, sink = Source(dut.i, rng, push), Sink(dut.o, rng, pull)
    sent = [rng.randrange(1 << 16) for _ in range(200)]
    source.queue.extend(sent)

    async def wait(ctx):
        await wait_for(ctx, lambda: len(sink.got) == len(sent), then=10)

    run(dut, wait, background=[source.process, sink.process])
    assert sink.got == sent


def test_register_passes_a_transfer_per_cycle_after_one():
    dut = StreamRegister(8)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for n in range(20):
            ctx.set(dut.i.payload, n)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            assert ctx.get(dut.o.valid)
            assert ctx.get(dut.o.payload) == n

    run(dut, testbench)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("pull", [0, 0.5])
def test_arbiter_is_fair_and_loses_nothing(count, pull):
    dut = StreamArbiter(16, count)
    rng = seeded(2)
    sources = [Source(port, rng) for port in dut.inputs]
    sink = Sink(dut.o, rng, pull)
    for n, source in enumerate(sources):
        source.queue.extend(n << 8 | item for item in range(40))

    async def wait(ctx):
        await wait_for(ctx, lambda: len(sink.got) == 40 * count, then=10)

    run(dut, wait, background=[*(source.process for source in sources), sink.process])
    for n in range(count):
        assert [item & 0xFF for item in sink.got if item >> 8 == n] == list(range(40))
    # All of them wanted to send all the time, so each had its turn in every round.
    rounds = [sink.got[at : at + count] for at in range(0, len(sink.got), count)]
    assert all(len({item >> 8 for item in group}) == count for group in rounds[1:-1])


def test_arbiter_refuses_one_input():
    with pytest.raises(ValueError, match="An arbiter needs at least 2 inputs, not 1"):
        StreamArbiter(8, 1)
