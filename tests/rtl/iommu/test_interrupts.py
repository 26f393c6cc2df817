"""ipsr, messages, masks and wires."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import Cause, Ttyp
from tests.rtl.iommu.commands import iofence
from tests.rtl.iommu.control_bench import FQ, PQ, ControlBench
from tests.rtl.iommu.test_report_queues import fault, faults, page, pages

MSI = 0x9000
CIP, FIP, PMIP, PIP = 1, 2, 4, 8


async def message(bench, ctx, vector, addr, data, masked=0):
    """Set an entry of msi_cfg_tbl."""
    await bench.write(ctx, regs.msi_addr(vector), addr)
    await bench.write(ctx, regs.msi_data(vector), data)
    await bench.write(ctx, regs.msi_vec_ctl(vector), masked)


async def queues(bench, ctx):
    """Switch all queues on, with interrupts."""
    await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 4)
    await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 4)
    await bench.enable_commands(ctx)


def sent(bench) -> list:
    """Messages that reached memory."""
    return [
        (addr, int.from_bytes(bytes(content), "little"))
        for addr, content in bench.memory.writes
        if addr // 0x1000 == MSI // 0x1000
    ]


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_each_source_sends_its_vectors_message_once_per_rise(stall):
    bench = ControlBench(seed=8, stall=stall)

    async def testbench(ctx):
        await queues(bench, ctx)
        await bench.write(ctx, regs.ICVEC, 0xF_0_3_A)  # piv 15, pmiv 0, fiv 3, civ 10
        await message(bench, ctx, 10, MSI + 4, 0xC0)
        await message(bench, ctx, 3, MSI + 8, 0xF0)
        await message(bench, ctx, 15, MSI + 12, 0x90)
        await faults(bench, ctx, 1)
        assert sent(bench) == [(MSI + 8, 0xF0)]
        await faults(bench, ctx, 2)  # still pending: no second message
        assert sent(bench) == [(MSI + 8, 0xF0)]
        await bench.write(ctx, regs.IPSR, FIP)
        await faults(bench, ctx, 3)
        assert sent(bench) == [(MSI + 8, 0xF0)] * 2
        await pages(bench, ctx, page(1))
        assert sent(bench)[2:] == [(MSI + 12, 0x90)]
        await bench.post(ctx, 0)
        await bench.settle(ctx, 100)
        assert sent(bench)[3:] == [(MSI + 4, 0xC0)]
        assert await bench.read(ctx, regs.IPSR) == CIP | FIP | PIP
        # The condition of cip is still there: cleared, it rises again and tells again.
        await bench.write(ctx, regs.IPSR, CIP)
        await bench.settle(ctx, 100)
        assert sent(bench)[4:] == [(MSI + 4, 0xC0)]
        assert await bench.read(ctx, regs.IPSR) == CIP | FIP | PIP
        assert ctx.get(bench.dut.interrupts) == 0

    bench.run(testbench)
    assert len(sent(bench)) == 5


def test_masked_vector_is_sent_on_unmask_and_once():
    bench = ControlBench()

    async def testbench(ctx):
        await queues(bench, ctx)
        await bench.write(ctx, regs.ICVEC, 0x0020)
        await message(bench, ctx, 2, MSI, 7, masked=1)
        for n in range(3):
            await faults(bench, ctx, n)
            await bench.write(ctx, regs.IPSR, FIP)
        assert not sent(bench)
        await bench.write(ctx, regs.msi_data(2), 8)
        await bench.write(ctx, regs.msi_vec_ctl(2), 0)
        await bench.settle(ctx, 60)
        assert sent(bench) == [(MSI, 8)]
        await bench.write(ctx, regs.msi_vec_ctl(2), 1)
        await bench.write(ctx, regs.msi_vec_ctl(2), 0)
        await bench.settle(ctx, 60)
        assert sent(bench) == [(MSI, 8)]

    bench.run(testbench)


def test_big_endian_messages():
    bench = ControlBench(end=True)

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 1)
        await queues(bench, ctx)
        await bench.write(ctx, regs.ICVEC, 0x0020)
        await message(bench, ctx, 2, MSI + 4, 0x0000_0712)
        await faults(bench, ctx, 1)

    bench.run(testbench)
    assert sent(bench) == [(MSI + 4, 0x1207_0000)]


def test_failed_message_is_a_fault_record():
    bench = ControlBench()
    bench.memory.failing.append(range(MSI, MSI + 4))
    beyond = 1 << bench.dut.config.pas | 0x40

    async def testbench(ctx):
        await queues(bench, ctx)
        await bench.write(ctx, regs.ICVEC, 0x0001)
        for n, addr in enumerate((MSI, beyond)):
            await message(bench, ctx, 1, addr, 7)
            await bench.post(ctx, 0)
            await bench.settle(ctx, 150)
            assert await bench.read(ctx, regs.FQT) == n + 1
            assert bench.fault_record(n) == {
                "cause": Cause.MSI_WRITE_ACCESS_FAULT,
                "ttyp": Ttyp.NONE,
                "did": 0,
                "pid": 0,
                "pv": 0,
                "priv": 0,
                "iotval": addr,
                "iotval2": 0,
            }
            bench.memory.store(0x10_0000 + 16 * n, 16, iofence())
            await bench.write(ctx, regs.CQCSR, 3 | 1 << 10)
            await bench.finish(ctx)
            await bench.write(ctx, regs.IPSR, CIP)

    bench.run(testbench)


def test_wires_are_levels_of_their_vectors():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 2)
        await queues(bench, ctx)
        await bench.write(ctx, regs.ICVEC, 0x4_0_4_9)
        await message(bench, ctx, 4, MSI, 7)
        await faults(bench, ctx, 1)
        assert ctx.get(bench.dut.interrupts) == 1 << 4
        await pages(bench, ctx, page(1))
        await bench.write(ctx, regs.IPSR, FIP)
        assert ctx.get(bench.dut.interrupts) == 1 << 4  # pip has the same vector
        await bench.post(ctx, 0)
        await bench.settle(ctx)
        assert ctx.get(bench.dut.interrupts) == 1 << 4 | 1 << 9
        await bench.write(ctx, regs.IPSR, PIP)
        assert ctx.get(bench.dut.interrupts) == 1 << 9
        # Back to messages, with the queues off: what was told by wire is not told again.
        await bench.write(ctx, regs.FCTL, 0)
        assert await bench.read(ctx, regs.FCTL) == 2
        for csr in (regs.CQCSR, regs.FQCSR, regs.PQCSR):
            await bench.write(ctx, csr, 0)
            await bench.settle(ctx, 20)
        await bench.write(ctx, regs.FCTL, 0)
        assert await bench.read(ctx, regs.FCTL) == 0
        await bench.settle(ctx, 60)
        assert ctx.get(bench.dut.interrupts) == 0
        assert not sent(bench)

    bench.run(testbench)


def test_message_table_keeps_only_the_bits_there_are():
    bench = ControlBench()

    async def testbench(ctx):
        for vector in range(16):
            for high_first in (True, False):
                value = 2**64 - 1 - vector
                await bench.write(ctx, regs.msi_addr(vector), value, high_first=high_first)
                assert await bench.read(ctx, regs.msi_addr(vector)) == value & 0x00FF_FFFF_FFFF_FFFC
            await bench.write(ctx, regs.msi_data(vector), 0xDEAD_0000 + vector)
            await bench.write(ctx, regs.msi_vec_ctl(vector), 0xFFFF_FFFE + (vector & 1))
        for vector in range(16):
            assert await bench.read(ctx, regs.msi_data(vector)) == 0xDEAD_0000 + vector
            assert await bench.read(ctx, regs.msi_vec_ctl(vector)) == vector & 1
            await bench.write(ctx, regs.msi_addr(vector), 0x1000 * vector)
            assert await bench.read(ctx, regs.msi_addr(vector)) == 0x1000 * vector

    bench.run(testbench)


@pytest.mark.parametrize("igs", [0, 1])
def test_interrupts_of_one_kind_only(igs):
    bench = ControlBench(igs=igs)

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 7)
        assert await bench.read(ctx, regs.FCTL) == (2 if igs == 1 else 0)
        await bench.write(ctx, regs.FCTL, 0)
        assert await bench.read(ctx, regs.FCTL) == (2 if igs == 1 else 0)
        await message(bench, ctx, 0, MSI, 7, masked=1)
        stored = (0, 0, 0) if igs == 1 else (MSI, 7, 1)
        for register, value in zip(
            (regs.msi_addr(0), regs.msi_data(0), regs.msi_vec_ctl(0)), stored, strict=True
        ):
            assert await bench.read(ctx, register) == value
        await bench.write(ctx, regs.msi_vec_ctl(0), 0)
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 4)
        bench.faults.queue.append(fault(1))
        await bench.settle(ctx, 100)
        assert ctx.get(bench.dut.interrupts) == (1 if igs == 1 else 0)
        assert len(sent(bench)) == (0 if igs == 1 else 1)

    bench.run(testbench)
