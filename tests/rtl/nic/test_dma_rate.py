"""How fast the DMA engine is, in cycles, on a bus that takes and gives a beat a cycle."""

import pytest

from models.spec.config import NicConfig
from tests.rtl.nic.dma_world import World
from tests.rtl.nic.test_dma import check, filled

CONFIG = NicConfig(vfs=3, queue_pairs=1, dma_tags=64, dma_slots=64)


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


def measure(directions, length, latency, skew=0, *, count=104, edge=32):
    """Move ``count`` transfers in each direction; return cycles per transfer of a direction
    without the first and last ``edge``.
    """
    world = World(CONFIG, seed=1, latency=latency, jitter=0, stall=0)
    requests = transfers(directions, length, skew, count)

    async def test(ctx):
        before = filled(world)
        await world.run_all(ctx, requests, CONFIG.dma_tags)
        for request in requests:
            check(world, request, before)
        assert world.guest == before[0]
        assert world.local == before[1]

    world.run(test)
    ends = [now for now, _ in world.ended][edge * len(directions) : -edge * len(directions)]
    return (ends[-1] - ends[0]) * len(directions) / (len(ends) - 1)


@pytest.mark.parametrize("latency", [1, 20])
@pytest.mark.parametrize("directions", [(0,), (1,), (0, 1)], ids=["reads", "writes", "both"])
@pytest.mark.parametrize(("length", "cycles"), [(16, 2), (64, 4)])
def test_short_requests_follow_each_other_at_the_rate_of_the_bus(
    length, cycles, directions, latency
):
    found = measure(directions, length, latency)
    print(f"{length} bytes, {directions}, latency {latency}: {found} cycles per request")
    assert found <= cycles
