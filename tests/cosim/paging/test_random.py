"""Random accesses of processors, with eviction, merging and lending between them."""

from random import Random

import pytest

from cosim.hypervisor.costs import Costs
from cosim.hypervisor.paging.mechanisms import Mechanisms
from cosim.hypervisor.vm import RAM_GPA
from models.pagetable import KIB_4, PageFlags
from tests.cosim.platform import run

PAGES, STEPS = 24, 400


def consistent(pager, vms):
    """What the pager believes is what the second stage says."""
    contents = {page.content: None for vm in vms for page in vm.pages.all_pages}
    for content in contents:
        assert (content.frame is not None) == (content in pager.clock)
        for page in content.pages:
            assert page.content is content
            leaf = page.memory.table.walk(page.gpa)
            assert (leaf is not None) == page.mapped
            if leaf is not None:
                assert leaf.target == content.frame
                assert bool(leaf.flags & PageFlags.W) == page.writable
                assert not (page.writable and content.shared)
    frames = [content.frame for content in contents if content.frame is not None]
    assert len(frames) == len(set(frames)) == pager.frames == len(pager.clock)
    copies = [content.copy for content in contents if content.copy is not None]
    assert sum(copy.slot is not None for copy in copies) == pager.store.swap.used
    blobs = [copy.blob for copy in copies if copy.blob is not None]
    assert sum(map(len, blobs)) == pager.store.pool_bytes
    assert pager.resident_bytes <= pager.memory_bytes


@pytest.mark.parametrize("name", ["default", "tiny"])
@pytest.mark.parametrize("seed", range(2))
def test_memory_reads_as_it_was_written(seed, name):
    """Few values, so that pages come to be equal; a third of the pages has a frame."""

    async def scenario(platform):
        rng, pager, port = Random(seed), platform.pager, platform.machine
        vms = [pager.new_vm(f"guest{number}", PAGES * KIB_4) for number in range(2)]
        held = {vm: bytearray(PAGES * KIB_4) for vm in vms}
        values = [bytes([value]) * KIB_4 for value in range(3)] + [rng.randbytes(KIB_4)]

        async def use(vm):
            memory = held[vm]
            for _ in range(STEPS):
                at, kind = rng.randrange(PAGES) * KIB_4, rng.randrange(6)
                size = KIB_4
                if kind < 3:
                    offset = rng.randrange(PAGES * KIB_4 - 64)
                    at, size = offset, rng.randint(1, 64)
                if kind in (0, 1, 3):
                    assert vm.memory.read(RAM_GPA + at, size) == memory[at : at + size]
                else:
                    data = rng.choice(values) if size == KIB_4 else rng.randbytes(size)
                    if rng.randrange(4):
                        await pager.prepare(vm.pages, [(RAM_GPA + at, size)])
                    vm.memory.write(RAM_GPA + at, data)
                    memory[at : at + size] = data
                await port.sleep(rng.choice((0, 1, 30, 300)))

        async def disturb():
            while True:
                await port.sleep(rng.randrange(1000))
                vm, number = rng.choice(vms), rng.randrange(PAGES)
                kind = rng.randrange(3)
                if kind == 0:
                    await pager.reclaim.evict(rng.randint(1, 6))
                elif kind == 1:
                    await pager.sharing.look()
                else:
                    await pager.make_present(vm.pages.page(RAM_GPA + number * KIB_4), write=True)
                consistent(pager, vms)

        users = [port.spawn(use(vm)) for vm in vms]
        port.spawn(disturb())
        for user in users:
            await user.join()
        for vm in vms:
            assert vm.memory.read(RAM_GPA, PAGES * KIB_4) == held[vm]
        consistent(pager, vms)
        counts = pager.counts
        assert pager.store.mismatches == 0
        assert min(counts.evictions, counts.merged, counts.breaks, counts.rescued) > 0

    mechanisms = Mechanisms(compression=seed != 1, sharing=True)
    costs = Costs(swap_read_ns=3000, swap_write_ns=2000, compress_ns=1000, decompress_ns=700)
    run(scenario, name=name, frames=16, mechanisms=mechanisms, scan_cycles=700, costs=costs)
