"""Counters of functions and queues against sums of the events."""

from collections import Counter
from dataclasses import replace

import pytest

from models.spec.config import config
from models.spec.nic import QUEUE_STATS, Stat, queue_stat_of
from rtl.nic.stats import Stats
from tests.rtl.agents import Source, run, seeded
from tests.rtl.simulators import built

TINY = config("tiny").nic
SOURCES = 3
#: Pairs of queues; those of three have numbers that nobody has.
SEVERAL = replace(TINY, vfs=1, queue_pairs=3)


def queue_key(function: int, queue: int, stat: Stat):
    """A queue's counter of what a function counts; ``None`` if queues of its kind have none."""
    kind = queue_stat_of(stat, queue)
    return None if kind is None else (function, queue, kind)


def draw(nic, rng, strange=0.05):
    """An event; some are of a function that does not exist."""
    queue = rng.randrange(2 * nic.queue_pairs)
    shared = [Stat.NOTIFICATIONS, Stat.PARKED_CYCLES, Stat.INTERRUPTS]
    of_queue = [stat for stat in Stat if queue_stat_of(stat, queue) is not None]
    return {
        "function": nic.functions if rng.random() < strange else rng.randrange(nic.functions),
        "queue": queue,
        "queued": rng.random() < 0.8,
        "stat": rng.choice(of_queue * 2 + shared),
        "amount": rng.choice((1, rng.randrange(1600), (1 << 32) - 1)),
    }


def expected(nic, events):
    """What the counters come to, those of functions and those of queues."""
    functions, queues = Counter(), Counter()
    for event in events:
        if event["function"] >= nic.functions:
            continue
        functions[event["function"], event["stat"]] += event["amount"]
        key = queue_key(event["function"], event["queue"], event["stat"])
        if event["queued"] and key is not None:
            queues[key] += event["amount"]
    return functions, queues


async def read(ctx, port, function, stat, queue=None):
    """Read a counter."""
    for name, value in (("function", function), ("stat", int(stat)), ("queue", queue or 0),
                        ("queued", queue is not None), ("en", 1)):  # fmt: skip
        ctx.set(getattr(port, name), value)
    await ctx.tick()
    ctx.set(port.en, 0)
    await ctx.tick()
    return ctx.get(port.value)


async def compare(ctx, dut, nic, events):
    """See that every counter there is has come to its sum."""
    functions, queues = expected(nic, events)
    for function in range(nic.functions):
        for stat in Stat:
            found = await read(ctx, dut.read, function, stat)
            assert found == functions[function, stat], (function, stat)
        for queue in range(2 * nic.queue_pairs):
            for stat in QUEUE_STATS[queue & 1]:
                found = await read(ctx, dut.read, function, stat, queue)
                assert found == queues[function, queue, stat], (function, queue, stat)


@pytest.mark.parametrize("nic", [TINY, SEVERAL], ids=["one pair", "three pairs"])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_no_event_is_lost(nic, stall):
    dut, rng = built(Stats, nic, SOURCES), seeded(71)
    sources = [Source(port, rng, stall) for port in dut.inputs]
    events = [draw(nic, rng) for _ in range(400)]
    for event in events[::4]:  # the same counter again at once
        events.append(event)
    rng.shuffle(events)
    for event in events[::3]:
        events.insert(events.index(event), event)
    for event in events:
        rng.choice(sources).queue.append(event)

    async def bench(ctx):
        most = expected(nic, events)[0]
        last = Counter()
        while any(source.queue for source in sources):
            at = rng.randrange(nic.functions), rng.choice(list(Stat))
            found = await read(ctx, dut.read, *at)
            assert last[at] <= found <= most[at], at
            last[at] = found
            await ctx.tick().repeat(rng.randrange(1, 12))
        await ctx.tick().repeat(4 * SOURCES * 5)
        await compare(ctx, dut, nic, events)

    run(dut, bench, background=[source.process for source in sources])


def test_what_frames_of_64_bytes_count_never_waits():
    """One frame in 8 cycles each way, and every other event there is for DMA of each."""
    dut, rng = built(Stats, TINY, SOURCES), seeded(73)
    each = (
        (Stat.RX_PACKETS, Stat.RX_BYTES, Stat.RX_CHECKSUM_GOOD),
        (Stat.TX_PACKETS, Stat.TX_BYTES),
        (Stat.DMA_READ_BYTES, Stat.DMA_WRITE_BYTES, Stat.ATC_HITS),
    )
    events = []

    def offering(port, stats):
        async def process(ctx):
            await ctx.tick().repeat(300)  # counters are cleared
            for _ in range(100):
                for cycle in range(8):
                    ctx.set(port.valid, cycle < len(stats))
                    if cycle < len(stats):
                        event = {"function": 1, "queue": stats[0].name[0] == "T", "queued": 1,
                                 "stat": stats[cycle], "amount": rng.randrange(99)}  # fmt: skip
                        events.append(event)
                        ctx.set(port.payload, event)
                    *_, ready = await ctx.tick().sample(port.ready)
                    assert ready
            ctx.set(port.valid, 0)

        return process

    async def bench(ctx):
        await ctx.tick().repeat(300 + 801 + 10 * SOURCES)
        await compare(ctx, dut, TINY, events)

    run(dut, *[offering(*both) for both in zip(dut.inputs, each, strict=True)], bench)
