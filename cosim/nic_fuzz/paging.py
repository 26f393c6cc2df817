"""A pager beneath the guests of a session, which evicts at random, and whose books must balance."""

from random import Random
from typing import Any

from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.paging.mechanisms import Mechanisms
from cosim.hypervisor.paging.memory import PagedMemory
from cosim.hypervisor.paging.pager import Pager
from cosim.hypervisor.vm import Vm
from models.pagetable import KIB_4

__all__ = ["PAGING_COSTS", "RandomPager"]

#: A disk that is as fast as memory, so that a session has many faults.
PAGING_COSTS = Costs(swap_read_ns=3000, swap_write_ns=2000, compress_ns=1000, decompress_ns=700)
_SCAN_CYCLES = 20_000
#: Most pages that are taken away at once.
_MOST = 6


class RandomPager:
    """The pager of one world.

    Parameters
    ----------
    hypervisor : Hypervisor
    setup : dict
        ``paging`` of a :class:`~cosim.nic_fuzz.session.Session`.
    seed : str
        Of what is taken away, and when.
    """

    def __init__(self, hypervisor: Hypervisor, setup: dict[str, Any], seed: str) -> None:
        self._port, self._rng = hypervisor.port, Random(f"{seed}/evictions")
        self._pause = setup["pause"]
        mechanisms = Mechanisms(compression=setup["compression"], sharing=setup["sharing"])
        self.pager = Pager(
            hypervisor, setup["frames"] * KIB_4, mechanisms, scan_cycles=_SCAN_CYCLES
        )

    def start(self) -> None:
        """Begin to evict."""
        self.pager.start()
        self._port.spawn(self._evict_at_random(), "random evictions")

    async def _evict_at_random(self) -> None:
        rng, pager = self._rng, self.pager
        while True:
            await self._port.sleep(rng.randrange(2 * self._pause))
            contents = [c for c in pager.clock if not c.pinned and not c.quiet]
            count = min(len(contents), rng.randint(1, _MOST))
            await pager.reclaim.take(rng.sample(contents, count))

    async def evict(self, vm: Vm, pages: list[int]) -> None:
        """Take pages of a VM away, those that are there."""
        memory = _paged(vm)
        there = sorted(memory.resident_addresses)
        if not there:
            return
        chosen = {memory.page(there[number % len(there)]).content: None for number in pages}
        await self.pager.reclaim.take([c for c in chosen if not c.pinned and not c.quiet])

    async def forget(self, vm: Vm) -> None:
        """Give the pages of a VM that has ended back."""
        await self.pager.discard(list(_paged(vm).all_pages))

    def wrong(self) -> str:
        """What is wrong with the pager's books, if anything."""
        pager, store = self.pager, self.pager.store
        contents = {page.content: None for vm in self._vms() for page in _paged(vm).all_pages}
        frames = [content.frame for content in contents if content.frame is not None]
        copies = [content.copy for content in contents if content.copy is not None]
        found = {
            "pages came back other than they were stored": store.mismatches,
            "frames belong to two contents": len(frames) - len(set(frames)),
            "frames are not counted": len(frames) - pager.frames,
            "frames are not the clock's": len(frames) - len(pager.clock),
            "slots are nobody's": store.swap.used - sum(c.slot is not None for c in copies),
            "bytes beyond the limit": max(0, pager.resident_peak - pager.memory_bytes),
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count)

    def _vms(self) -> list[Vm]:
        vms = self.pager.hypervisor.vms
        return [vm for vm in vms if isinstance(vm.pages, PagedMemory)]


def _paged(vm: Vm) -> PagedMemory:
    assert isinstance(vm.pages, PagedMemory)
    return vm.pages
