"""The translator: latencies, overlap of misses, sizes."""

from dataclasses import replace

import pytest

from models.spec.config import IommuConfig
from models.spec.iommu import Cause
from models.spec.translation import AddressType, TranslationStatus
from rtl.iommu.seams import InvalidateKind
from tests.rtl.iommu.walk_world import DDT, LEAF, SMALL, WalkWorld, one_stage, phases, two_stage
from tests.rtl.simulators import simulator

WIDE = IommuConfig(misses=8, walkers=8, iotlb_sets=16)
HIT = 4


def test_hits_take_four_cycles_and_come_one_a_cycle():
    world = WalkWorld(SMALL)
    root = one_stage(world)
    for i in range(4):
        world.map(root, 0x1000 * i, 0x80_0000 + 0x1000 * i)

    async def test(ctx):
        for i in range(4):
            await world.translate(ctx, i, 0x1000 * i)
        for tag in range(32):
            await world.ask(ctx, tag, 0x1000 * (tag % 4) + tag)
        for tag in range(32):
            answer, latency = await world.answer(ctx, tag)
            assert (answer.status, answer.spa) == (0, 0x80_0000 + 0x1000 * (tag % 4) + tag)
            assert latency == HIT
        assert world.asked[31] - world.asked[0] == 31
        assert world.events == {"lookup": 36, "tlb_miss": 4}

    world.run(test)


def test_hits_pass_misses_and_misses_overlap():
    world = WalkWorld(WIDE, latency=60)
    root = one_stage(world)
    for i in range(10):
        world.map(root, 0x1000 * i, 0x80_0000 + 0x1000 * i)

    async def test(ctx):
        await world.translate(ctx, 0, 0)
        for i in range(1, 9):
            await world.ask(ctx, i, 0x1000 * i)
        for tag in range(20, 26):
            _, latency = await world.translate(ctx, tag, 8)
            assert latency == HIT
        latencies = [(await world.answer(ctx, i))[1] for i in range(1, 9)]
        assert max(latencies) < 3 * 62 + 60, "misses were served one after the other"

    world.run(test)


def test_requests_for_a_page_being_walked_join():
    world = WalkWorld(WIDE, latency=30)
    root = one_stage(world)
    world.map(root, 0x5000, 0x80_0000)

    async def test(ctx):
        await world.translate(ctx, 0, 0x9000)  # the context; a page fault
        before = len(world.reads)
        for tag in range(1, 7):
            await world.ask(ctx, tag, 0x5000 + 8 * tag, write=tag % 2)
        for tag in range(1, 7):
            answer, _ = await world.answer(ctx, tag)
            assert (answer.status, answer.spa) == (0, 0x80_0000 + 8 * tag)
        assert len(world.reads) - before == 6  # one walk for those that read, one for the others
        assert world.events == {"lookup": 7, "tlb_miss": 7}

    world.run(test)


@pytest.mark.parametrize("phase", phases(29, 6))
def test_requests_join_at_every_phase_of_a_walk(phase):
    """Also in the cycle in which its result is taken; everybody is answered."""
    world = WalkWorld(WIDE, latency=3)
    root = one_stage(world)
    world.map(root, 0x5000, 0x80_0000)

    async def test(ctx):
        await world.translate(ctx, 0, 0x9000)
        await world.ask(ctx, 1, 0x5008)
        if phase:
            await ctx.tick().repeat(phase)
        await world.ask(ctx, 2, 0x5010)
        for tag in (1, 2):
            answer, _ = await world.answer(ctx, tag)
            assert (answer.status, answer.spa) == (0, 0x80_0000 + 8 * tag)

    world.run(test)


@pytest.mark.parametrize("latency", [1, 20])
def test_cold_two_stage_walk_reads_fifteen_times(latency):
    world = WalkWorld(WIDE, latency=latency)
    guest_map, back = two_stage(world)
    spa = back(0x300_0000)
    guest_map(0x7000, 0x300_0000)

    async def test(ctx):
        await world.translate(ctx, 0, 0x40_0000_0000)  # not canonical: fetches the context alone
        before = len(world.reads)
        answer, cycles = await world.translate(ctx, 1, 0x7ABC)
        assert (answer.status, answer.spa) == (0, spa + 0xABC)
        assert len(world.reads) - before == 15
        print(f"two-stage miss, L = {latency}: {cycles} cycles")
        assert cycles == 11 + 15 * (latency + 3)

    world.run(test)


@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_mixed_page_sizes(first, second):
    """Every combination, several addresses of a page, cold and from the IOTLB."""
    world = WalkWorld(SMALL)
    guest_map, back = two_stage(world)
    va, gpa = 0x40_0000_0000 - (1 << 30), 0x1_0000_0000
    guest_map(va, gpa, first)
    span = 4096 << 9 * first
    offsets = sorted({0, 0x123, span - 8, span // 2 + 16, span // 512 // 8 * 8})
    offsets = [offset for offset in offsets if offset < span]
    for offset in offsets:
        back(gpa + offset, second)

    async def test(ctx):
        for _ in range(2):
            for offset in offsets:
                answer, _ = await world.translate(ctx, 1, va + offset)
                assert (answer.status, answer.spa) == (0, gpa + offset + 0x4000_0000)
                assert answer.size == 12 + 9 * min(first, second)
        assert world.events["tlb_miss"] < world.events["lookup"]

    world.run(test)


@pytest.mark.parametrize("beside", [1, 3, 0x13, 0x80])
def test_what_is_cached_beside_an_interrupt_file_does_not_hold_it(beside):
    """A range without files, of any size, is cut down to that of a page table."""
    world = WalkWorld(replace(SMALL, msi_flat=True))
    second, first, msi_table = world.page(4), world.page(), world.page()
    world.map(second, 0, 0, 2, wide=True)  # the first stage's tables lie where they seem to
    world.map(second, 0x4000_0000, 0x80_0000, 1, wide=True)
    world.map(first, 0x2000_0000, 0x4000_0000, 1)
    base, file, iova = DDT + 64, 0x4010_0000, 0x2010_0000
    stages = (8 << 60 | second >> 12, 0, 8 << 60 | first >> 12)
    for number, word in enumerate((3, *stages, 1 << 60 | msi_table >> 12, 0, file >> 12)):
        world.words[base + 8 * number] = word
    world.words[msi_table] = 0x1234 << 10 | 0b111

    async def test(ctx):
        other, _ = await world.translate(ctx, 0, iova + (beside << 12), write=1)
        assert other.spa == 0x90_0000 + (beside << 12)
        for tag in (1, 2):
            found, _ = await world.translate(ctx, tag, iova + 4, write=1)
            assert found.spa == 0x123_4004
        again, latency = await world.translate(ctx, 3, iova + (beside << 12) + 8)
        assert (again.spa, latency) == (0x90_0008 + (beside << 12), HIT)

    world.run(test)


def test_a_page_larger_than_physical_memory_is_cached_in_parts():
    """Beyond it nothing is: such an address must not lose its upper bits, cached or not."""
    world = WalkWorld(replace(SMALL, sv48=True, pas=34))
    root = world.page()
    world.device(1, first=root)
    world.words[DDT + 32 + 24] = 9 << 60 | root >> 12
    world.words[root] = LEAF

    async def test(ctx):
        for tag, iova in enumerate((0x20_0000, 0x7F_FFFF_F000, 0x20_0008, 0x7F_FFFF_F000)):
            answer, _ = await world.translate(ctx, tag, iova)
            if iova >> 34:
                assert answer.cause == Cause.READ_ACCESS_FAULT
            else:
                assert (answer.status, answer.spa) == (0, iova)
        assert world.events["tlb_miss"] == 3
        await world.invalidate(ctx, kind=InvalidateKind.VMA, av=1, addr=0x1234)
        await world.translate(ctx, 4, 0x20_0000)
        assert world.events["tlb_miss"] == 4

    world.run(test)


@pytest.mark.parametrize("pas", [34, 46])
def test_what_leads_beyond_physical_memory_is_an_access_fault(pas):
    """Whether no stage, one or two lead there; right below the border all is well."""
    world = WalkWorld(replace(SMALL, pas=pas, t2gpa=True))
    last, beyond = (1 << pas) - 0x1000, 1 << pas
    world.device(1)  # Bare, Bare
    first = one_stage(world, 2)
    second = world.page(4)
    world.device(3, second=second, gscid=3)
    for root, wide in ((first, False), (second, True)):
        for iova, spa in ((0x5000, last), (0x6000, beyond), (0x7000, 1 << 55)):
            world.map(root, iova, spa, wide=wide)

    async def test(ctx):
        async def refused(iova, **how):
            answer, _ = await world.translate(ctx, 1, iova, **how)
            write = how.get("write", 0)
            fault = Cause.WRITE_ACCESS_FAULT if write else Cause.READ_ACCESS_FAULT
            assert answer.cause == (Cause.INSTRUCTION_ACCESS_FAULT if how.get("exec_") else fault)

        async def granted(iova, spa, **how):
            answer, _ = await world.translate(ctx, 1, iova, **how)
            assert (answer.status, answer.spa) == (0, spa)

        for again in range(2):
            for device in (2, 3):
                await granted(0x5000, last, device_id=device)
                for iova in (0x6000, 0x7000):
                    await refused(iova, device_id=device, write=again)
                    await refused(iova, device_id=device, exec_=1)
            await granted(last, last, device_id=1)
            for iova in (beyond, 1 << 55, 1 << 63):
                await refused(iova, device_id=1, write=again)
            ctx.set(world.dut.directory.mode, 1)
            await granted(last + 8, last + 8)
            await refused(beyond, write=again)
            ctx.set(world.dut.directory.mode, 2)
            for device, iova in ((1, beyond), (2, 0x6000), (3, 0x7000)):
                answer, _ = await world.translate(
                    ctx, 1, iova, device_id=device, at=AddressType.ATS_REQUEST
                )
                assert answer.status != TranslationStatus.SUCCESS

    world.run(test)


@pytest.mark.parametrize(
    ("seed", "latency", "jitter", "ready", "rounds"),
    [
        (9, 2, 40, 0.6, 8),
        pytest.param(9, 2, 40, 0.6, 40, marks=pytest.mark.full),
        pytest.param(10, 1, 0, 0.1, 40, marks=pytest.mark.full),
        pytest.param(11, 1, 3, 0.3, 40, marks=pytest.mark.full),
    ],
)
def test_random_requests_with_reordered_memory_and_stalled_answers(
    seed, latency, jitter, ready, rounds
):
    print(f"seed {seed}")
    world = WalkWorld(SMALL, seed=seed, latency=latency, jitter=jitter)
    truth = {}
    for device in range(1, 6):
        root = one_stage(world, device, pscid=device)
        for page in world.rng.sample(range(16), 10):
            spa = world.rng.randrange(0x1000, 0x2000) << 12
            world.map(root, page << 12, spa)
            truth[device, page] = spa

    async def stall(ctx):
        while True:
            ctx.set(world.dut.translate.response.ready, world.rng.random() < ready)
            await ctx.tick()

    async def test(ctx):
        for round_ in range(rounds):
            asked = {}
            for tag in range(20):
                device, page = world.rng.randrange(1, 6), world.rng.randrange(16)
                asked[tag] = (device, page)
                await world.ask(ctx, tag, page << 12 | tag, device_id=device)
            for tag, (device, page) in asked.items():
                answer, _ = await world.answer(ctx, tag)
                spa = truth.get((device, page))
                assert answer.status == (spa is None), (round_, tag)
                if spa is not None:
                    assert answer.spa == spa | tag
        assert world.events["lookup"] == 20 * rounds

    sim = simulator(world.dut)
    for agent in (world.memory, world.client, stall):
        sim.add_testbench(agent, background=True)

    async def start(ctx):
        ctx.set(world.dut.directory.mode, 2)
        ctx.set(world.dut.directory.ppn, 1)
        await ctx.tick().repeat(10)
        await test(ctx)

    sim.add_testbench(start)
    sim.run()


def test_ats_answers_say_what_is_allowed():
    world = WalkWorld(SMALL)
    root = world.page(4)
    world.device(1, second=root, gscid=2)
    world.device(2, second=root, gscid=2, tc=1)  # no ATS
    world.map(root, 0x1000, 0x80_0000, wide=True)
    world.map(root, 0x2000, 0x81_0000, bits=0x53, wide=True)  # read only: V R U A
    ats = {"at": AddressType.ATS_REQUEST}

    async def test(ctx):
        for _ in range(2):
            answer, _ = await world.translate(ctx, 1, 0x1000, write=1, **ats)
            assert (answer.status, answer.r, answer.w, answer.spa) == (0, 1, 1, 0x80_0000)
            answer, _ = await world.translate(ctx, 1, 0x2000, write=1, **ats)
            assert (answer.status, answer.r, answer.w) == (0, 1, 0)
            answer, _ = await world.translate(ctx, 1, 0x3000, write=0, **ats)
            assert (answer.status, answer.r, answer.w, answer.cause) == (0, 0, 0, 21)
        assert not world.faults
        answer, _ = await world.translate(ctx, 1, 0x1000, device_id=2, **ats)
        assert (answer.status, answer.cause) == (1, 260)
        await ctx.tick().repeat(5)
        assert [record.cause for record in world.faults] == [260]
        answer, _ = await world.translate(ctx, 1, 0x8000_1234, at=AddressType.TRANSLATED)
        assert (answer.status, answer.spa) == (0, 0x8000_1234)

    world.run(test)


def test_drain_waits_for_older_requests_alone():
    world = WalkWorld(SMALL, latency=50)
    root = one_stage(world)
    world.map(root, 0, 0x80_0000)
    world.map(root, 0x1000, 0x81_0000)

    async def test(ctx):
        await world.translate(ctx, 0, 0)
        await world.ask(ctx, 1, 0x1000)
        await ctx.tick().repeat(3)
        ctx.set(world.dut.drain.request, 1)
        tag = 2
        while True:
            await world.translate(ctx, tag, 0)  # later ones do not hold it up
            done = ctx.get(world.dut.drain.done)
            assert not done or 1 in world.answers
            if done:
                break
            tag = 2 + tag % 100
        ctx.set(world.dut.drain.request, 0)
        await ctx.tick().repeat(3)
        assert not ctx.get(world.dut.drain.done)

    world.run(test)


def test_replays_that_stall_are_not_answered_by_the_walk_of_the_first():
    """Its page is walked while the others, which hit, still wait to pass the pipeline."""
    world = WalkWorld(SMALL, latency=1)
    root = one_stage(world)
    world.map(root, 0, 0x80_0000)
    world.map(root, 0x1000, 0x81_0000)

    async def test(ctx):
        await world.translate(ctx, 0, 0)
        await world.invalidate(ctx, kind=InvalidateKind.DDT, dv=1, did=1)
        ready = world.dut.translate.response.ready
        ctx.set(ready, 0)
        await world.ask(ctx, 1, 0x1000)
        for tag in (2, 3):
            await world.ask(ctx, tag, tag)
        await ctx.tick().repeat(80)
        ctx.set(ready, 1)
        for tag, spa in ((1, 0x81_0000), (2, 0x80_0002), (3, 0x80_0003)):
            assert (await world.answer(ctx, tag))[0].spa == spa
        await ctx.tick().repeat(30)  # a second answer would fail the run

    world.run(test)
