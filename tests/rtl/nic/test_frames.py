"""Frame memories: who reads what when, slots and their references."""

from dataclasses import replace

import pytest

from models.spec.config import config
from rtl.nic.frame_slots import SlotPool
from rtl.nic.frames import FrameStore
from rtl.nic.seams import LocalMemory
from tests.rtl.agents import Sink, Source, get, put, run, seeded, wait_for

TINY = config("tiny").nic
BEATS = TINY.frame_stride // 16


def ref(memory, slot, length=64):
    return {"memory": memory, "slot": slot, "length": length}


def test_pool_offers_every_slot_once():
    dut = SlotPool(5)

    async def bench(ctx):
        assert [await get(ctx, dut.alloc) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert ctx.get(dut.free) == 0
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.alloc.valid)

    run(dut, bench)


def test_slot_is_free_after_its_last_reference():
    dut = SlotPool(2)

    async def bench(ctx):
        first, second = await get(ctx, dut.alloc), await get(ctx, dut.alloc)
        await put(ctx, dut.share, {"slot": first, "count": 3})
        await put(ctx, dut.release, first)
        await put(ctx, dut.release, first)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(dut.alloc.valid)
        await put(ctx, dut.release, first)
        assert await get(ctx, dut.alloc) == first
        # Taken again it has one reference.
        await put(ctx, dut.release, first)
        assert await get(ctx, dut.alloc) == first
        # Nobody is to have it.
        await put(ctx, dut.share, {"slot": second, "count": 0})
        assert await get(ctx, dut.alloc) == second

    run(dut, bench)


@pytest.mark.parametrize("slots", [2, 7])
def test_random_references_leak_nothing(slots):
    dut, rng = SlotPool(slots), seeded(11)
    taken = Sink(dut.alloc, rng, 0.4)
    share, release = Source(dut.share, rng, 0.3), Source(dut.release, rng, 0.3)

    async def bench(ctx):
        held, seen = {}, 0
        for _ in range(1500):
            for slot in taken.got[seen:]:
                assert slot not in held
                held[slot] = 1
                count = rng.choice([0, 1, 2, 4])
                share.queue.append({"slot": slot, "count": count})
                held[slot] = count
                if not count:
                    del held[slot]
                seen += 1
            if not share.queue and held:
                slot = rng.choice(list(held))
                release.queue.append(slot)
                held[slot] -= 1
                if not held[slot]:
                    del held[slot]
                await wait_for(ctx, lambda: not release.queue)
            await ctx.tick()
        assert seen > 100
        taken.stall = 2.0  # no more
        await wait_for(ctx, lambda: not share.queue and not release.queue, then=4)
        held.update(dict.fromkeys(taken.got[seen:], 1))
        assert ctx.get(dut.free) == slots - len(held)

    run(dut, bench, background=[taken.process, share.process, release.process])


async def load(ctx, dut, memory, beat):
    ctx.set(dut.load.en, 1)
    ctx.set(dut.load.memory, memory)
    ctx.set(dut.load.addr, 16 * beat)
    await ctx.tick()
    ctx.set(dut.load.en, 0)
    return ctx.get(dut.load.data)


def set_store(ctx, port, **values):
    for name, value in values.items():
        ctx.set(getattr(port, name), value)


def test_memories_are_apart_and_bytes_are_masked():
    dut = FrameStore(TINY)

    async def bench(ctx):
        async def store(memory, beat, value, mask=0xFFFF):
            set_store(ctx, dut.store, en=1, memory=memory, addr=16 * beat, data=value, mask=mask)
            await ctx.tick()
            ctx.set(dut.store.en, 0)

        await store(LocalMemory.TX, 5, 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100)
        await store(LocalMemory.TX, 5, (1 << 128) - 1, mask=0x8001)
        await store(LocalMemory.SCRATCH, 5, 0)
        await store(LocalMemory.RX, 5, 0)
        set_store(ctx, dut.ingress, en=1, addr=5, data=0x1234)
        await ctx.tick()
        ctx.set(dut.ingress.en, 0)
        expected = 0xFF0E_0D0C_0B0A_0908_0706_0504_0302_01FF
        assert await load(ctx, dut, LocalMemory.TX, 5) == expected
        assert await load(ctx, dut, LocalMemory.RX, 5) == 0x1234
        last = TINY.tx_slots * BEATS - 1
        await store(LocalMemory.TX, last, 77)
        assert await load(ctx, dut, LocalMemory.TX, last) == 77

    run(dut, bench)


@pytest.mark.parametrize("size", [1536, 2048])
def test_every_byte_of_every_slot_has_a_place(size):
    """Also of slots of three quarters of a stride; beats begin anywhere, and cross the quarters."""
    nic = replace(TINY, frame_bytes=size)
    dut, rng = FrameStore(nic), seeded(13)
    stride, slots = nic.frame_stride, nic.tx_slots
    content = {slot: rng.randbytes(size) for slot in range(slots)}

    async def bench(ctx):
        set_store(ctx, dut.store, en=1, memory=LocalMemory.TX)
        starts = [(slot, at) for slot in range(slots) for at in range(0, size, 16)]
        rng.shuffle(starts)
        for slot, at in starts:
            value = int.from_bytes(content[slot][at : at + 16], "little")
            set_store(ctx, dut.store, addr=slot * stride + at, data=value, mask=0xFFFF)
            await ctx.tick()
        ctx.set(dut.store.en, 0)
        ctx.set(dut.load.en, 1)
        ctx.set(dut.load.memory, LocalMemory.TX)
        for slot in range(slots):
            for at in (*range(0, size - 16, 61), *range(497, 512), *range(1009, 1024), size - 16):
                ctx.set(dut.load.addr, slot * stride + at)
                await ctx.tick()
                found = ctx.get(dut.load.data).to_bytes(16, "little")
                lanes = {(at + n) % 16: content[slot][at + n] for n in range(16)}
                assert found == bytes(lanes[lane] for lane in range(16)), (slot, at)

    run(dut, bench)


def test_dma_goes_before_header_before_egress():
    dut = FrameStore(TINY)

    async def bench(ctx):
        for beat in range(4):
            set_store(ctx, dut.store, en=1, memory=LocalMemory.TX, addr=16 * beat, data=100 + beat)
            ctx.set(dut.store.mask, 0xFFFF)
            await ctx.tick()
        ctx.set(dut.store.en, 0)
        set_store(ctx, dut.load, en=1, memory=LocalMemory.TX, addr=16)
        set_store(ctx, dut.header, en=1, addr=2)
        set_store(ctx, dut.egress, en=1, addr=3)
        assert (ctx.get(dut.header.ready), ctx.get(dut.egress.ready)) == (0, 0)
        await ctx.tick()
        assert ctx.get(dut.load.data) == 101
        # A load of the other memory leaves this one to the header.
        ctx.set(dut.load.memory, LocalMemory.RX)
        assert (ctx.get(dut.header.ready), ctx.get(dut.egress.ready)) == (1, 0)
        await ctx.tick()
        assert ctx.get(dut.header.data) == 102
        set_store(ctx, dut.load, en=0)
        set_store(ctx, dut.header, en=0)
        assert ctx.get(dut.egress.ready) == 1
        await ctx.tick()
        assert ctx.get(dut.egress.data) == 103

    run(dut, bench)


def test_references_go_to_the_pool_of_their_memory():
    dut = FrameStore(TINY)

    async def bench(ctx):
        await wait_for(ctx, lambda: ctx.get(dut.tx_free) == 16 and ctx.get(dut.rx_free) == 16)
        tx, rx = await get(ctx, dut.tx_alloc), await get(ctx, dut.rx_alloc)
        await put(ctx, dut.share, {"frame": ref(LocalMemory.TX, tx), "count": 2})
        await put(ctx, dut.release0, ref(LocalMemory.RX, rx))
        await put(ctx, dut.release1, ref(LocalMemory.TX, tx))
        for _ in range(8):
            await ctx.tick()
        assert (ctx.get(dut.tx_free), ctx.get(dut.rx_free)) == (15, 16)
        await put(ctx, dut.release0, ref(LocalMemory.SCRATCH, 3))  # of nobody
        await put(ctx, dut.release0, ref(LocalMemory.TX, tx))
        for _ in range(8):
            await ctx.tick()
        assert (ctx.get(dut.tx_free), ctx.get(dut.rx_free)) == (16, 16)

    run(dut, bench)
