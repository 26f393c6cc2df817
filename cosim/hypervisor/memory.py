"""Host pages, and the memory of a VM: resident pages, backing store, second stage."""

from collections.abc import Callable, Collection, Iterator
from typing import NoReturn, Protocol

from cosim.hypervisor.costs import Costs
from cosim.port import PhysicalMemory
from models.directory import DirectoryBuilder
from models.pagetable import KIB_4, PageTable

__all__ = [
    "HostPages",
    "NotGuestMemory",
    "PageServer",
    "VmMemory",
    "read_only_directory",
    "read_only_table",
]


class NotGuestMemory(ValueError):
    """A guest physical address that the VM does not own."""


def _refuse(*_: object) -> NoReturn:
    raise NotGuestMemory("A walk changes nothing")


def read_only_table(load: Callable[[int, int], bytes], root: int) -> PageTable:
    """Return a guest's own table, to walk it alone; what would change it is refused."""
    return PageTable(load, _refuse, _refuse, root=root)


def read_only_directory(
    load: Callable[[int, int], bytes], root: int, *, levels: int, extended: bool
) -> DirectoryBuilder:
    """Return a guest's own device directory, likewise."""
    return DirectoryBuilder(load, _refuse, _refuse, levels=levels, extended=extended, root=root)


class HostPages:
    """Allocates host pages.

    Parameters
    ----------
    memory : PhysicalMemory
    base, size : int
        Extent that may be given out.
    """

    def __init__(self, memory: PhysicalMemory, base: int, size: int) -> None:
        self._memory, self._next, self._end = memory, base, base + size
        self._free: list[int] = []
        #: Pages given out.
        self.used = 0

    def allocate(self, pages: int) -> int:
        """Return zeroed pages, naturally aligned; ``MemoryError`` if there are none left."""
        self.used += pages
        if pages == 1 and self._free:
            address = self._free.pop()
        else:
            size = KIB_4 << (pages - 1).bit_length()
            address = -(-self._next // size) * size
            if address + pages * KIB_4 > self._end:
                raise MemoryError("The host has no page left")
            self._next = address + pages * KIB_4
        self._memory.write(address, bytes(pages * KIB_4))
        return address

    def free(self, address: int) -> None:
        """Take one page back."""
        self.used -= 1
        self._free.append(address)


class PageServer(Protocol):
    """Who serves page requests of devices for memory that has its own pager."""

    async def serve(self, memory: "VmMemory", gpa: int, *, write: bool) -> bool:
        """Let a page be there; return whether the guest has that memory."""
        ...


class VmMemory:
    """Memory of one VM, by GPA.

    Nothing is resident at first.  What a page holds then comes from the backing store, zeros if
    nothing was put there.

    Parameters
    ----------
    memory : PhysicalMemory
        Of the host.
    pages : HostPages
    base, size : int
        Guest physical extent of the VM's RAM.
    """

    #: Serves page requests in place of the hypervisor.
    server: PageServer | None = None
    #: Whether hardware is to keep A and D bits in the second stage.
    updates_accessed = False

    def __init__(self, memory: PhysicalMemory, pages: HostPages, base: int, size: int) -> None:
        self._memory, self._pages = memory, pages
        self.base, self.size = base, size
        self.table = PageTable(memory.read, memory.write, pages.allocate, x4=True)
        self._resident: dict[int, int] = {}
        self._backing: dict[int, bytearray] = {}

    def owns(self, gpa: int) -> bool:
        """Whether there is RAM at an address."""
        return self.base <= gpa < self.base + self.size

    def resident(self, gpa: int) -> bool:
        """Whether the page is in host memory."""
        return gpa & -KIB_4 in self._resident

    @property
    def resident_pages(self) -> int:
        """Pages in host memory."""
        return len(self._resident)

    @property
    def resident_addresses(self) -> Collection[int]:
        """GPAs of those pages."""
        return self._resident.keys()

    def make_resident(self, gpa: int) -> int:
        """Fill and map the page of an address if need be; return the SPA of the address.

        The entry goes from invalid to valid, and caches hold no invalid ones (section "Caching
        in-memory data structures"): nothing has to be invalidated.
        """
        page, offset = gpa & -KIB_4, gpa % KIB_4
        if not self.owns(gpa):
            raise NotGuestMemory(f"{gpa:#x} is not memory of this VM")
        if page not in self._resident:
            spa = self._pages.allocate(1)
            if page in self._backing:
                self._memory.write(spa, bytes(self._backing.pop(page)))
            self._resident[page] = spa
            self.table.map(page, spa)
        return self._resident[page] + offset

    def load(self, gpa: int, size: int) -> bytes:
        """Return bytes of one page, as the VM's processor loads them."""
        return self._memory.read(self.make_resident(gpa), size)

    def store(self, gpa: int, data: bytes) -> None:
        """Store bytes into one page, likewise."""
        self._memory.write(self.make_resident(gpa), data)

    def ready(self, gpa: int, *, write: bool) -> bool:
        """Whether the VM's processor gets at the page without an exit."""
        return self.resident(gpa)

    def service(self, gpa: int, costs: Costs) -> int:
        """Cycles to serve the exit of an access."""
        return costs.page_service

    def unmap(self, gpa: int) -> None:
        """Take the mapping of a resident page away; the page stays until :meth:`page_out`."""
        self.table.unmap(gpa & -KIB_4)

    def page_out(self, gpa: int) -> None:
        """Move an unmapped page to the backing store, once nothing can access it any more."""
        page = gpa & -KIB_4
        spa = self._resident.pop(page)
        self._backing[page] = bytearray(self._memory.read(spa, KIB_4))
        self._pages.free(spa)

    def map_device(self, gpa: int, spa: int) -> None:
        """Map a page that is no RAM."""
        self.table.map(gpa, spa)

    def store_image(self, gpa: int, data: bytes) -> None:
        """Put bytes where the guest will find them, without making anything resident."""
        for at, part, taken in self._parts(gpa, len(data)):
            piece = data[taken : taken + part]
            page = at & -KIB_4
            if page in self._resident:
                self._memory.write(self._resident[page] + at % KIB_4, piece)
                continue
            backing = self._backing.setdefault(page, bytearray(KIB_4))
            backing[at % KIB_4 : at % KIB_4 + part] = piece

    def _parts(self, gpa: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Cut a range at page boundaries: address, bytes, bytes before."""
        if size and not (self.owns(gpa) and self.owns(gpa + size - 1)):
            raise NotGuestMemory(f"{size} bytes at {gpa:#x} are not memory of this VM")
        done = 0
        while done < size:
            part = min(size - done, KIB_4 - (gpa + done) % KIB_4)
            yield gpa + done, part, done
            done += part

    def pieces(self, gpa: int, size: int) -> list[tuple[int, int]]:
        """Cut a range at page boundaries: GPA and bytes of each part."""
        return [(at, part) for at, part, _ in self._parts(gpa, size)]
