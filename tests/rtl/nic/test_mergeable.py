"""The virtqueue engine with mergeable receive buffers (virtio 1.3, 5.1.6.4)."""

import struct
from random import Random

import pytest

from models.spec.config import NicConfig
from models.spec.nic import MERGED_BUFFERS, QueueError, Stat
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(vfs=1, queue_pairs=1, tx_slots=16, rx_slots=16, packed=True, mergeable=True)
HEADER_BYTES = 12


class Buffers:
    """A driver's receive buffers, each of some pieces, and the frames that it finds in them."""

    def __init__(self, world: RingWorld, queue: int, size: int, packed: bool):
        self.queue = queue
        self.world, self.packed, self.rng = world, packed, Random(f"{size}/{packed}")
        make = world.packed_ring if packed else world.ring
        self.ring = make(queue, size, mergeable=1)
        self.known: dict[int, list[tuple[int, int]]] = {}
        self.posted, self.at = 0, self.ring.buffers
        self.found: list[tuple[bytes, int]] = []

    def room(self, pieces: int) -> bool:
        free = self.ring.room if self.packed else len(self.ring.free)
        return free >= pieces

    def post(self, lengths: list[int]) -> None:
        """Post a buffer of pieces of these lengths, which lie apart."""
        parts = []
        for length in lengths:
            if self.at + length + 16 > self.ring.buffers + 0x5000:
                self.at = self.ring.buffers
            self.at += self.rng.randrange(16)
            parts.append((self.at, length))
            self.at += length
        if self.packed:
            identity = self.posted % 0x10000
            self.ring.post(parts, identity=identity)
        else:
            identity = self.ring.post(parts)
        self.known[identity] = parts
        self.posted += 1

    async def receive(self, ctx, count: int, shapes: list[list[int]], tries: int) -> None:
        """Post buffers of any of these pieces until so many frames are there.

        A page that is absent comes some time after somebody has asked for it.
        """
        world, rng = self.world, self.world.rng
        for _ in range(tries):
            if self.take() == count:
                break
            lengths = rng.choice(shapes)
            if self.room(len(lengths)):
                self.post(lengths)
                world.doorbells.append(self.queue)
            await ctx.tick().repeat(rng.choice([1, 5, 15]))
            if world.absent and world.wanted() and rng.random() < 0.05:
                world.absent.clear()
        assert not world.errors

    def take(self) -> int:
        """Take the frames that are there: all buffers of each must be."""
        used = [
            (b"".join(bytes(self.world.guest[a : a + n]) for a, n in self.known[identity]), length)
            for identity, length in self.ring.take()
        ]
        while used:
            content, length = used.pop(0)
            (count,) = struct.unpack_from("<H", content, 10)
            assert content[:10] == bytes(10)
            frame = content[HEADER_BYTES:length]
            for _ in range(count - 1):
                assert length == len(content), "a buffer before the last is not full"
                content, length = used.pop(0)
                frame += content[:length]
            self.found.append((frame, count))
        return len(self.found)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [8, 16])
def test_frames_over_several_buffers(packed, size):
    """Buffers of any pieces, the header in several of them too; a page that comes late."""
    world = RingWorld(CONFIG, seed=51)
    count = 9

    async def test(ctx):
        size_ = size - packed  # packed rings have any size
        buffers, sent = Buffers(world, 0, size_, packed), []
        rng = world.rng
        # As many as the ring holds must do for a frame.
        shapes = [[100], [400], [5, 6, 289], [10, 1, 1, 300], [11, 300]]
        if size == 16:
            shapes += [[12], [5, 6, 89]]
        for number in range(count):
            frame = rng.randbytes(rng.choice([14, 60, 250, 400]))
            sent.append(frame)
            world.deliver(0, frame, number)
        world.absent.add((buffers.ring.buffers >> 12) + 1)
        await buffers.receive(ctx, count, shapes, 600)
        assert [frame for frame, _ in buffers.found] == sent
        several = [number for _, number in buffers.found]
        assert max(several) > 1
        await ctx.tick().repeat(50)
        assert world.stats[0, Stat.RX_PACKETS] == count
        assert world.stats[0, Stat.RX_BYTES] == sum(map(len, sent))
        assert world.stats[0, Stat.RX_MERGED] == sum(several) - count
        assert len(world.released) == count

    world.run(test)


@pytest.mark.parametrize(
    ("size", "lengths", "frame_bytes"),
    [
        (4, [[50]] * 4, 200),  # more than the ring
        (32, [[20]] * (MERGED_BUFFERS + 1), 20 * MERGED_BUFFERS - 11),  # more than may be
        (4, [[30], [8, 3]], 40),  # no room for a header
    ],
)
def test_buffers_that_cannot_be(size, lengths, frame_bytes):
    world = RingWorld(CONFIG, seed=52)

    async def test(ctx):
        buffers = Buffers(world, 0, size, packed=False)
        for parts in lengths:
            buffers.post(parts)
        world.doorbells.append(0)
        world.deliver(0, bytes(frame_bytes), 0)
        await world.until(ctx, lambda: world.errors, 4000)
        assert world.errors == [(0, QueueError.BAD_LENGTH)]
        assert buffers.take() == 0
        world.commands.append({"op": 0, "queue": 0})
        await world.until(ctx, lambda: world.released, 4000)

    world.run(test)


def test_as_many_buffers_as_may_be():
    world = RingWorld(CONFIG, seed=53)

    async def test(ctx):
        buffers = Buffers(world, 0, 32, packed=False)
        for _ in range(MERGED_BUFFERS):
            buffers.post([20])
        world.doorbells.append(0)
        frame = world.rng.randbytes(20 * MERGED_BUFFERS - 12)
        world.deliver(0, frame, 0)
        await world.until(ctx, lambda: buffers.take(), 4000)
        assert buffers.found == [(frame, MERGED_BUFFERS)]

    world.run(test)


def test_a_refused_page_drops_the_frame_and_returns_all_its_buffers():
    world = RingWorld(CONFIG, seed=54)

    async def test(ctx):
        buffers = Buffers(world, 0, 8, packed=False)
        buffers.post([100])
        buffers.at = buffers.ring.buffers + 0x1000
        buffers.post([100])
        buffers.at = buffers.ring.buffers + 0x2000
        buffers.post([100])
        world.status[(buffers.ring.buffers + 0x1000) >> 12] = DmaStatus.INVALID
        world.doorbells.append(0)
        world.deliver(0, bytes(250), 0)
        used = []
        await world.until(ctx, lambda: (used.extend(buffers.ring.take()), len(used) == 3)[1], 4000)
        assert [length for _, length in used] == [0, 0, 0]
        await ctx.tick().repeat(50)
        assert world.stats == {(0, Stat.RX_DROPPED_REFUSED): 1}

    world.run(test)
