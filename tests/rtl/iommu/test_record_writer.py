"""Status bits of a report queue that are set in the very cycle in which software clears them."""

import pytest

from rtl.iommu.record_writer import RecordOutcome, RecordWriter
from tests.rtl.agents import run

MF, OF = 1, 2


async def start(ctx, dut):
    """Two entries, on."""
    ctx.set(dut.registers.mask, 1)
    ctx.set(dut.registers.enable, 1)
    for _ in range(3):
        await ctx.tick()
    assert ctx.get(dut.registers.on)


@pytest.mark.parametrize("gap", range(-2, 3))
def test_overflow_and_its_clearing_meet(gap):
    dut = RecordWriter(words=2, addr_width=32)

    async def testbench(ctx):
        ctx.set(dut.registers.index, 1)  # full from the start
        await start(ctx, dut)
        for cycle in range(-3, 4):
            ctx.set(dut.record.valid, cycle == 0)
            ctx.set(dut.registers.clear, OF if cycle == gap else 0)
            if cycle == 0:
                assert ctx.get(dut.record.ready)
                assert ctx.get(dut.outcome) == RecordOutcome.FULL
            await ctx.tick()
        # Dropped after the clearing, or with it: software must hear of it.
        assert ctx.get(dut.registers.flags) == (OF if gap <= 0 else 0)

    run(dut, testbench)


@pytest.mark.parametrize("gap", range(-3, 3))
def test_records_dropped_while_there_is_room_do_not_set_overflow_again(gap):
    """A record is dropped in each cycle, and meets the clearing at any distance."""
    dut = RecordWriter(words=2, addr_width=32)

    async def testbench(ctx):
        ctx.set(dut.registers.index, 1)
        await start(ctx, dut)
        ctx.set(dut.record.valid, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.registers.flags) == OF
        ctx.set(dut.registers.index, 0)  # software has read one
        await ctx.tick().repeat(4 + gap)
        assert ctx.get(dut.record.ready)
        assert ctx.get(dut.outcome) == RecordOutcome.FULL
        ctx.set(dut.registers.clear, OF)
        await ctx.tick()
        ctx.set(dut.registers.clear, 0)
        assert ctx.get(dut.registers.flags) == 0
        await ctx.tick()
        assert ctx.get(dut.memory.aw.valid)

    run(dut, testbench)


@pytest.mark.parametrize("gap", range(-2, 3))
def test_memory_fault_and_its_clearing_meet(gap):
    dut = RecordWriter(words=2, addr_width=32)

    async def testbench(ctx):
        await start(ctx, dut)
        ctx.set(dut.memory.aw.ready, 1)
        ctx.set(dut.memory.w.ready, 1)
        ctx.set(dut.record.valid, 1)
        while not ctx.get(dut.memory.b.ready):
            await ctx.tick()
        for cycle in range(-3, 4):
            ctx.set(dut.memory.b.valid, cycle == -1)  # the record's end is a cycle later
            ctx.set(dut.memory.b.payload.resp, 2)
            ctx.set(dut.registers.clear, MF if cycle == gap else 0)
            if cycle == 0:
                assert ctx.get(dut.record.ready)
                assert ctx.get(dut.outcome) == RecordOutcome.MEMORY_FAULT
            await ctx.tick()
            if cycle == 0:
                ctx.set(dut.record.valid, 0)
        assert ctx.get(dut.registers.flags) == (MF if gap <= 0 else 0)
        assert ctx.get(dut.registers.position) == 0

    run(dut, testbench)


def test_enabling_clears_the_status_before_it_raises_an_interrupt():
    dut = RecordWriter(words=2, addr_width=32)

    async def testbench(ctx):
        ctx.set(dut.registers.index, 1)
        await start(ctx, dut)
        ctx.set(dut.record.valid, 1)
        await ctx.tick()
        ctx.set(dut.record.valid, 0)
        assert ctx.get(dut.registers.flags) == OF
        ctx.set(dut.registers.enable, 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.registers.enable, 1)
        ctx.set(dut.registers.interrupt_enable, 1)
        for _ in range(6):
            assert not ctx.get(dut.interrupt)
            await ctx.tick()
        assert ctx.get(dut.registers.on)
        assert ctx.get(dut.registers.flags) == 0

    run(dut, testbench)
