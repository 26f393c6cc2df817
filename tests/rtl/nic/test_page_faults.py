"""Page requests when something goes wrong: storms of answers, errors of memory, a full queue."""

from itertools import pairwise
from random import Random

from models.spec.iommu import PageResponse
from rtl.nic.dma_parking import BACK_OFF
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.dma_world import CONFIG, World
from tests.rtl.nic.test_dma import check, filled

STATUS = {
    PageResponse.SUCCESS: DmaStatus.OK,
    PageResponse.INVALID: DmaStatus.INVALID,
    PageResponse.FAILURE: DmaStatus.FAILURE,
}
P = {"tag": 3, "function": 1, "memory": 1, "offset": 0x100, "length": 200}
PAGE = 5


def test_a_storm_of_answers_wakes_those_that_wait_for_them():
    """Of groups that nobody knows, of other functions, of earlier requests, and each twice."""
    seed = 61
    print(f"seed {seed}")
    rng, world = Random(seed), World(CONFIG, seed=seed, jitter=0)
    world.answer_code = None

    async def test(ctx):
        before, expected = filled(world), {}
        for tag in range(7):
            function, page = tag // 2, 8 * tag
            world.missing.add((function, page))
            p = {**P, "tag": tag, "function": function, "write": tag % 2, "memory": 1 + tag % 2}
            expected[tag] = {**p, "iova": page << 12, "offset": 0x1000 * tag}
            await world.request(ctx, **expected[tag])
        await world.until_asked(ctx, 7)
        own = {payload.index % 256: (r.device_id, payload) for _, r, payload in world.page_requests}
        codes = {tag: rng.choice(list(STATUS)) for tag in own}
        codes[0], codes[1] = PageResponse.SUCCESS, PageResponse.INVALID
        storm = []
        for tag, (device, payload) in own.items():
            storm.append((device, payload.index, codes[tag]))
            if codes[tag] == PageResponse.SUCCESS:
                world.missing.discard((tag // 2, payload.address))
        known = {(device, index) for device, index, _ in storm}
        while len(storm) < 90:
            device = CONFIG.device_id + rng.randrange(-1, CONFIG.functions + 1)
            index = rng.choice((rng.randrange(512), rng.choice(storm)[1] ^ rng.choice((0, 256))))
            if (device, index) not in known:
                storm.append((device, index, rng.choice((0, 1, 3, 15))))
        rng.shuffle(storm)
        for answer in storm:
            world.respond(*answer)
            if answer[:2] in known:
                world.respond(*answer)  # the second of a group is nobody's
        # Another request goes through meanwhile.
        beside = {**P, "tag": 7, "function": 2, "write": 0, "iova": 0x3000, "memory": 0}
        begun = world.now
        await world.request(ctx, **beside)
        assert (await world.wait(ctx, 7))[0] == DmaStatus.OK
        assert world.now - begun < 200
        check(world, beside, before)
        for tag, p in expected.items():
            assert (await world.wait(ctx, tag))[0] == STATUS[codes[tag]], f"tag {tag}"
            if codes[tag] == PageResponse.SUCCESS:
                check(world, p, before)
        while world._responses:
            await ctx.tick()
        await ctx.tick().repeat(40)
        assert (world.guest, world.local) == before
        well = list(codes.values()).count(PageResponse.SUCCESS)
        assert world.page_counts() == [7, 0, well, 7 - well]
        assert len(world.page_requests) == 7

    world.run(test)


def test_errors_of_memory_and_a_full_queue_while_requests_are_parked():
    world = World(CONFIG, seed=62, jitter=0)
    world.service = 60

    pages = iter(range(PAGE, 64))

    async def park(ctx, **more):
        """Let a request wait for a page; returns that."""
        page = next(pages)
        world.missing.add((1, page))
        count = len(world.page_requests)
        await world.request(ctx, **{**P, "iova": page << 12, **more})
        await world.until_asked(ctx, count + 1)
        return page

    async def ends(ctx, status):
        """Wait for its end; return what has been counted since the last time."""
        assert (await world.wait(ctx, P["tag"]))[0] == status
        await ctx.tick().repeat(20)
        now, before = world.page_counts(), seen[:]
        seen[:] = now
        return [new - old for new, old in zip(now, before, strict=True)]

    seen = [0, 0, 0, 0]

    async def test(ctx):
        before = filled(world)
        for write in (0, 1):
            # Memory answers the retry with an error: it was retried, and has failed.
            world.bad_bus.add(await park(ctx, write=write))
            assert await ends(ctx, DmaStatus.BUS) == [1, 0, 1, 1]
            world.bad_bus.clear()
            # The IOMMU cannot read its tables any more.
            world.refused.add(await park(ctx, write=write))
            assert await ends(ctx, DmaStatus.FAULT) == [1, 0, 1, 1]
            world.refused.clear()
            # Somebody else's error does not end its waiting.
            page = await park(ctx, write=write)
            world.bad_bus.add(2)
            await world.request(ctx, **{**P, "tag": 4, "write": write, "iova": 2 << 12})
            assert (await world.wait(ctx, 4))[0] == DmaStatus.BUS
            assert P["tag"] not in world.done
            assert await ends(ctx, DmaStatus.OK) == [1, 0, 1, 1]
            check(world, {**P, "write": write, "iova": page << 12}, before)
            world.bad_bus.clear()
        # A queue without room: the IOMMU says Success itself, and the page is not there.
        world.answer_code = None
        page, asked = await park(ctx, write=0), []
        for number in range(5):
            asked.append(world.page_requests[-1][0])
            _, request, payload = world.page_requests[-1]
            if number == 4:
                world.missing.clear()
            count = len(world.page_requests)
            world.respond(request.device_id, payload.index, PageResponse.SUCCESS)
            if number < 4:
                await world.until_asked(ctx, count + 1)
                assert P["tag"] not in world.done
        # Between two page requests it has waited, each time twice as long as before.
        assert await ends(ctx, DmaStatus.OK) == [5, 4, 9, 0]
        for times, (one, two) in enumerate(pairwise(asked), 1):
            assert BACK_OFF << times <= two - one < (BACK_OFF << times) + 200
        check(world, {**P, "write": 0, "iova": page << 12}, before)
        assert (world.guest, world.local) == before

    world.run(test)
