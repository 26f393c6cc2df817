"""A function of the NIC in the hands of a VM, as vfio would give it."""

from collections.abc import Callable

from cosim.hypervisor.virtual_config import VirtualConfig
from cosim.hypervisor.vm import Vm
from models.spec.nic import MSIX_TABLE_OFFSET, NOTIFY_OFFSET, bar_base

__all__ = ["FunctionPort"]

_TABLE_END = MSIX_TABLE_OFFSET + 0x1000
#: Routing ID at which the guest finds its function, and all that its bus has.
_SLOT, _SLOTS = 0x08, range(0, 0x40, 8)
#: Where the guest may place BARs: addresses that are not its memory.
_WINDOW = (0x6000_0000, 0x1000_0000)


class FunctionPort:
    """The PCI bus of a VM with one function on it, and that function's interrupts.

    Each access to configuration space is an exit, counted as ``pci_config``.  Common configuration,
    device configuration and notify page are mapped into the guest where its BAR is: accesses go to
    the hardware without an exit.  The MSI-X table's page is not, as in vfio: each access exits,
    counted as ``msix_table``.  Nothing else can be reached.

    Parameters
    ----------
    vm : Vm
    function : int
        Number of the function.
    config : VirtualConfig
    """

    functions = _SLOTS
    window = _WINDOW

    def __init__(self, vm: Vm, function: int, config: VirtualConfig) -> None:
        self._vm, self.function, self.config = vm, function, config
        self._base = bar_base(function)

    async def config_read(self, function: int, offset: int, size: int) -> int:
        """Load from a configuration space."""
        self._vm.exit("pci_config")
        await self._vm.pay()
        if function != _SLOT:
            return (1 << 8 * size) - 1
        return await self.config.read(offset, size)

    async def config_write(self, function: int, offset: int, size: int, value: int) -> None:
        """Store to a configuration space."""
        self._vm.exit("pci_config")
        await self._vm.pay()
        if function == _SLOT:
            await self.config.write(offset, size, value)

    def _decode(self, address: int, size: int) -> int | None:
        """Offset in BAR 0 of an address."""
        if size not in (1, 2, 4, 8) or address % size:
            raise ValueError(f"Accesses of {size} bytes at {address:#x} are not possible")
        found = self.config.bar_offset(address, size)
        return None if found is None else found[1]

    async def _trap(self, offset: int) -> None:
        if MSIX_TABLE_OFFSET <= offset < _TABLE_END:
            self._vm.exit("msix_table")
            await self._vm.pay()

    async def memory_read(self, address: int, size: int) -> int:
        """Load from a BAR; all ones if none answers."""
        offset = self._decode(address, size)
        if offset is None:
            return (1 << 8 * size) - 1
        await self._trap(offset)
        return await self._vm.port.mmio_read("nic", self._base + offset, size)

    async def memory_write(self, address: int, size: int, value: int) -> None:
        """Store to a BAR."""
        offset = self._decode(address, size)
        if offset is None:
            return
        await self._trap(offset)
        await self._vm.port.mmio_write("nic", self._base + offset, value, size)

    def memory_post(self, address: int, size: int, value: int) -> None:
        """Ring a doorbell: a posted store to the notify page."""
        offset = self._decode(address, size)
        if offset is None or not NOTIFY_OFFSET <= offset < MSIX_TABLE_OFFSET:
            raise ValueError(f"{address:#x} is not in the notify page")
        address = self._base + offset
        self._vm.post(lambda: self._vm.port.mmio_post("nic", address, value, size))

    def route(self, vector: int, handler: Callable[[], None]) -> tuple[int, int]:
        """Have messages of a vector call a handler; returns their address and data.

        The address is that of the VM's interrupt file, by GPA.
        """
        identity = self.function << 8 | vector
        self._vm.on_interrupt(identity, handler)
        return self._vm.message_gpa, identity

    def route_pin(self, handler: Callable[[], None]) -> None:
        """Have a handler called when the function, which is the PF, asserts its pin."""
        if self.function:
            raise ValueError("A VF has no interrupt pin")
        self._vm.port.on_pin(lambda level: handler() if level else None)
