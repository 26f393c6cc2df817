"""Fairness: who misses on every access delays no hit, and misses by no more than its share."""

from collections import Counter
from dataclasses import replace

import pytest

from models.spec.config import IommuConfig
from rtl.iommu import pipeline
from rtl.iommu.backlog import Backlog, device_entries
from rtl.iommu.client_mux import ClientMux
from rtl.iommu.requests import Lane
from rtl.iommu.seams import PIPELINE_DEPTH
from tests.rtl.agents import Sink, Source, mostly_full, run, seeded, wait_for
from tests.rtl.iommu.walk_world import WalkWorld

CONFIG = IommuConfig(context_entries=4, iotlb_ways=2, iotlb_sets=4, iotlb_superpages=1, misses=3,
                     walkers=3)  # fmt: skip
AGGRESSOR, VICTIM, OTHER = 1, 2, 3
#: Cycles that a request may wait for the port: a gap for an answer, and one that comes again.
TURN = 2
LATENCY, READS, HIT = 20, 3, 4
#: Cycles of one walk alone, from request to answer.
ALONE = 8 + READS * (LATENCY + 3)


def world_with(config, *, pages: int = 64) -> WalkWorld:
    """Devices with a first stage of their own; page n is at ``device << 32 | n << 12``."""
    world = WalkWorld(config, latency=LATENCY)
    for device in (AGGRESSOR, VICTIM, OTHER):
        root = world.page()
        world.device(device, first=root, pscid=device)
        for page in range(pages):
            world.map(root, page << 12, device << 32 | page << 12)
    return world


async def warm(world: WalkWorld, ctx) -> None:
    """Contexts, and the victim's first page."""
    for device in (AGGRESSOR, VICTIM, OTHER):
        await world.translate(ctx, device, 0, device_id=device)


def page(number: int) -> int:
    """Page of the n-th request of a flood; none lies in the set of the victim's page."""
    return number + 1 + number // 3


async def flood(world: WalkWorld, ctx, count: int, device: int = AGGRESSOR) -> list[int]:
    """Ask for a page of its own each; returns the tags."""
    tags = list(range(100, 100 + count)) if device == AGGRESSOR else list(range(150, 150 + count))
    for number, tag in enumerate(tags):
        await world.ask(ctx, tag, page(number) << 12, device_id=device)
    return tags


async def all_answered(world: WalkWorld, ctx, tags: list[int], device: int) -> None:
    for number, tag in enumerate(tags):
        answer, _ = await world.answer(ctx, tag)
        assert (answer.status, answer.spa) == (0, device << 32 | page(number) << 12)


def test_a_flood_of_misses_delays_no_hit():
    """Neither its answer nor, but for gaps that others' answers and returns need, its turn."""
    world = world_with(CONFIG)

    async def test(ctx):
        await warm(world, ctx)
        tags = await flood(world, ctx, 30)
        assert world.now - world.asked[tags[0]] < 60, "the port waited for misses"
        waits = []
        for number in range(60):
            offered = world.now
            _, latency = await world.translate(ctx, number, 8, device_id=VICTIM)
            assert latency == HIT
            waits.append(world.asked[number] - offered - 1)
        assert max(waits) <= TURN
        await all_answered(world, ctx, tags, AGGRESSOR)
        assert world.events["tlb_miss"] == 3 + 30
        assert world.events["lookup"] == 3 + 30 + 60

    world.run(test)


@pytest.mark.parametrize("walkers", mostly_full([3, 1, 2], 1))
def test_a_miss_waits_for_the_share_of_one_device_alone(walkers):
    config = replace(CONFIG, walkers=walkers)
    world = world_with(config)
    ahead = device_entries(config)
    rounds = -(-(ahead + 1 - walkers) // walkers)
    walk = ALONE + READS * walkers
    bound = rounds * walk + walk + 4 * (ahead + 1)

    async def test(ctx):
        await warm(world, ctx)
        tags = await flood(world, ctx, 30)
        slowest = 0
        for number in range(4):
            answer, latency = await world.translate(ctx, number, 2 + number << 12, device_id=VICTIM)
            assert answer.spa == VICTIM << 32 | 2 + number << 12
            slowest = max(slowest, latency)
        assert sum(tag in world.answers for tag in tags) < 30, "the flood was over"
        print(f"slowest {slowest}, bound {bound}")
        assert slowest <= bound
        await all_answered(world, ctx, tags, AGGRESSOR)

    world.run(test)


def test_two_floods_fill_the_table_and_still_delay_no_hit():
    world = world_with(CONFIG)

    async def test(ctx):
        await warm(world, ctx)
        tags = await flood(world, ctx, 20), await flood(world, ctx, 20, OTHER)
        for number in range(40):
            _, latency = await world.translate(ctx, number, 8, device_id=VICTIM)
            assert latency == HIT
        miss, _ = await world.translate(ctx, 50, 5 << 12, device_id=VICTIM)
        assert miss.spa == VICTIM << 32 | 5 << 12
        await all_answered(world, ctx, tags[0], AGGRESSOR)
        await all_answered(world, ctx, tags[1], OTHER)

    world.run(test)


def test_what_waits_is_drained():
    world = world_with(CONFIG)

    async def test(ctx):
        await warm(world, ctx)
        tags = await flood(world, ctx, 20)
        ctx.set(world.dut.drain.request, 1)
        while not ctx.get(world.dut.drain.done):
            await ctx.tick()
        await ctx.tick()
        assert all(tag in world.answers for tag in tags)

    world.run(test)


@pytest.mark.parametrize("misses", [2, 3])
def test_lanes_are_in_order_and_a_device_keeps_to_its_share(misses):
    """The block alone, with a table and a pipeline that take their time."""
    config = IommuConfig(misses=misses, walkers=misses)
    dut, rng = Backlog(config), seeded(5)
    entries, count = config.misses + PIPELINE_DEPTH, 400
    table: dict[int, int] = {}
    waiting: dict[tuple[int, int], int] = {}  # and when they came
    left = {Lane.OWN: -1, Lane.COMMON: -1}
    coming: list = []  # on the way to the end of the pipeline

    number = 0

    def choose():
        """Whether something comes to the end of the pipeline, again or for the first time."""
        nonlocal number
        back = bool(coming) and rng.random() < 0.7
        fresh = not back and number < count and rng.random() < 0.6
        # First one device floods, then all three.
        mix = [7] * 30 + [8, 9] if number < count // 2 else [7, 8, 9]
        one = coming.pop(0) if back else (rng.choice(mix), number, Lane.NONE)
        number += fresh
        return back, fresh, *one

    async def test(ctx):
        kept = limited = 0
        floods: set[int] = set()
        ctx.set(dut.comes, 1)
        following = (False, False, 0, 0, Lane.NONE)
        while number < count or coming or table or waiting or any(following[:2]):
            free = next((n for n in range(entries) if n not in table), 0)
            (back, fresh, device, iova, lane), following = following, choose()
            given = {n for n in table if rng.random() < 0.12}
            ctx.set(dut.coming, following[2])
            ctx.set(dut.arrive.request, {"device_id": device, "iova": iova})
            ctx.set(dut.arrive.lane, lane)
            ctx.set(dut.arrive_en, back or fresh)
            ctx.set(dut.lands, lane if back else Lane.NONE)
            ctx.set(dut.chosen, 1 << free)
            ctx.set(dut.same_device, sum(1 << n for n in table if table[n] == device))
            ctx.set(dut.ends, len(given))
            ctx.set(dut.freed, sum(1 << n for n in given))
            ctx.set(dut.again.ready, rng.random() < 0.6)
            *_, keep, goes, again = await ctx.tick().sample(
                dut.keep, dut.again.valid & dut.again.ready, dut.again.payload
            )
            if goes:
                item = (again.request.device_id, again.request.iova)
                came = waiting.pop(item)
                assert came > left[again.lane], "overtaken"
                left[again.lane] = came
                coming.append((*item, again.lane))
            if (back or fresh) and keep:
                under_way = [each[0] for each in coming] + [following[2]] * following[0]
                share = [*table.values(), *under_way].count(device) < config.misses
                assert waiting or len(table) + len(under_way) >= entries - 1 or not share
                kept += 1
                waiting[device, iova] = kept
            elif back or fresh:
                assert free not in table, "the table was full"
                table[free] = device
                counts = Counter(table.values())
                # One device alone is limited: the first that has its share.
                floods |= {each for each in counts if counts[each] >= dut.share}
                if floods == {device}:
                    limited += 1
                    assert counts[device] <= device_entries(config)
            for n in given:
                del table[n]
            if not table and not waiting and not coming and not following[0]:
                floods = set()
        assert limited > 10
        assert kept > 50
        assert min(left.values()) > 0, "a lane was not used"

    run(dut, test)


def test_a_client_with_all_its_tags_under_way_holds_nobody():
    dut, rng = ClientMux(3), seeded(1)
    sources = [Source(getattr(dut, f"client{n}").request, rng) for n in range(2)]
    asked = Sink(dut.port.request, rng)
    sources[0].queue.extend({"iova": n} for n in range(ClientMux.MOST + 20))

    async def test(ctx):
        await wait_for(ctx, lambda: sources[0].sent == ClientMux.MOST, then=20)
        assert sources[0].sent == ClientMux.MOST
        sources[1].queue.extend({"iova": 1 << 20} for _ in range(5))
        await wait_for(ctx, lambda: sources[1].sent == 5, then=5)
        assert len(asked.got) == ClientMux.MOST + 5

    run(dut, test, background=[agent.process for agent in (*sources, asked)])


@pytest.mark.parametrize(
    ("apart", "vms", "level", "hits"),
    [
        (16, (1, 2), 0, False),  # one row of the table of VMs
        (17, (1, 2), 0, True),
        (16, (1, 5), 0, True),  # VMs whose pages are in the same sets
        (16, (1, 2), 1, True),  # not in sets
    ],
)
def test_devices_that_share_a_row_take_each_others_hits_but_not_more(apart, vms, level, hits):
    """Devices in turn, one page each: the wrong set is read, and the page is walked again."""
    config = replace(CONFIG, iotlb_superpages=2)
    world, devices = WalkWorld(config, latency=LATENCY), (1, 1 + apart)
    assert pipeline._rows(config) == 16
    for device, vm in zip(devices, vms, strict=True):
        root = world.page(4)
        world.device(device, second=root, gscid=vm)
        world.map(root, 0, device << 32, level, wide=True)

    async def test(ctx):
        for device in devices * 2:
            await world.translate(ctx, device, 0, device_id=device)
        for number in range(20):
            device = devices[number % 2]
            answer, latency = await world.translate(ctx, number, 8, device_id=device)
            assert answer.spa == device << 32 | 8
            assert latency == (HIT if hits else 11 + READS * (LATENCY + 3))
        # Alone again, a device is soon where it was.
        await world.translate(ctx, 0, 8, device_id=1)
        for number in range(4):
            assert (await world.translate(ctx, number, 8, device_id=1))[1] == HIT

    world.run(test)
