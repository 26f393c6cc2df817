"""The virtqueue engine with frames that do not fit their slots."""

import struct
from itertools import pairwise

import pytest

from models.spec.config import NicConfig
from models.spec.nic import QueueError, Stat
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(
    vfs=3, queue_pairs=1, tx_slots=16, rx_slots=16, indirect=True, checksum=True, segmentation=True
)
PLAIN, LARGE = bytes(12), struct.pack("<BBHHHHH", 1, 1, 54, 1448, 34, 16, 0)
LONGEST = 65535 + 18
OWN = CONFIG.frame_bytes


def post(world, ring, at: int, content: bytes, pieces: int) -> None:
    """Post a chain with content that lies at ``at``, in a table if there are several."""
    world.guest[at : at + len(content)] = content
    bounds = [len(content) * n // pieces for n in range(pieces + 1)]
    if pieces == 1:
        ring.post([(at, len(content))])
        return
    table = at - 16 * pieces & -16
    for n, (low, high) in enumerate(pairwise(bounds)):
        last = n == pieces - 1
        struct.pack_into("<QIHH", world.guest, table + 16 * n, at + low, high - low, not last,
                         0 if last else n + 1)  # fmt: skip
    ring.post([(table, 16 * pieces)], flags=4)


def enable(world, ctx, queue: int, size: int = 64):
    ctx.set(world.dut.segmenting, 0b1110)
    return world.ring(queue, size, apart=True, indirect=1)


@pytest.mark.parametrize("pieces", [1, 2, 40])
@pytest.mark.parametrize("length", [OWN - 1, OWN, OWN + 1, 9000, LONGEST])
def test_frames_of_every_length(length, pieces):
    world = RingWorld(CONFIG, seed=61)

    async def test(ctx):
        ring = enable(world, ctx, 3)
        frame = world.rng.randbytes(length)
        post(world, ring, 0x80003, LARGE + frame, pieces)
        world.doorbells.append(3)
        await world.until(ctx, lambda: ring.take())
        assert world.sent == [(1, frame)]
        assert world.asked == [(1, 1)]

    world.run(test)


def test_what_is_too_long_or_not_to_be_cut_is_dropped():
    world = RingWorld(CONFIG, seed=62)

    async def test(ctx):
        rings = [enable(world, ctx, queue) for queue in (3, 5)]
        ctx.set(world.dut.segmenting, 0b0010)  # function 2's driver leaves nothing to be cut
        last = world.rng.randbytes(3000)
        post(world, rings[0], 0x80000, LARGE + bytes(LONGEST + 1), 1)
        post(world, rings[0], 0xA0000, PLAIN + bytes(2049), 2)
        post(world, rings[0], 0xB0000, LARGE + last, 1)
        post(world, rings[1], 0xC0000, LARGE + bytes(2049), 1)
        world.doorbells += [3, 5]
        used = []
        await world.until(ctx, lambda: (used.extend(rings[0].take()), len(used) == 3)[1])
        await world.until(ctx, lambda: rings[1].take())
        assert world.sent == [(1, last)]
        assert (world.stats[1, Stat.TX_DROPPED], world.stats[2, Stat.TX_DROPPED]) == (2, 1)
        await ctx.tick().repeat(50)
        assert len(world.slots) == world.slot_count

    world.run(test)


def test_one_is_cut_at_a_time_and_order_stays():
    """Queues wait for the large buffer and for the segmenter; small frames of others pass."""
    world = RingWorld(CONFIG, seed=63)

    async def test(ctx):
        rings = {queue: enable(world, ctx, queue) for queue in (3, 5, 7)}
        expected = {queue // 2: [] for queue in rings}
        for number in range(6):
            for place, (queue, ring) in enumerate(rings.items()):
                size = world.rng.choice((60, 1500, 2500, 6000))
                frame = world.rng.randbytes(size)
                header = LARGE if size > OWN or number % 3 == 0 else PLAIN
                at = 0x40000 + 0x2000 * (6 * place + number) + 0x400
                post(world, ring, at, header + frame, world.rng.choice((1, 3)))
                expected[queue // 2].append(frame)
        world.doorbells += list(rings)
        await world.until(ctx, lambda: len(world.sent) == 18)
        for function, frames in expected.items():
            assert [content for source, content in world.sent if source == function] == frames
        await ctx.tick().repeat(500)
        assert len(world.slots) == world.slot_count

    world.run(test)


@pytest.mark.parametrize("page", [0x80, 0x81])
def test_a_page_that_is_not_there(page):
    """The buffer is free while the queue waits: another sends; then the frame comes whole."""
    world = RingWorld(CONFIG, seed=64)

    async def test(ctx):
        rings = [enable(world, ctx, queue) for queue in (3, 5)]
        frames = [world.rng.randbytes(5000) for _ in rings]
        world.absent.add(page)
        for ring, frame, at in zip(rings, frames, (0x80800, 0xC0000), strict=True):
            post(world, ring, at, LARGE + frame, 3)
        world.doorbells.append(3)
        await world.until(ctx, lambda: page in world.wanted())
        world.doorbells.append(5)
        await world.until(ctx, lambda: rings[1].take())
        assert world.sent == [(2, frames[1])]
        world.absent.clear()
        await world.until(ctx, lambda: rings[0].take())
        assert world.sent[1:] == [(1, frames[0])]

    world.run(test)


@pytest.mark.parametrize("ends", ["refused", "error", "stopped"])
def test_a_frame_that_is_not_sent_keeps_no_buffer(ends):
    world = RingWorld(CONFIG, seed=65)

    async def test(ctx):
        rings = [enable(world, ctx, queue) for queue in (3, 5)]
        bad, good = world.rng.randbytes(5000), world.rng.randbytes(4000)
        if ends != "stopped":
            world.status[0x81] = DmaStatus.INVALID if ends == "refused" else DmaStatus.BUS
        post(world, rings[0], 0x80000, LARGE + bad, 8)
        post(world, rings[1], 0xC0000, LARGE + good, 1)
        world.doorbells.append(3)
        if ends == "refused":
            await world.until(ctx, lambda: rings[0].take())
            assert world.stats[1, Stat.TX_DROPPED] == 1
        elif ends == "error":
            await world.until(ctx, lambda: world.errors)
            assert world.errors == [(3, QueueError.BUS)]
        else:
            world.stuck.add(1)
            await world.until(ctx, lambda: any(r.offset >> 23 for r in world.requests))
            world.stuck.clear()
            world.commands.append({"op": 0, "queue": 3})
            await world.until(ctx, lambda: world.stopped == [3])
        world.doorbells.append(5)
        await world.until(ctx, lambda: rings[1].take())
        assert world.sent[-1] == (2, good)
        await ctx.tick().repeat(500)
        assert len(world.slots) == world.slot_count

    world.run(test)
