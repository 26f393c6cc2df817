"""Register page through AXI4-Lite: reset values, WARL fields, absent registers, ddtp."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import DdtpMode
from tests.rtl.iommu.control_bench import ControlBench

BUSY = 1 << 4


def test_capabilities_are_the_configurations():
    bench = ControlBench()

    async def testbench(ctx):
        # version, Sv39, Sv39x4, ATS, IGS both, HPM, PAS 46
        expected = 0x10 | 1 << 9 | 1 << 17 | 1 << 25 | 2 << 28 | 1 << 30 | 46 << 32
        assert await bench.read(ctx, regs.CAPABILITIES) == expected
        await bench.write(ctx, regs.CAPABILITIES, 2**64 - 1)
        assert await bench.read(ctx, regs.CAPABILITIES) == expected

    bench.run(testbench)


def test_everything_but_capabilities_is_zero_after_reset():
    bench = ControlBench()

    async def testbench(ctx):
        for addr in range(8, 768, 4):
            if addr in (96, 100):  # cycles go on
                continue
            assert await bench.software.read32(ctx, addr) == 0, addr
        assert await bench.software.read32(ctx, 4092) == 0

    bench.run(testbench)


@pytest.mark.parametrize("ats", [True, False])
def test_absent_and_read_only_registers_stay_zero(ats):
    bench = ControlBench(ats=ats)
    absent = [regs.CQH, regs.FQT, regs.TR_REQ_IOVA, regs.TR_REQ_CTL, regs.TR_RESPONSE]
    absent += [regs.IOMMU_QOSID]
    if ats:
        absent += [regs.PQT]
    else:
        absent += [regs.PQB, regs.PQH, regs.PQT, regs.PQCSR]

    async def testbench(ctx):
        for register in absent:
            await bench.write(ctx, register, (1 << register.width) - 1)
            assert await bench.read(ctx, register) == 0, register.name
        await bench.write(ctx, regs.ICVEC, 2**64 - 1)
        assert await bench.read(ctx, regs.ICVEC) == (0xFFFF if ats else 0x0FFF)
        await bench.write(ctx, regs.IPSR, 0xF)
        assert await bench.read(ctx, regs.IPSR) == 0

    bench.run(testbench)


@pytest.mark.parametrize("high_first", [True, False])
def test_base_registers_keep_what_there_is(high_first):
    bench = ControlBench()
    config = bench.dut.config
    pages = ((1 << config.pas - 12) - 1) << 10

    async def testbench(ctx):
        for register in (regs.CQB, regs.FQB, regs.PQB):
            await bench.write(ctx, register, 2**64 - 1, high_first=high_first)
            largest = config.queue_entries_log2_max - 1
            assert await bench.read(ctx, register) == pages | largest
            for size in range(config.queue_entries_log2_max):
                value = 0x12345 << 10 | size
                await bench.write(ctx, register, value, high_first=high_first)
                assert await bench.read(ctx, register) == value

    bench.run(testbench)


@pytest.mark.parametrize(
    ("base", "index"), [(regs.CQB, regs.CQT), (regs.FQB, regs.FQH), (regs.PQB, regs.PQH)]
)
def test_index_keeps_the_bits_of_the_queues_size(base, index):
    bench = ControlBench()

    async def testbench(ctx):
        for size in (7, 4, 0, 2, 6):
            await bench.write(ctx, base, 7)
            await bench.write(ctx, index, 0xFFFF_FFFF)
            assert await bench.read(ctx, index) == 0xFF
            await bench.write(ctx, base, size)  # zeroes the bits above
            mask = (2 << size) - 1
            assert await bench.read(ctx, index) == 0xFF & mask
            await bench.write(ctx, base, 7)
            assert await bench.read(ctx, index) == 0xFF & mask
            await bench.write(ctx, base, size)
            for value in (0, 0xABCD_EF12, 0x5555_5555):
                await bench.write(ctx, index, value)
                assert await bench.read(ctx, index) == value & mask

    bench.run(testbench)


@pytest.mark.parametrize("high_first", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_directory_takes_legal_modes_only(levels, high_first):
    bench = ControlBench(ddt_levels=levels)
    legal = [DdtpMode.OFF, DdtpMode.BARE, DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3]
    legal = legal[: 2 + levels]

    async def ready(ctx):
        while (value := await bench.read(ctx, regs.DDTP)) & BUSY:
            pass
        return value

    async def testbench(ctx):
        assert await bench.read(ctx, regs.DDTP) == 0
        mode = 0
        for attempt in (1, 2, 5, 3, 15, 4, 0, 7, 2, 0):
            page = 0x1234 + attempt
            await bench.write(ctx, regs.DDTP, page << 10 | attempt, high_first=high_first)
            mode = attempt if attempt in legal else mode
            assert await ready(ctx) == page << 10 | mode
            assert ctx.get(bench.dut.directory.mode) == mode
            assert ctx.get(bench.dut.directory.ppn) == page
            assert ctx.get(bench.dut.directory.be) == 0
        await bench.write(ctx, regs.DDTP, 2**64 - 1)
        assert await ready(ctx) == ((1 << bench.dut.config.pas - 12) - 1) << 10 | mode

    bench.run(testbench)


def test_directory_is_busy_until_the_translator_is_drained():
    bench = ControlBench()
    bench.drain_delay = None

    async def testbench(ctx):
        await bench.write(ctx, regs.DDTP, 0x55 << 10 | DdtpMode.LVL1)
        await bench.settle(ctx, 50)
        assert await bench.read(ctx, regs.DDTP) == 0x55 << 10 | BUSY | DdtpMode.LVL1
        bench.drain_delay = 0
        await bench.settle(ctx, 20)
        assert await bench.read(ctx, regs.DDTP) == 0x55 << 10 | DdtpMode.LVL1

    bench.run(testbench)
    assert len(bench.drains) == 2  # of either half


def test_directory_written_again_is_drained_again():
    bench = ControlBench()
    bench.drain_delay = None

    async def testbench(ctx):
        await bench.software.write32(ctx, regs.DDTP.offset, 0x55 << 10 | DdtpMode.LVL1)
        await bench.settle(ctx, 20)
        await bench.software.write32(ctx, regs.DDTP.offset + 4, 0x11)
        bench.drain_delay = 30  # the first is done soon, the second takes its time
        while not bench.drains:
            await ctx.tick()
        assert await bench.read(ctx, regs.DDTP) & BUSY
        await bench.settle(ctx, 80)
        assert await bench.read(ctx, regs.DDTP) == 0x11 << 32 | 0x55 << 10 | DdtpMode.LVL1

    bench.run(testbench)
    assert len(bench.drains) == 2


def test_directory_written_at_any_moment_of_a_drain_is_drained():
    bench = ControlBench()
    writes = []

    async def watch(ctx):
        cycle = 0
        while True:
            *_, written = await ctx.tick().sample(bench.dut.directory.ppn)
            cycle += 1
            if not writes or writes[-1][1] != written:
                writes.append((cycle, written))

    async def testbench(ctx):
        for gap in range(14):
            bench.drain_delay = 6
            for page in (0x100 + gap, 0x200 + gap):
                await bench.software.write32(ctx, regs.DDTP.offset, page << 10)
                if page < 0x200:
                    await bench.settle(ctx, gap)
            while await bench.software.read32(ctx, regs.DDTP.offset) & BUSY:
                pass
            requested, _ = bench.drains[-1]
            assert writes[-1][1] == 0x200 + gap
            assert requested > writes[-1][0], gap

    bench.run(testbench, watch)
    assert len(writes) == 29


def test_queues_of_the_largest_size_are_on():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable_commands(ctx, log2=8)
        await bench.post(ctx, *[2] * 255)  # IOFENCE.C without operands
        await bench.finish(ctx)
        await bench.post(ctx, *[2] * 3)
        await bench.finish(ctx)
        assert await bench.read(ctx, regs.CQT) == 2

    bench.run(testbench)
