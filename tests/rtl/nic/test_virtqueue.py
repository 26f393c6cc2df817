"""The virtqueue engine against rings kept by an independent driver."""

import struct

import pytest

from models.spec.config import NicConfig
from models.spec.nic import QueueError, Stat
from rtl.nic.engine.records import RECEIVE_BUFFER
from rtl.nic.seams import DmaStatus, LocalMemory
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(vfs=3, queue_pairs=1, tx_slots=16, rx_slots=16)
HEADER = bytes(12)


def scatter(world, ring, content: bytes, at: int) -> list[tuple[int, int]]:
    """Put bytes into guest memory in random pieces; returns the pieces."""
    parts, cuts = [], sorted(world.rng.sample(range(1, len(content)), world.rng.randrange(3)))
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        address = ring.buffers + at + world.rng.randrange(16)
        world.guest[address : address + end - start] = content[start:end]
        parts.append((address, end - start))
        at += end - start + 16
    return parts


@pytest.mark.parametrize("size", [pytest.param(4, marks=pytest.mark.full), 8])
def test_transmit_on_all_queues_at_once(size):
    world = RingWorld(CONFIG, seed=21)

    async def test(ctx):
        rings = {queue: world.ring(queue, size) for queue in range(1, CONFIG.queues, 2)}
        expected = {queue // 2: [] for queue in rings}
        returned = dict.fromkeys(rings, 0)
        for round_ in range(24):
            for queue, ring in rings.items():
                await world.until(ctx, lambda ring=ring: (ring.take(), len(ring.free))[1] >= 3)
                frame = world.rng.randbytes(world.rng.choice([14, 60, 300, 1514]))
                at = round_ % 4 * 0x800
                ring.post(scatter(world, ring, HEADER + frame, at))
                expected[queue // 2].append(frame)
                world.doorbells.append(queue)
                returned[queue] += 1
            await world.until(ctx, lambda r=round_: len(world.sent) == 4 * (r + 1))
        await ctx.tick().repeat(400)
        for function, frames in expected.items():
            assert [content for source, content in world.sent if source == function] == frames
        assert len(world.slots) == world.slot_count
        assert not world.errors
        assert len(world.interrupts) == 96
        assert set(world.interrupts) == {1, 3, 5, 7}
        assert world.told == dict.fromkeys(rings, 24)

    world.run(test)


def test_receive_into_scattered_buffers_in_order():
    world = RingWorld(CONFIG, seed=22)

    async def test(ctx):
        rings = {queue: world.ring(queue) for queue in range(0, CONFIG.queues, 2)}
        for _ in range(8):
            for queue, ring in rings.items():
                frame = world.rng.randbytes(world.rng.choice([14, 64, 900, 1514]))
                parts = scatter(world, ring, bytes(world.rng.choice([1600, 1526])), 0)
                head = ring.post(parts)
                world.doorbells.append(queue)
                world.deliver(queue // 2, frame, slot=queue)
                used = []
                await world.until(
                    ctx, lambda ring=ring, used=used: used.extend(ring.take()) or used
                )
                assert used == [(head, 12 + len(frame))]
                got = b"".join(bytes(world.guest[a : a + n]) for a, n in parts)
                header = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1)
                assert got[: 12 + len(frame)] == header + frame
        await ctx.tick().repeat(100)
        assert len(world.released) == 8 * 4
        assert world.stats[1, Stat.RX_PACKETS] == 8

    world.run(test)


def test_frames_wait_for_buffers():
    world = RingWorld(CONFIG, seed=23)

    async def test(ctx):
        ring = world.ring(2)
        for slot in range(3):
            world.deliver(1, bytes([slot]) * 60, slot)
        await ctx.tick().repeat(300)
        assert not world.released
        for _ in range(3):
            ring.post([(ring.buffers, 12), (ring.buffers + 64 * len(ring.chains), 1526)])
        world.doorbells.append(2)
        await world.until(ctx, lambda: len(world.released) == 3)
        await ctx.tick().repeat(30)
        assert world.stats[1, Stat.RX_PACKETS] == 3

    world.run(test)


def test_a_doorbell_is_not_lost_while_the_buffer_is_full():
    """A driver that refills a receive queue notifies once, and never again before it is empty."""
    world = RingWorld(CONFIG, seed=47)
    first, more, burst = RECEIVE_BUFFER + 6, 2, 4

    async def test(ctx):
        ring = world.ring(2, size=64, apart=True)
        for count in (first, more):
            for _ in range(count):
                ring.post([(ring.buffers + 64 * len(ring.chains), 1538)])
            world.doorbells.append(2)
            await ctx.tick().repeat(400)  # until it is full
        for number in range(first + more):
            world.deliver(1, bytes([number]) * 60, number % burst)
            if not (number + 1) % burst:  # together, so that there is room behind what is known
                end = number + 1
                await world.until(ctx, lambda end=end: len(world.released) == end, 4000)

    world.run(test)


def test_frames_are_taken_when_a_buffer_is_known():
    """What is popped is outside of the function's quota, so that nobody may pop and wait."""
    world = RingWorld(CONFIG, seed=31)

    async def test(ctx):
        world.ring(2)
        for slot in range(2):
            world.deliver(1, bytes(60), slot)
        for _ in range(3):
            world.doorbells.append(2)
            await ctx.tick().repeat(200)
        assert len(world.waiting[1, 0]) == 2

    world.run(test)


def test_only_the_first_receive_queue_takes_frames():
    world = RingWorld(NicConfig(vfs=1, queue_pairs=2), seed=32)

    async def test(ctx):
        first, second = world.ring(0), world.ring(2)
        second.post([(second.buffers, 1600)])
        world.deliver(0, bytes(60), 0)
        for _ in range(3):
            world.doorbells.append(2)
            await ctx.tick().repeat(200)
        assert len(world.waiting[0, 0]) == 1
        assert not world.released
        first.post([(first.buffers, 1600)])
        world.doorbells.append(0)
        await world.until(ctx, lambda: first.take(), 3000)
        assert not second.take()

    world.run(test)


@pytest.mark.parametrize("kind", ["empty", "short", "long"])
def test_a_frame_that_is_dropped_keeps_no_slot(kind):
    world = RingWorld(CONFIG, seed=33, slots=2)

    async def test(ctx):
        ring = world.ring(1)
        parts = {
            "empty": [(ring.buffers, 12)],
            "short": [(ring.buffers, 20)],
            "long": [(ring.buffers, 2000), (ring.buffers, 1000)],
        }
        ring.post(parts[kind])
        world.doorbells.append(1)
        await world.until(ctx, lambda: ring.take(), 6000)
        await ctx.tick().repeat(300)
        assert len(world.slots) == world.slot_count
        assert world.stats == {(0, Stat.TX_DROPPED): 1, (0, Stat.TX_DROPPED_LENGTH): 1}

    world.run(test)


@pytest.mark.parametrize("where", ["driver", "desc", "data", "more data", "late descriptor"])
def test_transmitters_that_wait_for_pages_keep_no_slots(where):
    """More guests than slots wait for pages, for ever; another one sends."""
    world = RingWorld(CONFIG, seed=34, slots=2)

    async def test(ctx):
        frame = bytes(range(1, 101))
        hostile, good = (
            {queue: world.ring(queue, 512, apart=True) for queue in (1, 3, 5)},
            world.ring(7),
        )
        for ring in hostile.values():
            # Header and data in one page, more data in another; the last descriptor in another too.
            at = ring.buffers + 0xFC0
            ring.free = [0, 300] if where == "late descriptor" else [0, 1]
            world.guest[at : at + 112] = HEADER + frame
            absent = {
                "driver": ring.driver,
                "desc": ring.desc,
                "data": at + 0x40,
                "more data": at + 0x40,
                "late descriptor": ring.desc + 16 * 300,
            }[where]
            cut = 12 if where == "data" else 32
            if where == "data":
                at += 0x40 - 12
                world.guest[at : at + 112] = HEADER + frame
            ring.post([(at, cut), (at + cut, 112 - cut)])
            world.absent.add(absent >> 12)
        world.doorbells += [1, 3, 5]
        await ctx.tick().repeat(600)
        assert len(world.slots) == 2
        for _ in range(3):
            world.guest[good.buffers : good.buffers + 112] = HEADER + frame
            good.post([(good.buffers, 112)])
            world.doorbells.append(7)
            await world.until(ctx, lambda: good.take(), 4000)
        world.absent.clear()
        await world.until(ctx, lambda: len(world.sent) == 6, 8000)
        assert sorted(world.sent) == sorted([(3, frame)] * 3 + [(f, frame) for f in range(3)])
        await ctx.tick().repeat(100)
        assert len(world.slots) == 2

    world.run(test)


def test_driver_that_wants_no_interrupts_gets_none():
    world = RingWorld(CONFIG, seed=24)

    async def test(ctx):
        ring = world.ring(1)
        struct.pack_into("<H", world.guest, ring.driver, 1)
        ring.post([(ring.buffers, 80)])
        world.doorbells.append(1)
        await world.until(ctx, lambda: ring.take())
        await ctx.tick().repeat(200)
        assert not world.interrupts

    world.run(test)


def post_bad(kind, world, ring):
    at = ring.buffers
    if kind == "index":
        ring.offer(0, step=ring.size + 1)
    elif kind == "head":
        ring.offer(ring.size)
    elif kind == "next":
        ring.post([(at, 80)], flags=1, next_=ring.size)
    elif kind == "loop":
        ring.post([(at, 80)], flags=1, next_=0)
    elif kind == "direction":
        ring.post([(at, 80)], flags=0 if ring.writable else 2)
        if ring.writable:
            struct.pack_into("<H", world.guest, ring.desc + 12, 0)
    elif kind == "indirect":
        ring.post([(at, 80)], flags=4)
    elif kind == "short":
        ring.post([(at, 11)])


@pytest.mark.parametrize(
    ("kind", "queue", "error"),
    [
        ("index", 1, QueueError.BAD_INDEX),
        ("head", 1, QueueError.BAD_HEAD),
        ("next", 1, QueueError.BAD_HEAD),
        ("loop", 1, QueueError.BAD_CHAIN),
        ("direction", 1, QueueError.BAD_CHAIN),
        ("direction", 0, QueueError.BAD_CHAIN),
        ("indirect", 1, QueueError.BAD_FLAGS),
        ("short", 0, QueueError.BAD_LENGTH),
    ],
)
def test_malformed_ring_stops_that_queue_alone(kind, queue, error):
    world = RingWorld(CONFIG, seed=25)

    async def test(ctx):
        bad, good = world.ring(queue), world.ring(3)
        world.deliver(0, bytes(60), 0)
        post_bad(kind, world, bad)
        world.doorbells.append(queue)
        await world.until(ctx, lambda: world.errors)
        for _ in range(3):
            good.post([(good.buffers, 80)])
            world.doorbells += [3, queue]
            await world.until(ctx, lambda: good.take())
        assert world.errors == [(queue, error)]
        await ctx.tick().repeat(200)
        assert len(world.slots) == world.slot_count
        # It can be set up again.
        world.commands.append({"op": 0, "queue": queue})
        await world.until(ctx, lambda: world.stopped == [queue])
        world.guest[0x8000 * (queue + 1) :][:0x2000] = bytes(0x2000)

    world.run(test)


@pytest.mark.parametrize("length", [12, 30, 71])
def test_a_frame_that_is_longer_than_its_buffer_is_dropped(length):
    """Whoever sends it does not stop the queue."""
    world = RingWorld(CONFIG, seed=29)

    async def test(ctx):
        ring, used = world.ring(0), []
        for number, size in enumerate((length, 72, length, 100)):
            ring.post([(ring.buffers + 0x100 * number, 10), (ring.buffers + 0x1000, size - 10)])
            world.deliver(0, bytes([number]) * 60, number)
            world.doorbells.append(0)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 4)[1])
        assert [length for _, length in used] == [0, 72, 0, 72]
        assert world.stats[0, Stat.RX_DROPPED_BUFFER] == 2
        assert world.queue_stats[0, 0, Stat.RX_DROPPED_BUFFER] == 2
        assert world.stats[0, Stat.RX_PACKETS] == 2
        assert world.stats[0, Stat.RX_BYTES] == 120
        assert sorted(slot for _, slot in world.released) == [0, 1, 2, 3]
        assert not world.errors

    world.run(test)


@pytest.mark.parametrize(
    ("status", "where", "error"),
    [
        (DmaStatus.FAULT, "ring", QueueError.RING_ADDRESS),
        (DmaStatus.INVALID, "ring", QueueError.RING_ADDRESS),
        (DmaStatus.FAILURE, "ring", QueueError.PAGE_REQUEST_FAILED),
        (DmaStatus.BUS, "ring", QueueError.BUS),
        (DmaStatus.FAULT, "buffer", QueueError.BUFFER_ADDRESS),
        (DmaStatus.FAILURE, "buffer", QueueError.PAGE_REQUEST_FAILED),
        (DmaStatus.BUS, "buffer", QueueError.BUS),
        (DmaStatus.INVALID, "buffer", None),
    ],
)
def test_dma_that_fails(status, where, error):
    world = RingWorld(CONFIG, seed=26)

    async def test(ctx):
        ring = world.ring(1)
        bad = ring.buffers + 0x1000
        world.status[(ring.desc if where == "ring" else bad) >> 12] = status
        ring.post([(ring.buffers, 12), (bad, 60)])
        ring.post([(ring.buffers, 12), (ring.buffers + 16, 60)])
        world.doorbells.append(1)
        if error is None:  # that chain alone fails
            await world.until(ctx, lambda: ring.take() and ring.used == 2)
            assert len(world.sent) == 1
            for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_REFUSED):
                assert world.stats[0, stat] == 1
            assert not world.errors
        else:
            await world.until(ctx, lambda: world.errors)
            assert world.errors == [(1, error)]
        await ctx.tick().repeat(100)
        assert len(world.slots) == world.slot_count

    world.run(test)


def test_frames_that_ask_for_offloads_are_passed_on_and_counted_elsewhere():
    """Flags that are not known, 0xFE here, ask for nothing (virtio 1.3, 5.1.6.2.2)."""
    world = RingWorld(CONFIG, seed=27)
    headers = [(1, 0), (0, 1), (0xFE, 0), (0xFF, 0x84)]

    async def test(ctx):
        ring = world.ring(1)
        for number, header in enumerate(headers):
            at = ring.buffers + 128 * number
            world.guest[at : at + 12] = bytes(header) + bytes(10)
            ring.post([(at, 90)])
        world.doorbells.append(1)
        used = []
        await world.until(ctx, lambda: used.extend(ring.take()) or len(used) == len(headers))
        await ctx.tick().repeat(50)
        assert not world.stats
        assert len(world.sent) == len(headers)
        assert world.asked == [(flags & 1, gso_type) for flags, gso_type in headers]

    world.run(test)


# At 134 and 140 a whole frame waits in its slot, which only the queue's end gives back.
@pytest.mark.parametrize("delay", [*range(1, 200, 24), 82, 134, 140])
def test_disable_at_any_moment_leaks_nothing(delay):
    world = RingWorld(CONFIG, seed=28)

    async def test(ctx):
        for queue in (0, 1):
            ring = world.ring(queue)
            ring.post([(ring.buffers, 12), (ring.buffers + 64, 1526)])
            world.doorbells.append(queue)
        world.deliver(0, bytes(200), 0)
        if delay % 2:
            world.stuck.add(0)  # parked for ever
        await ctx.tick().repeat(delay)
        world.commands += [{"op": 0, "queue": 0}, {"op": 0, "queue": 1}]
        await world.until(ctx, lambda: sorted(world.stopped) == [0, 1], 3000)
        count = len(world.requests)
        world.doorbells += [0, 1]
        await ctx.tick().repeat(200)
        assert len(world.requests) == count, "DMA of a stopped queue"
        assert len(world.slots) == world.slot_count
        held = len(world.waiting[0, 0])
        back = [memory for memory, _ in world.released].count(LocalMemory.RX)
        assert held + back == 1
        lost = world.stats.get((0, Stat.RX_DROPPED_QUEUE), 0)
        assert lost == back - world.stats.get((0, Stat.RX_PACKETS), 0)
        world.stuck.clear()
        again = world.ring(1)
        world.guest[again.driver : again.driver + 8] = bytes(8)
        world.guest[again.device : again.device + 8] = bytes(8)
        again.post([(again.buffers, 80)])
        world.doorbells.append(1)
        await world.until(ctx, lambda: again.take(), 3000)

    world.run(test)
