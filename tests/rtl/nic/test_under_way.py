"""Which receive queues have frames under way: from when one is taken until its element is there."""

import struct
from itertools import count as count_from

import pytest

from models.spec.config import NicConfig
from models.spec.nic import Stat
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(vfs=1, queue_pairs=2, mergeable=True, packed=True, tx_slots=16, rx_slots=16)
_FRAMES = 40
#: Cycles from the engine's taking of a frame to when it says so.
_LATE = 3


class Watch:
    """Follows what a queue says of itself, cycle by cycle."""

    def __init__(self, world, ring, receiver, chains):
        self.world, self.ring, self.receiver, self.chains = world, ring, receiver, chains
        self.delivered = self.busy = self.calm = 0
        self.states = [0, 0]

    @property
    def owed(self):
        """Frames that were taken and whose chains are not all in the used ring."""
        (used,) = struct.unpack_from("<H", self.world.guest, self.ring.device + 2)
        function, pair = divmod(self.receiver, CONFIG.queue_pairs)
        taken = self.delivered - len(self.world.waiting[function, pair])
        return taken * self.chains - used

    async def process(self, ctx):
        while True:
            await ctx.tick()
            says = ctx.get(self.world.dut.under_way) >> self.receiver & 1
            self.states[says] += 1
            self.busy = self.busy + 1 if self.owed > 0 else 0
            assert says or self.busy <= _LATE
            assert not ctx.get(self.world.dut.under_way) & ~(1 << self.receiver)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("absent", [0, 0.2])
def test_from_taking_to_used_element(merged, absent):
    """With pages that are not there, and buffers that come late."""
    world, receiver = RingWorld(CONFIG, seed=71, slots=12), 3
    print("seed 71")

    async def test(ctx):
        ring = world.ring(6, size=64, apart=True, mergeable=merged)
        watch.append(Watch(world, ring, receiver, 1 + merged))
        rng, posted = world.rng, 0
        while ring.used < _FRAMES * watch[0].chains:
            if watch[0].delivered < _FRAMES and len(world.waiting[1, 1]) < 4 and rng.random() < 0.1:
                world.deliver(1, bytes(100), watch[0].delivered % 4, pair=1)
                watch[0].delivered += 1
            if posted < _FRAMES * watch[0].chains and ring.free and rng.random() < 0.1:
                at = ring.buffers + 0x1000 * rng.randrange(3) + 128 * rng.randrange(16)
                ring.post([(at, 60 if merged else 128)])
                posted += 1
                world.doorbells.append(6)
                if rng.random() < absent:
                    world.absent.add(at >> 12)
            if world.absent and world.wanted() and rng.random() < 0.05:
                world.absent.clear()
            ring.take()
            await ctx.tick()
        await ctx.tick().repeat(200)
        assert not ctx.get(world.dut.under_way)
        assert min(watch[0].states) > 50

    watch: list[Watch] = []

    async def follow(ctx):
        while not watch:
            await ctx.tick()
        await watch[0].process(ctx)

    world.run(test, follow)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("absent", [0, 0.3])
def test_a_queue_that_is_closed_gives_back_what_it_has(absent, packed):
    """Though it may lack buffers for it; what is in the used ring by then is all; and it goes on
    when it is open again.
    """
    world, receiver, seed = RingWorld(CONFIG, seed=73 + packed, slots=12), 3, 73 + packed
    print(f"seed {seed}")
    rng, dut, stats, busy = world.rng, world.dut, world.stats, 0

    def says():
        return world.ctx.get(dut.under_way) >> receiver & 1

    async def test(ctx):
        nonlocal busy
        world.ctx = ctx
        make = world.packed_ring if packed else world.ring
        ring = make(6, size=64, mergeable=1, **({} if packed else {"apart": True}))
        taken, used, names = 0, 0, count_from(0)

        def post(at):
            parts = [(at, 60)]
            if not packed and ring.free:
                ring.post(parts)
            if packed and ring.room:
                ring.post(parts, identity=next(names))
            world.doorbells.append(6)

        async def come(count):
            """Let some frames come, and buffers, which may not be enough or not be there."""
            for number in range(count):
                world.deliver(1, rng.randbytes(rng.choice((50, 100, 250))), number % 4, pair=1)
            for _ in range(rng.randrange(4)):
                at = ring.buffers + 0x1000 * rng.randrange(3) + 128 * rng.randrange(16)
                post(at)
                if rng.random() < absent:
                    world.absent.add(at >> 12)
            for _ in range(rng.randrange(400)):
                if world.absent and world.wanted() and rng.random() < 0.05:
                    world.absent.clear()
                await ctx.tick()

        for _ in range(25):
            count = rng.randrange(4)
            await come(count)
            busy += says()
            ctx.set(dut.closed, 1 << receiver)
            count -= len(world.waiting[1, 1])
            world.waiting[1, 1].clear()
            taken += count
            await ctx.tick().repeat(_LATE)
            for cycle in range(3000):
                if not says():
                    break
                if world.absent and world.wanted() and cycle % 200 == 199:
                    world.absent.clear()
                await ctx.tick()
            assert not says()
            used += len(ring.take())
            received = stats.get((1, Stat.RX_PACKETS), 0)
            assert len(world.released) == taken
            assert stats.get((1, Stat.RX_DROPPED_QUEUE), 0) == taken - received
            world.absent.clear()
            await ctx.tick().repeat(1 + rng.randrange(200))
            assert not ring.take()
            ctx.set(dut.closed, 0)
            await ctx.tick()
        assert used > 4 < stats[1, Stat.RX_DROPPED_QUEUE]
        # Buffers that are left take frames as they would have.
        for _ in range(3):
            content = rng.randbytes(100)
            for _ in range(2):
                post(ring.buffers + 128 * rng.randrange(16))
            world.deliver(1, content, 0, pair=1)
            taken += 1
            await world.until(ctx, lambda n=taken: len(world.released) == n)
        assert not world.errors

    world.run(test)
    assert busy > 5
