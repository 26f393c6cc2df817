"""What an invalidation leaves behind: at every phase of a walk, and of a fetch of a context."""

from dataclasses import replace

import pytest

from rtl.iommu.seams import InvalidateKind
from tests.rtl.iommu.walk_world import DDT, SMALL, WalkWorld, phases, two_stage


@pytest.mark.parametrize("level", [0, 1])
def test_one_invalidation_removes_all_pieces_of_a_first_stage_page(level):
    """Software names any address of a page that it has changed; the second stage had cut it up."""
    world = WalkWorld(SMALL)
    guest_map, back = two_stage(world)
    va, gpa, size = 0x4000_0000, 0x1_0000_0000, 4096 << 9 * level
    leaf = guest_map(va, gpa, level + 1)
    pieces = [0, 3 * size, 7 * size]
    for offset in pieces:
        back(gpa + offset, level)

    async def test(ctx):
        for offset in pieces:
            answer, _ = await world.translate(ctx, 1, va + offset)
            assert (answer.status, answer.size) == (0, 12 + 9 * level)
        world.words[leaf] = 0
        operands = {"gv": 1, "gscid": 1, "pscv": 1, "pscid": 1, "av": 1}
        await world.invalidate(
            ctx, kind=InvalidateKind.VMA, addr=va + 5 * size + 4096 >> 12, **operands
        )
        for offset in pieces:
            answer, _ = await world.translate(ctx, 1, va + offset)
            assert answer.cause == 13, hex(offset)

    world.run(test)


@pytest.mark.parametrize("kind", [InvalidateKind.GVMA, InvalidateKind.VMA])
# The walk ends 25 cycles after it is asked for.
@pytest.mark.parametrize("phase", phases(40, 5, first=11))
@pytest.mark.parametrize("at_once", [True, False])
def test_no_phase_of_a_walk_survives_an_invalidation(phase, kind, at_once):
    """The page moves while a walk, a fill or a hit is anywhere; both requesters are answered."""
    world = WalkWorld(SMALL, latency=3)
    root = world.page(4)
    world.device(1, second=root, gscid=5)
    leaf = world.map(root, 0x5000, 0x80_0000, wide=True)
    world.map(root, 0x6000, 0xA0_0000, wide=True)

    async def test(ctx):
        await world.translate(ctx, 0, 0x6000)
        await world.ask(ctx, 1, 0x5000)
        if phase:
            await ctx.tick().repeat(phase)
        world.words[leaf] = 0x90_0000 >> 12 << 10 | 0xDF
        await world.invalidate(ctx, kind=kind, gv=1, gscid=5)
        if kind == InvalidateKind.VMA:  # is about first stages: not for this page
            await world.invalidate(ctx, kind=InvalidateKind.GVMA, gv=1, gscid=5)
        if at_once:
            await world.ask(ctx, 2, 0x5000)
        old, _ = await world.answer(ctx, 1)
        if not at_once:
            await ctx.tick().repeat(SMALL.iotlb_sets + 6)  # fills wait while sets are cleared
            await world.ask(ctx, 2, 0x5000)
        new, _ = await world.answer(ctx, 2)
        assert old.status == new.status == 0
        assert old.spa in (0x80_0000, 0x90_0000)
        assert new.spa == 0x90_0000
        again, _ = await world.translate(ctx, 3, 0x5000)
        assert again.spa == 0x90_0000

    world.run(test)


@pytest.mark.parametrize("phase", phases(26, 6))
def test_no_phase_of_a_context_fetch_survives_an_invalidation(phase):
    world = WalkWorld(SMALL, latency=3)
    old_root, new_root = world.page(4), world.page(4)
    for root, page in ((old_root, 0x80_0000), (new_root, 0x90_0000)):
        world.map(root, 0x5000, page, wide=True)
    world.device(1, second=old_root, gscid=5)

    async def test(ctx):
        await world.ask(ctx, 1, 0x5000)
        if phase:
            await ctx.tick().repeat(phase)
        world.device(1, second=new_root, gscid=5)
        await world.invalidate(ctx, kind=InvalidateKind.DDT, dv=1, did=1)
        await world.invalidate(ctx, kind=InvalidateKind.GVMA, gv=1, gscid=5)
        await world.ask(ctx, 2, 0x5000)
        assert (await world.answer(ctx, 1))[0].status == 0
        assert (await world.answer(ctx, 2))[0].spa == 0x90_0000
        assert (await world.translate(ctx, 3, 0x5000))[0].spa == 0x90_0000

    world.run(test)


def processes(world, directory):
    """Device 1 has a process directory of 8 bits at a page."""
    world.device(1, first=directory)
    base = DDT + 32
    world.words[base] = 0x21  # V, PDTV
    world.words[base + 24] = 1 << 60 | directory >> 12


def process(world, directory, process_id, root, pscid):
    """Write a process context."""
    world.words[directory + 16 * process_id] = 1 | pscid << 12
    world.words[directory + 16 * process_id + 8] = 8 << 60 | root >> 12


@pytest.mark.parametrize("phase", phases(40, 6))
def test_no_phase_of_a_process_context_fetch_survives_an_invalidation(phase):
    world = WalkWorld(replace(SMALL, pd8=True, process_entries=4), latency=3)
    directory = world.page()
    roots = []
    for number in range(3):
        roots.append(world.page())
        world.map(roots[-1], 0x5000, 0x80_0000 + 0x10_0000 * number)
    processes(world, directory)
    process(world, directory, 7, roots[0], 1)
    process(world, directory, 8, roots[2], 3)

    async def test(ctx):
        await world.translate(ctx, 9, 0x5000, pid=8)
        await world.ask(ctx, 1, 0x5000, pid=7)
        if phase:
            await ctx.tick().repeat(phase)
        process(world, directory, 7, roots[1], 2)
        process(world, directory, 8, roots[0], 4)  # of which nobody is told
        await world.invalidate(ctx, kind=InvalidateKind.PDT, dv=1, did=1, pscid=7)
        await world.ask(ctx, 2, 0x5000, pid=7)
        assert (await world.answer(ctx, 1))[0].spa in (0x80_0000, 0x90_0000)
        assert (await world.answer(ctx, 2))[0].spa == 0x90_0000
        before = world.counted["pdt_walk"]
        for tag, process_id, spa in ((3, 7, 0x90_0000), (4, 8, 0xA0_0000)):
            assert (await world.translate(ctx, tag, 0x5000, pid=process_id))[0].spa == spa
        assert world.counted["pdt_walk"] == before

    world.run(test)


def test_an_invalidated_device_loses_its_processes():
    world = WalkWorld(replace(SMALL, pd8=True), latency=3)
    directory, roots = world.page(), [world.page(), world.page()]
    for number, root in enumerate(roots):
        world.map(root, 0x5000, 0x80_0000 + 0x10_0000 * number)
    processes(world, directory)
    process(world, directory, 7, roots[0], 1)

    async def test(ctx):
        assert (await world.translate(ctx, 1, 0x5000, pid=7))[0].spa == 0x80_0000
        process(world, directory, 7, roots[1], 2)
        assert (await world.translate(ctx, 1, 0x5000, pid=7))[0].spa == 0x80_0000
        await world.invalidate(ctx, kind=InvalidateKind.DDT, dv=1, did=1)
        assert (await world.translate(ctx, 1, 0x5000, pid=7))[0].spa == 0x90_0000
        process(world, directory, 7, roots[0], 3)
        await world.invalidate(ctx, kind=InvalidateKind.DDT)
        assert (await world.translate(ctx, 1, 0x5000, pid=7))[0].spa == 0x80_0000

    world.run(test)


@pytest.mark.parametrize(
    "operands",
    [
        {"kind": InvalidateKind.VMA, "gv": 1, "gscid": 9, "av": 1},
        {"kind": InvalidateKind.VMA, "gv": 1, "gscid": 5, "av": 1},
        {"kind": InvalidateKind.GVMA, "gv": 1, "gscid": 9},
        {"kind": InvalidateKind.DDT, "dv": 1, "did": 2},
        {"kind": InvalidateKind.PDT, "dv": 1, "did": 2, "pscid": 7},
        {"kind": InvalidateKind.PDT, "dv": 1, "did": 1, "pscid": 8},
    ],
)
def test_invalidations_of_others_do_not_delay_a_context_fetch(operands):
    """They come as fast as the command queue has them, without end."""
    world = WalkWorld(replace(SMALL, pd8=True), latency=20)
    second, directory, root = world.page(4), world.page(), world.page()
    processes(world, directory)
    process(world, directory, 7, root, 1)
    world.words[DDT + 32 + 8] = 8 << 60 | 5 << 44 | second >> 12
    for page in (directory, root):
        world.map(second, page, page, wide=True)
    world.map(root, 0x5000, 0x80_0000)
    for page in range(0x200_0000, world.free, 4096):
        world.map(second, page, page, wide=True)
    world.map(second, 0x80_0000, 0x80_0000, wide=True)
    world.device(3, first=root)
    # IODIR.INVAL_DDT takes the processes of all devices.
    asked = {"device_id": 3} if operands["kind"] == InvalidateKind.DDT else {"pid": 7}
    walk = "ddt_walk" if operands["kind"] == InvalidateKind.DDT else "pdt_walk"

    async def test(ctx):
        _, alone = await world.translate(ctx, 1, 0x5000, **asked)
        await world.invalidate(ctx, kind=InvalidateKind.DDT)
        await world.invalidate(ctx, kind=InvalidateKind.GVMA)
        await world.invalidate(ctx, kind=InvalidateKind.VMA)
        await ctx.tick().repeat(20)
        before = world.counted[walk]
        await world.ask(ctx, 1, 0x5000, **asked)
        commands = 0
        while 1 not in world.answers:
            await world.invalidate(ctx, **operands)
            await ctx.tick().repeat(3)  # a command takes four cycles
            commands += 1
            assert commands < alone
        answer, took = await world.answer(ctx, 1)
        assert answer.spa == 0x80_0000
        assert took <= alone + 20
        assert commands > alone // 20
        assert world.counted[walk] == before + 1

    world.run(test)


@pytest.mark.parametrize("operands", [{}, {"gv": 1, "gscid": 5}])
@pytest.mark.parametrize("phase", phases(120, 8, first=3))
def test_no_phase_of_a_process_directorys_walk_survives_an_invalidation(phase, operands):
    """The page of the process directory moves in the second stage."""
    world = WalkWorld(replace(SMALL, pd8=True, process_entries=4), latency=3)
    second, directory, moved = world.page(4), world.page(), world.page()
    roots = [world.page(), world.page()]
    processes(world, directory)
    world.words[DDT + 32 + 8] = 8 << 60 | 5 << 44 | second >> 12
    for number, place in enumerate((directory, moved)):
        process(world, place, 7, roots[number], 1 + number)
        world.map(roots[number], 0x5000, 0x80_0000 + 0x10_0000 * number)
        world.map(second, 0x80_0000 + 0x10_0000 * number, 0x80_0000 + 0x10_0000 * number, wide=True)
    for page in range(0x200_0000, world.free, 4096):
        world.map(second, page, page, wide=True)
    leaf = world.map(second, directory, directory, wide=True)

    async def test(ctx):
        await world.ask(ctx, 1, 0x5000, pid=7)
        if phase:
            await ctx.tick().repeat(phase)
        world.words[leaf] = moved >> 12 << 10 | 0xDF
        await world.invalidate(ctx, kind=InvalidateKind.GVMA, **operands)
        await ctx.tick().repeat(4)
        done = world.counted["pdt_walk"]
        assert (await world.answer(ctx, 1))[0].spa in (0x80_0000, 0x90_0000)
        spa = (await world.translate(ctx, 2, 0x5000, pid=7))[0].spa
        # What had been fetched before is for IODIR.INVAL_PDT to remove.
        assert spa in ((0x80_0000, 0x90_0000) if done else (0x90_0000,))

    world.run(test)
