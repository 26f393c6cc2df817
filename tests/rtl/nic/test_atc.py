"""The device TLB by itself: what is kept, and what is forgotten."""

import random

import pytest

from models.spec.config import NicConfig
from rtl.nic.atc import Atc
from tests.rtl.nic.dma_world import CONFIG
from tests.rtl.simulators import built, simulator


class Block:
    """The block alone: tells what it is asked, one thing at a time."""

    def __init__(self, config=CONFIG):
        self.dut = built(Atc, config)

    def run(self, test):
        sim = simulator(self.dut)

        async def start(ctx):
            for function in range(self.dut.config.functions):
                ctx.set(self.dut.controls[function].enable, 1)
                ctx.set(self.dut.controls[function].ats, 1)
            await ctx.tick().repeat(20)  # it is empty now
            await test(ctx)

        sim.add_testbench(start)
        sim.run()

    async def look(self, ctx, function, page, write=0):
        """Return the page it is translated to, if it is known."""
        look = self.dut.look
        for key in (look.next, look.key):
            ctx.set(key, {"function": function, "page": page})
        ctx.set(look.en, 1)
        await ctx.tick()
        ctx.set(look.en, 0)
        ctx.set(look.write, write)
        return ctx.get(look.page) if ctx.get(look.hit) else None

    async def ask(self, ctx, slot, function, page):
        begun = self.dut.begun
        for name, value in (("slot", slot), ("function", function), ("iova", page << 12)):
            ctx.set(begun[name], value)
        ctx.set(self.dut.asks, 1)
        await ctx.tick()
        ctx.set(self.dut.asks, 0)

    async def answer(self, ctx, slot, function, page, value, *, r=1, w=1, large=0):
        """Answer a slot; return whether the answer was too old."""
        answer = self.dut.answer
        fill = {"key": {"function": function, "page": page}, "r": r, "w": w}
        ctx.set(answer.fill, {**fill, "value": value, "large": large})
        ctx.set(answer.slot, slot)
        ctx.set(answer.fills, r | w)
        ctx.set(answer.answered, 1)
        stale = ctx.get(answer.stale)
        await ctx.tick()
        ctx.set(answer.fills, 0)
        ctx.set(answer.answered, 0)
        await ctx.tick().repeat(2)
        return stale

    async def fill(self, ctx, function, page, value, **more):
        await self.ask(ctx, 0, function, page)
        assert not await self.answer(ctx, 0, function, page, value, **more)

    async def forget(self, ctx, function, page, open_=0):
        """Return in how many cycles it was done."""
        forget = self.dut.forget
        ctx.set(forget.payload, {"key": {"function": function, "page": page}, "open": open_})
        ctx.set(forget.valid, 1)
        for cycles in range(1, 200):
            if (await ctx.tick().sample(forget.ready))[-1]:
                ctx.set(forget.valid, 0)
                return cycles
        raise AssertionError("never forgotten")


def test_a_page_is_found_by_its_function_with_its_rights():
    block = Block()

    async def test(ctx):
        await block.fill(ctx, 1, 0x123, 0x9999, w=0)
        assert await block.look(ctx, 1, 0x123) == 0x9999
        assert await block.look(ctx, 1, 0x123, write=1) is None
        assert await block.look(ctx, 2, 0x123) is None
        assert await block.look(ctx, 1, 0x124) is None
        await block.fill(ctx, 1, 0x123, 0x9999)
        assert await block.look(ctx, 1, 0x123, write=1) == 0x9999
        await block.fill(ctx, 1, 0x125, 0x9998, r=0)
        assert await block.look(ctx, 1, 0x125) is None
        assert await block.look(ctx, 1, 0x125, write=1) == 0x9998
        await block.fill(ctx, 1, (1 << 52) - 1, (1 << 47) - 1)
        assert await block.look(ctx, 1, (1 << 52) - 1) == (1 << 47) - 1

    block.run(test)


def test_a_large_range_is_one_entry():
    block = Block()

    async def test(ctx):
        await block.fill(ctx, 2, 0x4211, 0x60011, large=1)
        for inside in (0, 0x11, 0x1FF):
            assert await block.look(ctx, 2, 0x4200 + inside) == 0x60000 + inside
        assert await block.look(ctx, 2, 0x4400) is None
        await block.forget(ctx, 2, 0x43FF)  # any page of it
        assert await block.look(ctx, 2, 0x4211) is None

    block.run(test)


@pytest.mark.parametrize("entries", [32, 64, 256])
def test_as_many_pages_as_there_are_entries(entries):
    """Functions whose drivers use the same pages do not get into each other's way."""
    block = Block(NicConfig(vfs=8, dma_slots=4, atc_entries=entries))
    pages = entries // 8

    async def test(ctx):
        await ctx.tick().repeat(entries)
        for page in range(pages):
            for function in range(8):
                await block.fill(ctx, function, 0x80000 + page, 8 * page + function)
        for page in range(pages):
            for function in range(8):
                found = await block.look(ctx, function, 0x80000 + page)
                assert found == 8 * page + function
        # One more takes the place of one, and one only.
        await block.fill(ctx, 0, 0x90000, 1)
        assert await block.look(ctx, 0, 0x90000) == 1
        missing = [
            await block.look(ctx, function, 0x80000 + page) is None
            for page in range(pages)
            for function in range(8)
        ]
        assert sum(missing) == 1

    block.run(test)


@pytest.mark.parametrize("pages_log2", [0, 1, 3, 9, 12, 52])
def test_a_range_is_forgotten_and_nothing_else(pages_log2):
    block = Block()
    rng = random.Random(pages_log2)
    span = (1 << pages_log2) - 1

    async def test(ctx):
        base = rng.getrandbits(52) & ~span
        pages = {base, base | span, base | rng.getrandbits(52) & span, base ^ (span + 1)}
        pages = sorted(page for page in pages if page < 1 << 52)
        for function in (1, 2):
            for page in pages:
                await block.fill(ctx, function, page, page & 0xFFFF)
        await block.forget(ctx, 1, base | rng.getrandbits(52) & span, span)
        for page in pages:
            covered = page & ~span == base
            expected = None if covered else page & 0xFFFF
            assert await block.look(ctx, 1, page) == expected
            assert await block.look(ctx, 2, page) == page & 0xFFFF

    block.run(test)


def test_how_long_forgetting_takes():
    block = Block()
    slots, sets, large = CONFIG.dma_slots, CONFIG.atc_entries // 4, CONFIG.atc_entries // 16

    async def test(ctx):
        assert await block.forget(ctx, 1, 7) == slots + large + 3
        assert await block.forget(ctx, 1, 7, 1) == slots + sets + 3

    block.run(test)


def test_a_lookup_that_waits_sees_what_is_forgotten():
    block = Block()

    async def test(ctx):
        await block.fill(ctx, 1, 7, 70)
        await block.fill(ctx, 2, 7, 71)
        assert await block.look(ctx, 1, 7) == 70
        await block.forget(ctx, 1, 7)
        assert not ctx.get(block.dut.look.hit)
        assert await block.look(ctx, 2, 7) == 71
        await block.forget(ctx, 1, 7)
        assert ctx.get(block.dut.look.hit)

    block.run(test)


@pytest.mark.parametrize("slot", range(CONFIG.dma_slots))
@pytest.mark.parametrize("delay", range(1, 24))
def test_what_was_asked_for_before_is_neither_kept_nor_used(slot, delay):
    """The answer comes at every moment of the forgetting, and after."""
    block = Block()

    async def test(ctx):
        await block.ask(ctx, slot, 1, 7)
        forget = block.dut.forget
        ctx.set(forget.payload, {"key": {"function": 1, "page": 7}})
        ctx.set(forget.valid, 1)
        answered = False
        for cycle in range(30):
            if cycle == delay:
                stale = await block.answer(ctx, slot, 1, 7, 70)
                answered = True
                done = not ctx.get(forget.valid)
                assert stale or not done, "an old answer may be used"
            if (await ctx.tick().sample(forget.ready))[-1]:
                ctx.set(forget.valid, 0)
        assert answered
        assert await block.look(ctx, 1, 7) is None

    block.run(test)


def test_an_old_large_answer_does_not_bring_back_what_is_beside_it():
    block = Block()

    async def test(ctx):
        await block.ask(ctx, 1, 1, 0x4210)
        await block.forget(ctx, 1, 0x4211)
        assert not await block.answer(ctx, 1, 1, 0x4210, 0x60010, large=1)
        assert await block.look(ctx, 1, 0x4210) == 0x60010
        assert await block.look(ctx, 1, 0x4211) is None

    block.run(test)


@pytest.mark.parametrize("name", ["enable", "ats"])
def test_a_function_that_ceases_to_translate_is_forgotten(name):
    block = Block()

    async def test(ctx):
        control = block.dut.controls[1]
        for function in (0, 1, 2):
            await block.fill(ctx, function, 7, 70 + function)
        await block.ask(ctx, 2, 1, 8)
        ctx.set(control[name], 0)
        await ctx.tick()
        ctx.set(control[name], 1)
        assert await block.look(ctx, 1, 7) is None
        assert await block.look(ctx, 0, 7) == 70
        await ctx.tick().repeat(40)
        assert await block.answer(ctx, 2, 1, 8, 80), "asked for before"
        assert await block.look(ctx, 1, 7) is None
        assert await block.look(ctx, 1, 8) is None
        assert await block.look(ctx, 2, 7) == 72

    block.run(test)
