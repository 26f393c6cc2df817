"""Virtqueues with event index and indirect tables, and pages that come and go."""

import struct
from dataclasses import replace

import pytest

from models.spec.config import NicConfig
from models.spec.nic import QueueError, Stat
from tests.rtl.nic.ring_world import RingWorld

CONFIG = NicConfig(vfs=3, queue_pairs=1, tx_slots=16, rx_slots=16)
#: With all kinds of rings built in.
FEATURED = replace(
    CONFIG, packed=True, indirect=True, event_idx=True, mergeable=True, in_order=True
)
HEADER = bytes(12)


def test_event_index_notifies_and_interrupts_where_asked():
    """A driver that notifies only where ``avail_event`` is passed has everything sent."""
    world = RingWorld(FEATURED, seed=35)

    async def test(ctx):
        ring = world.ring(1, event_idx=1)
        ring.set_used_event(4)
        await world.until(ctx, lambda: not world.commands)
        notified = 0
        for number in range(40):
            await world.until(ctx, lambda: (ring.take(), len(ring.free))[1] >= 2)
            ring.post([(ring.buffers, 80)])
            if ring.avail_event == (ring.idx - 1) & 0xFFFF:
                world.doorbells.append(1)
                notified += 1
            await ctx.tick().repeat(world.rng.choice([1, 20, 300]))
            if number == 3:
                await ctx.tick().repeat(400)
                assert not world.interrupts
        await world.until(ctx, lambda: len(world.sent) == 40, 6000)
        await ctx.tick().repeat(400)
        assert len(world.interrupts) == 1
        assert 5 < notified < 40
        assert ring.avail_event == 40

    world.run(test)


def test_in_order_one_element_stands_for_a_batch_of_what_is_sent():
    """The driver finds its chains; fewer elements are written than chains come back (2.7.9)."""
    world = RingWorld(FEATURED, seed=60)

    async def test(ctx):
        ring, posted, used = world.ring(1, 16, in_order=1), [], []
        for _ in range(60):
            await world.until(ctx, lambda: (used.extend(ring.take()), ring.free)[1], 6000)
            posted.append((ring.post([(ring.buffers, 80)]), 0))
            world.doorbells.append(1)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 60)[1], 6000)
        assert used == posted
        elements = [r for r in world.requests if r.write and r.iova >= ring.device + 4]
        assert {r.length for r in elements} == {8}
        assert len(elements) < 40
        await world.until(ctx, lambda: world.told == {1: 60})
        assert len(world.interrupts) == len(elements)  # one batch, one element
        assert not world.errors

    world.run(test)


def test_in_order_every_element_of_what_is_received_is_written():
    world = RingWorld(FEATURED, seed=61)

    async def test(ctx):
        ring, used = world.ring(0, 16, in_order=1), []
        heads = [ring.post([(ring.buffers + 0x100 * n, 0x100)]) for n in range(16)]
        for number in range(12):
            world.deliver(0, bytes([number]) * (60 + number), number)
        await world.until(ctx, lambda: (used.extend(ring.take()), len(used) == 12)[1], 6000)
        assert used == [(head, 72 + n) for n, head in enumerate(heads[:12])]

    world.run(test)


@pytest.mark.parametrize("entries", [1, 3, 20])
def test_indirect_tables(entries):
    """Frames in tables of their own, some longer than what is read of them at once."""
    world = RingWorld(FEATURED, seed=36)

    async def test(ctx):
        ring = world.ring(1, 32, indirect=1)
        frames = []
        for number in range(6):
            frame = world.rng.randbytes(100)
            at = ring.buffers + 0x800 * number
            world.guest[at : at + 112] = HEADER + frame
            cuts = [0, *sorted(world.rng.sample(range(1, 112), entries - 1)), 112]
            order = [0, *world.rng.sample(range(1, entries), entries - 1)]
            for i, place in enumerate(order):
                following = order[i + 1] if i + 1 < entries else 0
                struct.pack_into(
                    "<QIHH", world.guest, at + 0x100 + 16 * place, at + cuts[i],
                    cuts[i + 1] - cuts[i], int(i + 1 < entries), following,
                )  # fmt: skip
            ring.post([(at + 0x100, 16 * entries)], flags=4)
            frames.append((0, frame))
        world.doorbells.append(1)
        await world.until(ctx, lambda: len(world.sent) == 6, 6000)
        assert world.sent == frames
        assert not world.errors

    world.run(test)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("length", QueueError.BAD_INDIRECT),
        ("empty", QueueError.BAD_INDIRECT),
        ("nested", QueueError.BAD_INDIRECT),
        ("beyond", QueueError.BAD_INDIRECT),
        ("not accepted", QueueError.BAD_FLAGS),
        ("not built in", QueueError.BAD_FLAGS),
    ],
)
def test_broken_indirect_tables(kind, error):
    world = RingWorld(CONFIG if kind == "not built in" else FEATURED, seed=37)

    async def test(ctx):
        ring = world.ring(1, indirect=not kind.startswith("not "))
        length = {"length": 24, "empty": 0}.get(kind, 32)
        flags, following = {"nested": (4, 0), "beyond": (1, 2)}.get(kind, (0, 0))
        table = ring.buffers + 0x100
        struct.pack_into("<QIHH", world.guest, table, ring.buffers, 80, flags, following)
        ring.post([(table, length)], flags=4)
        world.doorbells.append(1)
        await world.until(ctx, lambda: world.errors)
        assert world.errors == [(1, error)]

    world.run(test)


def test_receivers_that_wait_for_pages_go_on_with_their_frames():
    """Of frames under way one meets a page that is not there: all arrive, in order."""
    world = RingWorld(CONFIG, seed=38)

    async def test(ctx):
        waiting, good = world.ring(0, 16, apart=True), world.ring(2, 16)
        # The third buffer's second piece is in a page of its own.
        far = waiting.buffers + 0x3000
        for number in range(6):
            at = waiting.buffers + 0x200 * number
            parts = [(at, 40), (far, 60)] if number == 2 else [(at, 100)]
            waiting.post(parts)
            good.post([(good.buffers + 0x200 * number, 100)])
        world.absent.add(far >> 12)
        for number in range(6):
            for function in (0, 1):
                world.deliver(function, bytes([number + 1]) * 60, 6 * function + number)
        found = {0: [], 1: []}
        await world.until(ctx, lambda: (found[1].extend(good.take()), len(found[1]) == 6)[1], 6000)
        await ctx.tick().repeat(500)
        found[0] += waiting.take()
        assert len(found[0]) == 2
        assert len(world.released) == 8
        world.absent.clear()
        await world.until(
            ctx, lambda: (found[0].extend(waiting.take()), len(found[0]) == 6)[1], 6000
        )
        assert [length for _, length in found[0]] == [72] * 6
        for number in (0, 1, 3, 4, 5):
            at = waiting.buffers + 0x200 * number
            assert world.guest[at + 12 : at + 72] == bytes([number + 1]) * 60
        assert world.guest[far : far + 32] == bytes([3]) * 32
        await ctx.tick().repeat(50)
        assert world.stats[0, Stat.RX_PACKETS] == world.stats[1, Stat.RX_PACKETS] == 6
        assert not world.errors

    world.run(test)


def test_pages_come_and_go_under_all_queues():
    """Whatever page is not there comes when it is asked for; others go; nothing is lost."""
    world = RingWorld(CONFIG, seed=39, slots=6)
    packets = 12

    async def test(ctx):
        rings = {queue: world.ring(queue, 32, apart=True) for queue in range(CONFIG.queues)}
        sent, found, arriving = {}, {queue: [] for queue in rings}, []
        for queue, ring in rings.items():
            for number in range(packets):
                at = ring.buffers + 0x300 * number + world.rng.randrange(16)
                frame = world.rng.randbytes(world.rng.choice([14, 60, 300]))
                if queue & 1:
                    world.guest[at : at + 12 + len(frame)] = HEADER + frame
                    sent.setdefault(queue // 2, []).append(frame)
                else:
                    arriving.append((queue // 2, frame, (4 * number + queue // 2) % 16))
                cut = world.rng.choice([None, 5, 12, 13])
                end = 12 + len(frame) if queue & 1 else 330
                ring.post([(at, cut), (at + cut, end - cut)] if cut else [(at, end)])
            world.doorbells.append(queue)
        pages = [page for ring in rings.values() for page in range(
            ring.desc >> 12, (ring.buffers >> 12) + 3)]  # fmt: skip
        world.absent.update(world.rng.sample(pages, 2 * len(pages) // 3))
        for _ in range(40_000):
            for queue, ring in rings.items():
                found[queue] += ring.take()
            if all(len(used) == packets for used in found.values()):
                break
            await ctx.tick()
            if arriving and world.rng.random() < 0.03:
                world.deliver(*arriving.pop(world.rng.randrange(min(4, len(arriving)))))
            for page in world.wanted():
                if world.rng.random() < 0.02:
                    world.absent.discard(page)
            if world.rng.random() < 0.002:
                world.absent.add(world.rng.choice(pages))
        assert not world.errors
        assert {queue: len(used) for queue, used in found.items()} == dict.fromkeys(rings, packets)
        for function, frames in sent.items():
            assert [content for source, content in world.sent if source == function] == frames
        await ctx.tick().repeat(100)
        assert len(world.slots) == world.slot_count

    world.run(test)
