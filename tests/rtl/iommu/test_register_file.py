"""Register page through AXI4-Lite: reset values, WARL fields, absent registers, ddtp."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import DdtpMode
from tests.rtl.iommu.commands import iofence
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
    bench = ControlBench(ats=ats, hpm=ats)
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
        assert await bench.read(ctx, regs.ICVEC) == (0xFFFF if ats else 0x00FF)
        await bench.write(ctx, regs.IPSR, 0xF)
        assert await bench.read(ctx, regs.IPSR) == 0

    bench.run(testbench)


EVERYTHING = {
    **dict.fromkeys(("sv48", "sv57", "sv48x4", "sv57x4", "svpbmt", "svrsw60t59b"), True),
    **dict.fromkeys(("t2gpa", "amo_hwad", "amo_mrif", "msi_flat", "msi_mrif", "end"), True),
    **dict.fromkeys(("dbg", "qosid", "nl", "s", "pd8", "pd17", "pd20", "sv32", "sv32x4"), True),
}


def test_capabilities_of_everything():
    bench = ControlBench(**EVERYTHING)

    async def testbench(ctx):
        value = await bench.read(ctx, regs.CAPABILITIES)
        for name, field in regs.CAPABILITIES.fields.items():
            expected = {"version": 0x10, "igs": 2, "pas": 46}.get(name, 1)
            assert field.extract(value) == expected, name
        assert value & ~sum(f.mask for f in regs.CAPABILITIES.fields.values()) == 0

    bench.run(testbench)


@pytest.mark.parametrize(
    ("changes", "reset", "writable"),
    [
        ({}, 0, 2),
        ({"end": True}, 0, 3),
        ({"end": True, "igs": 1}, 2, 1),
        ({"sv32": True, "sv32x4": True}, 0, 6),
        ({"end": True, "sv32": True, "sv32x4": True, "igs": 0}, 0, 5),
        ({"sv32": True, "sv32x4": True, "sv39x4": False, "igs": 0}, 4, 0),
    ],
)
def test_features_that_can_be_chosen(changes, reset, writable):
    bench = ControlBench(**changes)

    async def testbench(ctx):
        assert await bench.read(ctx, regs.FCTL) == reset
        for value in (0xFFFF_FFFF, 0, 5, 2, 7):
            await bench.write(ctx, regs.FCTL, value)
            expected = reset & ~writable | value & writable
            assert await bench.read(ctx, regs.FCTL) == expected
            assert ctx.get(bench.dut.directory.be) == expected & 1
            assert ctx.get(bench.dut.directory.gxl) == expected >> 2

    bench.run(testbench)


def test_features_keep_while_they_are_in_use():
    """Changing them then is UNSPECIFIED (section 6.2); here it does nothing."""
    bench = ControlBench(end=True)
    queues = [
        (regs.CQB, regs.CQCSR),
        (regs.FQB, regs.FQCSR),
        (regs.PQB, regs.PQCSR),
    ]

    async def attempt(ctx, value, expected):
        await bench.write(ctx, regs.FCTL, value)
        assert await bench.read(ctx, regs.FCTL) == expected
        assert ctx.get(bench.dut.directory.be) == expected & 1

    async def testbench(ctx):
        await attempt(ctx, 3, 3)
        for base, csr in queues:
            await bench.enable(ctx, base, csr, 0x10_0000, 2)
            await attempt(ctx, 0, 3)
            await bench.write(ctx, csr, 0)
            await bench.settle(ctx)
        await attempt(ctx, 0, 0)
        for mode in (DdtpMode.BARE, DdtpMode.LVL1):
            await bench.write(ctx, regs.DDTP, mode)
            await bench.settle(ctx)
            await attempt(ctx, 3, 0)
        await bench.write(ctx, regs.DDTP, DdtpMode.OFF)
        await bench.settle(ctx)
        await attempt(ctx, 1, 1)

    bench.run(testbench)


def test_qos_id_register():
    bench = ControlBench(qosid=True)

    async def testbench(ctx):
        assert await bench.read(ctx, regs.IOMMU_QOSID) == 0
        await bench.write(ctx, regs.IOMMU_QOSID, 0xFFFF_FFFF)
        assert await bench.read(ctx, regs.IOMMU_QOSID) == 0x0FFF_0FFF
        await bench.write(ctx, regs.IOMMU_QOSID, 0x0123_0456)
        assert ctx.get(bench.dut.directory.qos.rcid) == 0x456
        assert ctx.get(bench.dut.directory.qos.mcid) == 0x123

    bench.run(testbench)


def test_own_accesses_carry_the_qos_id():
    bench = ControlBench(qosid=True)
    seen = {"ar": [], "aw": []}

    def watch(name):
        port = getattr({"ar": bench.dut.read, "aw": bench.dut.write}[name], name)

        async def process(ctx):
            while True:
                *_, valid, ready, payload = await ctx.tick().sample(
                    port.valid, port.ready, port.payload
                )
                if valid and ready:
                    seen[name].append((payload.user.rcid, payload.user.mcid))

        return process

    async def testbench(ctx):
        await bench.write(ctx, regs.IOMMU_QOSID, 7 << 16 | 5)
        await bench.enable(ctx, regs.FQB, regs.FQCSR, 0x20_0000, 2)
        await bench.enable_commands(ctx)
        await bench.post(ctx, iofence(0x8000, data=1), iofence())
        await bench.finish(ctx)
        bench.faults.queue.append({"cause": 1})
        await bench.settle(ctx, 100)
        await bench.write(ctx, regs.IOMMU_QOSID, 1 << 16 | 2)
        await bench.post(ctx, iofence(0x8000, data=1))
        await bench.finish(ctx)

    bench.run(testbench, watch("ar"), watch("aw"))
    assert seen["ar"] == [(5, 7), (2, 1)]
    # The fence's data, the record and its message; then a fence again.
    assert seen["aw"] == [(5, 7)] * 3 + [(2, 1)]


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


def test_directory_is_busy_until_the_outside_has_finished():
    """What the translator had let pass before may be on its way to memory still."""
    bench = ControlBench()
    bench.fence_delay = None

    async def testbench(ctx):
        for mode in (DdtpMode.LVL1, DdtpMode.OFF):
            bench.fence_delay = None
            await bench.write(ctx, regs.DDTP, mode)
            await bench.settle(ctx, 50)
            assert await bench.read(ctx, regs.DDTP) == BUSY | mode
            bench.fence_delay = 0
            await bench.settle(ctx, 40)
            assert await bench.read(ctx, regs.DDTP) == mode

    bench.run(testbench)
    drains, fences = ([since for since, _ in log] for log in (bench.drains, bench.fences))
    assert len(drains) == len(fences)
    assert all(first < then for first, then in zip(drains, fences, strict=True))


@pytest.mark.parametrize("gap", range(0, 60, 7))
def test_directory_and_fences_share_both_drains(gap):
    """Each has a drain of its own, whoever came first."""
    bench = ControlBench()
    bench.drain_delay, bench.fence_delay = 9, 11

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, *[iofence(pr=1, pw=1)] * 3)
        await bench.settle(ctx, gap)
        await bench.software.write32(ctx, regs.DDTP.offset, DdtpMode.OFF)
        while await bench.software.read32(ctx, regs.DDTP.offset) & BUSY:
            pass
        await bench.finish(ctx)

    bench.run(testbench)
    assert len(bench.drains) == len(bench.fences) == 4


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
