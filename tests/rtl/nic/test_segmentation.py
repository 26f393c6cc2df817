"""Frames that are cut into segments beside others, from slots and large buffer."""

import pytest

from models.nic.offload import BadOffload, offload
from models.spec.config import NicConfig
from models.spec.nic import Stat
from models.spec.virtio import Feature, NetHeader
from tests.rtl.agents import get, run, seeded
from tests.rtl.nic.offload_world import PAIR, OffloadWorld
from tests.rtl.nic.packet_world import ip_frame

CONFIG = NicConfig(vfs=2, queue_pairs=1, tx_slots=8, rx_slots=8, checksum=True, segmentation=True)
ACCEPTED = sum(1 << f for f in (Feature.NET_CSUM, Feature.NET_HOST_TSO4, Feature.NET_HOST_ECN))


def tcp(rng, version: int, size: int, **header: int) -> tuple[bytes, dict[str, int]]:
    """A frame to be cut, and what its header says."""
    frame = ip_frame(rng, version, 6, size)
    fields = {"flags": 1, "gso_type": 1 if version == 4 else 4, "gso_size": 1448,
              "csum_start": 34 if version == 4 else 54, "csum_offset": 16}  # fmt: skip
    return frame, fields | header


class World(OffloadWorld):
    """Takes frames that come out, and the pulses beside them."""

    def __init__(self, rng):
        super().__init__(CONFIG, rng)
        self.frames: list[bytes] = []
        self.pulses: list[str] = []
        self.counts: list[Stat] = []

    async def take(self, ctx):
        while True:
            found = await get(ctx, self.dut.frame)
            frame = found.frame
            assert found.pair == PAIR
            self.frames.append(await self.content(ctx, frame.slot, frame.length))
            await self.free(ctx, frame.slot)

    async def watch(self, ctx):
        dut = self.dut
        ctx.set(dut.stat.ready, 1)
        ctx.set(dut.release.ready, 1)
        async for found in ctx.tick().sample(
            dut.cut, dut.large_back, dut.stat.valid, dut.stat.payload
        ):
            cut, back, counts, event = found[2:]
            self.pulses += ["cut"] * cut + ["back"] * back
            if counts:
                self.counts.append(Stat(event.stat))
                assert (event.queued, event.queue) == (1, 2 * PAIR + 1)

    async def until(self, ctx, done, cycles=20_000):
        for _ in range(cycles):
            if done():
                return
            await ctx.tick()
        raise AssertionError("what was waited for did not happen")

    async def accept(self, ctx) -> None:
        for name in ("csum", "tso4", "ecn"):
            ctx.set(self.dut.offloads[name], 1)


def golden(frame: bytes, fields: dict[str, int]) -> list[bytes]:
    """What becomes of a frame; nothing if that cannot be."""
    header = NetHeader.from_bits(NetHeader.const(fields).as_bits())
    try:
        return offload(frame, header, ACCEPTED)
    except BadOffload:
        return []


@pytest.mark.parametrize(
    "size", [10, 1994, 1995, 4000, pytest.param(65495, marks=pytest.mark.full)]
)
def test_frames_of_every_length(size):
    """Those that end in the slot, at its end, behind it; and the longest."""
    rng = seeded(51)
    world = World(rng)

    async def bench(ctx):
        await world.accept(ctx)
        frame, fields = tcp(rng, 4, size, gso_type=0x81)
        assert len(frame) == size + 54
        slot = await world.fill(ctx, frame, fields)
        await world.send(ctx, slot, frame, fields)
        await world.until(ctx, lambda: "cut" in world.pulses, 100_000)
        assert world.pulses.count("back") == (len(frame) > CONFIG.frame_bytes)
        await world.until(ctx, lambda: world.frames == golden(frame, fields), 100)
        assert world.counts == [Stat.TX_SEGMENTED]

    run(world.dut, bench, background=[world.take, world.watch])


@pytest.mark.parametrize("after", range(0, 200, 60))
def test_a_function_that_may_not_send_for_a_cycle_has_the_rest_not_cut(after):
    """A reset that is over before anybody looks; what comes behind it is cut to its end.  A frame
    that is not is dropped, and counted.
    """
    rng = seeded(53)
    world = World(rng)

    async def bench(ctx):
        await world.accept(ctx)
        for stops in (True, False):
            for found in (world.frames, world.pulses, world.counts):
                found.clear()
            frame, fields = tcp(rng, 4, 9000)
            await world.send(ctx, await world.fill(ctx, frame, fields), frame, fields)
            if stops:
                await world.until(ctx, lambda: len(world.frames) == 2)
                await ctx.tick().repeat(after + 1)
                ctx.set(world.dut.able, 0)
                await ctx.tick()
                ctx.set(world.dut.able, -1)
                before = len(world.frames)
            await world.until(ctx, lambda: "cut" in world.pulses)
            await ctx.tick().repeat(300)
            segments = golden(frame, fields)
            drops = [Stat.TX_DROPPED, Stat.TX_DROPPED_LINK]
            assert world.counts == (drops if stops else [Stat.TX_SEGMENTED])
            if stops:
                assert before <= len(world.frames) <= before + 2 < len(segments)
            assert world.frames == segments[: len(world.frames) if stops else None]

    run(world.dut, bench, background=[world.take, world.watch])


def test_other_frames_pass_one_that_is_cut():
    rng = seeded(52)
    world = World(rng)

    async def bench(ctx):
        await world.accept(ctx)
        frame, fields = tcp(rng, 4, 9000)
        slot = await world.fill(ctx, frame, fields)
        small = [ip_frame(rng, 4, 17, 40) for _ in range(3)]
        slots = [await world.fill(ctx, one) for one in small]
        await world.send(ctx, slot, frame, fields)
        for one, place in zip(small, slots, strict=True):
            await world.send(ctx, place, one, {})
        await world.until(ctx, lambda: len(world.frames) == 3)
        assert world.frames == small
        assert "cut" not in world.pulses
        await world.until(ctx, lambda: "cut" in world.pulses)
        await ctx.tick().repeat(100)
        assert world.frames[3:] == golden(frame, fields)

    run(world.dut, bench, background=[world.take, world.watch])


@pytest.mark.parametrize(
    ("version", "wrong"),
    [
        (6, {}),
        (4, {"gso_size": 0}),
        (4, {"csum_start": 30}),
        (4, {"flags": 0}),
        (4, {"gso_type": 3}),
    ],
)
def test_what_cannot_be_cut_is_dropped_with_its_reason(version, wrong):
    """Of IPv6, of no size, without its checksum: the buffer is free again."""
    rng = seeded(53)
    world = World(rng)

    async def bench(ctx):
        await world.accept(ctx)
        frame, fields = tcp(rng, version, 3000, **wrong)
        assert golden(frame, fields) == []
        slot = await world.fill(ctx, frame, fields)
        await world.send(ctx, slot, frame, fields)
        await world.until(ctx, lambda: len(world.counts) == 2)
        assert world.counts == [Stat.TX_DROPPED, Stat.TX_DROPPED_OFFLOAD]
        await ctx.tick().repeat(5)
        assert sorted(world.pulses) == ["back", "cut"]
        assert world.frames == []

    run(world.dut, bench, background=[world.take, world.watch])
