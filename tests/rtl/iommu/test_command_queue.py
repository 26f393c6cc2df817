"""Command queue: decoding, order, stops, and how fast it is."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import CommandFunc, DdtpMode
from rtl.iommu.seams import InvalidateKind
from tests.rtl.agents import mostly_full
from tests.rtl.iommu.commands import ats_inval, inval_ddt, inval_pdt, iofence, iotinval, prgr
from tests.rtl.iommu.control_bench import CQ, ControlBench

CQMF, CMD_ILL = 1 << 8, 1 << 10
EN, IE, ON, BUSY = 1 << 0, 1 << 1, 1 << 16, 1 << 17
DATA = 0x8000
STALLS = [pytest.param(0.0, marks=pytest.mark.full), 0.5]


def sequence(count):
    """IOTINVAL.VMAs that can be told apart."""
    return [iotinval(gv=1, gscid=n, av=1, addr=n) for n in range(count)]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("log2", [1, 2, 3, 6])
def test_commands_execute_once_and_in_order_round_the_queue(log2, stall):
    bench = ControlBench(seed=10 + log2, stall=stall)
    total = 3 * (1 << log2) + 5

    async def testbench(ctx):
        await bench.enable_commands(ctx, log2=log2)
        posted = 0
        while posted < total:
            batch = min(bench.rng.randint(1, (1 << log2) - 1), total - posted)
            await bench.post(ctx, *sequence(total)[posted : posted + batch])
            await bench.finish(ctx)
            posted += batch
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON

    bench.run(testbench)
    assert [item.gscid for item in bench.invalidations.got] == list(range(total))
    assert all(beats <= 8 for _, beats in bench.memory.reads)
    assert all(addr // 4096 == (addr + 8 * beats - 1) // 4096 for addr, beats in bench.memory.reads)
    if log2 == 6:
        assert max(beats for _, beats in bench.memory.reads) == 8


def test_operands_reach_the_translator():
    bench = ControlBench(pd8=True)
    commands = [
        iotinval(av=1, pscid=0xABCDE, pscv=1, gv=1, gscid=0x1234, addr=0xFEDCBA9876543),
        iotinval(CommandFunc.GVMA, av=1, gv=1, gscid=0x4321, addr=0x1234),
        iotinval(CommandFunc.GVMA),
        inval_ddt(dv=1, did=0x7F),
        inval_ddt(),
        inval_pdt(dv=1, did=0x55, pid=0xAA),
    ]

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, *commands)
        await bench.finish(ctx)

    bench.run(testbench)
    vma, gvma, all_vms, ddt, whole, pdt = bench.invalidations.got
    assert (vma.kind, vma.av, vma.pscv, vma.gv) == (InvalidateKind.VMA, 1, 1, 1)
    assert (vma.pscid, vma.gscid, vma.addr) == (0xABCDE, 0x1234, 0xFEDCBA9876543)
    assert (gvma.kind, gvma.gscid, gvma.addr) == (InvalidateKind.GVMA, 0x4321, 0x1234)
    assert (all_vms.kind, all_vms.gv, all_vms.av) == (InvalidateKind.GVMA, 0, 0)
    assert (ddt.kind, ddt.dv, ddt.did) == (InvalidateKind.DDT, 1, 0x7F)
    assert (whole.kind, whole.dv) == (InvalidateKind.DDT, 0)
    assert (pdt.kind, pdt.dv, pdt.did, pdt.pscid) == (InvalidateKind.PDT, 1, 0x55, 0xAA)


def bits(command, *positions):
    """A command with bits set that are reserved."""
    return [command | 1 << position for position in positions]


ILLEGAL = [
    *(opcode | func << 7 for opcode in (0, 5, 31, 64, 127) for func in (0, 1)),
    *(1 | func << 7 for func in range(2, 8)),
    *(2 | func << 7 for func in range(1, 8)),
    *(3 | func << 7 | 1 << 33 for func in range(2, 8)),
    *(4 | func << 7 for func in range(2, 8)),
    *bits(iotinval(), 11, 34, 35, 43, 60, 63, 64, 72, 73, 126, 127),
    *bits(iotinval(CommandFunc.GVMA), 11, 32, 34, 43, 63, 64, 73, 127),
    *bits(iofence(), 11, 14, 31, 126, 127),  # 11: WSI with fctl.WSI 0
    *bits(inval_ddt(), 10, 11, 12, 31, 32, 34, 39, 64, 127),
    *bits(inval_pdt(dv=1), 10, 11, 20, 31, 32, 34, 39, 64, 127),
    inval_pdt(),
    inval_pdt(did=5),
    *bits(ats_inval(), 10, 11, 34, 39),
    *bits(prgr(), 10, 11, 34, 39),
]


@pytest.mark.parametrize("every", mostly_full([5, 1], 1))
def test_illegal_commands_stop_the_queue_at_them(every):
    bench, illegal = ControlBench(seed=3), ILLEGAL[::every]

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for n, command in enumerate(illegal):
            bad = (bench.tail + 1) % 64
            await bench.post(ctx, iotinval(gscid=n), command, iotinval(gscid=n, gv=1))
            await bench.finish(ctx, head=bad)
            await bench.settle(ctx, 30)
            assert await bench.read(ctx, regs.CQH) == bad, hex(command)
            assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL, hex(command)
            assert await bench.read(ctx, regs.IPSR) == 1
            # Software mends the command and goes on.
            bench.memory.store(CQ + 16 * bad, 16, iofence())
            await bench.write(ctx, regs.CQCSR, EN | IE | CMD_ILL)
            await bench.finish(ctx)
            await bench.write(ctx, regs.IPSR, 1)
            assert await bench.read(ctx, regs.IPSR) == 0

    bench.run(testbench)
    expected = [(n, gv) for n in range(len(illegal)) for gv in (0, 1)]
    assert [(item.gscid, item.gv) for item in bench.invalidations.got] == expected
    assert not bench.to_devices.got
    assert not bench.responses.got


def test_ats_commands_are_illegal_without_ats():
    bench = ControlBench(ats=False)

    async def testbench(ctx):
        for command in (ats_inval(), prgr()):
            await bench.enable_commands(ctx)
            await bench.post(ctx, command)
            await bench.settle(ctx)
            assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL
            assert await bench.read(ctx, regs.CQH) == 0
            await bench.write(ctx, regs.CQCSR, 0)
            while await bench.read(ctx, regs.CQCSR) & (ON | BUSY):
                pass

    bench.run(testbench)


def test_enabling_clears_the_status_before_it_raises_an_interrupt():
    """Section 6.15: cmd_ill is 0 again with the queue on, though cie was set in the same write."""
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, ILLEGAL[0])
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL
        await bench.write(ctx, regs.CQCSR, 0)
        while await bench.read(ctx, regs.CQCSR) & (ON | BUSY):
            pass
        await bench.write(ctx, regs.IPSR, 1)
        assert await bench.read(ctx, regs.IPSR) == 0
        await bench.write(ctx, regs.CQT, 0)
        await bench.write(ctx, regs.CQCSR, EN | IE)
        await bench.settle(ctx, 30)
        assert await bench.read(ctx, regs.CQCSR) & ~BUSY == EN | IE | ON
        assert await bench.read(ctx, regs.IPSR) == 0

    bench.run(testbench)


@pytest.mark.parametrize("extended", [False, True])
def test_device_ids_must_fit_the_directory(extended):
    bench = ControlBench(ddt_levels=2, pd8=True, msi_flat=extended)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for mode, bits_ in ((DdtpMode.LVL1, 7 - extended), (DdtpMode.LVL2, 16 - extended)):
            await bench.write(ctx, regs.DDTP, mode)
            for command in (inval_ddt, inval_pdt):
                await bench.post(ctx, command(dv=1, did=(1 << bits_) - 1))
                await bench.finish(ctx)
                bad = bench.tail
                await bench.post(ctx, command(dv=1, did=1 << bits_))
                await bench.settle(ctx)
                assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL
                bench.memory.store(CQ + 16 * bad, 16, inval_ddt())
                await bench.write(ctx, regs.CQCSR, EN | IE | CMD_ILL)
                await bench.finish(ctx)

    bench.run(testbench)
    assert len(bench.invalidations.got) == 8


@pytest.mark.parametrize(
    ("process_bits", "there"),
    [
        (0, {}),
        (8, {"pd8": True}),
        (17, {"pd8": True, "pd17": True}),
        (20, {"pd8": True, "pd17": True, "pd20": True}),
    ],
)
def test_process_ids_must_fit_the_deepest_directory(process_bits, there):
    bench = ControlBench(**there)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for bits_ in (1, 8, 17, 20):
            bad = bench.tail
            await bench.post(ctx, inval_pdt(dv=1, did=5, pid=(1 << bits_) - 1))
            await bench.settle(ctx, 60)
            ill = bits_ > process_bits
            assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL * ill
            assert await bench.read(ctx, regs.CQH) == bad + (not ill)
            bench.memory.store(CQ + 16 * bad, 16, iofence())
            await bench.write(ctx, regs.CQCSR, EN | IE | CMD_ILL)
            await bench.finish(ctx)

    bench.run(testbench)
    fitting = [bits_ for bits_ in (1, 8, 17, 20) if bits_ <= process_bits]
    assert [item.pscid for item in bench.invalidations.got] == [(1 << n) - 1 for n in fitting]


def test_ranges_and_non_leaf_entries_reach_the_translator():
    bench = ControlBench(nl=True, s=True)

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        for func in (CommandFunc.VMA, CommandFunc.GVMA):
            for nl, s in ((0, 0), (0, 1), (1, 0), (1, 1)):
                await bench.post(ctx, iotinval(func, gv=1, av=1, nl=nl, s=s, addr=0x7FF))
        await bench.finish(ctx)

    bench.run(testbench)
    expected = [(0, 0), (0, 1), (1, 0), (1, 1)] * 2
    assert [(item.nl, item.s) for item in bench.invalidations.got] == expected
    assert {item.addr for item in bench.invalidations.got} == {0x7FF}


def big(value: int, words: int = 2) -> int:
    """A value whose doublewords are big-endian in memory."""
    raw = value.to_bytes(8 * words, "little")
    turned = b"".join(raw[start : start + 8][::-1] for start in range(0, len(raw), 8))
    return int.from_bytes(turned, "little")


@pytest.mark.parametrize("stall", STALLS)
def test_big_endian_commands_and_fence_data(stall):
    bench = ControlBench(seed=21, stall=stall, end=True)

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 1)
        await bench.enable_commands(ctx)
        commands = [*sequence(5), iofence(DATA, data=0x1234_5678), iofence(DATA + 12, data=0xABCD)]
        await bench.post(ctx, *(big(command) for command in commands))
        await bench.finish(ctx)

    bench.run(testbench)
    assert [item.gscid for item in bench.invalidations.got] == list(range(5))
    assert bench.memory.load(DATA, 4) == 0x7856_3412
    assert bench.memory.load(DATA + 12, 4) == 0xCDAB_0000
    assert bench.memory.load(DATA + 4, 8) == 0


@pytest.mark.parametrize("bad", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("half", [0, 8])
def test_fetch_fault_stops_at_its_command(bad, half):
    bench = ControlBench(seed=bad)
    bench.memory.failing.append(range(CQ + 16 * bad + half, CQ + 16 * bad + half + 8))

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, *sequence(8))
        await bench.finish(ctx, head=bad)
        await bench.settle(ctx, 100)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CQMF
        assert await bench.read(ctx, regs.CQH) == bad
        assert await bench.read(ctx, regs.IPSR) == 1
        assert [item.gscid for item in bench.invalidations.got] == list(range(bad))
        # Cleared with the fault still there, it comes again; then it is mended.
        await bench.write(ctx, regs.CQCSR, EN | IE | CQMF)
        await bench.settle(ctx, 100)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CQMF
        bench.memory.failing.clear()
        await bench.write(ctx, regs.CQCSR, EN | IE | CQMF)
        await bench.finish(ctx)

    bench.run(testbench)
    assert [item.gscid for item in bench.invalidations.got] == list(range(8))


def test_neighbours_of_a_fault_in_the_same_burst_are_not_hit():
    """A memory that fails a whole burst for one word of it costs nothing but time."""
    bench = ControlBench()
    bench.memory.failing_bursts.append(range(CQ + 16 * 6, CQ + 16 * 7))

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, *sequence(8))
        await bench.finish(ctx)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON

    bench.run(testbench)
    assert [item.gscid for item in bench.invalidations.got] == list(range(8))


def test_enable_clears_head_and_status():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable_commands(ctx)
        await bench.post(ctx, iofence(), 0)
        await bench.finish(ctx, head=1)
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON | CMD_ILL
        await bench.write(ctx, regs.CQCSR, 0)
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.CQCSR) == CMD_ILL
        await bench.enable_commands(ctx)
        assert await bench.read(ctx, regs.CQCSR) == EN | IE | ON
        assert await bench.read(ctx, regs.CQH) == 0

    bench.run(testbench)
    assert not bench.invalidations.got


@pytest.mark.parametrize(("latency", "limit"), [((1, 1), 6.5), ((20, 20), 9)])
def test_invalidations_per_cycle(latency, limit):
    """Fetching runs ahead, so that memory's latency is hidden behind execution."""
    bench = ControlBench(latency=latency)
    times = []

    async def testbench(ctx):
        await bench.enable_commands(ctx, log2=7)
        await bench.post(ctx, *sequence(100))
        while len(bench.invalidations.got) < 100:
            if len(bench.invalidations.got) > len(times):
                times.append(bench.memory.now)
            await ctx.tick()

    bench.run(testbench)
    assert (times[-1] - times[8]) / (len(times) - 9) < limit
