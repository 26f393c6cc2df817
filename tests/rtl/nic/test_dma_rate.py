"""How fast the DMA engine is, in cycles, on a bus that takes and gives a beat a cycle."""

import pytest

from models.spec.config import NicConfig
from tests.rtl.nic.dma_world import World
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
