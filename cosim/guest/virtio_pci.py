"""Virtio over PCI (virtio 1.3, 4.1): where a device's structures are, and MSI-X."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from cosim.guest.pci import ConfigPort, PciDevice, PciError, Window, devices
from models.spec.pci_capabilities import VIRTIO_VENDOR, CapabilityId, VirtioStructure
from models.spec.virtio import COMMON_CONFIG

__all__ = ["GuestBus", "Structure", "VirtioPci"]

_MODERN = 0x1040
_NETWORK = 1
_COMMAND, _INTERRUPT_PIN, _INTERRUPT_DISABLE = 0x04, 0x3D, 1 << 10
_MASTER, _MSIX_ENABLE, _MSIX_MASK_ALL = 4, 1 << 15, 1 << 14
_ENTRY_BYTES = 16
#: Bytes of a structure that a driver cannot do without.
_LEAST = {
    VirtioStructure.COMMON: COMMON_CONFIG[-1].offset + COMMON_CONFIG[-1].bytes,
    VirtioStructure.NOTIFY: 2,
    VirtioStructure.ISR: 1,
    VirtioStructure.DEVICE: 6,
}


class GuestBus(ConfigPort, Protocol):
    """The bus that a guest's device is on, and the machine's interrupts."""

    @property
    def functions(self) -> range:
        """Routing IDs that can be there."""
        ...

    @property
    def window(self) -> tuple[int, int]:
        """First address and bytes of what BARs may be placed in."""
        ...

    def memory_read(self, address: int, size: int) -> Awaitable[int]:
        """Load from a BAR; all ones if none answers."""
        ...

    def memory_write(self, address: int, size: int, value: int) -> Awaitable[None]:
        """Store to a BAR."""
        ...

    def memory_post(self, address: int, size: int, value: int) -> None:
        """Store to a BAR without waiting."""
        ...

    def route(self, vector: int, handler: Callable[[], None]) -> tuple[int, int]:
        """Have messages of a vector call a handler; returns their address and data."""
        ...

    def route_pin(self, handler: Callable[[], None]) -> None:
        """Have a handler called when the device asserts its interrupt pin."""
        ...


@dataclass(frozen=True)
class Structure:
    """A structure in a BAR: its address and bytes; ``multiplier`` of notify structures."""

    address: int
    length: int
    multiplier: int = 0


class VirtioPci:
    """A virtio device that was found on a bus, its structures and its interrupts.

    Parameters
    ----------
    bus : GuestBus
    device : PciDevice
        With BARs in their places.
    """

    def __init__(self, bus: GuestBus, device: PciDevice) -> None:
        self._bus, self.device = bus, device
        self.structures: dict[VirtioStructure, Structure] = {}
        #: MSI-X vectors; 0 if interrupts come by the pin.
        self.vectors = 0

    @classmethod
    async def find(cls, bus: GuestBus, *, messages: bool = True) -> "VirtioPci":
        """Enumerate a bus and take its one network device; :class:`PciError` if there is none.

        Interrupts are ``messages``, or come by its pin.
        """
        for device in await devices(bus, bus.functions):
            if (device.vendor, device.device) == (VIRTIO_VENDOR, _MODERN + _NETWORK):
                await device.place(Window(*bus.window))
                found = cls(bus, device)
                await found.locate()
                await (found.enable_msix() if messages else found.enable_pin())
                return found
        raise PciError("There is no virtio network device")

    # Structures (4.1.4) --------------------------------------------------------------------------

    async def locate(self) -> None:
        """Find the first of each structure that is of use; others are ignored."""
        for identity, offset in self.device.capabilities:
            if identity == CapabilityId.VENDOR:
                await self._capability(offset)
        for kind in _LEAST:
            if kind not in self.structures:
                raise PciError(f"{self.device.name} has no usable {kind.name} structure")

    async def _capability(self, offset: int) -> None:
        device = self.device
        length, kind = await device.read(offset + 2, 1), await device.read(offset + 3, 1)
        if kind not in _LEAST or kind in self.structures:
            return
        bar = await device.read(offset + 4, 1)
        start, size = await device.read(offset + 8, 4), await device.read(offset + 12, 4)
        notify = kind == VirtioStructure.NOTIFY
        if bar not in device.bars or length < (20 if notify else 16):
            return
        if size < _LEAST[VirtioStructure(kind)] or start + size > device.bars[bar].size:
            return
        if start % (2 if notify else 1 if kind == VirtioStructure.ISR else 4):
            return
        multiplier = await device.read(offset + 16, 4) if notify else 0
        if multiplier % 2:
            return
        address = device.addresses[bar] + start
        self.structures[VirtioStructure(kind)] = Structure(address, size, multiplier)

    def _address(self, kind: VirtioStructure, offset: int, size: int) -> int:
        structure = self.structures[kind]
        if offset + size > structure.length:
            raise PciError(f"{self.device.name}: {kind.name} has no {size} bytes at {offset:#x}")
        return structure.address + offset

    def load(self, kind: VirtioStructure, offset: int, size: int) -> Awaitable[int]:
        """Load from a structure."""
        return self._bus.memory_read(self._address(kind, offset, size), size)

    def store(self, kind: VirtioStructure, offset: int, size: int, value: int) -> Awaitable[None]:
        """Store to a structure."""
        return self._bus.memory_write(self._address(kind, offset, size), size, value)

    def notify(self, place: int, value: int) -> None:
        """Ring a queue's doorbell; ``place`` is its ``queue_notify_off`` (4.1.4.4)."""
        offset = place * self.structures[VirtioStructure.NOTIFY].multiplier
        self._bus.memory_post(self._address(VirtioStructure.NOTIFY, offset, 2), 2, value)

    # Interrupts (PCIe 6.1.4) ---------------------------------------------------------------------

    async def enable_msix(self) -> None:
        """Find table and pending bits, and enable MSI-X with all vectors masked."""
        device = self.device
        self._msix = device.find(CapabilityId.MSIX)
        control = await device.read(self._msix + 2, 2)
        self.vectors = (control & 0x7FF) + 1
        table = await device.read(self._msix + 4, 4)
        pending = await device.read(self._msix + 8, 4)
        self._table = self._place(table, _ENTRY_BYTES * self.vectors)
        self._pending = self._place(pending, -(-self.vectors // 64) * 8)
        await device.change(self._msix + 2, 2, on=_MSIX_ENABLE | _MSIX_MASK_ALL)
        for vector in range(self.vectors):
            await self._mask(vector, 1)
        await device.change(self._msix + 2, 2, off=_MSIX_MASK_ALL)

    async def enable_pin(self) -> None:
        """Disable MSI-X, and let the pin be asserted (virtio 1.3, 4.1.4.5)."""
        device = self.device
        if not await device.read(_INTERRUPT_PIN, 1):
            raise PciError(f"{device.name} has no interrupt pin")
        await device.change(device.find(CapabilityId.MSIX) + 2, 2, off=_MSIX_ENABLE)
        await device.change(_COMMAND, 2, off=_INTERRUPT_DISABLE)

    def route_pin(self, handler: Callable[[], None]) -> None:
        """Have a handler called when the pin is asserted."""
        self._bus.route_pin(handler)

    def _place(self, register: int, size: int) -> int:
        bar, offset = register & 7, register & ~7
        if bar not in self.device.bars or offset + size > self.device.bars[bar].size:
            raise PciError(f"{self.device.name}: MSI-X at {offset:#x} of BAR {bar} is nowhere")
        return self.device.addresses[bar] + offset

    def _mask(self, vector: int, mask: int) -> Awaitable[None]:
        return self._bus.memory_write(self._table + _ENTRY_BYTES * vector + 12, 4, mask)

    async def set_vector(
        self, vector: int, handler: Callable[[], None], *, address: int | None = None
    ) -> None:
        """Route a vector to a handler, unmasked.

        ``address`` is the interrupt file as the device addresses it, if that differs from what the
        platform says.
        """
        if vector >= self.vectors:
            raise PciError(f"{self.device.name} has no vector {vector}")
        platform, data = self._bus.route(vector, handler)
        address = platform if address is None else address
        entry = self._table + _ENTRY_BYTES * vector
        await self._mask(vector, 1)
        await self._bus.memory_write(entry, 4, address & 0xFFFF_FFFF)
        await self._bus.memory_write(entry + 4, 4, address >> 32)
        await self._bus.memory_write(entry + 8, 4, data)
        await self._mask(vector, 0)

    async def is_pending(self, vector: int) -> bool:
        """Whether a message waits for its vector to be unmasked."""
        word = await self._bus.memory_read(self._pending + vector // 32 * 4, 4)
        return bool(word >> vector % 32 & 1)

    async def mask_vector(self, vector: int) -> None:
        """Mask a vector: when this returns, its last message has come."""
        await self._mask(vector, 1)
        await self._bus.memory_read(self._table + _ENTRY_BYTES * vector + 12, 4)

    async def mask_function(self, masked: bool) -> None:
        """Mask all vectors at once, or none."""
        await self.device.switch(self._msix + 2, 2, _MSIX_MASK_ALL, masked)

    async def shut_down(self) -> None:
        """Let the device do nothing any more: no DMA, no message."""
        await self.device.change(4, 2, off=_MASTER)
        await self.device.change(self._msix + 2, 2, off=_MSIX_ENABLE)
