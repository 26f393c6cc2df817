"""A virtual function in the hands of a vfio-user client."""

import os
from collections.abc import Iterator, Mapping

from cosim.hypervisor.function import FunctionPort
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.linux.guest_ram import GuestRam
from cosim.vfio_user.device import DmaWindow
from cosim.vfio_user.protocol import RegionIndex
from models.spec.nic import (
    CONFIG_BYTES,
    MSIX_ENTRY_BYTES,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    bar_base,
)

__all__ = ["VirtualFunction"]

_NOTIFY_BYTES = 0x1000
#: Pages up to which each is invalidated by itself.
_FEW = 16


def _pieces(offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Cut an access into aligned ones of 1, 2 or 4 bytes: offset, bytes, bytes before."""
    done = 0
    while done < size:
        at = offset + done
        part = next(p for p in (4, 2, 1) if not at % p and done + p <= size)
        yield at, part, done
        done += part


class VirtualFunction:
    """A :class:`~cosim.vfio_user.device.PciFunction` on the hardware.

    Its configuration space is the hardware's, with what a VF lacks made up by the hypervisor; BAR 0
    is the hardware's.  The client keeps the MSI-X table; the hardware's own has a message for each
    vector that has an eventfd.

    Parameters
    ----------
    hypervisor : Hypervisor
    vm : Vm
        Whose memory is ``ram``.
    ram : GuestRam
    bar : FunctionPort
        The function, assigned to ``vm``.
    """

    def __init__(self, hypervisor: Hypervisor, vm: Vm, ram: GuestRam, bar: FunctionPort) -> None:
        self._hypervisor, self.vm, self.ram, self._bar = hypervisor, vm, ram, bar
        self._port, self._base = hypervisor.port, bar_base(bar.function)
        self._eventfds: dict[int, int] = {}
        self._assignment = hypervisor.assignment(bar.function)
        self._evicting = False
        #: Whether caches are told of pages that go; if not, old translations are used.
        self.invalidates = True
        #: Messages that reached an eventfd.
        self.interrupts = 0

    @property
    def number(self) -> int:
        """Number of the function."""
        return self._bar.function

    @property
    def regions(self) -> Mapping[int, int]:
        """Bytes of BAR 0 and of the configuration space."""
        bar = self._hypervisor.bus.vf_bar_bytes
        return {RegionIndex.BAR0: bar, RegionIndex.CONFIG: CONFIG_BYTES}

    @property
    def vectors(self) -> int:
        """MSI-X vectors."""
        return self._hypervisor.config.nic.msix_vectors

    # Registers -----------------------------------------------------------------------------------

    async def read(self, region: int, offset: int, size: int) -> bytes:
        """Load bytes."""
        found = bytearray()
        for at, part, _ in _pieces(offset, size):
            if region == RegionIndex.CONFIG:
                value = await self._bar.config.read(at, part)
            else:
                value = await self._port.mmio_read("nic", self._base + at, part)
            found += value.to_bytes(part, "little")
        return bytes(found)

    async def write(self, region: int, offset: int, data: bytes) -> None:
        """Store bytes; a doorbell is not waited for."""
        for at, part, done in _pieces(offset, len(data)):
            value = int.from_bytes(data[done : done + part], "little")
            if region == RegionIndex.CONFIG:
                await self._bar.config.write(at, part, value)
            elif NOTIFY_OFFSET <= at < NOTIFY_OFFSET + _NOTIFY_BYTES:
                self._port.mmio_post("nic", self._base + at, value, part)
            else:
                await self._port.mmio_write("nic", self._base + at, value, part)

    # Memory --------------------------------------------------------------------------------------

    async def map_memory(self, window: DmaWindow) -> None:
        """Add a window to the guest's memory."""
        self.ram.add(window)

    async def unmap_memory(self, address: int, size: int) -> None:
        """Take windows away, and every cached translation of theirs."""
        for window in self.ram.within(address, size):
            await self.evict(self.ram.pages_of(window))
            self.ram.remove(window)

    async def evict(self, pages: list[int]) -> None:
        """Take pages from DMA; returns when nothing can access them any more."""
        if not pages:
            return
        while self._evicting:
            await self._port.sleep(100)
        self._evicting = True
        try:
            await self._evict([gpa for gpa in pages if self.ram.resident(gpa)])
        finally:
            self._evicting = False

    async def _evict(self, pages: list[int]) -> None:
        iommu, vm = self._hypervisor.iommu, self.vm
        self.ram.unmap_all(pages)
        if not self.invalidates:
            for gpa in pages:
                self.ram.page_out(gpa)
            return
        few = len(pages) <= _FEW
        for gpa in pages if few else [None]:
            await iommu.invalidate_second_stage(vm.gscid, gpa)
        await iommu.fence()
        if self._assignment.ats:
            for gpa in pages if few else [None]:
                await iommu.invalidate_device(self._assignment.device_id, gpa)
            await iommu.fence()
        for gpa in pages:
            self.ram.page_out(gpa)

    # Interrupts ----------------------------------------------------------------------------------

    async def set_vector(self, vector: int, eventfd: int | None) -> None:
        """Let a vector's messages signal an eventfd, or mask it."""
        old = self._eventfds.pop(vector, None)
        if old is not None:
            os.close(old)
        if eventfd is not None:
            self._eventfds[vector] = os.dup(eventfd)
        elif old is None:
            return
        await self._set_entry(vector)

    async def _set_entry(self, vector: int) -> None:
        entry = self._base + MSIX_TABLE_OFFSET + MSIX_ENTRY_BYTES * vector
        await self._port.mmio_write("nic", entry + 12, 1)
        if vector not in self._eventfds:
            return
        address, data = self._bar.route(vector, lambda: self._signal(vector))
        for at, value in ((0, address & 0xFFFF_FFFF), (4, address >> 32), (8, data), (12, 0)):
            await self._port.mmio_write("nic", entry + at, value)

    def _signal(self, vector: int) -> None:
        eventfd = self._eventfds.get(vector)
        if eventfd is not None:
            os.eventfd_write(eventfd, 1)
            self.interrupts += 1

    # Resets --------------------------------------------------------------------------------------

    async def reset(self) -> None:
        """Function level reset; vectors are put into the table again."""
        await self._hypervisor.reset(self._bar.function)
        for vector in list(self._eventfds):
            await self._set_entry(vector)

    async def disconnected(self) -> None:
        """Reset the function and take all of the client's memory and eventfds away."""
        await self._hypervisor.reset(self._bar.function)
        for fd in self._eventfds.values():
            os.close(fd)
        self._eventfds.clear()
        await self.unmap_memory(0, 1 << 64)
        self.ram.release()
