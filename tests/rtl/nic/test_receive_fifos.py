"""Receive FIFOs against one deque per function."""

from collections import deque

from models.spec.config import config
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
