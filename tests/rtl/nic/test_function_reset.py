"""Function level reset through all registers of the NIC, at any moment of a function's life."""

import pytest

from models.spec.nic import QueueError, bar_base, config_base
from models.spec.pci import pf_space, vf_space
from rtl.nic.seams import QueueOp
from tests.rtl.agents import wait_for
from tests.rtl.nic.pci_world import settings
from tests.rtl.nic.registers_world import AFTER_RESET, PER, TINY, Machine

ONES = 0xFFFF_FFFF
_VF = vf_space(TINY)


async def store(machine, ctx, f, register, value):
    lane = register.offset % 4
    strobes = (1 << register.bytes) - 1 << lane
    address = config_base(f) + register.offset - lane
    await machine.bus.write32(ctx, address, value << 8 * lane, strobes)


async def flr(machine, ctx, f):
    register = (vf_space if f else pf_space)(TINY)["device_control"]
    await store(machine, ctx, f, register, register["flr"].mask)


async def away(machine, ctx, f):
    """Whether a function's configuration space does not answer."""
    return await machine.bus.read32(ctx, config_base(f) + 4) == ONES


async def back(machine, ctx, f):
    for _ in range(200):
        if not await away(machine, ctx, f):
            return
    raise AssertionError("the reset does not end")


async def set_up_again(machine, ctx, f):
    for register, value in settings(TINY, f):
        await store(machine, ctx, f, register, value)


def test_queues_stop_before_a_function_is_back():
    machine = Machine(obedient=False)

    async def bench(ctx):
        for f in (1, 2):
            await machine.manage(ctx, f, "control", 1)
            await machine.start(ctx, f)
        await wait_for(ctx, lambda: len(machine.commands.got) == 4)
        before = await machine.read(ctx, 2, "device_status")
        await flr(machine, ctx, 1)
        assert ctx.get(machine.dut.controls[1].enable) == 0
        assert ctx.get(machine.dut.live) & 2 == 0
        await wait_for(ctx, lambda: len(machine.commands.got) == 6)
        stops = [(c.op, c.queue) for c in machine.commands.got[4:]]
        assert stops == [(QueueOp.DISABLE, PER), (QueueOp.DISABLE, PER + 1)]
        machine.stopped.queue.append(PER)
        for _ in range(10):
            assert await away(machine, ctx, 1)
            assert await machine.bus.read32(ctx, bar_base(1)) == ONES
        # Nobody else notices.
        assert await machine.read(ctx, 2, "device_status") == before
        assert ctx.get(machine.dut.controls[2].enable) == 1
        machine.stopped.queue.append(PER + 1)
        await back(machine, ctx, 1)
        for name, value in AFTER_RESET.items():
            assert await machine.read(ctx, 1, name) == value, name
        assert ctx.get(machine.dut.controls[1].enable) == 0
        assert await machine.managed(ctx, 1, "control") == 1  # the hypervisor's
        await set_up_again(machine, ctx, 1)
        assert ctx.get(machine.dut.controls[1].enable) == 1
        await machine.start(ctx, 1)
        await wait_for(ctx, lambda: len(machine.commands.got) == 8)

    machine.run(bench)


#: In the middle of a reset by the driver, an error's report, and another reset; and of the rest.
_FAST = (0, 2, 6, 7)
_PHASES = [
    *((step, (0, 7)) for step in _FAST),
    *(pytest.param(step, range(24), marks=pytest.mark.full) for step in range(8)),
]


@pytest.mark.parametrize(("step", "delays"), _PHASES)
def test_at_any_moment_of_a_drivers_life(step, delays):
    """Also in the middle of the driver's own reset, of a queue's, and of an error's report."""
    machine = Machine()

    async def bench(ctx):
        for delay in delays:
            await machine.start(ctx, 1)
            match step:
                case 0:
                    await machine.write(ctx, 1, "device_status", 0)
                case 1:
                    await machine.write(ctx, 1, "queue_reset", 1)
                case 2:
                    machine.errors.queue.append({"queue": PER, "error": QueueError.BUS})
                case 3:
                    await machine.manage(ctx, 1, "mac_low", delay)
                case 4:
                    await machine.notify(ctx, 1, 1)
                case 5:
                    await machine.manage(ctx, 1, "control", delay & 1)
                case 6:
                    await flr(machine, ctx, 1)
                case 7:
                    await flr(machine, ctx, 0)
            for _ in range(delay):
                await ctx.tick()
            await flr(machine, ctx, 1)
            if step == 7:
                await back(machine, ctx, 0)
                await set_up_again(machine, ctx, 0)
            await back(machine, ctx, 1)
            for name in ("device_status", "driver_feature", "queue_enable"):
                assert await machine.read(ctx, 1, name) == 0, (name, delay)
            await set_up_again(machine, ctx, 1)
            await machine.manage(ctx, 1, "control", 1)

    machine.run(bench)
    enables = sum(c.op == QueueOp.ENABLE for c in machine.commands.got)
    assert enables >= len(delays)


def test_vf_disable_stops_all_vfs_and_not_the_pf():
    machine = Machine()
    control = pf_space(TINY)["sriov_control"]

    async def bench(ctx):
        for f in range(4):
            await machine.manage(ctx, f, "control", 1)
            await machine.start(ctx, f)
        await wait_for(ctx, lambda: len(machine.commands.got) == 8)
        await store(machine, ctx, 0, control, control["vf_memory"].mask)
        await wait_for(ctx, lambda: len(machine.commands.got) == 14, then=200)
        stopped = {c.queue // PER for c in machine.commands.got[8:]}
        assert stopped == {1, 2, 3}
        assert [ctx.get(machine.dut.controls[f].enable) for f in range(4)] == [1, 0, 0, 0]
        assert ctx.get(machine.dut.live) == 1
        on = control["vf_memory"].mask | control["vf_enable"].mask
        await store(machine, ctx, 0, control, on)
        for f in (1, 2, 3):
            await back(machine, ctx, f)
            assert await machine.read(ctx, f, "device_status") == 0

    machine.run(bench)
