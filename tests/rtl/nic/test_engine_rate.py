"""Cycles of the virtqueue engine per packet, before a DMA that is as fast as the bus."""

import pytest

from models.spec.config import NicConfig
from tests.rtl.nic.rate_world import RateWorld

#: A PF at rest and eight VFs; as many slots as `default` has.
CONFIG = NicConfig(vfs=8, queue_pairs=1, dma_slots=32)
PACKETS = 24
BYTES = 12 + 64


def rate(way: str, latency: int) -> dict[str, float]:
    """Cycles per packet in the second half of all packets."""
    world = RateWorld(CONFIG, latency)
    found = {}

    async def test(ctx):
        for queue in range(2, CONFIG.queues):
            if ("tx" if queue & 1 else "rx") not in way:
                continue
            ring = world.ring(queue, 64)
            for number in range(PACKETS):
                ring.post([(ring.buffers + 128 * number, BYTES)])
                if not queue & 1:
                    world.deliver(queue // 2, bytes(64), number % CONFIG.rx_slots)
        await world.until(ctx, lambda: not world.commands)
        total = PACKETS * 8
        marks = {"tx": [], "rx": []}
        for _ in range(20_000):
            for name, done in (("tx", len(world.sent)), ("rx", len(world.released))):
                while len(marks[name]) < done:
                    marks[name].append(world.now)
            if all(len(marks[name]) == total for name in marks if name in way):
                break
            await ctx.tick()
        for name, cycles in marks.items():
            if name in way:
                assert len(cycles) == total
                quarter = total // 4
                span = cycles[3 * quarter] - cycles[quarter]
                found[name] = span / (2 * quarter)
        found["requests"] = len(world.requests) / total
        assert not world.errors

    world.run(test)
    return found


#: Way, latency, cycles of half of the packets of each direction.
COUNTED = [
    ("tx", 20, {"tx": 607}),
    ("rx", 20, {"rx": 510}),
    ("tx+rx", 20, {"tx": 769, "rx": 645}),
    ("tx", 100, {"tx": 636}),
    ("rx", 100, {"rx": 548}),
    ("tx+rx", 100, {"tx": 785, "rx": 653}),
]


@pytest.mark.parametrize(
    ("way", "latency", "cycles"),
    [
        pytest.param(*one, marks=[] if one[:2] == ("tx+rx", 20) else pytest.mark.full)
        for one in COUNTED
    ],
)
def test_cycles_per_packet(way, latency, cycles):
    found = rate(way, latency)
    half = PACKETS * 8 // 2
    assert {name: round(found[name] * half) for name in cycles} == cycles
    limit = 10 if way == "tx+rx" else 8
    assert all(found[name] <= limit for name in cycles)
