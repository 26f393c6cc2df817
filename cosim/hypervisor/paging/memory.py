"""The memory of a VM whose pages a pager may take away."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from cosim.hypervisor.costs import Costs
from cosim.hypervisor.memory import NotGuestMemory, VmMemory
from cosim.hypervisor.paging.contents import Content, Page
from cosim.hypervisor.vm import RAM_GPA, Vm
from models.pagetable import KIB_4

if TYPE_CHECKING:
    from cosim.hypervisor.paging.pager import Pager

__all__ = ["PagedMemory"]


class PagedMemory(VmMemory):
    """Memory of one VM, by GPA, of which any page may be resident, stored or shared.

    Parameters
    ----------
    pager : Pager
    size : int
        Bytes of RAM, from ``RAM_GPA`` on.
    """

    #: Whose it is; set by who makes both.
    vm: Vm

    def __init__(self, pager: "Pager", size: int) -> None:
        hypervisor = pager.hypervisor
        super().__init__(hypervisor.port.memory, hypervisor.pages, RAM_GPA, size)
        self.pager = pager
        self.updates_accessed, self.server = pager.tracks, pager
        self._all: dict[int, Page] = {}

    def page(self, gpa: int) -> Page:
        """Return the page of an address."""
        gpa &= -KIB_4
        if not self.owns(gpa):
            raise NotGuestMemory(f"{gpa:#x} is not memory of this VM")
        page = self._all.get(gpa)
        if page is None:
            content = Content()
            page = self._all[gpa] = Page(self, gpa, content)
            content.pages[page] = None
        return page

    @property
    def all_pages(self) -> Collection[Page]:
        """Pages that were ever touched."""
        return self._all.values()

    def resident(self, gpa: int) -> bool:
        """Whether the page is in host memory."""
        return self.page(gpa).content.frame is not None

    @property
    def resident_pages(self) -> int:
        """Pages in host memory; shared ones count for each who shares."""
        return len(self.resident_addresses)

    @property
    def resident_addresses(self) -> Collection[int]:
        """GPAs of those pages."""
        return [gpa for gpa, page in self._all.items() if page.content.frame is not None]

    def make_resident(self, gpa: int) -> int:
        """Fill and map the page of an address if need be, without waiting; return the SPA.

        ``MemoryError`` if there is no frame for it.
        """
        return self.pager.cpu.present(self.page(gpa)) + gpa % KIB_4

    def load(self, gpa: int, size: int) -> bytes:
        """Return bytes of one page, as the VM's processor loads them."""
        return self.pager.cpu.read(self.page(gpa), gpa % KIB_4, size)

    def store(self, gpa: int, data: bytes) -> None:
        """Store bytes into one page, likewise."""
        self.pager.cpu.write(self.page(gpa), gpa % KIB_4, data)

    def ready(self, gpa: int, *, write: bool) -> bool:
        """Whether the VM's processor gets at the page without an exit."""
        content = self.page(gpa).content
        return content.frame is not None and not (write and content.shared)

    def service(self, gpa: int, costs: Costs) -> int:
        """Cycles to serve the exit of an access."""
        return self.pager.service(self.page(gpa).content)

    def store_image(self, gpa: int, data: bytes) -> None:
        """Put bytes where the guest will find them, without making anything resident."""
        for at, part, taken in self._parts(gpa, len(data)):
            self.pager.cpu.patch(self.page(at), at % KIB_4, data[taken : taken + part])

    def unmap(self, gpa: int) -> None:
        """Refuse: only the pager evicts."""
        raise TypeError("A pager has this memory; it alone takes pages away")

    def page_out(self, gpa: int) -> None:
        """Refuse, likewise."""
        self.unmap(gpa)
