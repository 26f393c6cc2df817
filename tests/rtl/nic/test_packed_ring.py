"""The virtqueue engine on packed virtqueues (virtio 1.3, 2.8)."""

import struct
from itertools import pairwise

import pytest

from models.spec.nic import QueueError, Stat
from rtl.nic.seams import DmaStatus
from tests.rtl.nic.ring_world import RingWorld
from tests.rtl.nic.test_virtqueue_features import FEATURED, HEADER

DESC_EVENT = 2


def frames_of(world, ring, count: int, pieces: int):
    """Frames in guest memory, each cut at random; returns them with their pieces."""
    for number in range(count):
        content = HEADER + world.rng.randbytes(world.rng.choice([14, 60, 200]))
        at = ring.buffers + 0x100 * (number % 16)
        world.guest[at : at + len(content)] = content
        cuts = sorted(world.rng.sample(range(1, len(content)), world.rng.randrange(pieces)))
        bounds = [0, *cuts, len(content)]
        yield content[12:], [(at + a, b - a) for a, b in pairwise(bounds)]


@pytest.mark.parametrize("pieces", [1, 3])
def test_transmit_lap_after_lap(pieces):
    world = RingWorld(FEATURED, seed=41)

    async def test(ctx):
        ring, sent, used = world.packed_ring(1, 16), [], []
        for number, (frame, parts) in enumerate(frames_of(world, ring, 30, pieces)):
            await world.until(ctx, lambda: (used.extend(ring.take()), ring.room > pieces)[1], 4000)
            ring.post(parts, identity=number)
            sent.append((0, frame))
            world.doorbells.append(1)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 30)[1], 6000)
        assert used == [(number, 0) for number in range(30)]
        assert world.sent == sent
        assert not world.errors
        assert world.interrupts
        await world.until(ctx, lambda: world.told == {1: 30})

    world.run(test)


@pytest.mark.parametrize("size", [12, 13])
def test_a_driver_notifies_where_it_is_asked_to(size):
    """One that notifies only where the device's structure says has everything sent (2.8.14)."""
    world = RingWorld(FEATURED, seed=49)

    async def test(ctx):
        ring, sent, used, notified = world.packed_ring(1, size, event_idx=1), [], [], 0
        for number, (frame, parts) in enumerate(frames_of(world, ring, 60, 3)):
            await world.until(ctx, lambda: (used.extend(ring.take()), ring.room > 3)[1], 6000)
            before = ring.next
            ring.post(parts, identity=number)
            sent.append((0, frame))
            if ring.notifies(before):
                world.doorbells.append(1)
                notified += 1
            await ctx.tick().repeat(world.rng.choice([1, 20, 300]))
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 60)[1], 6000)
        assert world.sent == sent
        await ctx.tick().repeat(200)
        assert 5 < notified < 60
        # It rests, and has asked for the next one.
        ring.post([(ring.buffers, 80)], identity=60)
        assert ring.notifies(ring.next - 1)
        assert not world.errors

    world.run(test)


@pytest.mark.parametrize(("size", "pieces"), [(16, 1), (13, 3)])
def test_in_order_one_descriptor_stands_for_a_batch_of_what_is_sent(size, pieces):
    """Over the ring's end as well: a batch is of one lap there (2.8.9)."""
    world = RingWorld(FEATURED, seed=50)

    async def test(ctx):
        ring, sent, used = world.packed_ring(1, size, in_order=1), [], []
        for number, (frame, parts) in enumerate(frames_of(world, ring, 90, pieces)):
            await world.until(ctx, lambda: (used.extend(ring.take()), ring.room > pieces)[1], 6000)
            ring.post(parts, identity=number)
            sent.append((0, frame))
            world.doorbells.append(1)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 90)[1], 6000)
        assert used == [(number, 0) for number in range(90)]
        assert world.sent == sent
        written = [r for r in world.requests if r.write]
        assert {r.length for r in written} == {16}
        assert len(written) < 80
        await world.until(ctx, lambda: world.told == {1: 90})
        assert not world.errors

    world.run(test)


def test_receive_and_interrupt_at_one_descriptor():
    world = RingWorld(FEATURED, seed=42)

    async def test(ctx):
        ring, used = world.packed_ring(2, 8, event_idx=1), []
        # An interrupt at the descriptor at 2 in the second lap.
        struct.pack_into("<HH", world.guest, ring.driver, 2, DESC_EVENT)
        for number in range(16):
            await world.until(ctx, lambda: (used.extend(ring.take()), ring.room)[1], 4000)
            ring.post([(ring.buffers + 0x80 * (number % 8), 100)], identity=7 + number)
            world.doorbells.append(2)
            world.deliver(1, bytes([number]) * 60, number)
            if len(used) <= 9:
                assert not world.interrupts
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 16)[1], 4000)
        await ctx.tick().repeat(300)
        assert used == [(7 + number, 72) for number in range(16)]
        assert len(world.interrupts) == 1
        assert world.stats[1, Stat.RX_PACKETS] == 16

    world.run(test)


@pytest.mark.parametrize("entries", [1, 5])
def test_indirect_tables(entries):
    world = RingWorld(FEATURED, seed=43)

    async def test(ctx):
        ring, sent, used = world.packed_ring(1, 8, indirect=1), [], []
        for number in range(5):
            frame = world.rng.randbytes(60)
            at = ring.buffers + 0x200 * number
            world.guest[at : at + 72] = HEADER + frame
            for i in range(entries):
                low, high = 72 * i // entries, 72 * (i + 1) // entries
                struct.pack_into("<QIHH", world.guest, at + 0x100 + 16 * i, at + low, high - low,
                                 0, 1)  # fmt: skip
            ring.post([(at + 0x100, 16 * entries)], identity=number, flags=4)
            sent.append((0, frame))
        world.doorbells.append(1)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 5)[1], 6000)
        assert world.sent == sent
        assert not world.errors

    world.run(test)


def test_a_chain_that_goes_on_in_nothing_stops_the_queue():
    world = RingWorld(FEATURED, seed=44)

    async def test(ctx):
        ring = world.packed_ring(1)
        ring.post([(ring.buffers, 80)], identity=0)
        ring.post([(ring.buffers, 80)], identity=1, flags=1)
        world.doorbells.append(1)
        await world.until(ctx, lambda: world.errors)
        assert world.errors == [(1, QueueError.BAD_WRAP)]
        assert ring.take() == [(0, 0)]

    world.run(test)


def test_a_chain_as_long_as_the_ring_that_goes_on_is_too_long():
    world = RingWorld(FEATURED, seed=46)

    async def test(ctx):
        ring = world.packed_ring(1, 4)
        ring.post([(ring.buffers + 0x40 * n, 0x40) for n in range(4)], identity=0, flags=1)
        world.doorbells.append(1)
        await world.until(ctx, lambda: world.errors)
        assert world.errors == [(1, QueueError.BAD_CHAIN)]

    world.run(test)


def table_of(world, at: int, frame: bytes, entries: int = 1) -> tuple[int, int]:
    """Store a frame with its header behind an indirect table; returns where that is."""
    content = HEADER + frame
    world.guest[at + 0x80 : at + 0x80 + len(content)] = content
    for i in range(entries):
        low, high = len(content) * i // entries, len(content) * (i + 1) // entries
        struct.pack_into("<QIHH", world.guest, at + 16 * i, at + 0x80 + low, high - low, 0, 1)
    return at, 16 * entries


def test_a_doorbell_is_not_lost_while_a_table_is_awaited():
    """What was known of the ring is older than it, and what is read of the table tells nothing."""
    world = RingWorld(FEATURED, seed=51)

    async def test(ctx):
        ring, used = world.packed_ring(1, 8, indirect=1), []
        away = ring.buffers + 0x1000
        world.absent.add(away >> 12)
        ring.post([table_of(world, away, bytes([1]) * 60)], identity=0, flags=4)
        world.doorbells.append(1)
        await world.until(ctx, lambda: any(r.iova == away for r in world.requests))
        ring.post([table_of(world, ring.buffers, bytes([2]) * 60)], identity=1, flags=4)
        world.doorbells.append(1)
        await world.until(ctx, world.wanted)
        await ctx.tick().repeat(50)
        world.absent.clear()
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 2)[1], 3000)
        assert [frame for _, frame in world.sent] == [bytes([1]) * 60, bytes([2]) * 60]

    world.run(test)


@pytest.mark.parametrize("seed", [52, 53, 54])
@pytest.mark.parametrize("event_idx", [0, 1])
@pytest.mark.parametrize("in_order", [0, 1])
def test_no_doorbell_is_lost_whatever_page_goes(event_idx, in_order, seed):
    """Each chain is told of once, at most; pages of tables, frames and areas come and go."""
    world = RingWorld(FEATURED, seed=seed)

    async def test(ctx):
        rng = world.rng
        features = {"indirect": 1, "event_idx": event_idx, "in_order": in_order}
        ring, used, sent = world.packed_ring(1, rng.choice((5, 8, 13)), **features), [], []
        pages = [(ring.buffers >> 12) + n for n in range(4)]

        def stirs():
            used.extend(ring.take())
            if rng.randrange(60) == 0:
                areas = ring.desc >> 12, ring.device >> 12
                world.absent = set(rng.sample([*pages, *areas], rng.randrange(3)))
            if rng.randrange(20) == 0:
                world.absent -= set(world.wanted())

        for number in range(60):
            await world.until(ctx, lambda: (stirs(), ring.room)[1], 20_000)
            at = (pages[number % 4] << 12) + 0x200 * (number // 4 % 8)
            frame, before = rng.randbytes(rng.choice((14, 60, 200))), ring.next
            ring.post([table_of(world, at, frame, rng.choice((1, 3)))], identity=number, flags=4)
            sent.append((0, frame))
            if not event_idx or ring.notifies(before):
                world.doorbells.append(1)
            for _ in range(rng.choice((0, 0, 20, 200))):
                stirs()
                await ctx.tick()
        await world.until(ctx, lambda: (stirs(), len(used) == 60)[1], 20_000)
        assert used == [(number, 0) for number in range(60)]
        assert world.sent == sent
        assert not world.errors

    world.run(test)


def test_a_page_that_is_not_there():
    """The queue begins again at the chain that met it."""
    world = RingWorld(FEATURED, seed=45)

    async def test(ctx):
        ring, used = world.packed_ring(1, 16), []
        for number in range(6):
            at = ring.buffers + 0x100 * number + (0x1000 if number == 3 else 0)
            world.guest[at : at + 12] = HEADER
            world.guest[at + 12 : at + 72] = bytes([number + 1]) * 60
            ring.post([(at, 40), (at + 40, 32)], identity=number)
        world.absent.add((ring.buffers + 0x1000) >> 12)
        world.doorbells.append(1)
        await ctx.tick().repeat(800)
        assert len(world.sent) == 3
        assert len(world.slots) == world.slot_count
        world.absent.clear()
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 6)[1], 6000)
        assert [frame for _, frame in world.sent] == [bytes([n + 1]) * 60 for n in range(6)]

    world.run(test)


@pytest.mark.parametrize("queue", [0, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_a_touched_page_is_used_before_that_of_a_later_chain_is_there(packed, queue):
    """Else it could be gone again by then, and so for ever."""
    world = RingWorld(FEATURED, seed=55)

    async def test(ctx):
        make, used = (world.packed_ring if packed else world.ring), []
        ring = make(queue, 8, indirect=1)
        first, table = ring.buffers + 0x1000, ring.buffers + 0x2000
        world.guest[first : first + 12] = HEADER
        frame = bytes([7]) * 60
        world.guest[first + 12 : first + 72] = frame
        struct.pack_into("<QIHH", world.guest, table, ring.buffers, 2048, 2 - 2 * queue, 0)
        world.absent.add(first >> 12)
        for identity, (part, flags) in enumerate((((first, 72), 0), ((table, 16), 4))):
            ring.post([part], flags=flags, **({"identity": identity} if packed else {}))
        if not queue:
            world.deliver(0, frame, 0)
        world.doorbells.append(queue)

        def reads():
            return sum(r.iova == table for r in world.requests)

        # The table goes when it has been read, and is away when it is read again.
        await world.until(ctx, reads, 500)
        await world.until(ctx, lambda: all(r.iova != table for _, r in world._dma), 100)
        world.absent.add(table >> 12)
        await world.until(ctx, lambda: reads() > 1 and first >> 12 in world.wanted(), 500)
        await ctx.tick().repeat(100)
        world.absent.discard(first >> 12)
        await world.until(ctx, lambda: (used.extend(ring.take()), used)[1], 1000)
        assert len(used) == 1
        assert table >> 12 in world.absent
        if queue:
            assert [content for _, content in world.sent] == [frame]
        else:
            assert world.guest[first + 12 : first + 72] == frame
        world.absent.clear()

    world.run(test)


@pytest.mark.parametrize(("seed", "in_order"), [(47, 0), (48, 0), (48, 1)])
def test_what_is_used_is_not_written_again(seed, in_order):
    """The driver takes what is used of a ring whose next page cannot be written yet, and posts anew
    there (2.8.15).
    """
    world = RingWorld(FEATURED, seed=seed)

    async def test(ctx):
        ring, sent, used = world.packed_ring(1, 12, shift=0xFA0, in_order=in_order), [], []
        behind = (ring.desc >> 12) + 1

        def has_room():
            used.extend(ring.take())
            if world.rng.randrange(200) == 0:
                world.unwritable = set()
            return ring.room

        for number, (frame, parts) in enumerate(frames_of(world, ring, 120, 1)):
            if number % 3 == 0:
                world.unwritable = {behind}
            await world.until(ctx, has_room, 6000)
            ring.post(parts, identity=number)
            sent.append((0, frame))
            world.doorbells.append(1)
        world.unwritable = set()
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 120)[1], 6000)
        assert used == [(number, 0) for number in range(120)]
        assert world.sent == sent
        assert not world.torn
        lengths = [r.length for r in world.requests if r.write and r.iova >> 12 == behind - 1]
        # There were batches at the end of the page.
        assert in_order or max(lengths) > 16
        assert not world.errors

    world.run(test)


def test_a_ring_that_cannot_be_written_stops_its_queue():
    world = RingWorld(FEATURED, seed=46)

    async def test(ctx):
        ring = world.packed_ring(1)
        ring.post([(ring.buffers, 80)], identity=0)
        world.doorbells.append(1)
        await world.until(ctx, lambda: world.requests)
        world.status[ring.driver >> 12] = DmaStatus.FAULT
        await world.until(ctx, lambda: world.errors)
        assert world.errors == [(1, QueueError.RING_ADDRESS)]

    world.run(test)
