"""The device TLB behind the DMA engine: what is asked for, forgotten and reset amid transfers."""

import random

import pytest

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.dma_world import CONFIG, World
from tests.rtl.nic.test_dma import check, filled

P = {"tag": 3, "function": 1, "write": 0, "memory": 1, "offset": 0, "length": 64}
DEVICE = CONFIG.device_id + 1
PAGE = 5


async def transfer(world, ctx, **more):
    """Move some bytes; return how."""
    await world.request(ctx, **{**P, **more})
    return (await world.wait(ctx, P["tag"]))[0]


def test_a_page_is_asked_for_once():
    world = World(CONFIG, seed=31)

    async def test(ctx):
        before = filled(world)
        for number in range(6):
            p = {**P, "iova": (PAGE << 12) + 100 * number}
            assert await transfer(world, ctx, **p) == DmaStatus.OK
            check(world, p, before)
        assert (world.guest, world.local) == before
        await ctx.tick().repeat(50)
        assert world.stats[1, Stat.TRANSLATIONS] == 1
        assert world.stats[1, Stat.ATC_HITS] == 5
        await transfer(world, ctx, iova=PAGE << 12, write=1)  # it had been asked for reading
        await transfer(world, ctx, iova=PAGE << 12, write=1)
        await ctx.tick().repeat(50)
        assert world.stats[1, Stat.TRANSLATIONS] == 2
        assert {user.at for *_, user in world.accesses} == {2}

    world.run(test)


def test_what_may_not_be_kept_is_asked_for_again():
    """No rights (PCIe Base 6.0, 10.2.3), untranslated accesses only, refusals."""
    world = World(CONFIG, seed=32)

    async def test(ctx):
        filled(world)
        world.plain.add(PAGE)
        world.refused.add(PAGE + 1)
        world.missing.add((1, PAGE + 2))
        for _ in range(2):
            assert await transfer(world, ctx, iova=PAGE << 12) == DmaStatus.OK
            assert await transfer(world, ctx, iova=PAGE + 1 << 12) == DmaStatus.FAULT
            assert await transfer(world, ctx, iova=PAGE + 2 << 12, hurried=1) == DmaStatus.ABSENT
        await ctx.tick().repeat(50)
        assert world.stats[1, Stat.TRANSLATIONS] == 6
        world.read_only.add(PAGE + 3)
        world.answer_code = 1
        for _ in range(2):
            status = await transfer(world, ctx, iova=PAGE + 3 << 12, write=1)
            assert status == DmaStatus.INVALID
            assert await transfer(world, ctx, iova=PAGE + 3 << 12) == DmaStatus.OK
        await ctx.tick().repeat(50)
        assert world.stats[1, Stat.TRANSLATIONS] == 8
        assert world.stats[1, Stat.ATC_HITS] == 2

    world.run(test)


def test_a_large_range_is_asked_for_once():
    world = World(CONFIG, seed=33)
    world.size_log2 = 30

    async def test(ctx):
        before = filled(world)
        for page in (3, 9, 17):
            p = {**P, "iova": (page << 12) + 4000, "length": 200}
            assert await transfer(world, ctx, **p) == DmaStatus.OK
            check(world, p, before)
        await ctx.tick().repeat(50)
        assert world.stats[1, Stat.TRANSLATIONS] == 1

    world.run(test)


def test_invalidations_of_others_change_nothing():
    world = World(CONFIG, seed=34)

    async def test(ctx):
        filled(world)
        await transfer(world, ctx, iova=PAGE << 12)
        devices = (DEVICE - 1, DEVICE + 1, CONFIG.device_id + CONFIG.functions, 0, DEVICE + 0x10000)
        for itag, device in enumerate(devices):
            await world.invalidate(ctx, device, itag, PAGE)
        await world.invalidate(ctx, DEVICE, 9, PAGE + 1)
        await transfer(world, ctx, iova=PAGE << 12)
        await ctx.tick().repeat(200)
        assert len(world.completions) == len(devices) + 1
        assert world.stats[1, Stat.TRANSLATIONS] == 1
        counts = {f: n for (f, stat), n in world.stats.items() if stat == Stat.INVALIDATIONS}
        assert counts == {0: 1, 1: 1, 2: 1}

    world.run(test)


#: Distance between two moments that are tried.
EVERY = pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.full)])


async def move(world, ctx, itag):
    """Let the page move."""
    await world.move(ctx, DEVICE, itag % 32, PAGE)


async def moved(world, ctx):
    """Wait until nobody uses the page where it was."""
    while world.leaving:
        await ctx.tick()


@EVERY
@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize("warm", [False, True])
def test_invalidation_at_every_moment_of_a_transfer(warm, write, step):
    """Against a hit, or against a translation under way; then the page is where it has moved to."""
    world = World(CONFIG, seed=35, latency=12, jitter=0, stall=0)

    async def test(ctx):
        before = filled(world)
        p = {**P, "iova": PAGE << 12, "length": 200, "write": write, "memory": 2}
        asked = []
        for delay in range(-25, 45, step):
            if warm:
                await transfer(world, ctx, **p)
            count = world.asked
            if delay < 0:
                await move(world, ctx, delay)
                await ctx.tick().repeat(-delay)
            await world.request(ctx, **p)
            if delay >= 0:
                await ctx.tick().repeat(delay + 1)
                await move(world, ctx, delay)
            assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
            await moved(world, ctx)
            check(world, p, before)
            assert (world.guest, world.local) == before
            asked.append(world.asked - count)
            # What comes now may hit what came then, but nothing older.
            assert await transfer(world, ctx, **p) == DmaStatus.OK
            if not warm:
                await move(world, ctx, delay)
                await moved(world, ctx)
        # Too old a translation is asked for again; a hit that is forgotten is asked for.
        assert set(asked) == ({0, 1} if warm else {1, 2}), asked

    world.run(test)


@EVERY
@pytest.mark.parametrize("write", [0, 1])
def test_invalidation_at_every_moment_of_a_retry(write, step):
    world = World(CONFIG, seed=36, latency=12, jitter=0, stall=0)
    world.service = 20

    async def test(ctx):
        before = filled(world)
        parked = []
        for number, delay in enumerate(range(1, 100, step)):
            page = 8 + number % 50  # one that has not been there again would be asked for later
            p = {**P, "iova": page << 12, "length": 100, "write": write, "memory": 2}
            world.missing.add((1, page))
            await world.move(ctx, DEVICE, delay % 32, page)
            await moved(world, ctx)
            seen = len(world.page_requests)
            await world.request(ctx, **p)
            await ctx.tick().repeat(delay)
            world.missing.add((1, page))
            await world.move(ctx, DEVICE, delay % 32, page)
            assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
            await moved(world, ctx)
            check(world, p, before)
            assert (world.guest, world.local) == before
            parked.append(len(world.page_requests) - seen)
        assert set(parked) == {1, 2}, parked

    world.run(test)


@EVERY
@pytest.mark.parametrize("invalidates", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_reset_at_every_moment(missing, invalidates, step):
    """After it the page may be elsewhere, and nobody has to say so."""
    world = World(CONFIG, seed=37, latency=12, jitter=0, stall=0)
    world.service = 20

    async def test(ctx):
        filled(world)
        p = {**P, "iova": PAGE << 12, "length": 100}
        for delay in range(1, 90, step):
            if missing:
                world.missing.add((1, PAGE))
                await move(world, ctx, delay)
                await moved(world, ctx)
            elif delay % 2:
                await transfer(world, ctx, **p)  # known
            await world.request(ctx, **p)
            await ctx.tick().repeat(delay)
            if invalidates:
                await world.invalidate(ctx, DEVICE, delay % 32, PAGE)
            ctx.set(world.dut.controls[1].enable, 0)
            await world.cancel(ctx, 3)
            await world.wait(ctx, 3)
            world.rules.drop(DEVICE)
            moves = world.moves.get(PAGE, 0)
            world.moves[PAGE] = moves + 1
            world.freed.add((PAGE, moves))
            ctx.set(world.dut.controls[1].enable, 1)
            assert await transfer(world, ctx, **p) == DmaStatus.OK

    world.run(test)


@pytest.mark.parametrize("count", [48, pytest.param(600, marks=pytest.mark.full)])
def test_traffic_amid_invalidations(count):
    """Pages move all the time; every one of the rules is judged for every access."""
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=16, dma_slots=8, atc_entries=32)
    world = World(config, seed=38, latency=6, jitter=12)
    world.service = 15
    rng = random.Random(38)

    async def test(ctx):
        before = filled(world)
        plans = {}
        for number in range(count):
            tag = number % 16
            if tag in plans:
                await world.wait(ctx, tag)
                check(world, plans[tag], before)
            # Functions have 8 pages each; of the last one every tag writes a part of its own.
            write = number % 3 == 0
            page = 8 * (tag % 4) + (7 if write else rng.randrange(6))
            start = 1024 * (tag // 4) if write else rng.randrange(1000)
            plans[tag] = {
                **{"tag": tag, "function": tag % 4, "write": write, "memory": 1},
                **{"iova": (page << 12) + start, "offset": 0x2000 * tag},
                "length": rng.choice([4, 64, 100, 300 if write or count < 100 else 4096]),
            }
            await world.request(ctx, **plans[tag])
            if number % 4 == 3:
                function, log2 = rng.randrange(4), rng.choice([0, 0, 1, 3])
                page = 8 * function + rng.randrange(8) & -(1 << log2)
                pages = range(page, page + (1 << log2))
                for page in pages:
                    world.moves[page] = world.moves.get(page, 0) + 1
                    if rng.randrange(2):
                        world.missing.add((function, page))
                itag = number // 4 % 32
                device = config.device_id + function
                await world.invalidate(ctx, device, itag, pages.start, pages_log2=log2)
        for tag in range(16):
            await world.wait(ctx, tag)
            check(world, plans[tag], before)
        assert (world.guest, world.local) == before
        while len(world.completions) < count // 4:
            await ctx.tick()
        await ctx.tick().repeat(60)
        total = {stat: sum(n for (_, s), n in world.stats.items() if s == stat) for stat in Stat}
        print({stat.name: number for stat, number in total.items() if number})
        assert total[Stat.ATC_HITS] > count // 8
        assert total[Stat.PAGE_RETRIES] > count // 50
        assert total[Stat.INVALIDATIONS] == count // 4
        assert world.rules.judged > count

    world.run(test)
