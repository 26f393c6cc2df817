"""The host's PCI bus: the IOMMU, the NIC's PF and its VFs, found and set up as a kernel would."""

from cosim.guest.pci import PciDevice, PciError, Window, devices, size_bar, walk
from cosim.port import Port
from models.spec.config import NicConfig
from models.spec.nic import CONFIG_BYTES, config_base
from models.spec.pci import EXTENDED_BASE, IOMMU_DEVICE, IOMMU_VENDOR, pf_space
from models.spec.pci_capabilities import (
    VIRTIO_DEVICE_NET,
    VIRTIO_VENDOR,
    CapabilityId,
    ExtendedId,
)

__all__ = ["IOMMU_FUNCTION", "HostBus"]

#: Routing ID of the IOMMU.
IOMMU_FUNCTION = 0
#: Where BARs go: host addresses without memory.
_WINDOW = (0x4000_0000, 0x2000_0000)
_COMMAND, _BUS_MASTER = 4, 4
_MSIX_ENABLE, _FLR = 1 << 15, 1 << 15
_FLR_CAPABLE = 1 << 28
_ATS_ENABLE, _PRI_ENABLE = 1 << 15, 1
_VF_ENABLE, _VF_MEMORY = 1, 8
_PATIENCE = 100_000


class HostBus:
    """Configuration accesses by routing ID, and what the host does with them.

    Parameters
    ----------
    port : Port
    config : NicConfig
        Where its functions are.
    """

    def __init__(self, port: Port, config: NicConfig) -> None:
        self._port, self._config = port, config
        self._window = Window(*_WINDOW)
        self.iommu: PciDevice
        self.pf: PciDevice
        self.vf_device = 0
        self.vf_bar_bytes = 0
        self._first = self._stride = 0

    # Accesses ------------------------------------------------------------------------------------

    def _place(self, function: int) -> tuple[str, int] | None:
        """Where the configuration space of a routing ID is."""
        if function == IOMMU_FUNCTION:
            return "iommu_config", 0
        number = function - self._config.device_id
        if not 0 <= number < self._config.functions:
            return None
        return "nic", config_base(number)

    async def config_read(self, function: int, offset: int, size: int) -> int:
        """Load 1, 2 or 4 bytes; all ones if nobody answers."""
        place = self._place(function)
        if place is None or not 0 <= offset < CONFIG_BYTES:
            return (1 << 8 * size) - 1
        return await self._port.mmio_read(place[0], place[1] + offset, size)

    async def config_write(self, function: int, offset: int, size: int, value: int) -> None:
        """Store 1, 2 or 4 bytes."""
        place = self._place(function)
        if place is not None and 0 <= offset < CONFIG_BYTES:
            await self._port.mmio_write(place[0], place[1] + offset, value, size)

    # Set-up --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find IOMMU and PF, give their BARs places, let them do DMA and send messages."""
        last = self._config.device_id + self._config.vfs
        found = {(d.vendor, d.device): d for d in await devices(self, range(last + 1))}
        for name, key in (
            ("iommu", (IOMMU_VENDOR, IOMMU_DEVICE)),
            ("pf", (VIRTIO_VENDOR, VIRTIO_DEVICE_NET)),
        ):
            if key not in found:
                raise PciError(f"There is no function {key[0]:04x}:{key[1]:04x} on the host's bus")
            setattr(self, name, found[key])
            await found[key].place(self._window)
        await self.iommu.change(self.iommu.find(CapabilityId.MSIX) + 2, 2, on=_MSIX_ENABLE)
        await self._enable_vfs()
        await self._enable_page_requests()

    async def enable_messages(self) -> None:
        """Let the PF send MSI-X messages."""
        await self.pf.change(self.pf.find(CapabilityId.MSIX) + 2, 2, on=_MSIX_ENABLE)

    async def _enable_vfs(self) -> None:
        """Let all VFs be there (PCIe 9.3.3)."""
        pf = self.pf
        base = pf.find_extended(ExtendedId.SR_IOV)
        total = await pf.read(base + 0x0E, 2)
        await pf.write(base + 0x10, 2, total)
        self._first = await pf.read(base + 0x14, 2)
        self._stride = await pf.read(base + 0x16, 2)
        self.vf_device = await pf.read(base + 0x1A, 2)
        bar = await size_bar(pf, base + 0x24, "VF BAR 0")
        if bar is None:
            raise PciError(f"{pf.name}: VFs have no BAR 0")
        self.vf_bar_bytes = bar.size
        room = self._window.allocate(bar.size * (1 << (total - 1).bit_length()))
        await pf.write(base + 0x24, 4, room & 0xFFFF_FFFF)
        await pf.write(base + 0x28, 4, room >> 32)
        await self.set_vfs(True)

    async def set_vfs(self, there: bool) -> None:
        """Let the VFs be there, as after a reset, or be gone."""
        base = self.pf.find_extended(ExtendedId.SR_IOV)
        await self.pf.switch(base + 8, 2, _VF_ENABLE | _VF_MEMORY, there)
        if there:
            await self._vfs_awake()

    async def _vfs_awake(self) -> None:
        """Wait until all VFs answer."""
        base = self.pf.find_extended(ExtendedId.SR_IOV)
        for number in range(1, 1 + await self.pf.read(base + 0x10, 2)):
            await self._awake(self.routing_id(number))

    async def _enable_page_requests(self) -> None:
        """Allow as many page requests as the PF and its VFs can send (PCIe 10.5.2)."""
        pf = self.pf
        base = pf.find_extended(ExtendedId.PRI)
        await pf.write(base + 12, 4, await pf.read(base + 8, 4))
        await pf.change(base + 4, 2, on=_PRI_ENABLE)

    def routing_id(self, function: int) -> int:
        """Routing ID of a function of the NIC; 0 is the PF."""
        if not function:
            return self.pf.function
        return self.pf.function + self._first + (function - 1) * self._stride

    # Functions -----------------------------------------------------------------------------------

    async def virtual(self, function: int) -> PciDevice:
        """A VF with its capabilities; what its header lacks is said by the PF."""
        code = await self.config_read(self.routing_id(function), 8, 4) >> 8
        device = PciDevice(self, self.routing_id(function), self.pf.vendor, self.vf_device, code)
        await walk(device)
        return device

    async def reset(self, device: PciDevice, *, quiesce: bool = True) -> None:
        """Function level reset (PCIe 6.6.2); returns when the function answers again.

        Software should, but need not, keep the function from new requests before.
        """
        express = device.find(CapabilityId.PCI_EXPRESS)
        if not await device.read(express + 4, 4) & _FLR_CAPABLE:
            raise PciError(f"{device.name} has no function level reset")
        if quiesce:
            await device.change(_COMMAND, 2, off=_BUS_MASTER)
        await device.write(express + 8, 2, _FLR)
        await self._awake(device.function)

    async def reset_physical(self, *, quiesce: bool = True) -> None:
        """Function level reset of the PF; its configuration is put back, as kernels do.

        All VFs are reset with it.
        """
        pf, space = self.pf, pf_space(self._config)
        window = pf.find(CapabilityId.VENDOR)
        kept = {
            place: await pf.read(place, 4)
            for place, word in sorted(space.words.items(), reverse=True)
            if word.writable and not window <= place < EXTENDED_BASE
        }
        await self.reset(pf, quiesce=quiesce)
        # From the end: what enables something comes after what it goes by.
        for place, value in kept.items():
            await pf.write(place, 4, value)
        if await pf.read(pf.find_extended(ExtendedId.SR_IOV) + 8, 2) & _VF_ENABLE:
            await self._vfs_awake()

    async def _awake(self, routing_id: int) -> None:
        """Wait until a function answers; a VF's vendor would not tell."""
        for _ in range(_PATIENCE // 100):
            if await self.config_read(routing_id, _COMMAND, 4) != 0xFFFF_FFFF:
                return
            await self._port.sleep(100)
        raise PciError(f"Function {routing_id:#x} does not answer")

    async def enable_ats(self, device: PciDevice, enable: bool) -> None:
        """Let a function translate by ATS, or not."""
        control = device.find_extended(ExtendedId.ATS) + 6
        await device.switch(control, 2, _ATS_ENABLE, enable)
