"""Values against all entries at once."""

import pytest

from rtl.nic.matcher import Matcher
from tests.rtl.agents import run, seeded, wait_for


@pytest.mark.parametrize(("parts", "bits", "turns"), [(3, 4, 1), (4, 2, 2), (6, 3, 2), (4, 2, 4)])
def test_matches_what_the_entries_are(parts, bits, turns):
    """Values and entries of few, so that entries are often equal, also in all parts but one."""
    rng, width = seeded(3), parts * bits
    few = [rng.getrandbits(width) for _ in range(4)]
    few += [value ^ 1 << rng.randrange(width) for value in few for _ in range(2)]
    entries = [rng.choice([None, *few]) for _ in range(7)]
    dut, found = Matcher(parts, bits, entries, turns=turns), set()

    async def compare(ctx):
        value = rng.choice(few)
        ctx.set(dut.busy, 1)
        for _ in range(rng.randrange(4)):
            await ctx.tick()
        ctx.set(dut.en, 1)
        ctx.set(dut.value, value)
        for _ in range(turns):
            await ctx.tick()
            ctx.set(dut.en, 0)
        ctx.set(dut.value, rng.getrandbits(width))
        for _ in range(1 + rng.randrange(3)):
            assert ctx.get(dut.match) == sum(1 << n for n, e in enumerate(entries) if e == value)
            await ctx.tick()
        ctx.set(dut.busy, 0)
        found.add(ctx.get(dut.match))

    async def update(ctx, waits):
        """One that begins now, or waits for a comparison."""
        entry, new = rng.randrange(len(entries)), rng.choice([None, *few])
        change = {"entry": entry, "old": entries[entry] or 0, "new": new or 0}
        if waits:
            ctx.set(dut.busy, 1)
            await ctx.tick()
        ctx.set(dut.update.payload, change | {"valid": new is not None})
        ctx.set(dut.update.valid, 1)
        if waits:
            assert not ctx.get(dut.ready)
            await compare(ctx)
        cycles = 1
        while not ctx.get(dut.update.ready):
            await ctx.tick()
            cycles += 1
            assert not ctx.get(dut.ready)
        await ctx.tick()
        ctx.set(dut.update.valid, 0)
        assert cycles == 1 + (4 if new is not None else 2) * turns
        entries[entry] = new

    async def bench(ctx):
        assert not ctx.get(dut.match)
        await wait_for(ctx, lambda: ctx.get(dut.ready))
        for _ in range(200):
            if rng.random() < 0.4:
                await update(ctx, rng.random() < 0.5)
            else:
                await compare(ctx)
        assert len(found) > 4

    run(dut, bench)
