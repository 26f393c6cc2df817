"""A virtual function in the hands of a vfio-user client."""

from collections.abc import Iterator, Mapping

from cosim.hypervisor.function import FunctionPort
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.linux.guest_ram import GuestRam
from cosim.linux.machine_ram import MachineRam
from cosim.linux.vectors import Pin, Vectors
from cosim.vfio_user.device import DmaWindow
from cosim.vfio_user.protocol import RegionIndex
from models.spec.nic import (
    CONFIG_BYTES,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    bar_base,
)

__all__ = ["VirtualFunction", "pieces"]

_NOTIFY_BYTES = 0x1000
#: Pages up to which each is invalidated by itself.
_FEW = 16


def pieces(offset: int, size: int, *, largest: int = 4) -> Iterator[tuple[int, int, int]]:
    """Cut an access into aligned ones of up to ``largest`` bytes: offset, bytes, bytes before."""
    done = 0
    while done < size:
        at = offset + done
        part = next(p for p in (8, 4, 2, 1) if p <= largest and not at % p and done + p <= size)
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
    ram : GuestRam or MachineRam
    bar : FunctionPort
        The function, assigned to ``vm``.
    """

    def __init__(
        self, hypervisor: Hypervisor, vm: Vm, ram: GuestRam | MachineRam, bar: FunctionPort
    ) -> None:
        self._hypervisor, self.vm, self.ram, self._bar = hypervisor, vm, ram, bar
        self._port, self._base = hypervisor.port, bar_base(bar.function)
        self._vectors = Vectors(self._store_entry, bar.route)
        self._assignment = hypervisor.assignment(bar.function)
        self._evicting = False
        self._pin = Pin()
        if self.pin:
            self._port.on_pin(self._pin.level)
        #: Whether caches are told of pages that go; if not, old translations are used.
        self.invalidates = True

    @property
    def number(self) -> int:
        """Number of the function."""
        return self._bar.function

    @property
    def interrupts(self) -> int:
        """Interrupts that reached an eventfd."""
        return self._vectors.signals + self._pin.signals

    @property
    def pin(self) -> bool:
        """Whether there is an interrupt pin: a PF has one."""
        return self._bar.function == 0

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
        for at, part, _ in pieces(offset, size):
            if region == RegionIndex.CONFIG:
                value = await self._bar.config.read(at, part)
            else:
                value = await self._port.mmio_read("nic", self._base + at, part)
            found += value.to_bytes(part, "little")
        return bytes(found)

    async def write(self, region: int, offset: int, data: bytes) -> None:
        """Store bytes; a doorbell is not waited for."""
        for at, part, done in pieces(offset, len(data)):
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
        await self._vectors.set(vector, eventfd)

    def set_pin(self, eventfd: int | None) -> None:
        """Let the pin signal an eventfd, or nobody."""
        self._pin.set(eventfd)

    def mask_pin(self, masked: bool) -> None:
        """Mask the pin, or not."""
        self._pin.mask(masked)

    async def _store_entry(self, offset: int, value: int) -> None:
        await self._port.mmio_write("nic", self._base + MSIX_TABLE_OFFSET + offset, value)

    # Resets --------------------------------------------------------------------------------------

    async def reset(self) -> None:
        """Function level reset; vectors are put into the table again."""
        await self._hypervisor.reset(self._bar.function)
        await self._vectors.restore()

    async def disconnected(self) -> None:
        """Reset the function and take all of the client's memory and eventfds away."""
        await self._hypervisor.reset(self._bar.function)
        self._vectors.close()
        self._pin.close()
        await self.unmap_memory(0, 1 << 64)
        self.ram.release()
