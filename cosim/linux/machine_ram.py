"""Memory of a guest that has the whole machine: its addresses are the system's."""

import os
from collections import Counter

from cosim.hypervisor.memory import HostPages, VmMemory
from cosim.linux.guest_ram import FilesMemory
from cosim.vfio_user.device import DmaWindow

__all__ = ["MachineRam"]


class MachineRam(VmMemory):
    """Windows that a vfio-user client shares, on the bus at their own addresses.

    A guest has a connection for each of its functions, and each of them brings the same windows:
    one is on the bus as long as any function has it.

    Parameters
    ----------
    memory : FilesMemory
        Of the system.
    pages : HostPages
    users : Counter
        Functions that have a window, by its address and bytes; the same of all functions.
    """

    def __init__(
        self, memory: FilesMemory, pages: HostPages, users: Counter[tuple[int, int]]
    ) -> None:
        super().__init__(memory, pages, 0, 0)
        self._files_memory, self._users = memory, users
        self._windows: dict[int, DmaWindow] = {}

    def add(self, window: DmaWindow) -> None:
        """Take a window; one without a file is no memory for DMA."""
        if window.fd is None:
            return
        if window.offset + window.size > os.fstat(window.fd).st_size:
            raise ValueError("A window is longer than its file")
        if window.address in self._windows:
            raise ValueError(f"There is a window at {window.address:#x}")
        key = window.address, window.size
        if not self._users[key]:
            self._files_memory.map(*key, fd=window.fd, offset=window.offset)
        self._users[key] += 1
        self._windows[window.address] = window

    def within(self, address: int, size: int) -> list[DmaWindow]:
        """Return the windows within an extent."""
        return [
            window
            for window in self._windows.values()
            if address <= window.address and window.address + window.size <= address + size
        ]

    def pages_of(self, window: DmaWindow) -> list[int]:
        """Return nothing: no page can be taken away by itself."""
        return []

    def unmap_all(self, pages: list[int]) -> None:
        """Do nothing, to nothing."""
        assert not pages

    def remove(self, window: DmaWindow) -> None:
        """Let a window go; it leaves the bus with the last function that has it."""
        del self._windows[window.address]
        key = window.address, window.size
        self._users[key] -= 1
        if not self._users[key]:
            self._files_memory.unmap(window.address)

    def release(self) -> None:
        """Do nothing: windows have taken all there was with them."""
