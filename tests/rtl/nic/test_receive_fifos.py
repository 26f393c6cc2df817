"""Receive FIFOs against one deque per function."""

from collections import deque
from dataclasses import replace

import pytest

from models.spec.config import config
from models.spec.nic import Stat
from rtl.nic.receive_fifos import ReceiveFifos
from rtl.nic.seams import LocalMemory
from tests.rtl.agents import run, seeded, wait_for

TINY = config("tiny").nic
QUOTA = {LocalMemory.TX: TINY.tx_quota, LocalMemory.RX: TINY.rx_quota}


def test_order_quotas_and_what_is_given_back():
    dut, rng = ReceiveFifos(TINY), seeded(42)
    fifos = [deque() for _ in range(TINY.functions)]
    #: Pushed, and on the way to their FIFO.
    coming = [deque() for _ in range(TINY.functions)]
    returned: list[tuple] = []
    owed_back: list[tuple] = []

    #: Popped and not given back by the engine.
    held = [deque() for _ in range(TINY.functions)]

    def waiting(f, memory):
        known = (*coming[f], *fifos[f])
        return sum(kind == memory for kind, _ in known) + held[f].count(memory)

    async def bench(ctx):
        ctx.set(dut.arrival.ready, 1)
        ctx.set(dut.stat.ready, 1)
        await wait_for(ctx, lambda: ctx.get(dut.ready))
        receiving, popped, seen = set(range(TINY.functions)), None, {"full": 0, "pop": 0}
        for number in range(3000):
            if rng.random() < 0.01:
                receiving = {f for f in range(TINY.functions) if rng.random() < 0.7}
                ctx.set(dut.receiving, sum(1 << f for f in receiving))
            elif number == 0:
                ctx.set(dut.receiving, -1 & (1 << TINY.functions) - 1)
            f, memory = rng.randrange(TINY.functions), rng.choice(list(QUOTA))
            ctx.set(dut.function, f)
            ctx.set(dut.frame, {"memory": memory, "slot": number % 256, "length": number})
            room = ctx.get(dut.room)
            settled = all(
                g in receiving or not (fifos[g] or coming[g]) for g in range(TINY.functions)
            )
            if settled:
                assert room == (waiting(f, memory) < QUOTA[memory])
            push = room and ctx.get(dut.accepts) and rng.random() < 0.5
            seen["full"] += not room
            target = rng.randrange(TINY.functions)
            pop = rng.random() < 0.3
            giver = rng.randrange(TINY.functions)
            back = bool(held[giver]) and rng.random() < 0.8
            ctx.set(dut.pop.back, back)
            if back:
                ctx.set(dut.pop.back_function, giver)
                ctx.set(dut.pop.back_memory, held[giver].popleft())
            ctx.set(dut.push, push)
            ctx.set(dut.pop.looks, pop or rng.random() < 0.1)
            ctx.set(dut.pop.en, pop)
            ctx.set(dut.pop.function, target)
            ctx.set(dut.release.ready, rng.random() < 0.8)
            *_, given, frame, arrived, owner = await ctx.tick().sample(
                dut.release.valid & dut.release.ready,
                dut.release.payload,
                dut.arrival.valid,
                dut.arrival.payload.function,
            )
            if arrived:
                fifos[owner].append(coming[owner].popleft())
            if given:
                returned.append((frame.memory, frame.length))
            if pop:
                popped = ctx.get(dut.pop.frame) if ctx.get(dut.pop.valid) else None
                if popped is not None:
                    held[target].append(popped.memory)
                if target in receiving:
                    found = (popped.memory, popped.length) if popped is not None else None
                    # What was taken out while the function did not receive is on its way back.
                    while fifos[target] and fifos[target][0] != found:
                        owed_back.append(fifos[target].popleft())
                    assert found is None or fifos[target].popleft() == found
                    assert len(owed_back) <= 3
                    seen["pop"] += found is not None
                elif popped is not None:
                    fifos[target].remove((popped.memory, popped.length))
            for entry in list(returned):
                if entry in owed_back:
                    owed_back.remove(entry)
                    returned.remove(entry)
                    continue
                for g, fifo in enumerate(fifos):
                    if entry in fifo:
                        assert g not in receiving or fifo[0] == entry
                        fifo.remove(entry)
                        returned.remove(entry)
            if push:
                coming[f].append((memory, number))
        assert not returned
        assert seen["full"] > 50
        assert seen["pop"] > 200

    run(dut, bench)


class Ends:
    """Takes what is dropped and given back."""

    def __init__(self, dut):
        self.dut, self.dropped, self.released = dut, [], []

    async def process(self, ctx):
        dut = self.dut
        ctx.set(dut.stat.ready, 1)
        ctx.set(dut.release.ready, 1)
        while True:
            *_, stat, event, release, frame = await ctx.tick().sample(
                dut.stat.valid, dut.stat.payload, dut.release.valid, dut.release.payload
            )
            if stat:
                self.dropped.append((event.function, event.queue, event.queued, event.stat))
            if release:
                self.released.append((frame.memory, frame.slot))


async def push(ctx, dut, slot):
    """Put a frame from the port into a FIFO."""
    assert ctx.get(dut.room)
    ctx.set(dut.frame, {"memory": LocalMemory.RX, "slot": slot, "length": 60})
    ctx.set(dut.push, 1)
    await ctx.tick()
    ctx.set(dut.push, 0)
    await ctx.tick().repeat(4)


async def begin(ctx, dut, function):
    """All functions receive; frames are for one of them."""
    ctx.set(dut.arrival.ready, 1)
    ctx.set(dut.receiving, -1 & (1 << TINY.functions) - 1)
    ctx.set(dut.function, function)
    await wait_for(ctx, lambda: ctx.get(dut.ready))


def test_what_waits_for_a_queue_that_is_down_is_dropped_and_counted():
    """Else it would keep the room of its function."""
    dut, function = ReceiveFifos(TINY), 2
    ends = Ends(dut)

    async def bench(ctx):
        await begin(ctx, dut, function)
        for round_ in range(3):
            for slot in range(TINY.rx_quota):
                await push(ctx, dut, slot)
            assert not ctx.get(dut.room)
            assert len(ends.dropped) == TINY.rx_quota * round_
            ctx.set(dut.down, 1 << function * TINY.queue_pairs)
            await ctx.tick().repeat(8 * TINY.receivers + 8)
            ctx.set(dut.down, 0)
            await ctx.tick().repeat(4)
        every = [(LocalMemory.RX, slot) for slot in range(TINY.rx_quota)]
        assert ends.released == 3 * every
        assert ends.dropped == 3 * len(every) * [(function, 0, 1, Stat.RX_DROPPED_QUEUE)]

    run(dut, bench, background=[ends.process])


def test_what_waits_for_a_queue_that_is_down_is_not_to_be_had():
    """However soon the engine asks, and though it has heard of it before."""
    dut, function = ReceiveFifos(TINY), 2
    ends = Ends(dut)

    async def bench(ctx):
        await begin(ctx, dut, function)
        ctx.set(dut.pop.function, function)
        ctx.set(dut.pop.pair, 0)
        for down in (1, 0):
            await push(ctx, dut, 5)
            ctx.set(dut.down, down << function * TINY.queue_pairs)
            for signal in (dut.pop.looks, dut.pop.en):
                ctx.set(signal, 1)
            await ctx.tick().repeat(1)
            assert ctx.get(dut.pop.valid) != down
            for signal in (dut.pop.looks, dut.pop.en):
                ctx.set(signal, 0)
            await ctx.tick().repeat(8 * TINY.receivers + 8)
        assert ends.dropped == [(function, 0, 1, Stat.RX_DROPPED_QUEUE)]

    run(dut, bench, background=[ends.process])


@pytest.mark.parametrize("steers", [True, False])
def test_a_queue_whose_driver_sleeps_leaves_room_for_others_of_its_function(steers):
    """Where frames are steered, that is; else there is no other."""
    nic = replace(
        TINY, queue_pairs=2, control_queue=True, multiqueue=True, tx_slots=21, rx_slots=21
    )
    dut, function = ReceiveFifos(nic), 2
    assert nic.rx_quota == 4
    ends = Ends(dut)

    async def bench(ctx):
        await begin(ctx, dut, function)
        ctx.set(dut.head.ready, 1)
        ctx.set(dut.steering, steers << function)
        for slot in range(3 * nic.rx_quota if steers else nic.rx_quota):
            await push(ctx, dut, slot)
            await ctx.tick().repeat(40)
        assert ctx.get(dut.room) == steers
        # The oldest went.
        slots = range(3 * nic.rx_quota - 3 if steers else 0)
        assert ends.released == [(LocalMemory.RX, slot) for slot in slots]
        assert ends.dropped == len(slots) * [(function, 0, 1, Stat.RX_DROPPED_FULL)]

    run(dut, bench, background=[ends.process])
