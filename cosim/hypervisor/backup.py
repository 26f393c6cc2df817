"""Backup rings: pinned host memory for frames whose receive queue waits for a page."""

from typing import TYPE_CHECKING

from models.pagetable import KIB_4
from models.spec.nic import (
    BACKUP_ENTRIES_LOG2_MAX,
    MANAGEMENT,
    BackupRing,
    function_block,
)

if TYPE_CHECKING:
    from cosim.hypervisor.hypervisor import Hypervisor

__all__ = ["BackupRings"]


class BackupRings:
    """Gives functions backup rings; the PF, which accesses them, is the hypervisor's own then.

    Parameters
    ----------
    hypervisor : Hypervisor
    entries : int
        Frames of a ring, a power of two up to ``2 ** BACKUP_ENTRIES_LOG2_MAX``; one ring for each
        queue pair.
    """

    def __init__(self, hypervisor: "Hypervisor", entries: int) -> None:
        most = 1 << BACKUP_ENTRIES_LOG2_MAX
        if entries & (entries - 1) or not 1 <= entries <= most:
            raise ValueError(f"A ring has a power of two up to {most} entries, not {entries!r}")
        if not hypervisor.config.nic.backup:
            raise ValueError(f"The NIC of {hypervisor.config.name} has no backup rings")
        self._hypervisor, self.entries = hypervisor, entries
        #: First host page of each function's rings.
        self.memory: dict[int, int] = {}

    async def start(self) -> None:
        """Let the PF do DMA with host addresses."""
        await self._hypervisor.own_physical_function()

    async def enable(self, function: int) -> None:
        """Give a function rings of its own, or those back that it had."""
        nic, pages = self._hypervisor.config.nic, self._hypervisor.pages
        size = nic.queue_pairs * self.entries * nic.backup_stride
        if function not in self.memory:
            self.memory[function] = pages.allocate(-(-size // KIB_4))
        base = self.memory[function]
        fields = {"entries_log2": self.entries.bit_length() - 1, "enable": 1}
        await self._store(function, "backup_low", base & 0xFFFF_FFFF)
        await self._store(function, "backup_high", base >> 32)
        await self._store(function, "backup", BackupRing.const(fields).as_bits())

    async def disable(self, function: int) -> None:
        """Let a function do without; what is in its rings is dropped and counted."""
        await self._store(function, "backup", 0)

    async def _store(self, function: int, name: str, value: int) -> None:
        offset = function_block(function) + MANAGEMENT[name].offset
        await self._hypervisor.port.mmio_write("nic", offset, value)
