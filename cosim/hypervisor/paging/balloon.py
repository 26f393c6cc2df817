"""The device's side of a memory balloon (virtio 1.3, 5.5), as hypercalls in place of its queues."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cosim.hypervisor.memory import NotGuestMemory, VmMemory
from cosim.hypervisor.paging.contents import Page
from cosim.hypervisor.paging.memory import PagedMemory

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["PFN_BYTES", "PFN_SHIFT", "Balloon"]

#: Page frame numbers are le32, of 4 KiB pages whatever the guest's (5.5.6).
PFN_BYTES, PFN_SHIFT = 4, 12


class Balloon:
    """One VM's balloon: ``num_pages`` is what the host asks for, ``actual`` what it has (5.5.4).

    The guest chooses pages.  What they hold is forgotten; one that is touched again reads zeros.

    Parameters
    ----------
    pager : Pager
    memory : PagedMemory
        The VM's.
    """

    def __init__(self, pager: "Pager", memory: VmMemory) -> None:
        assert isinstance(memory, PagedMemory)
        self._pager, self._memory = pager, memory
        self.num_pages = 0
        self._inside: dict[int, None] = {}
        #: Called when ``num_pages`` has changed: the configuration interrupt.
        self.on_config: Callable[[], None] | None = None
        #: Page numbers that were not the guest's, or in the balloon already.
        self.refused = 0

    @property
    def actual(self) -> int:
        """Pages in the balloon."""
        return len(self._inside)

    def ask(self, pages: int) -> None:
        """Ask the guest to let the balloon have so many pages."""
        self.num_pages = pages
        if self.on_config is not None:
            self.on_config()

    async def _array(self, gpa: int, count: int) -> list[int]:
        """Read page frame numbers out of guest memory: an exit."""
        vm = self._memory.vm
        vm.exit("balloon")
        await vm.pay()
        raw = vm.memory.read(gpa, PFN_BYTES * count)
        return [
            int.from_bytes(raw[at : at + PFN_BYTES], "little") << PFN_SHIFT
            for at in range(0, len(raw), PFN_BYTES)
        ]

    async def inflate(self, gpa: int, count: int) -> None:
        """Take pages whose numbers lie at ``gpa`` (inflateq)."""
        pages: dict[Page, None] = {}
        for at in await self._array(gpa, count):
            try:
                page = self._memory.page(at)
            except NotGuestMemory:
                self.refused += 1
                continue
            if at in self._inside:
                self.refused += 1
                continue
            self._inside[at] = None
            pages[page] = None
        await self._pager.discard(list(pages))
        self._pager.counts.ballooned += len(pages)

    async def deflate(self, gpa: int, count: int) -> None:
        """Give pages back whose numbers lie at ``gpa`` (deflateq); they come when touched."""
        for at in await self._array(gpa, count):
            if self._inside.pop(at, at) is not None:
                self.refused += 1
