"""Translation-request registers, alone and beside page requests, fences and drains."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import Cause, DdtpMode
from models.spec.translation import AddressType, TranslationStatus
from tests.rtl.agents import wait_for
from tests.rtl.iommu.commands import iofence
from tests.rtl.iommu.control_bench import PQ, ControlBench
from tests.rtl.iommu.test_report_queues import page

GO, PRIV, EXE, NW, PV = 1, 2, 4, 8, 1 << 32
DDTP_BUSY = 1 << 4


def control(did: int, flags: int, pid: int = 0) -> int:
    """Value of tr_req_ctl."""
    return did << 40 | pid << 12 | flags


async def translate(bench, ctx, value: int, iova: int = 0x1234_5678_9000) -> int:
    """Ask and wait; returns tr_response."""
    await bench.write(ctx, regs.TR_REQ_IOVA, iova)
    await bench.write(ctx, regs.TR_REQ_CTL, value | GO)
    while await bench.read(ctx, regs.TR_REQ_CTL) & GO:
        pass
    assert await bench.read(ctx, regs.TR_REQ_CTL) == value
    return await bench.read(ctx, regs.TR_RESPONSE)


def napot(spa: int, size: int) -> int:
    """PPN and S of a range of 2 ** size bytes."""
    page_number, pages = spa >> 12, 1 << size - 12
    page_number = page_number // pages * pages | (pages // 2 - 1 if pages > 1 else 0)
    return page_number << 10 | (pages > 1) << 9


@pytest.mark.parametrize("size", [12, 13, 16, 21, 30, 39, 48, 56])
@pytest.mark.parametrize("ats", [False, True])
def test_ranges_are_told_as_napot(size, ats):
    bench = ControlBench(dbg=True, ats=ats)
    spa = 0x00A5_5A5A_5A5A_5000
    bench.contexts[9] = {"spa": spa, "size": size, "pbmt": 2}

    async def testbench(ctx):
        assert await translate(bench, ctx, control(9, NW)) == napot(spa, size) | 2 << 7

    bench.run(testbench)


def test_a_range_beyond_all_addresses_is_told_as_all_addresses():
    bench = ControlBench(dbg=True)
    bench.contexts[9] = {"spa": 0x1234_5000, "size": 60}

    async def testbench(ctx):
        assert await translate(bench, ctx, control(9, NW)) == napot(0, 56)

    bench.run(testbench)


@pytest.mark.parametrize("flags", [0, NW, NW | EXE, PRIV, NW | PRIV | PV, PV, NW | PRIV | EXE | PV])
def test_the_request_is_what_the_registers_say(flags):
    bench = ControlBench(dbg=True)

    async def testbench(ctx):
        await translate(
            bench, ctx, control(0xABCDEF, flags, pid=0x12345), iova=0xFFFF_8000_0000_1FFF
        )

    bench.run(testbench)
    (asked,) = bench.lookups
    assert asked.at == AddressType.UNTRANSLATED
    assert asked.debug
    assert asked.device_id == 0xABCDEF
    assert asked.iova == 0xFFFF_8000_0000_1000
    assert asked.pv == bool(flags & PV)
    assert asked.process_id == (0x12345 if flags & PV else 0)
    assert asked.priv == bool(flags & PV and flags & PRIV)
    assert asked.exec == bool(flags & EXE)
    assert (asked.write, asked.also_read) == ((0, 0) if flags & NW else (1, 1))


@pytest.mark.parametrize(
    "answer",
    [
        {"status": TranslationStatus.UNSUPPORTED_REQUEST, "cause": Cause.READ_PAGE_FAULT},
        {"mrif": 1, "spa": 0x5555_5000, "size": 12},
    ],
)
def test_a_fault_is_a_bit(answer):
    bench = ControlBench(dbg=True)
    bench.contexts[7] = answer
    bench.contexts[8] = {"spa": 0x7000, "size": 12}

    async def testbench(ctx):
        assert await translate(bench, ctx, control(7, NW)) == 1
        assert await translate(bench, ctx, control(8, NW)) == 7 << 10
        assert await translate(bench, ctx, control(7, NW)) == 1

    bench.run(testbench)


def test_go_while_busy_does_nothing_more():
    bench = ControlBench(dbg=True)
    bench.contexts[8] = {"spa": 0x7000, "size": 12}
    bench.hold_lookups = True

    async def testbench(ctx):
        await bench.write(ctx, regs.TR_REQ_CTL, control(8, NW | GO))
        await bench.settle(ctx)
        for _ in range(3):
            assert await bench.read(ctx, regs.TR_REQ_CTL) == control(8, NW | GO)
            await bench.write(ctx, regs.TR_REQ_CTL, control(8, NW | GO))
        await bench.write(ctx, regs.TR_REQ_CTL, control(8, NW))  # does not clear it
        assert await bench.read(ctx, regs.TR_REQ_CTL) == control(8, NW | GO)
        bench.hold_lookups = False
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.TR_REQ_CTL) == control(8, NW)
        assert await bench.read(ctx, regs.TR_RESPONSE) == 7 << 10

    bench.run(testbench)
    assert len(bench.lookups) == 1


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_page_requests_and_debug_translations_keep_apart(stall):
    bench = ControlBench(seed=5, stall=stall, dbg=True)
    bench.contexts |= {n: {"spa": n << 12, "size": 12} for n in range(1, 12)}

    async def testbench(ctx):
        await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 5)
        bench.requests.queue.extend(page(n) for n in range(20))
        for n in range(1, 12):
            assert await translate(bench, ctx, control(n, NW)) == n << 10
        await wait_for(ctx, lambda: len(bench.lookups) == 31, then=100)
        assert await bench.read(ctx, regs.PQT) == 20

    bench.run(testbench)
    assert {item.tag for item in bench.lookups if item.debug} == {1}
    assert {item.tag for item in bench.lookups if not item.debug} == {0}


def test_fences_and_ddtp_go_on_while_a_debug_translation_is_out():
    """The drain is the translator's; nothing in control waits for the answer."""
    bench = ControlBench(dbg=True)
    bench.hold_lookups = True

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.write(ctx, regs.TR_REQ_CTL, control(8, NW | GO))
        await bench.settle(ctx)
        await bench.post(ctx, iofence(0x8000, data=1, pr=1, pw=1))
        await bench.finish(ctx)
        await bench.write(ctx, regs.DDTP, DdtpMode.LVL1)
        while await bench.read(ctx, regs.DDTP) & DDTP_BUSY:
            pass
        assert await bench.read(ctx, regs.TR_REQ_CTL) & GO
        bench.hold_lookups = False
        await bench.settle(ctx)
        assert not await bench.read(ctx, regs.TR_REQ_CTL) & GO

    bench.run(testbench)


def test_registers_are_absent_without_the_capability():
    bench = ControlBench(dbg=False)

    async def testbench(ctx):
        for register in (regs.TR_REQ_IOVA, regs.TR_REQ_CTL, regs.TR_RESPONSE):
            await bench.write(ctx, register, 2**64 - 1)
            await bench.settle(ctx)
            assert await bench.read(ctx, register) == 0

    bench.run(testbench)
    assert not bench.lookups
