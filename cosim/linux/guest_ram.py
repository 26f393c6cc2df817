"""Memory of a guest that runs in another process, as the simulated hardware sees it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cosim.hypervisor.memory import HostPages, NotGuestMemory, VmMemory
from cosim.port import PhysicalMemory
from cosim.vfio_user.device import DmaWindow
from models.pagetable import KIB_4

__all__ = ["FIRST_FILE", "FilesMemory", "GuestRam", "Place", "Stay"]

#: System physical addresses for files: from here on, each view of a file in a slot of its own.
FIRST_FILE = 1 << 40
_SLOT = 1 << 36


class FilesMemory(PhysicalMemory, Protocol):
    """Memory that can hold files, or parts of them."""

    def map(self, base: int, size: int, *, fd: int | None = None, offset: int = 0) -> np.ndarray:
        """Put a file on the bus."""
        ...

    def unmap(self, base: int) -> None:
        """Take it away."""
        ...


class Place:
    """Gives out system physical addresses for files."""

    def __init__(self) -> None:
        self._next = FIRST_FILE
        self._free: list[int] = []

    def take(self) -> int:
        """Return the address of a slot."""
        if self._free:
            return self._free.pop()
        self._next += _SLOT
        return self._next - _SLOT

    def give(self, address: int) -> None:
        """Take a slot back."""
        self._free.append(address)


@dataclass
class Stay:
    """A guest's page at one place: mapped in cycle ``begin``, gone for good in ``end``."""

    gpa: int
    begin: int
    end: int | None = None


@dataclass
class _File:
    """A file on the bus: several views of the same bytes."""

    views: list[int]
    size: int


class GuestRam(VmMemory):
    """Memory whose windows a vfio-user client shares, and its second stage.

    The guest's processor is another program, which reaches all of the memory always; only DMA finds
    pages present or not.  A page that comes back lies at another system physical address each
    time, in another view of its file, so that whoever uses an old translation is seen.

    Parameters
    ----------
    memory : FilesMemory
        Of the host.
    pages : HostPages
        For tables.
    place : Place
    now : callable
        Returns the cycle.
    resident : bool
        Windows are mapped as they come; else pages when they are asked for.
    views : int
        Places that a page can be at.
    """

    def __init__(
        self,
        memory: FilesMemory,
        pages: HostPages,
        place: Place,
        now: Callable[[], int],
        *,
        resident: bool = True,
        views: int = 1,
    ) -> None:
        super().__init__(memory, pages, 0, 0)
        self._files_memory, self._place, self._now = memory, place, now
        self._all_resident, self._views = resident, views
        self._files: dict[tuple[int, int], _File] = {}
        self._windows: dict[int, tuple[DmaWindow, _File]] = {}
        self._stays: dict[int, Stay] = {}
        #: By system physical page: every stay there, the oldest first.
        self.history: dict[int, list[Stay]] = {}
        self._visits: dict[int, int] = {}

    # Windows -------------------------------------------------------------------------------------

    def add(self, window: DmaWindow) -> None:
        """Take a window; one without a file is no memory for DMA."""
        if window.fd is None:
            return
        if (window.address | window.size | window.offset) % KIB_4:
            raise ValueError(f"A window of {window.size:#x} bytes at {window.address:#x}")
        status = os.fstat(window.fd)
        key = (status.st_dev, status.st_ino)
        if window.offset + window.size > status.st_size:
            raise ValueError("A window is longer than its file")
        if key not in self._files:
            size = status.st_size & -KIB_4
            file = _File([self._place.take() for _ in range(self._views)], size)
            for base in file.views:
                self._files_memory.map(base, size, fd=window.fd)
            self._files[key] = file
        self._windows[window.address] = (window, self._files[key])
        if self._all_resident:
            file = self._files[key]
            spa = file.views[0] + window.offset
            self.table.map_pages(window.address, spa, window.size // KIB_4)
            for at in range(0, window.size, KIB_4):
                self._note(window.address + at, spa + at)

    def within(self, address: int, size: int) -> list[DmaWindow]:
        """Return the windows within an extent."""
        return [
            window
            for window, _ in self._windows.values()
            if address <= window.address and window.address + window.size <= address + size
        ]

    def pages_of(self, window: DmaWindow) -> list[int]:
        """Return addresses of a window's pages that are mapped."""
        end = window.address + window.size
        return [gpa for gpa in range(window.address, end, KIB_4) if gpa in self._resident]

    def remove(self, window: DmaWindow) -> None:
        """Forget a window whose pages are all unmapped."""
        del self._windows[window.address]

    def release(self) -> None:
        """Take all files from the bus; nothing is mapped any more."""
        for file in self._files.values():
            for base in file.views:
                self._files_memory.unmap(base)
                self._place.give(base)
        self._files.clear()

    # Pages ---------------------------------------------------------------------------------------

    def _window(self, gpa: int) -> tuple[DmaWindow, _File] | None:
        for window, file in self._windows.values():
            if window.address <= gpa < window.address + window.size:
                return window, file
        return None

    def owns(self, gpa: int) -> bool:
        """Whether there is memory at an address."""
        return self._window(gpa) is not None

    def make_resident(self, gpa: int) -> int:
        """Map the page of an address if need be; return the SPA of the address."""
        page = gpa & -KIB_4
        if page not in self._resident:
            found = self._window(page)
            if found is None:
                raise NotGuestMemory(f"{gpa:#x} is not memory of this VM")
            window, file = found
            visits = self._visits.get(page, 0)
            self._visits[page] = visits + 1
            base = file.views[visits % len(file.views)]
            spa = base + window.offset + page - window.address
            self.table.map(page, spa)
            self._note(page, spa)
        return self._resident[page] + gpa % KIB_4

    def _note(self, page: int, spa: int) -> None:
        self._resident[page] = spa
        self._stays[page] = stay = Stay(page, self._now())
        self.history.setdefault(spa, []).append(stay)

    def unmap_all(self, pages: Sequence[int]) -> None:
        """Take the mappings of resident pages away; they stay until :meth:`page_out`."""
        left = sorted(pages)
        while left:
            run = next(
                (n for n in range(1, len(left)) if left[n] != left[n - 1] + KIB_4), len(left)
            )
            self.table.unmap_pages(left[0], run)
            del left[:run]

    def page_out(self, gpa: int) -> None:
        """Note that an unmapped page cannot be accessed any more."""
        page = gpa & -KIB_4
        del self._resident[page]
        self._stays.pop(page).end = self._now()

    @property
    def resident_addresses(self) -> list[int]:
        """Guest physical addresses of all mapped pages, the longest mapped first."""
        return list(self._resident)
