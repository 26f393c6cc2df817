"""The PF's interrupt pin and ISR status; notifications, which are counted."""

import pytest

from models.spec.nic import (
    ISR_OFFSET,
    NOTIFY_OFFSET,
    Isr,
    Stat,
    bar_base,
    config_base,
)
from models.spec.pci import pf_space
from tests.rtl.agents import wait_for
from tests.rtl.nic.registers_world import PER, TINY, Machine


def test_the_pfs_pin_follows_its_isr_status():
    """With MSI-X disabled; used buffers of a cycle in which the status is read are not lost."""
    machine = Machine()
    dut, isr = machine.dut, bar_base(0) + ISR_OFFSET
    control = config_base(0) + pf_space(TINY)["msix_control"].offset - 2
    enable = 1 << 31

    delay = {"cycles": -1}

    async def used(ctx):
        delay["cycles"] = 1  # maybe one of them is counted at once
        await wait_for(ctx, lambda: delay["cycles"] < 0, then=2)

    async def later(ctx):
        while True:
            ctx.set(dut.used, delay["cycles"] == 0)
            await ctx.tick()
            delay["cycles"] -= 1

    async def bench(ctx):
        await machine.bus.write32(ctx, control, enable)
        await used(ctx)
        assert not ctx.get(dut.pin)
        assert await machine.bus.read32(ctx, isr) == 0
        await machine.bus.write32(ctx, control, 0)
        await used(ctx)
        assert ctx.get(dut.pin)
        assert await machine.bus.read32(ctx, bar_base(1) + ISR_OFFSET) == 0
        assert ctx.get(dut.pin)
        assert await machine.bus.read32(ctx, isr) == Isr.QUEUE
        assert not ctx.get(dut.pin)
        assert await machine.bus.read32(ctx, isr) == 0
        # A change of the configuration, alone and with used buffers
        await machine.start(ctx, 0)
        await machine.manage(ctx, 0, "mac_low", 0x1234_5602)
        await wait_for(ctx, lambda: ctx.get(dut.pin))
        await machine.write(ctx, 0, "queue_select", 1)  # other writes leave it
        assert ctx.get(dut.pin)
        await used(ctx)
        assert await machine.bus.read32(ctx, isr) == Isr.QUEUE | Isr.CONFIG
        assert not ctx.get(dut.pin)
        # Used buffers in any cycle of a read are seen in it, or in the next.
        late = []
        for cycles in range(1, 16):
            delay["cycles"] = cycles
            found = await machine.bus.read32(ctx, isr)
            await wait_for(ctx, lambda: delay["cycles"] < 0, then=2)
            late.append(bool(ctx.get(dut.pin)))
            assert found == (0 if late[-1] else Isr.QUEUE), cycles
            assert await machine.bus.read32(ctx, isr) == (Isr.QUEUE if late[-1] else 0)
        assert late == sorted(late)
        assert {*late} == {False, True}
        await used(ctx)
        await machine.write(ctx, 0, "device_status", 0)
        while await machine.read(ctx, 0, "device_status"):
            pass
        assert not ctx.get(dut.pin)

    machine.run(bench, later)


@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_notifications_are_counted(stall):
    """Each of them, whether its queue runs or not; not of what is no queue of the function."""
    machine = Machine(stall=stall)
    rung = [(1, 0), (1, 1), (1, 1), (2, 1), (0, 0), (1, PER), (TINY.functions, 0), (3, 0)]

    async def bench(ctx):
        await machine.start(ctx, 1)
        for f, queue in rung:
            await machine.bus.write32(ctx, bar_base(f) + NOTIFY_OFFSET + 4 * queue, queue)
        await machine.bus.read32(ctx, bar_base(1) + NOTIFY_OFFSET)
        await machine.bus.write32(ctx, bar_base(1) + NOTIFY_OFFSET, 0, 0)
        expected = [f for f, queue in rung if f < TINY.functions and queue < PER]
        await wait_for(ctx, lambda: len(machine.counted.got) == len(expected), then=50)
        assert [count.function for count in machine.counted.got] == expected
        kinds = {(count.stat, count.amount) for count in machine.counted.got}
        assert kinds == {(Stat.NOTIFICATIONS, 1)}

    machine.run(bench)
