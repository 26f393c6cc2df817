"""PCI face of the golden NIC: configuration spaces of all functions, and what they allow."""

from collections.abc import Callable, Iterable

from models.pci import ConfigFunction, all_ones
from models.spec.config import NicConfig
from models.spec.iommu import PageResponse
from models.spec.nic import BAR_BYTES, CONFIG_BYTES
from models.spec.pci import nic_space

__all__ = ["NicPci"]

#: BarAccess(function, offset, size, value): value None reads.
BarAccess = Callable[[int, int, int, int | None], int]


class NicPci:
    """Configuration spaces of the PF and its VFs, and the page request interface they share.

    Parameters
    ----------
    config : NicConfig
    bar : callable
        ``bar(function, offset, size, value)`` accesses BAR 0 of a function; reads if ``None``.
    reset : callable
        ``reset(function)`` resets all of a function but its configuration space.
    waiting : callable
        Whether the PF's ISR status has anything.
    updated : callable
        Called after each write: what functions may do can have changed.
    """

    def __init__(
        self,
        config: NicConfig,
        bar: BarAccess,
        reset: Callable[[int], None],
        waiting: Callable[[], bool],
        updated: Callable[[], None],
    ) -> None:
        self._config, self._bar, self._reset, self._updated = config, bar, reset, updated
        self._waiting = waiting
        self._outstanding: set[int] = set()
        self.functions = [self._make(number) for number in range(config.functions)]
        self._pf = self.functions[0]

    def _make(self, number: int) -> ConfigFunction:
        return ConfigFunction(
            nic_space(self._config, number),
            changed=lambda register: self._changed(number, register),
            asked=lambda register, field: self._asked(number, register),
            window=lambda bar, offset, size, value: self._through(number, bar, offset, size, value),
        )

    # Accesses ----------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> int:
        """Load from the configuration spaces."""
        number, offset = divmod(address, CONFIG_BYTES)
        if not self.present(number):
            return all_ones(size)
        if size == 8:
            return self.read(address, 4) | self.read(address + 4, 4) << 32
        self._pf.set("status", "interrupt", self.by_pin(0) and self._waiting())
        return self.functions[number].read(offset, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Store to the configuration spaces."""
        number, offset = divmod(address, CONFIG_BYTES)
        if not self.present(number):
            return
        if size == 8:
            self.write(address + 4, 4, value >> 32)
            self.write(address, 4, value & 0xFFFF_FFFF)
            return
        self.functions[number].write(offset, size, value)
        self._pf.set("pri_status", "stopped", self._stopped())
        self._updated()

    def _through(self, number: int, bar: int, offset: int, size: int, value: int | None) -> int:
        if bar or offset + size > BAR_BYTES:
            return 0
        return self._bar(number, offset, size, value)

    # What functions may do ---------------------------------------------------------------------

    @property
    def _awake(self) -> bool:
        """VFs have no power states of their own: they follow the PF (PCIe 9.6.1)."""
        return self._pf.field("pm_control", "power_state") == 0

    def present(self, number: int) -> bool:
        """Whether there is such a function (PCIe 9.3.3.3.1)."""
        if number == 0:
            return True
        wanted = min(self._pf.field("num_vfs", "value"), self._config.vfs)
        return bool(self._pf.field("sriov_control", "vf_enable")) and number <= wanted

    def decodes(self, number: int) -> bool:
        """Whether a function's BARs answer."""
        register, field = ("sriov_control", "vf_memory") if number else ("command", "memory")
        return self.present(number) and self._awake and bool(self._pf.field(register, field))

    def master(self, number: int) -> bool:
        """Whether a function may do DMA."""
        allowed = self.functions[number].field("command", "bus_master")
        return self.present(number) and self._awake and bool(allowed)

    def messages(self, number: int) -> bool:
        """Whether a function may send MSI-X messages."""
        function = self.functions[number]
        masked = function.field("msix_control", "function_mask")
        enabled = function.field("msix_control", "enable")
        return self.master(number) and bool(enabled) and not masked

    def by_pin(self, number: int) -> bool:
        """Whether interrupts assert a pin, which only a PF has (PCIe 9.3.4.1.9)."""
        return number == 0 and not self._pf.field("msix_control", "enable")

    @property
    def pin(self) -> bool:
        """Whether the PF asserts its interrupt pin (virtio 1.3, 4.1.4.5)."""
        disabled = self._pf.field("command", "interrupt_disable")
        return self.by_pin(0) and self._waiting() and not disabled

    def ats(self, number: int) -> bool:
        """Whether a function translates by ATS, and asks for pages that are not there."""
        enabled = self.functions[number].field("ats_control", "enable")
        return bool(enabled) and bool(self._pf.field("pri_control", "enable"))

    # What writes set off -----------------------------------------------------------------------

    def _changed(self, number: int, register: str) -> None:
        if register == "sriov_control" and not self._pf.field(register, "vf_enable"):
            self._start_over(range(1, self._config.functions))

    def _asked(self, number: int, register: str) -> None:
        if register == "device_control":  # PCIe 6.6.2, 9.2.2.2
            everybody = range(self._config.functions)
            self._start_over([number] if number else everybody)
        elif register == "pri_control" and not self._pf.field(register, "enable"):
            self._outstanding.clear()

    def _start_over(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.functions[number].reset()
            self._reset(number)
            if number == 0:
                self._outstanding.clear()

    # Page request interface (PCIe 10.4.2) ------------------------------------------------------

    def _stopped(self) -> bool:
        return not (self._pf.field("pri_control", "enable") or self._outstanding)

    @property
    def may_ask(self) -> bool:
        """Whether one more page request may be sent."""
        allocated = self._pf.field("pri_allocation", "value")
        enabled = self._pf.field("pri_control", "enable")
        return bool(enabled) and len(self._outstanding) < allocated

    def asked(self, index: int) -> None:
        """Note a page request that was sent."""
        self._outstanding.add(index)

    def answered(self, index: int, code: int) -> None:
        """Note a response."""
        if index not in self._outstanding:
            self._pf.set("pri_status", "unexpected", 1)
            return
        self._outstanding.discard(index)
        if code > PageResponse.INVALID:  # those that nobody has defined too
            self._pf.set("pri_status", "failure", 1)
        self._pf.set("pri_status", "stopped", self._stopped())
