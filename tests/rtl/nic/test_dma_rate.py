"""How fast the DMA engine is, in cycles, on a bus that takes and gives a beat a cycle."""

import pytest

from models.spec.config import NicConfig
from rtl.nic.segments import PATIENCE
from tests.rtl.nic.dma_world import OFFSET, World
from tests.rtl.nic.test_dma import check, filled


def transfers(directions, length, skew, count):
    """``count`` transfers in each direction, by turns; none touches what another does."""
    step = -(-(length + 16) // 64) * 64
    return [
        {
            "function": number % 4,
            "write": write,
            "iova": (write << 17) + step * number + skew,
            "length": length,
            "memory": 2 if write else 1,
            "offset": step * number + 3 * skew % 16,
        }
        for number in range(count)
        for write in directions
    ]


def measure(directions, length, latency, *, skew=0, count=64, slots=64, known=False):
    """Move ``count`` transfers in each direction; return cycles from its first beat to its last
    for each.  With ``known`` an ATC has all translations, else there is none.
    """
    entries = 64 if known else 0
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=64, dma_slots=slots, atc_entries=entries)
    world = World(config, seed=1, latency=latency, jitter=0, stall=0)
    requests = transfers(directions, length, skew, count)

    async def test(ctx):
        before = filled(world)
        if known:
            await ctx.tick().repeat(entries // 4 + 4)  # a set a cycle is cleared after reset
            pages = {(r["function"], r["iova"] >> 12): r for r in requests}
            for request in pages.values():
                await world.run_all(ctx, [request], 1)
            for beats in world.beats:
                beats.clear()
            await ctx.tick().repeat(2)
        asked = world.asked
        await world.run_all(ctx, requests, config.dma_tags)
        assert not known or world.asked == asked
        for request in requests:
            check(world, request, before)
        assert world.guest == before[0]
        assert world.local == before[1]

    world.run(test)
    found = [world.beats[write][-1] - world.beats[write][0] + 1 for write in directions]
    print(f"{count} of {length} bytes, latency {latency}, {slots} slots: {found} cycles")
    return found


@pytest.mark.parametrize("latency", [1, 20])
def test_short_requests_of_both_directions_follow_each_other_on_the_bus(latency):
    """One request is taken per cycle, so those of a beat take two in each direction."""
    assert measure((0, 1), 16, latency) == [127, 127]
    assert measure((0, 1), 16, latency, known=True) == [127, 127]
    assert measure((0, 1), 64, latency) == [64 * 4, 64 * 4]


@pytest.mark.full
@pytest.mark.parametrize("latency", [1, 20])
@pytest.mark.parametrize("direction", [0, 1])
def test_a_direction_alone_takes_as_many_cycles_as_its_beats(direction, latency):
    for length in (16, 64, 256):
        assert measure((direction,), length, latency) == [64 * length // 16]


def test_frames_at_any_bytes_fill_the_bus_in_both_directions():
    count, length = 24, 1500
    beats = 95  # 93.75 if aligned
    assert measure((0, 1), length, 20, skew=5, count=count) == [count * beats, count * beats]


FRAME, CYCLES, LATENCY = 1500, 1500, 20


def beside(gap, yielding, *, slots=16):
    """Write a frame every ``gap`` cycles, with eight at once at the most, beside some that yield.

    Returns the cycles that each frame took, and bytes per cycle of what yields.
    """
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=16, dma_slots=slots, atc_entries=64)
    world = World(config, seed=2, latency=LATENCY, jitter=0, stall=0)
    p = {"write": 1, "memory": 2, "length": FRAME}
    frames = {t: {**p, "tag": t, "iova": t << 12, "offset": t << 11} for t in range(8)}
    behind = {
        t: {**p, "tag": t, "iova": (t << 12) + 36, "offset": t << 11, "yields": 1}
        for t in range(8, 8 + yielding)
    }
    begun, took, bursts = {}, [], []

    async def test(ctx):
        before = filled(world)
        for request in (*frames.values(), *behind.values()):
            await world.request(ctx, **request)
            await world.wait(ctx, request["tag"])
        world.accesses.clear()
        seen, begin, due = len(world.ended), world.now, world.now
        idle, idle_behind = list(frames), list(behind)
        while world.now < begin + CYCLES:
            if idle and world.now >= due:
                tag, due = idle.pop(0), due + gap
                begun[tag] = world.now
                await world.request(ctx, **frames[tag])
            elif idle_behind:
                await world.request(ctx, **behind[idle_behind.pop(0)])
            else:
                await ctx.tick()
            for cycle, tag in world.ended[seen:]:
                if tag in frames:
                    took.append(cycle - begun[tag])
                    idle.append(tag)
                else:
                    idle_behind.append(tag)
            seen = len(world.ended)
        bursts[:] = [at for _, _, at, _ in world.accesses if at - OFFSET >= 8 << 12]
        for request in (*frames.values(), *behind.values()):
            check(world, request, before)
        assert world.guest == before[0]

    world.run(test)
    moved = FRAME / 6 * len(bursts)
    print(f"every {gap} cycles, {yielding} that yield: {max(took)} cycles at most, {moved} bytes")
    return took, moved / CYCLES


def test_what_yields_takes_what_others_leave_of_the_bus():
    gap, beats = 130, FRAME // 16 + 1
    (alone, *others), nothing = beside(gap, 0)
    assert (set(others), nothing) == ({alone}, 0)
    took, rate = beside(gap, 3)
    assert max(took) <= alone + 2 * 16, "they wait for more than a burst, and for what begins it"
    assert rate > 0.75 * 16 * (gap - beats) / gap


@pytest.mark.parametrize("slots", [pytest.param(4, marks=pytest.mark.full), 16])
def test_what_yields_gets_its_share_of_a_bus_that_is_busy(slots):
    """It waits for a slot and for the bus, for each ``PATIENCE`` cycles and the frames that are
    ahead of it then; of four slots one is for what yields.
    """
    took, rate = beside(1, 3, slots=slots)
    assert FRAME * len(took) / CYCLES > 12
    assert rate > 256 / (2 * PATIENCE + 6 * FRAME / 16)
