"""Translations that the engine asks for ahead of use: which pages, how many, for whom."""

import pytest

from models.spec.config import NicConfig
from rtl.nic.seams import LocalMemory
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(vfs=3, queue_pairs=1, tx_slots=16, rx_slots=16, prefetch=8)
HEADER = bytes(12)
ALL = set(range(CONFIG.functions))


def ahead(world: RingWorld) -> list[tuple[int, int, int]]:
    """Function, page and right of what has been asked for ahead of use."""
    found = [r for r in world.requests if not r.length]
    assert all(r.memory == LocalMemory.NOWHERE and not r.hurried for r in found)
    return [(r.function, r.iova >> 12, r.write) for r in found]


def test_pages_of_posted_buffers_are_asked_for_before_frames_come():
    world = RingWorld(CONFIG, seed=41)
    world.ats = ALL

    async def test(ctx):
        ring = world.ring(2, 16, apart=True)
        base = ring.buffers
        for offset, length in ((0, 64), (64, 64), (0x1FF0, 16), (0x2FF0, 0x20), (0x4000, 1)):
            ring.post([(base + offset, length)])
        world.doorbells.append(2)
        await ctx.tick().repeat(300)
        first = base >> 12
        assert ahead(world) == [(1, first + page, 1) for page in (0, 1, 2, 3, 4)]
        # A buffer that is larger than frames are: as much as the longest of them fills.
        ring.post([(base + 0x8F00, 0xF000)])
        world.doorbells.append(2)
        await ctx.tick().repeat(300)
        assert ahead(world)[5:] == [(1, first + page, 1) for page in (8, 9)]
        assert not world.errors

    world.run(test)


def test_a_frame_on_many_pages_asks_for_all_of_them_at_once():
    world = RingWorld(CONFIG, seed=42)
    world.ats = ALL

    async def test(ctx):
        ring = world.ring(1, 8)
        frame = world.rng.randbytes(300)
        parts = [(ring.buffers + 0xFF4, 12)]
        parts += [(ring.buffers + 0x1000 * n + 0xF00, 100) for n in (1, 2, 3)]
        for (address, length), at in zip(parts, (0, 12, 112, 212), strict=True):
            world.guest[address : address + length] = (HEADER + frame)[at : at + length]
        pages = [address >> 12 for address, _ in parts]
        world.absent |= set(pages)
        ring.post(parts)
        world.doorbells.append(1)
        await world.until(ctx, lambda: set(pages) <= set(world.wanted()), 400)
        assert set(ahead(world)) == {(0, page, 0) for page in pages}
        world.absent.clear()
        await world.until(ctx, lambda: ring.take(), 2000)
        assert world.sent == [(0, frame)]
        await ctx.tick().repeat(100)
        assert len(world.slots) == world.slot_count
        assert not world.wanted()

    world.run(test)


@pytest.mark.parametrize("direction", ["receive", "transmit"])
def test_nothing_is_asked_for_without_ats(direction):
    world = RingWorld(CONFIG, seed=43)
    world.ats = {1, 2}
    queue = direction == "transmit"

    async def test(ctx):
        rings = {function: world.ring(2 * function + queue) for function in range(4)}
        for function, ring in rings.items():
            ring.post([(ring.buffers, 100)])
            world.doorbells.append(2 * function + queue)
        await ctx.tick().repeat(400)
        assert {function for function, *_ in ahead(world)} == {1, 2}
        if queue:
            assert len(world.sent) == 4

    world.run(test)


def test_a_function_has_its_share_however_much_is_not_there():
    """Two guests' pages never come; a third one's are asked for, and its frames arrive."""
    world = RingWorld(CONFIG, seed=44)
    world.ats = ALL

    def pages_of(function: int) -> list[int]:
        return [page for whose, page, _ in ahead(world) if whose == function]

    async def test(ctx):
        limit = CONFIG.prefetch_share
        rings = {queue: world.ring(queue, 16, apart=True) for queue in (0, 2)}
        for queue, ring in rings.items():
            for number in range(12):
                at = ring.buffers + 0x1000 * (number % 4) + 0x8000 * 8 * (number // 4)
                world.absent.add(at >> 12)
                ring.post([(at, 64)])
            world.doorbells.append(queue)
            await ctx.tick().repeat(400)
            mine = pages_of(queue // 2)
            assert len(mine) == len(set(mine)) == limit
        good = world.ring(4, 16)
        for number in range(4):
            good.post([(good.buffers + 0x800 * number, 100)])
            world.doorbells.append(4)
            world.deliver(2, bytes(60), slot=number)
            await world.until(ctx, lambda: good.take(), 2000)
        # When some of them come, others that waited for that are asked for.
        world.absent -= set(pages_of(1)[:3])
        await world.until(ctx, lambda: len(pages_of(1)) == limit + 3, 400)
        assert len(set(ahead(world))) == len(ahead(world))
        assert not world.errors

    world.run(test)


def test_a_queue_that_stops_asks_for_nothing_more():
    world = RingWorld(CONFIG, seed=45)
    world.ats = ALL

    async def test(ctx):
        ring = world.ring(2, 16, apart=True)
        for number in range(3):
            world.absent.add((ring.buffers >> 12) + number)
            ring.post([(ring.buffers + 0x1000 * number, 64)])
        world.doorbells.append(2)
        await world.until(ctx, lambda: len(ahead(world)) == 3, 600)
        world.commands.append({"op": 0, "queue": 2})
        await world.until(ctx, lambda: world.stopped == [2], 2000)
        await ctx.tick().repeat(100)
        assert not world.wanted()
        asked = len(world.requests)
        await ctx.tick().repeat(300)
        assert len(world.requests) == asked
        # Again from the beginning, with all of its share.
        ring = world.ring(2, 16, apart=True)
        for number in range(3):
            ring.post([(ring.buffers + 0x1000 * number, 64)])
        world.doorbells.append(2)
        await world.until(ctx, lambda: len(ahead(world)) == 6, 600)

    world.run(test)
