"""Walk cache: address spaces spread over its sets."""

import pytest
from amaranth.hdl import Module, Signal

from rtl.iommu.walk_cache import TableKey, WalkCache
from tests.rtl.agents import run


@pytest.mark.parametrize("entries", [8, 64])
@pytest.mark.parametrize("ids", [("gscid",), ("pscid",), ("gscid", "pscid")])
def test_numbers_of_address_spaces_spread_over_the_sets(entries, ids):
    """Also when software gives a guest's process the number of the guest."""
    cache, m = WalkCache(entries=entries, second=False), Module()
    key, index = Signal(TableKey), Signal(16)
    m.d.comb += index.eq(cache._set(key))
    m.d.sync += Signal().eq(1)

    async def test(ctx):
        found = set()
        for number in range(cache.sets):
            ctx.set(key, dict.fromkeys(ids, number) | {"gv": 1, "prefix": 5})
            found.add(ctx.get(index))
        assert found == set(range(cache.sets))

    run(m, test)
