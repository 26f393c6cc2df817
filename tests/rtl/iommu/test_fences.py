"""Fences, ATS invalidations and group responses of the command queue."""

import pytest

from models.spec import iommu_registers as regs
from tests.rtl.iommu.commands import ats_inval, iofence, iotinval, prgr
from tests.rtl.iommu.control_bench import CQ, ControlBench

CQMF, CMD_TO, FENCE_W_IP = 1 << 8, 1 << 9, 1 << 11
EN, IE, ON, BUSY = 1 << 0, 1 << 1, 1 << 16, 1 << 17
DATA = 0x8000
STALLS = [pytest.param(0.0, marks=pytest.mark.full), 0.5]


@pytest.mark.parametrize("stall", STALLS)
def test_fence_data_is_in_memory_before_the_head_passes(stall):
    bench = ControlBench(seed=5, stall=stall, latency=(20, 40))

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for n, offset in enumerate((0, 4, 12, 8)):
            bench.memory.hold_responses = True
            before = bench.tail
            await bench.post(ctx, iofence(DATA + offset, data=0xC0DE0000 | n))
            await bench.settle(ctx, 300)
            assert bench.memory.load(DATA + offset, 4) == 0xC0DE0000 | n
            assert await bench.read(ctx, regs.CQH) == before
            bench.memory.hold_responses = False
            await bench.finish(ctx)

    bench.run(testbench)
    assert bench.memory.load(DATA, 16) == 0xC0DE0002_C0DE0003_C0DE0001_C0DE0000
    assert [len(content) for _, content in bench.memory.writes] == [4] * 4


def test_fence_waits_for_translator_and_outside():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        bench.drain_delay = None
        await bench.post(ctx, iotinval(gscid=7), iofence(DATA, data=1))
        await bench.finish(ctx, head=1)
        await bench.settle(ctx, 100)
        assert await bench.read(ctx, regs.CQH) == 1
        assert bench.memory.load(DATA, 4) == 0
        assert not ctx.get(bench.dut.fence.request)  # neither PR nor PW
        bench.drain_delay = 0
        await bench.finish(ctx)
        for operand in ({"pr": 1}, {"pw": 1}, {"pr": 1, "pw": 1}):
            bench.fence_delay = None
            before = bench.tail
            await bench.post(ctx, iofence(**operand), iotinval(gscid=8))
            await bench.settle(ctx, 100)
            assert ctx.get(bench.dut.fence.request)
            assert await bench.read(ctx, regs.CQH) == before
            bench.fence_delay = 3
            await bench.finish(ctx)

    bench.run(testbench)
    assert len(bench.drains) == 4
    assert len(bench.fences) == 3
    assert [item.gscid for item in bench.invalidations.got] == [7, 8, 8, 8]


def test_fence_write_fault_and_address_beyond_memory():
    bench = ControlBench()
    bench.memory.failing.append(range(DATA, DATA + 4))

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for addr in (DATA, 1 << bench.dut.config.pas, 1 << 63):
            bad = bench.tail
            await bench.post(ctx, iofence(addr, data=1))
            await bench.settle(ctx, 100)
            assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CQMF
            assert await bench.read(ctx, regs.CQH) == bad
            bench.memory.store(CQ + 16 * bad, 16, iofence(DATA + 8, data=2))
            await bench.write(ctx, regs.CQCSR, EN | IE | CQMF)
            await bench.finish(ctx)

    bench.run(testbench)
    assert bench.memory.load(DATA, 4) == 0
    assert bench.memory.load(DATA + 8, 4) == 2


def test_fence_raises_the_wire():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 2)
        await bench.write(ctx, regs.ICVEC, 0x0005)
        await bench.enable_commands(ctx)
        await bench.post(ctx, iofence(wsi=1), iotinval(gscid=1))
        await bench.finish(ctx)  # it does not stop the queue
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | FENCE_W_IP
        assert await bench.read(ctx, regs.IPSR) == 1
        assert ctx.get(bench.dut.interrupts) == 1 << 5
        await bench.write(ctx, regs.IPSR, 1)  # the cause is still there
        assert await bench.read(ctx, regs.IPSR) == 1
        await bench.write(ctx, regs.CQCSR, EN | IE | FENCE_W_IP)
        await bench.write(ctx, regs.IPSR, 1)
        assert await bench.read(ctx, regs.IPSR) == 0
        assert ctx.get(bench.dut.interrupts) == 0

    bench.run(testbench)
    assert not bench.memory.writes


def complete(message, count=1, device=None, tags=None):
    """An invalidation completion for a message."""
    return {
        "device_id": message.device_id if device is None else device,
        "itag_vector": 1 << message.itag if tags is None else tags,
        "count": count,
    }


@pytest.mark.parametrize("stall", STALLS)
def test_fence_waits_for_all_completions_of_all_tags(stall):
    bench = ControlBench(seed=6, stall=stall, ats_timeout=5000)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(
            ctx,
            ats_inval(rid=0x1234, dseg=0x56, dsv=1, pid=0xABCDE, pv=1, payload=0x1111),
            ats_inval(rid=0x4321, dseg=0x56, payload=0x2222),
            iofence(DATA, data=9),
        )
        await bench.finish(ctx, head=2)
        first, second = bench.to_devices.got
        assert (first.device_id, first.dsv, first.process_id, first.pv) == (0x561234, 1, 0xABCDE, 1)
        assert first.payload == 0x1111
        assert (second.device_id, second.dsv, second.pv) == (0x4321, 0, 0)
        assert first.itag != second.itag
        # Other devices' completions, and such for free tags, are nobody's.
        both = 1 << first.itag | 1 << second.itag
        bench.completions.queue.append(complete(first, device=0x777, tags=both))
        bench.completions.queue.append(complete(first, tags=0xFFFF_FFFC))
        for _ in range(4):
            bench.completions.queue.append(complete(first, count=4))
        for _ in range(7):
            bench.completions.queue.append(complete(second, count=0))
        await bench.settle(ctx, 300)
        assert bench.completions.sent == 13
        assert await bench.read(ctx, regs.CQH) == 2
        assert bench.memory.load(DATA, 4) == 0
        bench.completions.queue.append(complete(second, count=0, tags=both))
        await bench.finish(ctx)
        assert bench.memory.load(DATA, 4) == 9

    bench.run(testbench)


def test_invalidations_wait_for_a_free_tag():
    bench = ControlBench(itags=2, ats_timeout=5000)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, *(ats_inval(rid=n) for n in range(4)), iofence())
        await bench.finish(ctx, head=2)
        await bench.settle(ctx, 50)
        assert [message.device_id for message in bench.to_devices.got] == [0, 1]
        bench.completions.queue.append(complete(bench.to_devices.got[1]))
        await bench.finish(ctx, head=3)
        assert bench.to_devices.got[2].itag == bench.to_devices.got[1].itag
        for message in (bench.to_devices.got[0], bench.to_devices.got[2]):
            bench.completions.queue.append(complete(message))
        await bench.finish(ctx, head=4)
        assert bench.to_devices.got[3].device_id == 3
        bench.completions.queue.append(complete(bench.to_devices.got[3]))
        await bench.finish(ctx)

    bench.run(testbench)


def test_invalidation_that_is_not_answered_times_out_at_the_fence():
    bench = ControlBench(ats_timeout=300)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, ats_inval(rid=1), iotinval(gscid=3), iofence(DATA, data=1))
        await bench.finish(ctx, head=2)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON
        await bench.settle(ctx, 400)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_TO
        assert await bench.read(ctx, regs.CQH) == 2
        assert await bench.read(ctx, regs.IPSR) == 1
        assert bench.memory.load(DATA, 4) == 0
        # Cleared, the fence has nothing left to wait for.
        await bench.write(ctx, regs.CQCSR, EN | IE | CMD_TO)
        await bench.finish(ctx)
        assert bench.memory.load(DATA, 4) == 1
        # A completion that comes late is nobody's, and the next invalidation is well.
        bench.completions.queue.append(complete(bench.to_devices.got[0]))
        await bench.post(ctx, ats_inval(rid=1), iofence(DATA, data=2))
        await bench.settle(ctx, 50)
        assert await bench.read(ctx, regs.CQH) == 4
        bench.completions.queue.append(complete(bench.to_devices.got[1]))
        await bench.finish(ctx)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON

    bench.run(testbench)
    assert bench.to_devices.got[0].itag != bench.to_devices.got[1].itag


def test_group_responses_go_out_as_commanded():
    bench = ControlBench(stall=0.3)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(
            ctx,
            prgr(rid=0xBEEF, dseg=0x12, dsv=1, pid=5, pv=1, payload=0xBEEF_1077_0000_0000),
            prgr(rid=0xBEEF, pid=5, payload=1 << 32),
        )
        await bench.finish(ctx)

    bench.run(testbench)
    first, second = bench.responses.got
    assert (first.device_id, first.dsv, first.process_id, first.pv) == (0x12BEEF, 1, 5, 1)
    assert first.payload == 0xBEEF_1077_0000_0000
    assert (second.device_id, second.dsv, second.process_id, second.pv) == (0xBEEF, 0, 0, 0)


def test_disable_forgets_what_was_fetched_and_what_waits():
    bench = ControlBench(latency=(30, 30), ats_timeout=5000)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, ats_inval(rid=1), iofence(), iotinval(gscid=1))
        await bench.finish(ctx, head=1)
        await bench.write(ctx, regs.CQCSR, 0)
        while (status := await bench.read(ctx, regs.CQCSR)) & BUSY:
            assert status & ON
        assert status == 0
        assert await bench.read(ctx, regs.CQH) == 1
        reads = len(bench.memory.reads)
        await bench.settle(ctx, 100)
        assert len(bench.memory.reads) == reads
        assert not bench.invalidations.got
        await bench.enable_commands(ctx)
        assert await bench.read(ctx, regs.CQH) == 0
        await bench.post(ctx, iotinval(gscid=2))
        await bench.finish(ctx)

    bench.run(testbench)
    assert [item.gscid for item in bench.invalidations.got] == [2]


def test_enabling_forgets_invalidations_that_are_outstanding():
    bench = ControlBench(ats_timeout=5000)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, ats_inval(rid=1), iofence())
        await bench.finish(ctx, head=1)
        await bench.write(ctx, regs.CQCSR, 0)
        while await bench.read(ctx, regs.CQCSR) & (ON | BUSY):
            pass
        await bench.enable_commands(ctx)
        await bench.post(ctx, iofence(DATA, data=5))
        await bench.finish(ctx)
        assert bench.memory.load(DATA, 4) == 5

    bench.run(testbench)
