"""The DMA engine where it is easily wrong: many pages, errors of single beats, hurried requests,
ends that nobody takes, invalidations amid traffic, tags that functions share.
"""

import pytest

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import DmaStatus, LocalMemory
from tests.rtl.nic.dma_world import OFFSET, World
from tests.rtl.nic.test_dma import check, filled

CONFIG = NicConfig(vfs=3, queue_pairs=1, dma_tags=16, dma_slots=4)
P = {"tag": 3, "function": 1, "write": 0, "memory": 1, "offset": 0, "length": 64}


@pytest.mark.parametrize("write", [0, 1])
def test_a_request_goes_on_over_many_pages(write):
    world = World(CONFIG, seed=21)

    async def test(ctx):
        before = filled(world)
        world.missing |= {(1, 3), (1, 5)}
        p = {**P, "write": write, "iova": 0x2FF3, "length": 3 * 4096 + 100, "offset": 0x1235}
        await world.request(ctx, **p)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
        check(world, p, before)
        assert (world.guest, world.local) == before
        assert [entry[2].address for entry in world.page_requests] == [3, 5]
        await ctx.tick().repeat(100)
        moved = Stat.DMA_WRITE_BYTES if write else Stat.DMA_READ_BYTES
        assert world.stats[1, moved] == p["length"]
        assert world.stats[1, Stat.TRANSLATIONS] == 5 + 2  # two were asked for again

    world.run(test)


@pytest.mark.parametrize("write", [0, 1])
def test_the_error_of_one_beat_is_its_requests_alone(write):
    world = World(CONFIG, seed=22)

    async def test(ctx):
        filled(world)
        world.bad_beats.add(0x4340)
        for repeat in range(8):  # every fourth in the same slot, which must not keep it
            fails = repeat in (0, 1, 6)
            iova = 0x4000 + 0x300 * fails
            await world.request(ctx, **{**P, "write": write, "iova": iova, "length": 600})
            status, _ = await world.wait(ctx, 3)
            assert status == (DmaStatus.BUS if fails else DmaStatus.OK)
        await ctx.tick().repeat(100)
        assert world.stats[1, Stat.DMA_FAULTS] == 3
        moved = Stat.DMA_WRITE_BYTES if write else Stat.DMA_READ_BYTES
        assert world.stats[1, moved] == 5 * 600

    world.run(test)


def test_hurried_requests_do_not_wait_and_touches_do():
    world = World(CONFIG, seed=23)

    async def test(ctx):
        before = filled(world)
        world.missing.add((1, 2))
        await world.request(ctx, **P, iova=0x1FF0, hurried=1)  # its first page is there
        assert await world.wait(ctx, 3) == (DmaStatus.ABSENT, 0)
        assert not world.page_requests
        await world.request(ctx, **{**P, "memory": LocalMemory.NOWHERE}, iova=0x2000)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
        assert len(world.page_requests) == 1
        world.local[1][:16] = before[1][1][:16]
        assert world.local == before[1]
        await world.request(ctx, **P, iova=0x1FF0, hurried=1)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK

    world.run(test)


@pytest.mark.parametrize("write", [0, 1])
def test_without_length_the_translation_alone_is_asked_for(write):
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=16, dma_slots=4, atc_entries=32)
    world = World(config, seed=28)

    async def test(ctx):
        filled(world)
        world.missing.add((1, 2))
        await world.request(ctx, **{**P, "length": 0, "write": write}, iova=0x2000)
        await world.request(ctx, **{**P, "tag": 4, "length": 0, "write": write}, iova=0x3FFF)
        assert await world.wait(ctx, 4) == (DmaStatus.OK, 0)  # nothing waits for the other
        assert not {3} & set(world.done)
        await world.until_asked(ctx, 1)
        ((_, _, payload),) = world.page_requests
        assert (payload.address, payload.w, payload.r) == (2, write, 1 - write)
        assert await world.wait(ctx, 3) == (DmaStatus.OK, 0)
        assert not world.accesses  # none of it moves
        asked = world.asked
        for tag, page in ((5, 2), (6, 3)):
            await world.request(ctx, **{**P, "tag": tag, "write": write}, iova=page << 12)
            assert await world.wait(ctx, tag) == (DmaStatus.OK, 0)
        assert world.asked == asked  # the device TLB has both
        assert world.stats[1, Stat.ATC_HITS] == 2
        # Cancelled while it is parked; refused; without ATS nothing is asked.
        world.missing.add((1, 5))
        world.answer_code = None
        await world.request(ctx, **{**P, "length": 0, "write": write}, iova=0x5000)
        await world.until_asked(ctx, 2)
        await world.cancel(ctx, 3)
        assert await world.wait(ctx, 3) == (DmaStatus.CANCELLED, 0)
        world.refused.add(6)
        await world.request(ctx, **{**P, "length": 0, "write": write}, iova=0x6000)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.FAULT
        ctx.set(world.dut.controls[1].ats, 0)
        asked = world.asked
        await world.request(ctx, **{**P, "length": 0, "write": write}, iova=0x7000)
        assert await world.wait(ctx, 3) == (DmaStatus.OK, 0)
        assert world.asked == asked
        assert len(world.accesses) == 2

    world.run(test)


@pytest.mark.parametrize("write", [0, 1])
def test_untranslated_only_pages_are_accessed_so(write):
    world = World(CONFIG, seed=24)

    async def test(ctx):
        filled(world)
        world.plain.add(2)
        await world.request(ctx, **{**P, "write": write}, iova=0x1FE8)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
        found = [(address, int(user.at)) for *_, address, user in world.accesses]
        assert found == [(0x1FE0 + OFFSET, 2), (0x2000, 0)]

    world.run(test)


def test_ends_that_nobody_takes_hold_nobody_up():
    world = World(CONFIG, seed=25)
    world.done_ready = False

    async def test(ctx):
        filled(world)
        world.missing |= {(1, 8), (1, 9)}
        for tag in range(CONFIG.dma_tags):  # more than there are slots
            await world.request(ctx, **{**P, "tag": tag, "write": tag % 2}, iova=0x1000 * tag)
        await world.cancel(ctx, 8)
        await ctx.tick().repeat(300)
        await world.message(ctx, function=1, address=0x2800_0000, data=1)
        await world.invalidate(ctx, CONFIG.device_id + 1, 5)
        await ctx.tick().repeat(100)
        assert (len(world.messages), len(world.completions)) == (1, 1)
        assert not world.done
        world.done_ready = True
        for tag in range(CONFIG.dma_tags):
            await world.wait(ctx, tag)

    world.run(test)


def test_invalidations_outlive_all_older_uses_and_only_these():
    """Every request has a page of its own; what was asked for before an invalidation came has moved
    when it is answered, however many requests follow.
    """
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=32, dma_slots=16, atc_entries=0)
    world = World(config, seed=26, latency=3, jitter=60)
    sent = []

    async def test(ctx):
        filled(world)
        for number in range(120):
            tag, page = number % 32, number % 64
            if number >= 32:
                await world.wait(ctx, tag)
            memory = {"write": number % 3 == 0, "memory": 1, "offset": 64 * tag}
            await world.request(
                ctx, tag=tag, function=tag % 4, iova=page << 12, length=40, **memory
            )
            if number % 6 == 5:
                await world.invalidate(ctx, config.device_id, len(sent) % 32)
                sent.append((world.now, dict(world.asked_at)))
        for tag in range(32):
            await world.wait(ctx, tag)
        await ctx.tick().repeat(100)
        assert len(world.completions) == len(sent) == 20
        late = 0
        for number, ((came, asked), (answered, completion, *_)) in enumerate(
            zip(sent, world.completions, strict=True)
        ):
            assert completion.itag_vector == 1 << number
            for page, when in asked.items():
                # Of a page that was asked for again since, nothing can be said.
                if when <= came and world.asked_at[page] == when:
                    assert world.moved_at[page] <= answered
            late += any(world.moved_at[page] > answered for page in world.moved_at)
        assert late > 10, "traffic ended before the answers"

    world.run(test)


def test_a_function_that_is_owed_answers_takes_no_tag_from_others():
    world = World(CONFIG, seed=27)
    world.answer_code = None

    async def test(ctx):
        filled(world)
        p = {**P, "iova": 0x5000}
        world.missing |= {(1, 5), (2, 5)}
        indices = []
        for _ in range(2):
            await world.request(ctx, **p)
            await ctx.tick().repeat(100)
            await world.cancel(ctx, 3)
            await world.wait(ctx, 3)
            indices.append(world.page_requests[-1][2].index)
        # Both indices of the tag are owed to function 1; function 2 asks all the same.
        await world.request(ctx, **{**p, "function": 2})
        await ctx.tick().repeat(100)
        _, request, payload = world.page_requests[2]
        assert request.device_id == CONFIG.device_id + 2
        world.respond(CONFIG.device_id + 1, payload.index, 1)  # the other's, which is late
        await ctx.tick().repeat(100)
        assert 3 not in world.done
        world.missing.clear()
        world.respond(CONFIG.device_id + 2, payload.index, 0)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK

    world.run(test)


def test_a_request_that_waits_for_an_index_goes_on_when_its_function_was_disabled():
    world = World(CONFIG, seed=28)
    world.answer_code = None

    async def test(ctx):
        filled(world)
        world.missing.add((1, 5))
        for _ in range(3):
            await world.request(ctx, **P, iova=0x5000)
            await ctx.tick().repeat(100)
            if len(world.page_requests) < 2 or len(world.ended) < 2:
                await world.cancel(ctx, 3)
                await world.wait(ctx, 3)
        assert len(world.page_requests) == 2  # the third waits for an index
        ctx.set(world.dut.controls[1].enable, 0)
        await ctx.tick()
        ctx.set(world.dut.controls[1].enable, 1)
        await ctx.tick().repeat(300)
        assert len(world.page_requests) == 3
        world.missing.clear()
        world.respond(CONFIG.device_id + 1, world.page_requests[2][2].index, 0)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK

    world.run(test)


def test_what_would_park_while_its_function_is_disabled_fails():
    world = World(CONFIG, seed=29, latency=30, jitter=0)

    async def test(ctx):
        filled(world)
        world.missing.add((1, 5))
        await world.request(ctx, **P, iova=0x5000)
        await ctx.tick().repeat(20)  # its translation is under way
        ctx.set(world.dut.controls[1].enable, 0)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.FAULT
        assert not world.page_requests

    world.run(test)
