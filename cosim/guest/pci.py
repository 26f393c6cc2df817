"""Enumeration of a PCI bus: lists of capabilities, sizes and places of BARs.

Nothing is taken for granted: what a function says of itself is checked, and a function that makes
no sense is a :class:`PciError` that says why.
"""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "Bar",
    "ConfigPort",
    "PciDevice",
    "PciError",
    "Window",
    "devices",
    "probe",
    "size_bar",
    "walk",
]

_VENDOR, _COMMAND, _STATUS, _CLASS, _HEADER, _BAR0, _POINTER = 0, 4, 6, 8, 0xE, 0x10, 0x34
_COMMAND_MEMORY, _COMMAND_MASTER = 2, 4
_STATUS_LIST = 0x10
_FIRST, _END, _EXTENDED, _EXTENDED_END = 0x40, 0x100, 0x100, 0x1000
_BARS = 6


class PciError(RuntimeError):
    """A function's configuration space makes no sense."""


class ConfigPort(Protocol):
    """Configuration accesses by routing ID; what is not there reads all ones."""

    def config_read(self, function: int, offset: int, size: int) -> Awaitable[int]:
        """Load 1, 2 or 4 bytes."""
        ...

    def config_write(self, function: int, offset: int, size: int, value: int) -> Awaitable[None]:
        """Store 1, 2 or 4 bytes."""
        ...


class Window:
    """Addresses for BARs.

    Parameters
    ----------
    base, size : int
    """

    def __init__(self, base: int, size: int) -> None:
        self._next, self._end = base, base + size

    def allocate(self, size: int) -> int:
        """Return a naturally aligned address."""
        address = -(-self._next // size) * size
        if address + size > self._end:
            raise PciError(f"There is no room for a BAR of {size:#x} bytes")
        self._next = address + size
        return address


@dataclass(frozen=True)
class Bar:
    """A memory BAR: its size, and whether its address has 64 bits."""

    size: int
    wide: bool


@dataclass
class PciDevice:
    """A function that was found.

    ``capabilities`` are pairs of ID and offset in the order of the list, ``extended`` likewise.
    """

    port: ConfigPort
    function: int
    vendor: int
    device: int
    class_code: int
    capabilities: list[tuple[int, int]] = field(default_factory=list)
    extended: list[tuple[int, int]] = field(default_factory=list)
    bars: dict[int, Bar] = field(default_factory=dict)
    addresses: dict[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Bus, device and function as software writes them."""
        bus, slot = self.function >> 8, self.function >> 3 & 31
        return f"{bus:02x}:{slot:02x}.{self.function & 7}"

    def read(self, offset: int, size: int) -> Awaitable[int]:
        """Load from the configuration space."""
        return self.port.config_read(self.function, offset, size)

    def write(self, offset: int, size: int, value: int) -> Awaitable[None]:
        """Store to the configuration space."""
        return self.port.config_write(self.function, offset, size, value)

    def find(self, number: int) -> int:
        """Offset of the first capability of an ID; :class:`PciError` if there is none."""
        return self._find(self.capabilities, number, "capability")

    def find_extended(self, number: int) -> int:
        """Offset of an extended capability, likewise."""
        return self._find(self.extended, number, "extended capability")

    def _find(self, found: list[tuple[int, int]], number: int, what: str) -> int:
        for identity, offset in found:
            if identity == number:
                return offset
        raise PciError(f"{self.name} has no {what} {number:#x}")

    async def change(self, offset: int, size: int, *, on: int = 0, off: int = 0) -> None:
        """Set and clear bits."""
        await self.write(offset, size, await self.read(offset, size) & ~off | on)

    async def switch(self, offset: int, size: int, bits: int, on: object) -> None:
        """Set bits, or clear them."""
        await self.change(offset, size, **{"on" if on else "off": bits})

    async def place(self, window: Window) -> None:
        """Give every BAR an address, then let BARs answer and the function do DMA."""
        for number, bar in self.bars.items():
            address = window.allocate(bar.size)
            if address >> 32 and not bar.wide:
                raise PciError(f"{self.name} BAR {number} cannot be at {address:#x}")
            offset = _BAR0 + 4 * number
            await self.write(offset, 4, address & 0xFFFF_FFFF)
            if bar.wide:
                await self.write(offset + 4, 4, address >> 32)
            self.addresses[number] = address
        await self.change(_COMMAND, 2, on=_COMMAND_MEMORY | _COMMAND_MASTER)


async def probe(port: ConfigPort, function: int) -> PciDevice | None:
    """Look at one function; ``None`` if there is none."""
    vendor = await port.config_read(function, _VENDOR, 2)
    if vendor in (0, 0xFFFF):
        return None
    device = await port.config_read(function, _VENDOR + 2, 2)
    code = await port.config_read(function, _CLASS, 4) >> 8
    found = PciDevice(port, function, vendor, device, code)
    if await found.read(_HEADER, 1) & 0x7F:
        raise PciError(f"{found.name} is no endpoint")
    await walk(found)
    await _size_bars(found)
    return found


async def devices(port: ConfigPort, functions: Iterable[int]) -> list[PciDevice]:
    """All functions that there are among some."""
    found = [await probe(port, function) for function in functions]
    return [device for device in found if device is not None]


async def walk(device: PciDevice) -> None:
    """Follow both lists of capabilities."""
    if await device.read(_STATUS, 2) & _STATUS_LIST:
        offset = await device.read(_POINTER, 1) & ~3
        device.capabilities = await _list(device, offset)
    device.extended = await _extended(device)


async def _list(device: PciDevice, offset: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while offset:
        if not _FIRST <= offset < _END:
            raise PciError(f"{device.name}: a capability at {offset:#x} is in the header")
        if offset in {place for _, place in found}:
            raise PciError(f"{device.name}: the list of capabilities comes back to {offset:#x}")
        header = await device.read(offset, 2)
        if header & 0xFF == 0xFF:
            raise PciError(f"{device.name}: there is no capability at {offset:#x}")
        found.append((header & 0xFF, offset))
        offset = header >> 8 & ~3
    return found


async def _extended(device: PciDevice) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    offset = _EXTENDED
    while offset:
        if not _EXTENDED <= offset < _EXTENDED_END:
            raise PciError(f"{device.name}: an extended capability at {offset:#x}")
        if offset in {place for _, place in found}:
            raise PciError(f"{device.name}: extended capabilities come back to {offset:#x}")
        header = await device.read(offset, 4)
        if header in (0, 0xFFFF_FFFF):
            if found:
                raise PciError(f"{device.name}: there is no extended capability at {offset:#x}")
            return []  # none at all
        found.append((header & 0xFFFF, offset))
        offset = header >> 20 & ~3
    return found


async def size_bar(device: PciDevice, offset: int, name: str, *, last: bool = False) -> Bar | None:
    """Size the BAR at an offset by writing all ones (PCIe 7.5.1.2.1); ``None`` if it is none."""
    before = await device.read(offset, 4)
    await device.write(offset, 4, 0xFFFF_FFFF)
    mask = await device.read(offset, 4)
    await device.write(offset, 4, before)
    if not mask:
        return None
    if mask & 1:
        raise PciError(f"{device.name} {name} is of I/O space")
    kind = mask >> 1 & 3
    if kind not in (0, 2):
        raise PciError(f"{device.name} {name} is of a type {kind} that there is not")
    wide = kind == 2
    if wide and last:
        raise PciError(f"{device.name} {name} has no room for its upper half")
    ones, bits = mask & ~0xF, 32
    if wide:
        before = await device.read(offset + 4, 4)
        await device.write(offset + 4, 4, 0xFFFF_FFFF)
        ones |= await device.read(offset + 4, 4) << 32
        await device.write(offset + 4, 4, before)
        bits = 64
    size = (1 << bits) - ones
    if not ones or size & (size - 1):
        raise PciError(f"{device.name} {name} reads {ones:#x} after all ones: that is no size")
    return Bar(size, wide)


async def _size_bars(device: PciDevice) -> None:
    """Size all BARs, none of which answers meanwhile."""
    await device.change(_COMMAND, 2, off=_COMMAND_MEMORY)
    number = 0
    while number < _BARS:
        offset, last = _BAR0 + 4 * number, number == _BARS - 1
        bar = await size_bar(device, offset, f"BAR {number}", last=last)
        if bar is not None:
            device.bars[number] = bar
        number += 1 + (bar is not None and bar.wide)
