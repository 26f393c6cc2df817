"""The IOMMU itself in the hands of a vfio-user client."""

from collections import Counter
from collections.abc import Mapping

from cosim.hypervisor.hypervisor import Hypervisor
from cosim.hypervisor.vm import Vm
from cosim.linux.machine_ram import MachineRam
from cosim.linux.translations import TranslationWatcher
from cosim.linux.vectors import Vectors
from cosim.linux.virtual_function import pieces
from cosim.vfio_user.device import DmaWindow
from cosim.vfio_user.protocol import RegionIndex
from models.spec import iommu_registers as spec
from models.spec.iommu import CommandOpcode
from models.spec.nic import CONFIG_BYTES

__all__ = ["IommuFunction"]

_COMMAND_BYTES = 16
_OPCODE = 0x7F
#: A fence that waits for what was before it, and tells nobody.
_NOTHING = int(CommandOpcode.IOFENCE).to_bytes(_COMMAND_BYTES, "little")
#: Identities of its interrupts, of those that a VM has: no function of a NIC has that number.
_IDENTITY = 0xFFFF << 8


class IommuFunction:
    """A :class:`~cosim.vfio_user.device.PciFunction` on the hardware's IOMMU.

    Configuration space and registers are the hardware's own.  The client keeps the MSI-X table,
    which is ``msi_cfg_tbl``; the hardware's own has a message for each vector that has an eventfd.

    Parameters
    ----------
    hypervisor : Hypervisor
        Which has left the IOMMU to the guest.
    vm : Vm
        Whose memory is ``ram``.
    ram : MachineRam
    ignored : int
        Of so many invalidations of translations one is left out, as a planted mistake: a fence
        that does nothing takes its place.  0 for none.
    """

    def __init__(
        self, hypervisor: Hypervisor, vm: Vm, ram: MachineRam, *, ignored: int = 0
    ) -> None:
        self._driver, self._port, self._vm, self._ram = hypervisor.iommu, hypervisor.port, vm, ram
        self._vectors = Vectors(self._store_entry, self._route)
        self._tail, self._ignored = 0, ignored
        #: Commands that software has queued, by their opcode.
        self.commands: Counter[int] = Counter()
        #: Is told of commands and of ``ddtp``, if there is one.
        self.watcher: TranslationWatcher | None = None

    @property
    def regions(self) -> Mapping[int, int]:
        """Bytes of BAR 0 and of the configuration space."""
        return {RegionIndex.BAR0: spec.PAGE_BYTES, RegionIndex.CONFIG: CONFIG_BYTES}

    @property
    def vectors(self) -> int:
        """MSI-X vectors."""
        return spec.MSI_CFG_TBL_ENTRIES

    @property
    def interrupts(self) -> int:
        """Messages that reached an eventfd."""
        return self._vectors.signals

    @property
    def pin(self) -> bool:
        """It has no interrupt pin."""
        return False

    # Registers -----------------------------------------------------------------------------------

    async def read(self, region: int, offset: int, size: int) -> bytes:
        """Load bytes."""
        config = region == RegionIndex.CONFIG
        space = "iommu_config" if config else "iommu"
        found = bytearray()
        for at, part, _ in pieces(offset, size, largest=4 if config else 8):
            value = await self._port.mmio_read(space, at, part)
            at_head = not config and at == spec.CQH.offset
            if self.watcher is not None and at_head and value == self._tail:
                self.watcher.completed()
            found += value.to_bytes(part, "little")
        return bytes(found)

    async def write(self, region: int, offset: int, data: bytes) -> None:
        """Store bytes."""
        config = region == RegionIndex.CONFIG
        space = "iommu_config" if config else "iommu"
        for at, part, done in pieces(offset, len(data), largest=4 if config else 8):
            value = int.from_bytes(data[done : done + part], "little")
            if not config and at == spec.CQT.offset:
                await self._count(value)
            await self._port.mmio_write(space, at, value, part)
            in_ddtp = spec.DDTP.offset <= at < spec.DDTP.offset + spec.DDTP.bytes
            if self.watcher is not None and in_ddtp and not config:
                self.watcher.ddtp = await self._port.mmio_read("iommu", spec.DDTP.offset, 8)

    async def _count(self, tail: int) -> None:
        """Count the commands up to a new tail, as they are in memory; leave some out."""
        base = await self._port.mmio_read("iommu", spec.CQB.offset, spec.CQB.bytes)
        queue = spec.CQB["ppn"].extract(base) << 12
        entries = 2 << spec.CQB["log2szm1"].extract(base)
        invalidates = False
        while self._tail != tail % entries:
            at = queue + _COMMAND_BYTES * self._tail
            raw = self._port.memory.read(at, _COMMAND_BYTES)
            opcode = raw[0] & _OPCODE
            self.commands[opcode] += 1
            if opcode == CommandOpcode.IOTINVAL:
                invalidates = True
                if self._ignored and not self.commands[opcode] % self._ignored:
                    self._port.memory.write(at, _NOTHING)
            self._tail = (self._tail + 1) % entries
        if invalidates and self.watcher is not None:
            self.watcher.commanded()

    # Memory --------------------------------------------------------------------------------------

    async def map_memory(self, window: DmaWindow) -> None:
        """Add a window to the guest's memory."""
        self._ram.add(window)

    async def unmap_memory(self, address: int, size: int) -> None:
        """Take windows away; the client has seen to it that nothing uses them."""
        for window in self._ram.within(address, size):
            self._ram.remove(window)

    # Interrupts ----------------------------------------------------------------------------------

    async def set_vector(self, vector: int, eventfd: int | None) -> None:
        """Let a vector's messages signal an eventfd, or mask it."""
        await self._vectors.set(vector, eventfd)

    def set_pin(self, eventfd: int | None) -> None:
        """Do nothing: there is no pin."""

    def mask_pin(self, masked: bool) -> None:
        """Do nothing: there is no pin."""

    def _route(self, vector, handler) -> tuple[int, int]:
        self._vm.on_interrupt(_IDENTITY | vector, handler)
        return self._vm.message_gpa, _IDENTITY | vector

    async def _store_entry(self, offset: int, value: int) -> None:
        await self._port.mmio_write("iommu", spec.msi_addr(0).offset + offset, value)

    # Resets --------------------------------------------------------------------------------------

    async def reset(self) -> None:
        """Turn translation and queues off: it has no function level reset."""
        await self._driver.stop()
        self._tail = 0

    async def disconnected(self) -> None:
        """Turn everything off, and take all of the client's memory and eventfds away."""
        await self.reset()
        self._vectors.close()
        await self.unmap_memory(0, 1 << 64)
