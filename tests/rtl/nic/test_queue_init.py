"""A queue that begins again has nothing of its former life."""

import pytest

from models.spec.config import config
from rtl.nic.engine.ring_fetch import RingFetch
from rtl.nic.engine.used_ring import UsedRing
from rtl.nic.seams import DmaStatus
from tests.rtl.agents import get, put, run

TINY = config("tiny").nic
QUEUE = 2


@pytest.mark.parametrize("block", [RingFetch, UsedRing])
def test_a_queue_that_begins_again_does_not_wait_for_patience(block):
    """Its ring was not there, and others have all the room for patient jobs that there is."""
    dut = block(TINY)

    async def begin(ctx):
        """Begin at 0, with something to do; return the job."""
        await put(ctx, dut.init, QUEUE)
        if block is UsedRing:
            ctx.set(dut.chains, 1)
            for pulse in (dut.committed, dut.urgent):
                ctx.set(pulse, 1 << QUEUE)
                await ctx.tick()
                ctx.set(pulse, 0)
        for _ in range(200):
            if ctx.get(dut.job.valid):
                return await get(ctx, dut.job)
            await ctx.tick()
        raise AssertionError("no job")

    async def bench(ctx):
        ctx.set(dut.able, -1)
        ctx.set(dut.setup.size, 16)
        ctx.set(dut.patient_room, 0)
        job = await begin(ctx)
        assert not job.patient
        await put(ctx, dut.ended, {"owner": job.owner, "status": DmaStatus.ABSENT})
        for _ in range(100):
            await ctx.tick()
            assert not ctx.get(dut.job.valid), "there is no room for a patient one"
        ctx.set(dut.able, ~(1 << QUEUE))
        await ctx.tick().repeat(10)
        ctx.set(dut.able, -1)
        assert not (await begin(ctx)).patient

    run(dut, bench)
