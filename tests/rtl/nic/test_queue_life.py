"""The life of functions and queues: resets, errors, and what their drivers see of them."""

import pytest

from models.spec.nic import (
    BASE_FEATURES,
    ISR_OFFSET,
    QueueError,
    bar_base,
    function_block,
    queue_error_offset,
)
from models.spec.virtio import Feature
from rtl.nic.seams import QueueOp
from tests.rtl.agents import run, wait_for
from tests.rtl.nic.registers_world import AFTER_RESET, COMMAND, PER, TINY, Machine, S, fields


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_reset_waits_for_the_engine(stall):
    machine = Machine(stall=stall, obedient=False)

    async def bench(ctx):
        await machine.start(ctx, 1)
        await machine.start(ctx, 2)
        await wait_for(ctx, lambda: len(machine.commands.got) == 4)
        before = await machine.read(ctx, 1, "device_status")
        await machine.write(ctx, 1, "device_status", 0)
        await wait_for(ctx, lambda: len(machine.commands.got) == 6)
        assert [(c.op, c.queue) for c in machine.commands.got[4:]] == [
            (QueueOp.DISABLE, PER),
            (QueueOp.DISABLE, PER + 1),
        ]
        assert ctx.get(machine.dut.live) == 4
        machine.stopped.queue.append(PER + 1)
        for _ in range(40):
            await ctx.tick()
        # Not over; writes are ignored, others go on.
        assert await machine.read(ctx, 1, "device_status") == before
        await machine.write(ctx, 1, "queue_select", 7)
        await machine.write(ctx, 1, "device_status", S.ACKNOWLEDGE)
        assert await machine.read(ctx, 1, "queue_select") == 1
        await machine.notify(ctx, 1, 0)
        await machine.notify(ctx, 2, 0)
        await wait_for(ctx, lambda: machine.doorbells.got)
        machine.stopped.queue.append(PER)
        while await machine.read(ctx, 1, "device_status"):
            pass
        assert await machine.read(ctx, 2, "device_status") == before
        for name, value in AFTER_RESET.items():
            assert await machine.read(ctx, 1, name) == value, name
        # And once more from the beginning; the old notification is forgotten.
        await machine.start(ctx, 1)
        await wait_for(ctx, lambda: len(machine.commands.got) == 8, then=40)
        assert [fields(c, COMMAND) for c in machine.commands.got[6:]] == [
            machine.enable(1, 0),
            machine.enable(1, 1),
        ]
        await machine.notify(ctx, 1, 1)
        await wait_for(ctx, lambda: len(machine.doorbells.got) == 2, then=30)

    machine.run(bench)
    assert [d.queue for d in machine.doorbells.got] == [2 * PER, PER + 1]


def test_reset_of_an_idle_function_is_over_at_once():
    """A driver that writes 0 and reads 0 goes on at once (Linux does)."""
    machine = Machine()

    async def bench(ctx):
        for _ in range(3):
            await machine.write(ctx, 3, "device_status", 0)
            assert await machine.read(ctx, 3, "device_status") == 0
            await machine.write(ctx, 3, "device_status", S.ACKNOWLEDGE)
            assert await machine.read(ctx, 3, "device_status") == S.ACKNOWLEDGE
            await machine.set_up(ctx, 3, 1)

    machine.run(bench)
    assert not machine.commands.got


@pytest.mark.parametrize("accepted", [True, False])
def test_queue_reset(accepted):
    machine = Machine(obedient=False)
    features = BASE_FEATURES & ~(0 if accepted else 1 << Feature.RING_RESET)

    async def bench(ctx):
        await machine.negotiate(ctx, 1, features)
        await machine.set_up(ctx, 1, 0)
        await machine.set_up(ctx, 1, 1)
        await machine.driver_ok(ctx, 1)
        await wait_for(ctx, lambda: len(machine.commands.got) == 2)
        await machine.write(ctx, 1, "queue_reset", 1)
        if not accepted:
            assert await machine.read(ctx, 1, "queue_reset") == 0
            return
        await wait_for(ctx, lambda: len(machine.commands.got) == 3)
        assert fields(machine.commands.got[2], ("op", "queue")) == {
            "op": QueueOp.DISABLE,
            "queue": PER + 1,
        }
        await machine.notify(ctx, 1, 1)
        assert await machine.read(ctx, 1, "queue_reset") == 1
        await machine.write(ctx, 1, "queue_enable", 1)
        machine.stopped.queue.append(PER + 1)
        while await machine.read(ctx, 1, "queue_reset"):
            pass
        assert await machine.read(ctx, 1, "queue_enable") == 0
        assert await machine.read(ctx, 1, "queue_size") == TINY.queue_size_max
        await machine.set_up(ctx, 1, 1, size=4, vector=2)
        await wait_for(ctx, lambda: len(machine.commands.got) == 4, then=40)
        assert fields(machine.commands.got[3], COMMAND) == machine.enable(1, 1, 4)
        await machine.write(ctx, 1, "queue_select", 0)
        assert await machine.read(ctx, 1, "queue_enable") == 1

    machine.run(bench)
    assert not machine.doorbells.got
    assert len(machine.commands.got) == (4 if accepted else 2)


def test_rings_become_one_and_none_is_lost():
    machine = Machine(take_doorbells=False)

    async def bench(ctx):
        for f in (1, 2):
            await machine.start(ctx, f)
        await wait_for(ctx, lambda: len(machine.commands.got) == 4)
        for _ in range(5):
            for f, queue in ((1, 0), (1, 1), (2, 1)):
                await machine.notify(ctx, f, queue)
        # One is offered already; a ring of that queue since then is a new one.
        machine.doorbells.stall = 0.3
        await wait_for(ctx, lambda: len(machine.doorbells.got) == 4, then=50)
        first, *others = [d.queue for d in machine.doorbells.got]
        assert first == PER
        assert sorted(others) == [PER, PER + 1, 2 * PER + 1]
        for _ in range(10):
            await machine.notify(ctx, 2, 0)
            await wait_for(ctx, lambda: True, then=30)
        assert [d.queue for d in machine.doorbells.got[4:]] == [2 * PER] * 10

    machine.run(bench)


def test_error_stops_a_queue_and_tells_the_driver():
    machine = Machine()

    async def error(ctx, f, queue):
        return await machine.bus.read32(ctx, function_block(f) + queue_error_offset(queue))

    async def bench(ctx):
        for f in (1, 2):
            await machine.write(ctx, f, "config_msix_vector", f)
            await machine.start(ctx, f)
        await machine.write(ctx, 3, "config_msix_vector", 3)
        before = await machine.read(ctx, 1, "device_status")
        machine.errors.queue.append({"queue": PER + 1, "error": QueueError.BAD_CHAIN})
        machine.errors.queue.append({"queue": 3 * PER, "error": QueueError.BUS})  # no driver
        machine.errors.queue.append({"queue": TINY.queues, "error": QueueError.BUS})  # nobody
        await wait_for(ctx, lambda: machine.interrupts.got, then=60)
        assert [fields(i, ("function", "vector")) for i in machine.interrupts.got] == [
            {"function": 1, "vector": 1}
        ]
        assert await machine.read(ctx, 1, "device_status") == before | S.DEVICE_NEEDS_RESET
        assert await machine.read(ctx, 2, "device_status") == before
        assert await machine.read(ctx, 3, "device_status") == S.DEVICE_NEEDS_RESET
        assert [await error(ctx, f, q) for f in range(4) for q in range(PER)] == [
            0, 0, 0, QueueError.BAD_CHAIN, 0, 0, QueueError.BUS, 0,
        ]  # fmt: skip
        assert await machine.bus.read32(ctx, bar_base(2) + ISR_OFFSET) == 0
        assert await machine.bus.read32(ctx, bar_base(1) + ISR_OFFSET) == 2
        assert await machine.bus.read32(ctx, bar_base(1) + ISR_OFFSET) == 0
        # The reason stays until the queue runs again.
        await machine.write(ctx, 1, "device_status", 0)
        while await machine.read(ctx, 1, "device_status"):
            pass
        assert await error(ctx, 1, 1) == QueueError.BAD_CHAIN
        await machine.start(ctx, 1)
        await wait_for(ctx, lambda: machine.commands.got[-1].op == QueueOp.ENABLE, then=40)
        assert await error(ctx, 1, 1) == 0

    machine.run(bench)
    assert len(machine.interrupts.got) == 1


def test_reset_ends_though_a_queue_fails_meanwhile():
    """The engine reports an error before it answers DISABLE, and both wait for an access."""
    machine = Machine(obedient=False)
    wait = {"cycles": -1}

    async def failing(ctx):
        while True:
            await ctx.tick()
            if wait["cycles"] == 0:
                machine.errors.queue.append({"queue": PER, "error": QueueError.BUS})
                for _ in range(4):
                    await ctx.tick()
                machine.stopped.queue += [PER, PER + 1]
            wait["cycles"] -= 1

    async def bench(ctx):
        await machine.write(ctx, 2, "queue_select", 0)
        for delay in range(14):
            await machine.start(ctx, 1)
            await wait_for(ctx, lambda d=delay: len(machine.commands.got) == 4 * d + 2)
            await machine.write(ctx, 1, "device_status", 0)
            await wait_for(ctx, lambda d=delay: len(machine.commands.got) == 4 * d + 4)
            wait["cycles"] = delay
            for _ in range(3):
                await machine.read(ctx, 2, "queue_size")
            await wait_for(ctx, lambda d=delay: machine.stopped.sent == 2 * (d + 1))
            for _ in range(6):
                status = await machine.read(ctx, 1, "device_status")
            assert status == 0, f"the reset does not end, delay {delay}"

    parts = (machine.commands, machine.doorbells, machine.interrupts)
    parts += (machine.stopped, machine.errors)
    run(
        machine.dut,
        machine.configured(bench),
        background=[part.process for part in parts] + [failing],
    )
    assert machine.errors.sent == 14


@pytest.mark.parametrize("whole", [True, False])
def test_a_reset_ends_behind_its_fence(whole):
    """And behind what others hold of the function; nobody else waits for it."""
    machine = Machine()
    name = "device_status" if whole else "queue_reset"

    async def bench(ctx):
        dut, fences = machine.dut, []
        machine.interrupts.keep = lambda raised: raised.read or fences.append(raised)
        for f in (1, 2):
            await machine.start(ctx, f)
        await wait_for(ctx, lambda: len(machine.commands.got) == 4)
        assert ctx.get(dut.told) == 0b1111 << PER
        ctx.set(dut.fenced, 0)
        ctx.set(dut.held, 1)
        await machine.write(ctx, 1, "queue_select", 1)
        await machine.write(ctx, 1, name, 0 if whole else 1)
        await wait_for(ctx, lambda: len(machine.commands.got) == 6 - (not whole), then=60)
        assert ctx.get(dut.ending) == 1
        assert not fences  # something is held
        mine = 0b11 if whole else 0b10
        assert ctx.get(dut.told) == (0b1111 & ~mine) << PER
        ctx.set(dut.held, 0)
        await wait_for(ctx, lambda: len(fences) == 1, then=60)
        assert (fences[0].function, fences[0].fence, fences[0].whole) == (1, 1, whole)
        for _ in range(10):
            assert await machine.read(ctx, 1, name) != 0
        # A driver that is not ready has had no interrupt: its reset ends at once.
        await machine.negotiate(ctx, 3)
        await machine.write(ctx, 3, "device_status", 0)
        assert await machine.read(ctx, 3, "device_status") == 0
        await machine.write(ctx, 3, "device_status", S.ACKNOWLEDGE)
        assert await machine.read(ctx, 3, "device_status") == S.ACKNOWLEDGE
        ctx.set(dut.fenced, 1)
        await ctx.tick().repeat(40)
        assert await machine.read(ctx, 1, name) == 0
        assert await machine.read(ctx, 1, "queue_enable") == 0
        assert len(fences) == 1

    machine.run(bench)


def test_one_fence_at_a_time():
    """All functions and queues that are reset together come back, each behind its own fence."""
    machine, functions = Machine(), range(TINY.functions)

    async def bench(ctx):
        fences = []
        machine.interrupts.keep = lambda raised: raised.read or fences.append(raised)
        for f in functions:
            await machine.start(ctx, f)
        await wait_for(ctx, lambda: len(machine.commands.got) == 2 * len(functions))
        ctx.set(machine.dut.fenced, 0)
        for f in functions:
            if f % 2:
                await machine.write(ctx, f, "device_status", 0)
                continue
            for queue in (1, 0):
                await machine.write(ctx, f, "queue_select", queue)
                await machine.write(ctx, f, "queue_reset", 1)
        ends = sum(1 if f % 2 else 2 for f in functions)
        for number in range(1, ends + 1):
            await wait_for(ctx, lambda n=number: len(fences) == n, then=50)
            ctx.set(machine.dut.fenced, 1)
            await ctx.tick()
            ctx.set(machine.dut.fenced, 0)
        await ctx.tick().repeat(60)
        assert len(fences) == ends
        for f in functions:
            assert (await machine.read(ctx, f, "device_status") == 0) == bool(f % 2)
            for queue in (1, 0):
                await machine.write(ctx, f, "queue_select", queue)
                assert await machine.read(ctx, f, "queue_reset") == 0
                assert await machine.read(ctx, f, "queue_enable") == 0

    machine.run(bench)
