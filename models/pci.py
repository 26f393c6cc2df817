"""Golden PCI configuration space, by the PCI Express Base Specification 6.0 ("PCIe").

:class:`ConfigFunction` has what is the same for all functions, and tells of what its registers ask
for.  Byte by byte, from the tables of :mod:`models.spec.pci`.
"""

from collections.abc import Callable

from models.spec.pci import ConfigSpace
from models.spec.registers import Access, Register

__all__ = ["ConfigFunction", "all_ones"]

_POWER_STATES = (0, 3)  # D0, D3hot
_PAGE = 4096


def all_ones(size: int) -> int:
    """What a read that nobody answers returns (PCIe 2.3.2)."""
    return (1 << 8 * size) - 1


class ConfigFunction:
    """Configuration space of one function.

    Parameters
    ----------
    space : ConfigSpace
    changed : callable
        Called as ``changed(register)`` with the name of each register whose value a write changed.
    asked : callable
        Called as ``asked(register, field)`` when 1 is written to a field that starts something:
        a function level reset, a reset of the page request interface.
    window : callable or None
        ``window(bar, offset, size, value)`` accesses a BAR for the virtio window (virtio 1.3,
        4.1.4.9), to read it if the value is ``None``.
    """

    def __init__(
        self,
        space: ConfigSpace,
        *,
        changed: Callable[[str], None] = lambda register: None,
        asked: Callable[[str, str], None] = lambda register, field: None,
        window: Callable[[int, int, int, int | None], int] | None = None,
    ) -> None:
        self.space = space
        self._changed, self._asked, self._window = changed, asked, window
        self.reset()

    def reset(self) -> None:
        """Give every register its value after reset."""
        self._values = {
            register.name: sum(f.insert(f.reset or 0) for f in register.fields.values())
            for register in self.space.registers
        }

    def field(self, register: str, field: str) -> int:
        """Value of a field."""
        return self.space[register][field].extract(self._values[register])

    def set(self, register: str, field: str, value: int) -> None:
        """Let hardware say what a field is."""
        entry = self.space[register][field]
        kept = self._values[register] & ~entry.mask
        self._values[register] = kept | entry.insert(value)

    # Accesses ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Load 1, 2 or 4 bytes; what is not defined reads 0."""
        value = 0
        for register in self._overlapping(offset, size):
            if register.name == "virtio_pci_data":
                return self._look(offset - register.offset, size)
            value |= self._readable(register) << 8 * register.offset
        return value >> 8 * offset & all_ones(size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Store 1, 2 or 4 bytes; fields of which not all bytes are written keep the others."""
        for register in self._overlapping(offset, size):
            if register.name == "virtio_pci_data":
                self._store_window(offset - register.offset, value)
                continue
            lanes = (all_ones(size) << 8 * offset) >> 8 * register.offset
            data = (value << 8 * offset) >> 8 * register.offset
            self._store(register, data, lanes & (1 << register.width) - 1)

    def _overlapping(self, offset: int, size: int) -> list[Register]:
        return [
            register
            for register in self.space.registers
            if register.offset < offset + size and offset < register.offset + register.bytes
        ]

    def _readable(self, register: Register) -> int:
        value = self._values[register.name]
        if register.name == "vf_bar0":
            # VF BARs are aligned to the system page size (PCIe 9.3.3.14).
            units = self._values["system_page_size"]
            value &= ~((units - 1) * _PAGE & 0x7F_F000)
        return value

    def _store(self, register: Register, data: int, lanes: int) -> None:
        name, before = register.name, self._values[register.name]
        mask = register.mask(Access.RW) & lanes
        if name == "num_vfs" and self.field("sriov_control", "vf_enable"):
            mask = 0  # PCIe 9.3.3.7
        if name == "pm_control" and data & lanes & 3 not in _POWER_STATES:
            mask = 0  # PCIe 7.5.2.2: an unsupported state changes nothing
        after = before & ~mask | data & mask
        after &= ~(register.mask(Access.RW1C) & data & lanes)
        self._values[name] = after
        if after != before:
            self._changed(name)
        for field, entry in register.fields.items():
            if entry.access is Access.RW1S and entry.extract(data & lanes):
                self._asked(name, field)

    # Window ------------------------------------------------------------------------------------

    def _target(self) -> tuple[int, int, int] | None:
        """BAR, offset and length of the window's access, if it is one."""
        bar, offset, length = (
            self._values[f"virtio_pci_{name}"] for name in ("bar", "offset", "bytes")
        )
        if self._window is None or length not in (1, 2, 4) or offset % length:
            return None
        return bar, offset, length

    def _look(self, skip: int, size: int) -> int:
        target = self._target()
        if target is None or self._window is None:
            return 0
        return self._window(*target, None) >> 8 * skip & all_ones(size)

    def _store_window(self, skip: int, value: int) -> None:
        target = self._target()
        if target is not None and self._window is not None and not skip:
            self._window(*target, value & all_ones(target[2]))
