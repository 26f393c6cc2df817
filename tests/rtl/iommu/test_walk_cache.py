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
