"""Reads wait for messages that were before them, and for nothing else."""

import pytest

from models.spec.nic import (
    MANAGEMENT,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    bar_base,
    config_base,
    function_block,
)
from rtl.nic.read_order import ReadOrder
from tests.rtl.agents import get, put, run, wait_for

DOORBELL = bar_base(1) + NOTIFY_OFFSET + 4
WRITES = {
    "vector table": bar_base(1) + MSIX_TABLE_OFFSET + 12,
    "common configuration": bar_base(2) + 24,
    "configuration space": config_base(1) + 4,
    "management": function_block(1) + MANAGEMENT["control"].offset,
    # Its offset in the block is where a BAR has its notify page.
    "management, second page": function_block(2) + MANAGEMENT["control"].offset,
}


class World:
    """The component with registers behind it whose reads return their address."""

    def __init__(self):
        self.dut = ReadOrder(2)
        self.fences = 0

    async def registers(self, ctx):
        while True:
            request = await get(ctx, self.dut.port.request)
            await ctx.tick().repeat(2)
            await put(ctx, self.dut.port.response, 0 if request.write else request.addr)

    async def accept(self, ctx):
        port = self.dut.interrupt
        ctx.set(port.ready, 1)
        while True:
            *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            if valid:
                assert (payload.fence, payload.read, payload.whole) == (1, 1, 0)
                self.fences += 1

    async def access(self, ctx, addr, write=False):
        await put(ctx, self.dut.bus.request, {"addr": addr, "write": write, "strb": 15})
        return await get(ctx, self.dut.bus.response)

    def run(self, bench):
        run(self.dut, bench, background=[self.registers, self.accept])


@pytest.mark.parametrize("written", WRITES)
def test_a_read_behind_a_write_waits_for_its_fence(written):
    world = World()

    async def bench(ctx):
        response = world.dut.bus.response
        for lap in (1, 2):
            await world.access(ctx, WRITES[written], write=True)
            await put(ctx, world.dut.bus.request, {"addr": 64, "write": 0})
            await wait_for(ctx, lambda lap=lap: world.fences == lap, then=40)
            assert not ctx.get(response.valid)
            ctx.set(world.dut.pushed, 1)
            await ctx.tick()
            ctx.set(world.dut.pushed, 0)
            assert await get(ctx, response) == 64
            # Nothing has been written since.
            assert await world.access(ctx, 68) == 68
            assert world.fences == lap

    world.run(bench)


def test_doorbells_make_nobody_wait():
    world = World()

    async def bench(ctx):
        for _ in range(3):
            await world.access(ctx, DOORBELL, write=True)
            assert await world.access(ctx, DOORBELL) == DOORBELL
        assert not world.fences

    world.run(bench)


def test_the_fence_goes_behind_what_is_on_offer_and_before_what_comes():
    world = World()

    async def bench(ctx):
        dut = world.dut
        ctx.set(dut.pushed, 1)
        await world.access(ctx, WRITES["vector table"], write=True)
        ctx.set(dut.offers, 0b01)
        await put(ctx, dut.bus.request, {"addr": 64, "write": 0})
        await ctx.tick().repeat(30)
        assert not world.fences
        ctx.set(dut.offers, 0b11)
        ctx.set(dut.taken, 0b01)
        await ctx.tick()
        ctx.set(dut.taken, 0)  # the next one of the first source, and one of the other
        assert await get(ctx, dut.bus.response) == 64
        assert world.fences == 1

    world.run(bench)
