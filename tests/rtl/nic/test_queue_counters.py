"""What is counted says of which queue it is, wherever that is known."""

from collections import Counter
from dataclasses import replace

import pytest

from models.spec.config import NicConfig, config
from models.spec.nic import (
    PORT_SOURCE,
    QUEUE_STATS,
    Stat,
    function_block,
    queue_stat_offset,
)
from rtl.nic.engine.records import HEADER_BYTES, SHORTEST
from rtl.nic.forwarding import Lookup
from rtl.nic.management import Management
from rtl.nic.seams import DmaStatus, LocalMemory
from rtl.nic.sent import SentCounter
from rtl.nic.verdict import Refusal
from tests.rtl.agents import Sink, get, put, run, seeded, wait_for
from tests.rtl.nic.ring_world import RingWorld
from tests.rtl.simulators import built

#: An engine whose queues' numbers are no power of two apart.
THREE = NicConfig(vfs=1, queue_pairs=3, tx_slots=16, rx_slots=16)
ABSENT = 0xF0


def test_packets_and_chains_that_come_back():
    """The PF's second queue pair and the VF's third are used, and have a drop each way."""
    world, sizes = RingWorld(THREE, seed=40), (60, 100, 1000)
    used_pairs = ((0, 1), (1, 2))

    async def exchange(ctx, function, pair):
        queue, mine = 6 * function + 2 * pair, sizes[function:]
        rings = receive, transmit = world.ring(queue), world.ring(queue + 1)
        for number, size in enumerate((*mine, 60)):
            at = receive.buffers + 0x800 * number if number < len(mine) else ABSENT << 12
            receive.post([(at, 1600)])
            world.deliver(function, bytes(size), 4 * function + number, pair)
        for size in (*mine, SHORTEST - 1):
            transmit.post([(transmit.buffers, HEADER_BYTES + size)])
        world.doorbells.extend((queue, queue + 1))
        found, count = [], 2 * len(mine) + 2

        def done():
            for ring in rings:
                found.extend(ring.take())
            return len(found) == count

        await world.until(ctx, done, 6000)

    async def test(ctx):
        world.status[ABSENT] = DmaStatus.INVALID
        for function, pair in used_pairs:
            await exchange(ctx, function, pair)
        await ctx.tick().repeat(100)
        expected = {}
        for function, pair in used_pairs:
            mine, queue = sizes[function:], 2 * pair
            expected |= {
                (function, queue, Stat.RX_PACKETS): len(mine),
                (function, queue, Stat.RX_BYTES): sum(mine),
                (function, queue, Stat.RX_DROPPED_REFUSED): 1,
                (function, queue + 1, Stat.TX_DROPPED): 1,
                (function, queue + 1, Stat.TX_DROPPED_LENGTH): 1,
            }
        assert world.queue_stats == expected
        assert world.sent_by == [(0, 1)] * 3 + [(1, 2)] * 2

    world.run(test)


@pytest.mark.parametrize("guest", [True, False])
def test_frames_that_the_switch_has_judged(guest):
    """What a guest has sent is its queue's; what nobody has but its owner is no queue's."""
    dut, rng = SentCounter(), seeded(81)
    stats = Sink(dut.stat, rng, 0.3)
    expected: Counter = Counter()

    async def bench(ctx):
        for _ in range(60):
            pair, refusal = rng.randrange(8), rng.choice(list(Refusal))
            nobody, owned = rng.random() < 0.3 and refusal == Refusal.NONE, rng.random() < 0.5
            frame = {"guest": guest, "source": 2 if guest else PORT_SOURCE, "pair": pair,
                     "length": rng.randrange(14, 1514), "refusal": refusal, "nobody": nobody,
                     "owned": owned, "owner": 1}  # fmt: skip
            await put(ctx, dut.sent, frame)
            if not guest:
                continue
            if refusal == Refusal.NONE:
                expected[pair, Stat.TX_PACKETS] += 1
                expected[pair, Stat.TX_BYTES] += frame["length"]
                if not nobody or owned:
                    continue
            expected[pair, Stat.TX_DROPPED] += 1
            reason = "NOBODY" if refusal == Refusal.NONE else refusal.name
            expected[pair, Stat[f"TX_DROPPED_{reason}"]] += 1
        await ctx.tick().repeat(60)
        found: Counter = Counter()
        for event in stats.got:
            if event.stat == Stat.RX_DROPPED_FILTER:
                assert event.function == (1 if event.function else 0)
                continue
            assert (event.function, event.queued, event.queue & 1) == (2, 1, 1)
            found[event.queue >> 1, Stat(event.stat)] += event.amount
        assert found == +expected

    run(dut, bench, background=[stats.process])


def test_frames_on_their_way_through_the_switch():
    """What guests send keeps its queue pair while it is looked up."""
    nic = replace(config("tiny").nic, queue_pairs=3)
    dut, rng = built(Lookup, nic), seeded(82)
    results, stats = Sink(dut.result, rng, 0.3), Sink(dut.stat, rng, 0.3)
    sent: Counter = Counter()

    async def bench(ctx):
        ctx.set(dut.header.ready, 1)
        ctx.set(dut.header.data, rng.getrandbits(128))
        for function in range(nic.functions):
            ctx.set(dut.controls[function].enable, 1)
        for number in range(30):
            function, pair = rng.randrange(nic.functions), rng.randrange(nic.queue_pairs)
            frame = {"memory": LocalMemory.TX, "slot": number % 16, "length": 60 + number}
            await put(ctx, dut.tx_frame, {"frame": frame, "function": function, "pair": pair})
            sent[function, 2 * pair + 1, Stat.TX_PACKETS] += 1
            sent[function, 2 * pair + 1, Stat.TX_BYTES] += 60 + number
        await wait_for(ctx, lambda: len(results.got) == 30, then=40)
        found: Counter = Counter()
        for event in stats.got:
            if event.stat in (Stat.TX_PACKETS, Stat.TX_BYTES):
                assert event.queued
                found[event.function, event.queue, Stat(event.stat)] += event.amount
        assert found == sent

    run(dut, bench, background=[results.process, stats.process])


def test_counters_of_queues_are_read_in_two_halves():
    """Queues that are not there have counters that read 0, as all of them do when written."""
    nic = replace(config("tiny").nic, queue_pairs=3, vfs=2)
    dut = built(Management, nic)
    reads = []

    async def stats(ctx):
        port = dut.stat
        while True:
            values = (port.en, port.function, port.queued, port.queue, port.stat)
            *_, en, function, queued, queue, stat = await ctx.tick().sample(*values)
            if en:
                reads.append((function, queued, queue, stat))
                await ctx.tick()
                ctx.set(port.value, 0x1234_0000_0000 | function << 16 | queue << 8 | stat)
                await ctx.tick()
                ctx.set(port.value, 0)

    async def access(ctx, function, offset, write=0):
        request = {"addr": function_block(function) + offset, "write": write, "strb": 15}
        await put(ctx, dut.bus.request, request)
        return await get(ctx, dut.bus.response)

    async def bench(ctx):
        for function in (0, 2):
            for queue in range(16):
                for stat in QUEUE_STATS[queue & 1]:
                    offset = queue_stat_offset(queue, stat)
                    low = await access(ctx, function, offset)
                    high = await access(ctx, function, offset + 4)
                    there = queue < 2 * nic.queue_pairs
                    assert low == there * (function << 16 | queue << 8 | stat)
                    assert not there or high == 0x1234
                    assert there or high == 0
                    assert reads == [(function, 1, queue, stat)] * there
                    reads.clear()
        assert await access(ctx, 1, queue_stat_offset(1, 1), write=1) == 0
        await wait_for(ctx, lambda: True, then=10)
        assert not reads

    run(dut, bench, background=[stats])
