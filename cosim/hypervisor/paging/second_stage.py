"""Second-stage entries of paged memory, and the translations that devices have of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cosim.hypervisor.paging.contents import Operation, Page
from cosim.hypervisor.vm import Vm
from models.pagetable import PageFlags

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["SecondStage"]

#: Pages of a VM from which on all its translations are forgotten at once.
_EACH = 8


class SecondStage:
    """Maps pages, and takes them away under active DMA.

    An entry goes from invalid to valid without a command, since caches hold no invalid ones; from
    valid to anything else by way of invalid, IOTINVAL.GVMA, ATS.INVAL and IOFENCE.C (sections
    "Caching in-memory data structures" and "IOMMU PCIe ATS commands").

    Parameters
    ----------
    pager : Pager
    """

    def __init__(self, pager: "Pager") -> None:
        self._pager = pager
        #: ``False`` is a mistake: for tests that must find it.
        self.forgets = True

    def map(self, page: Page, *, write: bool) -> None:
        """Map a page whose content is resident; ``write``: it is about to be written."""
        content = page.content
        assert content.frame is not None
        assert not page.mapped
        page.writable = not content.shared
        flags = PageFlags.READ_ONLY
        if page.writable:
            flags = PageFlags.DATA
            if self._pager.tracks and not write:
                flags &= ~PageFlags.D
        content.dirty |= bool(flags & PageFlags.D)
        page.memory.table.map(page.gpa, content.frame, flags=flags)
        page.mapped = page.stale = True
        page.maps += 1

    def unmap(self, page: Page) -> None:
        """Take a page's entry away; translations of it may live on."""
        if page.mapped:
            old = page.memory.table.unmap(page.gpa)
            page.content.dirty |= bool(old.flags & PageFlags.D)
            page.content.referenced |= self._pager.tracks and bool(old.flags & PageFlags.A)
            page.mapped = False

    async def quiesce(self, pages: Iterable[Page], *, yields: bool) -> Operation:
        """Unmap pages, and return when no device can reach them any more.

        Those that were wanted meanwhile are not in the operation any more, if it ``yields``.
        """
        operation = Operation(yields=yields, ended=self._pager.port.event())
        pages = list(pages)
        for page in pages:
            self.unmap(page)
            page.quiet = operation
        await self.forget(pages)
        return operation

    def end(self, operation: Operation, pages: Iterable[Page]) -> None:
        """End an operation; pages may be mapped again."""
        for page in pages:
            if page.quiet is operation:
                page.quiet = None
        operation.ended.set()

    async def forget(self, pages: Iterable[Page]) -> None:
        """Invalidate translations of pages, in the IOMMU and then in devices, and wait for it."""
        stale = [(page, page.maps) for page in pages if page.stale]
        if not stale or not self.forgets:
            return
        by_vm: dict[Vm, list[int]] = {}
        for page, _ in stale:
            by_vm.setdefault(page.memory.vm, []).append(page.gpa)
        iommu = self._pager.hypervisor.iommu
        for vm, gpas in by_vm.items():
            for gpa in gpas if len(gpas) <= _EACH else [None]:
                await iommu.invalidate_second_stage(vm.gscid, gpa)
        await iommu.fence()
        for assignment in list(self._pager.hypervisor.assignments.values()):
            gpas = by_vm.get(assignment.vm, [])
            if gpas and assignment.ats:
                by_page = not assignment.first_stage and len(gpas) <= _EACH
                for gpa in gpas if by_page else [None]:
                    await iommu.invalidate_device(assignment.device_id, gpa)
        await iommu.fence()
        for page, maps in stale:
            if page.maps == maps and not page.mapped:
                page.stale = False
