"""Walk caches: address spaces spread over their rows."""

import pytest
from amaranth.hdl import Module, Signal

from models.spec.config import IommuConfig
from rtl.iommu.walk_cache import TableKey, WalkCache
from tests.rtl.agents import run


@pytest.mark.parametrize("entries", [8, 64])
@pytest.mark.parametrize("ids", [("gscid",), ("pscid",), ("gscid", "pscid")])
def test_numbers_of_address_spaces_spread_over_the_rows(entries, ids):
    """Also when software gives a guest's process the number of the guest."""
    cache, m = WalkCache(IommuConfig(walk_cache=entries)), Module()
    key, index = Signal(TableKey), Signal(16)
    m.d.comb += index.eq(cache._row(key, 0))
    m.d.sync += Signal().eq(1)

    async def test(ctx):
        found = set()
        for number in range(cache.entries):
            ctx.set(key, dict.fromkeys(ids, number) | {"gv": 1, "prefix": 5})
            found.add(ctx.get(index))
        assert found == set(range(cache.entries))

    run(m, test)


def test_a_look_beside_a_fill_of_another_row_is_answered():
    dut = WalkCache(IommuConfig(walk_cache=8))
    one, other, same = (
        {"second": 0, "gv": 1, "gscid": 1, "pscid": 1, "prefix": prefix} for prefix in (5, 6, 13)
    )

    async def cycle(ctx, *, look=None, fill=None):
        """One with a look, a fill, or both; then the look's key is compared."""
        ctx.set(dut.look_en, look is not None)
        ctx.set(dut.look, look or one)
        ctx.set(dut.fill_en, fill is not None)
        ctx.set(dut.key, fill or one)
        ctx.set(dut.fill, {"ppn": (fill or one)["prefix"]})
        await ctx.tick()
        ctx.set(dut.look_en, 0)
        ctx.set(dut.fill_en, 0)
        ctx.set(dut.key, look or one)

    async def test(ctx):
        while ctx.get(dut.busy):
            await ctx.tick()
        await cycle(ctx, fill=one)
        for beside, hits in ((None, 1), (other, 1), (same, 0), (None, 0)):
            await cycle(ctx, look=one, fill=beside)
            assert ctx.get(dut.hits[0]) == hits
            assert not hits or ctx.get(dut.found0.ppn) == one["prefix"]
            await ctx.tick()
            assert ctx.get(dut.hits[0]) == hits
        await cycle(ctx, look=other)
        assert ctx.get(dut.hits[0])
        assert ctx.get(dut.found0.ppn) == other["prefix"]

    run(dut, test)
