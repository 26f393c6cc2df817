"""A function's configuration space as a guest sees it, as vfio would present it."""

from collections.abc import Awaitable, Callable

from cosim.guest.pci import PciDevice
from models.spec.pci_capabilities import CapabilityId, VirtioStructure

__all__ = ["VirtualConfig"]

_COMMAND, _BAR0, _BARS_END, _EXTENDED = 4, 0x10, 0x28, 0x100
_MEMORY, _MASTER, _INTERRUPT_DISABLE = 2, 4, 1 << 10
_BAR_TYPE = 4  # memory, 64 bits
_FLR = 0x80  # in the upper byte of Device Control


class VirtualConfig:
    """What a VF's header lacks is made up: IDs, BARs, memory space enable.

    Of the hardware's registers a guest may write bus master enable, interrupt disable, MSI-X enable
    and function mask, and the virtio window on its own BAR; it may ask for a function level reset.
    Extended capabilities are the hypervisor's and are hidden.

    Parameters
    ----------
    device : PciDevice
        The function; vendor and device are those to show.
    bars : dict[int, int]
        Bytes of each BAR, 64 bits wide.
    reset : callable
        Awaited when the guest asks for a function level reset.
    """

    def __init__(
        self, device: PciDevice, bars: dict[int, int], reset: Callable[[], Awaitable[None]]
    ) -> None:
        self._device, self._bars, self._reset = device, bars, reset
        self._writable: set[int] = set()
        self._express = device.find(CapabilityId.PCI_EXPRESS)
        self._forget()

    def _forget(self) -> None:
        self._memory = False
        self._header = bytearray(_BARS_END)
        self._header[0:2] = self._device.vendor.to_bytes(2, "little")
        self._header[2:4] = self._device.device.to_bytes(2, "little")
        for number in self._bars:
            self._header[_BAR0 + 4 * number] = _BAR_TYPE

    async def start(self) -> None:
        """Find out which of the hardware's registers the guest may write."""
        device = self._device
        msix = device.find(CapabilityId.MSIX)
        self._writable = {msix + 2, msix + 3}
        for identity, offset in device.capabilities:
            if identity != CapabilityId.VENDOR:
                continue
            if await device.read(offset + 3, 1) == VirtioStructure.PCI:
                self._writable |= set(range(offset + 4, offset + 20))

    def bar_offset(self, address: int, size: int) -> tuple[int, int] | None:
        """BAR and offset that an address is in; ``None`` if no BAR answers."""
        for number, length in self._bars.items():
            place = _BAR0 + 4 * number
            base = int.from_bytes(self._header[place : place + 8], "little") & -length
            if self._memory and base <= address and address + size <= base + length:
                return number, address - base
        return None

    async def read(self, offset: int, size: int) -> int:
        """Load 1, 2 or 4 bytes."""
        if offset >= _EXTENDED:
            return 0
        value = bytearray((await self._device.read(offset, size)).to_bytes(size, "little"))
        for place in range(offset, offset + size):
            if place < _COMMAND or _BAR0 <= place < _BARS_END:
                value[place - offset] = self._header[place]
            elif place == _COMMAND:
                value[place - offset] &= ~_MEMORY & 0xFF
                value[place - offset] |= _MEMORY * self._memory
        return int.from_bytes(value, "little")

    async def write(self, offset: int, size: int, value: int) -> None:
        """Store 1, 2 or 4 bytes."""
        data = value.to_bytes(size, "little")
        places = range(offset, offset + size)
        if all(place in self._writable for place in places):
            await self._device.write(offset, size, value)
            return
        for place, byte in zip(places, data, strict=True):
            if place == _COMMAND:
                self._memory = bool(byte & _MEMORY)
                await self._device.switch(_COMMAND, 2, _MASTER, byte & _MASTER)
            elif place == _COMMAND + 1:
                disabled = byte << 8 & _INTERRUPT_DISABLE
                await self._device.switch(_COMMAND, 2, _INTERRUPT_DISABLE, disabled)
            elif _BAR0 <= place < _BARS_END:
                self._store_bar(place, byte)
            elif place == self._express + 9 and byte & _FLR:
                self._forget()
                await self._reset()

    def _store_bar(self, place: int, byte: int) -> None:
        for number, length in self._bars.items():
            within = place - _BAR0 - 4 * number
            if 0 <= within < 8:
                mask = (1 << 64) - length >> 8 * within & 0xFF
                self._header[place] = self._header[place] & ~mask | byte & mask
