"""The DMA engine: bytes, positions after faults, endings, isolation of tags."""

import pytest

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.dma_messages import MESSAGES
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.dma_world import OFFSET, World

CONFIG = NicConfig(vfs=3, queue_pairs=1, dma_tags=8, dma_slots=4)


def plan(rng, tag, direction=None):
    """A random transfer within the tag's own 8 KiB, of guest and of local memory."""
    length = rng.choice([1, 2, 12, 16, 60, 64, 255, 300, 1514, 4000])
    write = rng.randrange(2) if direction is None else direction
    return {
        "tag": tag,
        "function": tag // 2,
        "write": write,
        "iova": 0x4000 * tag + rng.randrange(0x4000 - length),
        "length": length,
        "memory": 2 if write else 1,
        "offset": 0x1800 * tag + rng.randrange(0x1800 - length),
        "yields": rng.randrange(2),
    }


def check(world, p, before):
    """Compare what a transfer left behind with a copy done here."""
    guest, local = before
    if p["write"]:
        source = local[p["memory"]][p["offset"] : p["offset"] + p["length"]]
        guest[p["iova"] : p["iova"] + p["length"]] = source
    else:
        source = guest[p["iova"] : p["iova"] + p["length"]]
        local[p["memory"]][p["offset"] : p["offset"] + p["length"]] = source


def filled(world):
    for memory in (world.guest, *world.local):
        memory[:] = world.rng.randbytes(len(memory))
    return bytearray(world.guest), [bytearray(memory) for memory in world.local]


@pytest.mark.parametrize(
    ("jitter", "faults"),
    [
        (25, True),
        pytest.param(0, False, marks=pytest.mark.full),
        pytest.param(0, True, marks=pytest.mark.full),
        pytest.param(25, False, marks=pytest.mark.full),
    ],
)
def test_transfers_of_many_tags_move_the_right_bytes(jitter, faults):
    seed = 11
    print(f"seed {seed}")
    world = World(CONFIG, seed=seed, jitter=jitter)

    async def test(ctx):
        before = filled(world)
        for _ in range(6):
            plans = [plan(world.rng, tag) for tag in range(CONFIG.queues)]
            if faults:
                world.missing |= {
                    (p["function"], (p["iova"] + at) >> 12)
                    for p in plans
                    for at in (0, p["length"] - 1)
                    if world.rng.random() < 0.5
                }
            for p in plans:
                await world.request(ctx, **p)
            for p in plans:
                assert (await world.wait(ctx, p["tag"]))[0] == DmaStatus.OK
                check(world, p, before)
            assert world.guest == before[0]
            assert world.local == before[1]
        assert bool(world.page_requests) == faults
        assert len({request.device_id for _, request, _ in world.page_requests}) == 4 * faults
        requests, waits, retries, failed = world.page_counts()
        assert (requests, retries, failed) == (len(world.page_requests), requests + waits, 0)

    world.run(test)


@pytest.mark.parametrize("write", [0, 1])
def test_a_parked_tag_holds_nobody_up(write):
    world = World(CONFIG, seed=3)
    world.service = 3000

    async def test(ctx):
        filled(world)
        world.missing.add((0, 0))
        await world.request(
            ctx, tag=0, function=0, write=write, iova=8, length=64, memory=1, offset=0
        )
        for round_ in range(10):
            p = plan(world.rng, 2 + round_ % 2)
            start = world.now
            await world.request(ctx, **p)
            await world.wait(ctx, p["tag"])
            assert world.now - start < 1500
        assert 0 not in world.done
        assert (await world.wait(ctx, 0))[0] == DmaStatus.OK
        (_, request, payload), *others = world.page_requests
        assert not others
        assert (payload.r, payload.w, payload.last, payload.address) == (1 - write, write, 1, 0)
        assert request.device_id == CONFIG.device_id
        assert world.stats[0, Stat.PARKED_CYCLES] >= 3000

    world.run(test)


@pytest.mark.parametrize("latency", [4, 40])
def test_answers_pass_page_requests_that_wait(latency):
    """An IOMMU that answers itself takes no request until its answer has been taken."""
    world = World(CONFIG, seed=14, latency=latency, jitter=0)
    world.serial, world.service, world.answer_code = True, 3, 1

    async def test(ctx):
        filled(world)
        for tag in range(CONFIG.queues):
            world.missing.add((tag // 2, 4 * tag))
        for tag in range(CONFIG.queues):
            p = {**plan(world.rng, tag), "iova": 0x4000 * tag, "length": 4}
            await world.request(ctx, **p)
        for tag in range(CONFIG.queues):
            assert (await world.wait(ctx, tag, 4000))[0] == DmaStatus.INVALID

    world.run(test)


def test_a_page_request_that_waits_holds_nobody_up():
    world = World(CONFIG, seed=15)
    world.deaf = True

    async def test(ctx):
        filled(world)
        for tag in (0, 1, 2):
            world.missing.add((tag // 2, 4 * tag))
            p = {**plan(world.rng, tag), "iova": 0x4000 * tag, "length": 4}
            await world.request(ctx, **p)
        await ctx.tick().repeat(100)
        for _ in range(4):
            await world.request(ctx, **plan(world.rng, 5))
            assert (await world.wait(ctx, 5, 4000))[0] == DmaStatus.OK
        world.deaf = False
        for tag in (0, 1, 2):
            assert (await world.wait(ctx, tag))[0] == DmaStatus.OK

    world.run(test)


@pytest.mark.parametrize(
    ("code", "status"), [(1, DmaStatus.INVALID), (15, DmaStatus.FAILURE), (3, DmaStatus.FAILURE)]
)
def test_bad_answers_end_the_request_alone(code, status):
    world = World(CONFIG, seed=4)
    world.answer_code = code

    async def test(ctx):
        filled(world)
        world.missing.add((1, 8))
        p = {**plan(world.rng, 2), "iova": 0x8FF0, "length": 64}
        await world.request(ctx, **p)
        assert (await world.wait(ctx, 2))[0] == status
        assert not [a for a in world.accesses if a[2] - OFFSET >> 12 == 8]

    world.run(test)


def test_lost_answers_time_out_and_late_ones_are_ignored():
    world = World(CONFIG, seed=5)
    world.answer_code = None

    async def test(ctx):
        filled(world)
        ctx.set(world.dut.page_timeout, 400)
        world.missing.add((0, 0))
        await world.request(ctx, tag=1, function=0, write=0, iova=0, length=8, memory=1, offset=0)
        start = world.now
        assert (await world.wait(ctx, 1))[0] == DmaStatus.FAILURE
        assert 400 <= world.now - start < 600
        late = world.page_requests[0]
        ctx.set(world.dut.page_timeout, 0)
        # The same tag parks again; the answer to its first request must not wake it.
        await world.request(ctx, tag=1, function=0, write=0, iova=0, length=8, memory=1, offset=0)
        await ctx.tick().repeat(100)
        world.respond(late[1].device_id, late[2].index, 0)
        world.respond(late[1].device_id, 0x1F0, 0)  # of no tag at all
        world.respond(late[1].device_id + 1, world.page_requests[1][2].index, 0)  # another's
        await ctx.tick().repeat(100)
        assert 1 not in world.done
        assert world.page_counts()[:3] == [2, 0, 0], "woken by an answer that is not its own"
        world.missing.clear()
        world.respond(late[1].device_id, world.page_requests[1][2].index, 0)
        assert (await world.wait(ctx, 1))[0] == DmaStatus.OK

    world.run(test)


def test_refusal_bus_error_and_disabled_function():
    world = World(CONFIG, seed=6)

    async def test(ctx):
        filled(world)
        world.refused.add(0x10)
        world.bad_bus.add(0x20)
        base = {"tag": 3, "function": 1, "memory": 1, "offset": 0, "length": 100}
        for write in (0, 1):
            await world.request(ctx, **base, write=write, iova=0x10000)
            assert await world.wait(ctx, 3) == (DmaStatus.FAULT, 260)
            await world.request(ctx, **base, write=write, iova=0x20000)
            assert (await world.wait(ctx, 3))[0] == DmaStatus.BUS
        seen = len(world.accesses)
        ctx.set(world.dut.controls[1].enable, 0)
        await world.request(ctx, **base, write=0, iova=0x3000)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.FAULT
        ctx.set(world.dut.controls[1].enable, 1)
        ctx.set(world.dut.controls[1].ats, 0)  # untranslated: the bus decides
        await world.request(ctx, **base, write=0, iova=0x20000)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.FAULT
        await world.request(ctx, **base, write=0, iova=0x3000)
        assert (await world.wait(ctx, 3))[0] == DmaStatus.OK
        assert len(world.accesses) == seen + 2
        assert {int(user.at) for *_, user in world.accesses[seen:]} == {0}

    world.run(test)


@pytest.mark.parametrize("delay", range(1, 60, 3))
def test_cancel_at_any_moment(delay):
    world = World(CONFIG, seed=7, jitter=0)
    world.service = 25

    async def test(ctx):
        filled(world)
        world.missing.add((0, 1))
        p = {"tag": 0, "function": 0, "write": 0, "memory": 1, "offset": 0}
        await world.request(ctx, **p, iova=0xFC0, length=200)
        await ctx.tick().repeat(delay)
        await world.cancel(ctx, 0)
        status, _ = await world.wait(ctx, 0)
        assert status in (DmaStatus.CANCELLED, DmaStatus.OK)
        quiet = len(world.accesses)
        await ctx.tick().repeat(200)
        assert len(world.accesses) == quiet, "accesses after the end"
        await world.request(ctx, **p, iova=0x3000, length=20)  # the tag is usable again
        assert (await world.wait(ctx, 0))[0] == DmaStatus.OK

    world.run(test)


@pytest.mark.parametrize("write", [0, 1])
def test_messages_beside_as_many_slots_as_there_may_be(write):
    world = World(NicConfig(vfs=3, queue_pairs=1, dma_slots=64), seed=17)

    async def test(ctx):
        before = filled(world)
        p = {**plan(world.rng, 0, write), "length": 3000, "iova": 0x1010, "offset": 0}
        await world.request(ctx, **p)  # in slot 0
        if write:  # some of its bursts have been answered when the messages go
            while not world.moved_at:
                await ctx.tick()
        for vector in range(4):
            await world.message(ctx, function=1, address=0x2800_0000, data=vector)
        assert (await world.wait(ctx, 0))[0] == DmaStatus.OK
        check(world, p, before)
        await ctx.tick().repeat(200)
        assert len(world.messages) == 4
        assert (world.guest, world.local) == before

    world.run(test)


def test_messages_overlap():
    """A few share the time that memory takes, beside writes, and in order."""
    world = World(CONFIG, seed=20, latency=100, jitter=0, stall=0)
    count = 3 * MESSAGES

    async def test(ctx):
        filled(world)
        begin = world.now
        for vector in range(count):
            page = 0x2800_0000 + 4 * vector
            await world.message(ctx, function=vector % 4, address=page, data=vector << 8)
        await ctx.tick().repeat(110)
        assert len(world.messages) == count
        assert world.now - begin < 100 * 3 + 50 + 110
        for vector, (at, _, value, device) in enumerate(world.messages):
            lane = 4 * vector % 16
            assert at == 0x2800_0000 + 4 * vector - lane
            assert value >> 8 * lane & 0xFFFF_FFFF == vector << 8
            assert device == CONFIG.device_id + vector % 4

    world.run(test)


@pytest.mark.parametrize("bad", [False, True])
def test_a_fence_comes_behind_the_responses_of_messages(bad):
    """Of those that fail, too; and messages behind it go on."""
    world = World(CONFIG, seed=21, latency=100, jitter=0, stall=0)
    if bad:
        world.bad_bus.add(0x28000)

    async def test(ctx):
        filled(world)
        bus, fenced = world.dut.bus.b, world.dut.fenced
        for count in (0, 1, MESSAGES):
            for vector in range(count):
                await world.message(ctx, function=1, address=0x2800_0000, data=vector)
            await world.message(ctx, function=1, fence=1)
            answered, since, come = 0, world.now, False
            while not come:
                sampled = await ctx.tick().sample(bus.valid, bus.ready, bus.payload.id, fenced)
                *_, valid, ready, slot, come = sampled
                answered += valid and ready and slot == CONFIG.dma_slots
                assert world.now - since < 200
            assert answered == count
            assert world.now - since > 50 or not count
            for _ in range(3):
                assert not (await ctx.tick().sample(fenced))[-1]
        sent = len(world.messages)
        await world.message(ctx, function=1, address=0x2900_0000, data=5)
        await ctx.tick().repeat(130)
        assert len(world.messages) == sent + 1

    world.run(test)


@pytest.mark.parametrize("jitter", [0, 40])
def test_messages_that_fail_are_counted(jitter):
    world = World(CONFIG, seed=18, jitter=jitter)
    world.bad_bus.add(0x28000)

    async def test(ctx):
        for vector in range(24):
            page = 0x2800_0000 if vector % 2 else 0x2900_0000
            await world.message(ctx, function=vector % 3, address=page, data=vector)
        await ctx.tick().repeat(300)
        assert len(world.messages) == 12
        assert world.stats == {(f, int(Stat.DMA_FAULTS)): 4 for f in range(3)}

    world.run(test)


def test_an_index_is_not_used_again_before_its_answer():
    world = World(CONFIG, seed=19)
    world.answer_code = None

    async def test(ctx):
        filled(world)
        world.missing.add((0, 0))
        p = {"tag": 1, "function": 0, "write": 0, "iova": 0, "length": 8, "memory": 1, "offset": 0}
        indices = []
        for _ in range(2):
            await world.request(ctx, **p)
            await ctx.tick().repeat(100)
            indices.append(world.page_requests[-1][2].index)
            await world.cancel(ctx, 1)
            await world.wait(ctx, 1)
        assert len(set(indices)) == 2
        # Both answers are owed; a third request waits for one of them, and does not believe it.
        await world.request(ctx, **p)
        await ctx.tick().repeat(100)
        assert len(world.page_requests) == 2
        device = world.page_requests[0][1].device_id
        world.respond(device, indices[0], 1)
        await ctx.tick().repeat(100)
        assert 1 not in world.done
        assert [entry[2].index for entry in world.page_requests[2:]] == [indices[0]]
        world.respond(device, indices[1], 1)
        await ctx.tick().repeat(100)
        assert 1 not in world.done
        world.missing.clear()
        world.respond(device, indices[0], 0)
        assert (await world.wait(ctx, 1))[0] == DmaStatus.OK
        # A function that has been disabled owes nothing and is owed nothing.
        for page in range(1, 6):
            world.missing.add((0, page))
            count = len(world.page_requests)
            await world.request(ctx, **{**p, "iova": page << 12})
            await ctx.tick().repeat(100)
            assert len(world.page_requests) == count + 1
            await world.cancel(ctx, 1)
            await world.wait(ctx, 1)
            ctx.set(world.dut.controls[0].enable, 0)
            await ctx.tick()
            ctx.set(world.dut.controls[0].enable, 1)

    world.run(test)


def test_late_cancel_leaves_the_next_request_alone():
    """The end and the cancel of a request pass each other, and the next request is close behind."""
    world = World(CONFIG, seed=16, latency=1, jitter=0)

    async def test(ctx):
        filled(world)
        p = {"tag": 0, "function": 0, "write": 0, "memory": 1, "offset": 0, "length": 4}
        for _ in range(20):
            await world.request(ctx, **p, iova=0x3000)
            await world.wait(ctx, 0)
            await world.cancel(ctx, 0)
            await world.request(ctx, **p, iova=0x3000)
            assert (await world.wait(ctx, 0))[0] == DmaStatus.OK

    world.run(test)


def test_invalidation_waits_for_older_uses_only():
    world = World(CONFIG, seed=8, latency=40, jitter=0)

    async def test(ctx):
        filled(world)
        for delay in range(1, 120, 7):
            p = {**plan(world.rng, 4, 0), "length": 600, "iova": 0x10000}
            seen = len(world.completions)
            await world.request(ctx, **p)
            await ctx.tick().repeat(delay)
            await world.invalidate(ctx, CONFIG.device_id + 2, delay % 32)
            start = world.now
            while len(world.completions) == seen:
                await ctx.tick()
                assert world.now - start < 400
            _, completion, pending, untranslated = world.completions[-1]
            # One request of one page: it was older, or it is over.
            assert (pending, untranslated) == (0, 0)
            assert completion.itag_vector == 1 << delay % 32
            assert (completion.device_id, completion.count) == (CONFIG.device_id + 2, 1)
            await world.wait(ctx, 4)

    world.run(test)


def test_messages_are_written_untranslated_with_the_functions_device_id():
    world = World(CONFIG, seed=9)

    async def test(ctx):
        for vector in range(6):
            await world.message(
                ctx, function=vector % 4, address=0x2800_0000 + 4 * vector, data=0x1234 + vector
            )
        for _ in range(400):
            await ctx.tick()
        assert len(world.messages) == 6
        for vector, (at, strobe, value, device) in enumerate(world.messages):
            lane = 4 * vector % 16
            assert at == 0x2800_0000 + 4 * vector - lane
            assert strobe == 0xF << lane
            assert value >> 8 * lane & 0xFFFF_FFFF == 0x1234 + vector
            assert device == CONFIG.device_id + vector % 4

    world.run(test)
