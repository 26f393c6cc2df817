"""Translated segments on their way to the bus: none is lost, however long that is busy."""

import pytest

from models.spec.config import NicConfig
from rtl.nic.dma_translated import DmaTranslated
from rtl.nic.segments import Answer, AnswerKind, Begun, yielding_slots
from tests.rtl.simulators import built, simulator

WAYS = {(0, 0): "reads", (1, 0): "writes", (0, 1): "later_reads", (1, 1): "later_writes"}


@pytest.mark.parametrize("slots", [2, 4, 8])
@pytest.mark.parametrize(("write", "yields"), WAYS)
def test_answers_in_consecutive_cycles_wait_for_a_busy_bus(slots, write, yields):
    """As many as may be under way; of those that yield fewer."""
    config = NicConfig(vfs=3, queue_pairs=1, dma_tags=8, dma_slots=slots)
    dut, found = built(DmaTranslated, config), []
    count = yielding_slots(config) if yields else slots
    way = getattr(dut, WAYS[write, yields])

    async def test(ctx):
        for slot in range(count):
            fields = {"slot": slot, "tag": slot, "write": write, "yields": yields, "length": 16}
            ctx.set(dut.begun, Begun.const(fields))
            ctx.set(dut.begun_en, 1)
            await ctx.tick()
        ctx.set(dut.begun_en, 0)
        for slot in range(count):
            fields = {"slot": slot, "kind": AnswerKind.PAGE, "r": 1, "w": 1, "value": slot}
            ctx.set(dut.answer.payload, Answer.const(fields))
            ctx.set(dut.answer.valid, 1)
            await ctx.tick().until(dut.answer.ready)
        ctx.set(dut.answer.valid, 0)
        await ctx.tick().repeat(20)
        ctx.set(way.ready, 1)
        for _ in range(20):
            _, _, valid, segment = await ctx.tick().sample(way.valid, way.payload)
            if valid:
                found.append(segment.slot)
        assert found == list(range(count))

    sim = simulator(dut)
    sim.add_testbench(test)
    sim.run()
