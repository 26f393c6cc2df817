"""The virtqueue engine and frames of which a receiver has no tag, or one more."""

import pytest

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.seams import FrameForm
from tests.rtl.nic.policy_world import formed
from tests.rtl.nic.ring_world import RX_HEADER, RingWorld
from tests.rtl.nic.test_mergeable import CONFIG as MERGEABLE
from tests.rtl.nic.test_mergeable import Buffers

PLAIN = NicConfig(vfs=1, queue_pairs=1, tx_slots=16, rx_slots=16)
TAG = bytes.fromhex("8100a123")
#: Header, MACs, tag, and some more bytes in which a descriptor, or a page, may end.
BOUNDARIES = range(1, 12 + 12 + 4 + 6)
CHANGED = [FrameForm.UNTAGGED, FrameForm.TAGGED]
LENGTHS = (16, 17, 18, 60, 64, 300)


def received(frame, form):
    return formed(frame, form, TAG)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("form", CHANGED)
def test_descriptors_end_anywhere(form, absent):
    """In two places, the second of them up to 5 bytes behind the first; in pages that come late."""
    world = RingWorld(PLAIN, seed=71)

    async def test(ctx):
        ring, rng, told = world.ring(0), world.rng, 0
        for number, first in enumerate(BOUNDARIES):
            frame, slot = rng.randbytes(rng.choice(LENGTHS)), number % 16
            page = 1 + number % 2
            pieces, at = [], ring.buffers + 0x1000 * page - rng.randrange(80)
            for length in (first, rng.randrange(6), 512):
                if length:
                    pieces.append((at, length))
                at += length + rng.randrange(3)
            wanted = RX_HEADER + received(frame, form)
            before = bytes(world.guest)
            head = ring.post(pieces)
            if absent:
                world.absent = {a >> 12 for a, _ in pieces if rng.random() < 0.5}
                world.absent |= {(a + n - 1) >> 12 for a, n in pieces if rng.random() < 0.5}
            world.doorbells.append(0)
            world.deliver(0, frame, slot, form=form, tag=TAG)
            used = []
            await ctx.tick().repeat(rng.randrange(1, 200))
            for _ in range(3000):
                used += ring.take()
                if used:
                    break
                if waited := world.absent & set(world.wanted()):
                    world.absent.discard(min(waited))
                await ctx.tick()
            assert used == [(head, len(wanted))]
            found = b"".join(bytes(world.guest[a : a + n]) for a, n in pieces)
            assert found[: len(wanted)] == wanted, (first, len(frame))
            rest = b"".join(before[a : a + n] for a, n in pieces)[len(wanted) :]
            assert found[len(wanted) :] == rest, "bytes behind a frame were written"
            told += len(wanted) - len(RX_HEADER)
            world.absent.clear()
        assert not world.errors
        await ctx.tick().repeat(50)
        assert world.stats[0, Stat.RX_BYTES] == told
        assert len(world.released) == len(BOUNDARIES)

    world.run(test)


@pytest.mark.parametrize("form", CHANGED)
def test_whole_buffers_take_one_dma_more_for_each_part(form):
    """And frames without a change one as before."""
    world = RingWorld(PLAIN, seed=72)

    async def test(ctx):
        ring, counts = world.ring(0), []
        for slot, one in enumerate((FrameForm.WHOLE, form, FrameForm.WHOLE)):
            ring.post([(ring.buffers, 1600)])
            world.doorbells.append(0)
            begun = len(world.requests)
            world.deliver(0, bytes(100), slot, form=one, tag=TAG)
            await world.until(ctx, lambda: ring.take(), 2000)
            moved = [r for r in world.requests[begun:] if r.write and r.memory]
            assert sum(r.length for r in moved) == 12 + len(received(bytes(100), one))
            counts.append(len(moved))
        assert counts == [1, 2 if form == FrameForm.UNTAGGED else 3, 1]

    world.run(test)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", CHANGED)
def test_frames_over_several_buffers(form, packed):
    """Buffers of any pieces: num_buffers is left out, and the tag's place is in any of them."""
    world = RingWorld(MERGEABLE, seed=73)
    count = 12

    async def test(ctx):
        buffers, sent, rng = Buffers(world, 0, 16, packed), [], world.rng
        shapes = [[100], [12, 12, 4, 20], [5, 6, 13, 2, 70], [10, 1, 1, 300], [11, 14, 90], [12],
                  [23], [24], [25], [26], [28], [29], [5, 6, 89]]  # fmt: skip
        for number in range(count):
            frame = rng.randbytes(rng.choice([16, 60, 100, 130]))
            sent.append(received(frame, form))
            world.deliver(0, frame, number, form=form, tag=TAG)
        world.absent.add((buffers.ring.buffers >> 12) + 1)
        await buffers.receive(ctx, count, shapes, 1200)
        assert [frame for frame, _ in buffers.found] == sent
        assert max(number for _, number in buffers.found) > 1
        await ctx.tick().repeat(50)
        assert world.stats[0, Stat.RX_BYTES] == sum(map(len, sent))

    world.run(test)
