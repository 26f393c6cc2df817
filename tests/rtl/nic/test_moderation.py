"""Interrupt moderation: enough or long enough, never more, never less."""

from dataclasses import replace
from itertools import pairwise

import pytest

from models.spec.config import config
from models.spec.nic import MANAGEMENT, QueueCoalescing
from models.spec.virtio import MSI_NO_VECTOR
from rtl.nic.moderation import Moderation
from tests.rtl.agents import Sink, put, run, seeded, wait_for

TINY = config("tiny").nic
#: Four queues a function.
PAIRS = replace(TINY, queue_pairs=2)
PER = 2 * TINY.queue_pairs
QUEUES = TINY.functions * PER
#: Cycles that an interrupt may be late: a look at every queue.
LATE = 3 * QUEUES + 6


async def assign(ctx, dut, queue, vector):
    """Give a queue a vector."""
    port = dut.vector
    for member, value in ((port.queue, queue), (port.vector, vector), (port.en, 1)):
        ctx.set(member, value)
    await ctx.tick()
    ctx.set(port.en, 0)


async def store(ctx, dut, queue, packets, cycles):
    """Store a queue's QueueCoalescing."""
    stored = dut.stored
    setting = QueueCoalescing.const({"packets": packets, "cycles": cycles})
    ctx.set(stored.function, queue // dut.per)
    ctx.set(stored.word, MANAGEMENT["coalescing0"].offset // 4 + queue % dut.per)
    ctx.set(stored.data, setting.as_bits())
    ctx.set(stored.en, 1)
    await ctx.tick()
    ctx.set(stored.en, 0)


class World:
    """The block, its registers, and the cycle of each interrupt."""

    def __init__(self, seed, config=TINY):
        self.dut, self.rng = Moderation(config), seeded(seed)
        self.now, self.told = 0, []

    async def clock(self, ctx):
        port = self.dut.interrupt
        ctx.set(port.ready, 1)
        ctx.set(self.dut.told, -1)
        while True:
            *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            self.now += 1
            if valid:
                self.told.append((payload.function, payload.vector, self.now))

    async def set(self, ctx, queue, packets, cycles):
        await store(ctx, self.dut, queue, packets, cycles)

    async def use(self, ctx, queue, amount, *, wanted=True):
        await put(ctx, self.dut.notice, {"queue": queue, "amount": amount, "wanted": wanted})
        return self.now

    def run(self, bench):
        run(self.dut, bench, background=[self.clock])


def test_without_settings_every_notice_goes_at_once():
    world = World(61)

    async def bench(ctx):
        for queue in range(QUEUES):
            await assign(ctx, world.dut, queue, 7 * queue)
            since = await world.use(ctx, queue, 1)
            await wait_for(ctx, lambda n=queue: len(world.told) == n + 1)
            function, vector, cycle = world.told[-1]
            assert (function, vector) == (queue // PER, 7 * queue)
            assert cycle - since <= 3

    world.run(bench)


@pytest.mark.parametrize(("packets", "cycles"), [(0, 300), (4, 700), (1, 500), (7, 0)])
def test_count_and_timer(packets, cycles):
    """Everything is told of in time, and nothing before enough wait or have waited long enough."""
    world, uses = World(62), []

    async def bench(ctx):
        await world.set(ctx, 3, packets, cycles)
        for _ in range(24):
            await ctx.tick().repeat(world.rng.choice((5, 40, 200)))
            amount = world.rng.choice((1, 1, 2))
            uses.append((await world.use(ctx, 3, amount), amount))
        await ctx.tick().repeat(cycles + LATE)

    world.run(bench)
    told = [cycle for *_, cycle in world.told]
    for use, _ in uses:
        assert any(use < cycle <= use + cycles + LATE for cycle in told), "not told in time"
    before = 0
    for cycle in told:
        # A use just before the last notification may have been part of it.
        mine = [(use, amount) for use, amount in uses if before - 4 < use < cycle]
        enough = packets and sum(amount for _, amount in mine) >= packets
        assert enough or cycle - mine[0][0] >= cycles, "told too early"
        before = cycle
    assert len(told) == len(uses) if packets == 1 or not cycles else len(told) < len(uses)


def test_what_waits_goes_to_the_vector_that_its_queue_has_by_then():
    world = World(67)

    async def bench(ctx):
        await assign(ctx, world.dut, 2, 5)
        await world.set(ctx, 2, 3, 50_000)
        await world.use(ctx, 2, 2)
        await assign(ctx, world.dut, 2, 6)
        await world.use(ctx, 2, 1)
        await wait_for(ctx, lambda: len(world.told) == 1)
        assert [vector for _, vector, _ in world.told] == [6]

    world.run(bench)


def test_an_interrupt_tells_of_all_that_waits_for_its_vector():
    """And of nothing that waits for another vector, or for the same one of another function."""
    world = World(69, PAIRS)
    late = 3 * world.dut.queues + 6

    async def bench(ctx):
        first, company, apart, foreign = 4, 7, 6, 11
        for queue, vector in ((first, 5), (company, 5), (apart, 6), (foreign, 5)):
            await assign(ctx, world.dut, queue, vector)
            await world.set(ctx, queue, 2, 400)
        for queue in (company, apart, foreign, first, first):
            await world.use(ctx, queue, 1)
        await ctx.tick().repeat(400 + late)
        assert [told[:2] for told in world.told] == [(1, 5), (1, 6), (2, 5)]
        assert world.told[1][2] - world.told[0][2] > 300
        await world.use(ctx, company, 1)  # one, not two
        await ctx.tick().repeat(20)
        assert len(world.told) == 3
        await wait_for(ctx, lambda: len(world.told) == 4, then=400 + late)

    world.run(bench)


@pytest.mark.parametrize("after", range(1, 14))
def test_a_queue_that_gets_a_vector_while_it_is_told_is_told_itself(after):
    """The message may be on its way before the driver has routed that queue to it."""
    world = World(71, PAIRS)

    async def bench(ctx):
        for queue, vector in ((0, 5), (3, 6)):
            await assign(ctx, world.dut, queue, vector)
            await world.set(ctx, queue, 2 - (queue == 0), 3000)
        await world.use(ctx, 3, 1)
        await world.use(ctx, 0, 1)
        await wait_for(ctx, lambda: len(world.told) == 1)
        if after > 1:
            await ctx.tick().repeat(after - 1)
        await assign(ctx, world.dut, 3, 5)
        await world.use(ctx, 3, 1)
        await wait_for(ctx, lambda: len(world.told) == 2)
        (_, first, before), (_, second, cycle) = world.told
        assert first == second == 5
        assert cycle - before < 100, "what it had waiting was forgotten"

    world.run(bench)


def test_no_vector_is_none_that_queues_share():
    """A queue that has none, and one that has none for a while."""
    world = World(72, PAIRS)

    async def bench(ctx):
        await assign(ctx, world.dut, 0, MSI_NO_VECTOR)
        await assign(ctx, world.dut, 3, 6)
        await world.set(ctx, 3, 0, 200)
        await world.use(ctx, 3, 1)
        await assign(ctx, world.dut, 3, MSI_NO_VECTOR)
        await world.use(ctx, 0, 1)
        await ctx.tick().repeat(40)
        await assign(ctx, world.dut, 3, 6)
        await ctx.tick().repeat(200 + 3 * world.dut.queues + 6)
        assert [vector for _, vector, _ in world.told] == [MSI_NO_VECTOR, 6]

    world.run(bench)


def test_what_waits_goes_however_many_notices_come():
    """Interrupts of one function's other queue, as many as can be sent, each of which finds that
    its function has another queue that waits.
    """
    dut, rng = Moderation(PAIRS), seeded(73)
    sink, per = Sink(dut.interrupt, rng, 0.97), dut.per

    async def bench(ctx):
        ctx.set(dut.told, -1)
        for queue in range(0, PAIRS.functions * per, per):
            await assign(ctx, dut, queue, 1)
            await assign(ctx, dut, queue + 1, 2)
            await store(ctx, dut, queue, 0, 300)
            await put(ctx, dut.notice, {"queue": queue, "amount": 1, "wanted": 1})
        for number in range(150):
            queue = number % PAIRS.functions * per + 1
            await put(ctx, dut.notice, {"queue": queue, "amount": 1, "wanted": 1})
        waited = [event.function for event in sink.got if event.vector == 1]
        assert sorted(waited) == list(range(PAIRS.functions)), "some still wait"

    run(dut, bench, background=[sink.process])


@pytest.mark.parametrize("shared", [False, True])
def test_a_vector_is_told_no_oftener_than_count_and_timer_say(shared):
    """Queues that share one, of which none reaches the count while the timer runs."""
    world, cycles = World(70, PAIRS), 500

    async def bench(ctx):
        for queue in range(world.dut.per):
            await assign(ctx, world.dut, queue, 0 if shared else queue)
            await world.set(ctx, queue, 1000, cycles)
        for _ in range(200):
            await world.use(ctx, world.rng.randrange(world.dut.per), 1)
            await ctx.tick().repeat(world.rng.randrange(1, 60))
        await ctx.tick().repeat(cycles + 3 * world.dut.queues + 6)

    world.run(bench)
    told = [cycle for *_, cycle in world.told]
    assert (min(after - before for before, after in pairwise(told)) >= cycles) == shared
    assert len(told) > 10


def test_what_waits_behind_another_interrupt_goes_to_the_vector_that_its_queue_has_by_then():
    """Nobody looks for it there: what has a vector is on offer (ResetFence, ReadOrder)."""
    dut = Moderation(TINY)

    async def bench(ctx):
        port, told = dut.interrupt, []
        ctx.set(dut.told, -1)
        for queue in (0, PER):
            await assign(ctx, dut, queue, 1)
        await put(ctx, dut.notice, {"queue": 0, "amount": 1, "wanted": 1})
        ctx.set(dut.notice.payload, {"queue": PER, "amount": 1, "wanted": 1})
        ctx.set(dut.notice.valid, 1)
        await ctx.tick().repeat(30)
        await assign(ctx, dut, PER, 2)
        await ctx.tick().repeat(2)
        ctx.set(port.ready, 1)
        for _ in range(30):
            *_, valid, payload, taken = await ctx.tick().sample(
                port.valid, port.payload, dut.notice.ready
            )
            told += [(payload.function, payload.vector)] if valid else []
            if taken:
                ctx.set(dut.notice.valid, 0)
        assert told == [(0, 1), (1, 2)]

    run(dut, bench)


def test_a_setting_that_changes_counts_for_what_waits():
    world = World(63)

    async def bench(ctx):
        for queue in (1, 2):
            await world.set(ctx, queue, 100, 50_000)
            await world.use(ctx, queue, 3)
        await ctx.tick().repeat(300)
        assert not world.told
        await world.set(ctx, 1, 0, 0)
        await wait_for(ctx, lambda: len(world.told) == 1, then=LATE)
        await world.set(ctx, 2, 3, 50_000)
        await wait_for(ctx, lambda: len(world.told) == 2, then=LATE)
        assert [function for function, *_ in world.told] == [1 // PER, 2 // PER]

    world.run(bench)


def test_what_nobody_wants_counts_once_something_waits():
    world = World(66)

    async def bench(ctx):
        await world.set(ctx, 2, 4, 50_000)
        for _ in range(5):
            await world.use(ctx, 2, 3, wanted=False)
        await world.use(ctx, 2, 1)
        await world.use(ctx, 2, 2, wanted=False)
        await ctx.tick().repeat(20)
        assert not world.told
        await world.use(ctx, 2, 1, wanted=False)
        await wait_for(ctx, lambda: len(world.told) == 1, then=LATE)
        assert len(world.told) == 1

    world.run(bench)


def test_a_queue_that_is_reset_is_forgotten():
    world = World(64)

    async def bench(ctx):
        for queue in (0, 5):
            await world.set(ctx, queue, 2, 200)
            await world.use(ctx, queue, 1)
        ctx.set(world.dut.forget, 1)
        await ctx.tick()
        ctx.set(world.dut.forget, 0)
        await world.use(ctx, 0, 1)  # one again, not two
        await ctx.tick().repeat(20)
        assert not world.told
        await wait_for(ctx, lambda: len(world.told) == 2, then=200 + LATE)
        assert {function for function, *_ in world.told} == {0, 5 // PER}

    world.run(bench)


def test_a_queue_that_may_not_be_told_of_drops_what_waits_and_what_comes():
    world = World(68)

    async def bench(ctx):
        await world.set(ctx, 3, 0, 300)
        await world.use(ctx, 3, 1)
        ctx.set(world.dut.told, ~(1 << 3))
        await ctx.tick().repeat(300 + LATE)
        await world.use(ctx, 3, 1)
        await world.use(ctx, 2, 1)
        await ctx.tick().repeat(300 + LATE)
        assert [function for function, *_ in world.told] == [2 // PER]
        ctx.set(world.dut.told, -1)
        await ctx.tick().repeat(300 + LATE)
        assert len(world.told) == 1  # it has been forgotten
        await world.use(ctx, 3, 1)
        await wait_for(ctx, lambda: len(world.told) == 2, then=300 + LATE)

    world.run(bench)


def test_an_interrupt_that_nobody_has_taken_is_held():
    dut = Moderation(TINY)

    async def bench(ctx):
        ctx.set(dut.told, -1)
        for function in range(TINY.functions):
            await put(ctx, dut.notice, {"queue": function * PER, "amount": 1, "wanted": 1})
            await ctx.tick().repeat(6)
            assert ctx.get(dut.interrupt.valid)
            for other in range(TINY.functions):
                ctx.set(dut.ending, other)
                await ctx.tick()
                await ctx.tick()
                assert ctx.get(dut.holds) == (other == function)
            ctx.set(dut.interrupt.ready, 1)
            await ctx.tick()
            ctx.set(dut.interrupt.ready, 0)
            await ctx.tick()
            assert not ctx.get(dut.holds)

    run(dut, bench)


def test_nothing_is_lost_behind_a_sink_that_stalls():
    """The last vector of each queue is told of, whatever else waits."""
    dut, rng = Moderation(TINY), seeded(65)
    told = Sink(dut.interrupt, rng, 0.95)
    last: dict[int, int] = {}

    async def bench(ctx):
        ctx.set(dut.told, -1)
        for queue in range(QUEUES):
            await store(ctx, dut, queue, 3, 90)
        for number in range(60):
            queue = rng.randrange(QUEUES)
            last[queue] = number
            await assign(ctx, dut, queue, number)
            await put(ctx, dut.notice, {"queue": queue, "amount": 1, "wanted": 1})
        await ctx.tick().repeat(90 + 60 * QUEUES)
        vectors = [event.vector for event in told.got]
        assert set(last.values()) <= set(vectors), (last, vectors)
        assert len(vectors) < 60

    run(dut, bench, background=[told.process])
