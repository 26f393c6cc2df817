"""A virtual function in the hands of a VM, as vfio would give it."""

from collections.abc import Callable

from cosim.hypervisor.vm import MESSAGE_GPA, Vm
from models.spec.nic import (
    BAR_BYTES,
    MSIX_ENTRY_BYTES,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
    bar_base,
)

__all__ = ["FunctionPort"]

_TABLE_END = MSIX_TABLE_OFFSET + 0x1000


class FunctionPort:
    """The pages of one function, and its interrupts.

    Common configuration, device configuration and notify page are mapped into the guest: accesses
    go to the hardware without an exit.  The MSI-X table's page is not, as in vfio: each access
    exits, counted as ``msix_table``.  Nothing else can be reached.

    Parameters
    ----------
    vm : Vm
    function : int
        Number of the VF.
    """

    def __init__(self, vm: Vm, function: int) -> None:
        self._vm, self.function = vm, function
        self._base = bar_base(function)

    def _check(self, offset: int, size: int) -> None:
        if size not in (1, 2, 4, 8) or offset % size:
            raise ValueError(f"Accesses of {size} bytes at {offset:#x} are not possible")
        if not 0 <= offset < BAR_BYTES:
            raise ValueError(f"{offset:#x} is not in the function's BAR")

    async def _trap(self, offset: int) -> None:
        if MSIX_TABLE_OFFSET <= offset < _TABLE_END:
            self._vm.exit("msix_table")
            await self._vm.pay()

    async def read(self, offset: int, size: int = 4) -> int:
        """Load from the BAR."""
        self._check(offset, size)
        await self._trap(offset)
        return await self._vm.port.mmio_read("nic", self._base + offset, size)

    async def write(self, offset: int, value: int, size: int = 4) -> None:
        """Store to the BAR."""
        self._check(offset, size)
        await self._trap(offset)
        await self._vm.port.mmio_write("nic", self._base + offset, value, size)

    def notify(self, offset: int, value: int, size: int = 2) -> None:
        """Ring a doorbell: a posted store to the notify page."""
        self._check(offset, size)
        if not NOTIFY_OFFSET <= offset < MSIX_TABLE_OFFSET:
            raise ValueError(f"{offset:#x} is not in the notify page")
        self._vm.port.mmio_post("nic", self._base + offset, value, size)

    async def set_vector(
        self, vector: int, handler: Callable[[], None], *, address: int = MESSAGE_GPA
    ) -> None:
        """Route an MSI-X vector to the VM's interrupt file and ``handler``, unmasked.

        ``address`` is the interrupt file as the device addresses it: its GPA, or the IOVA that a
        guest with a first stage has mapped it at.
        """
        identity = self.function << 8 | vector
        self._vm.on_interrupt(identity, handler)
        entry = MSIX_TABLE_OFFSET + vector * MSIX_ENTRY_BYTES
        await self.write(entry + 12, 1)
        await self.write(entry, address & 0xFFFF_FFFF)
        await self.write(entry + 4, address >> 32)
        await self.write(entry + 8, identity)
        await self.write(entry + 12, 0)

    async def mask_vector(self, vector: int) -> None:
        """Mask an MSI-X vector."""
        await self.write(MSIX_TABLE_OFFSET + vector * MSIX_ENTRY_BYTES + 12, 1)
