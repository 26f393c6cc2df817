"""PCI face of the golden IOMMU."""

from models.iommu.iommu import GoldenIommu
from models.pci import ConfigFunction
from models.spec.pci import iommu_space

__all__ = ["IommuPci"]


class IommuPci:
    """Configuration space of an IOMMU; its messages are those of an MSI-X table.

    Parameters
    ----------
    iommu : GoldenIommu
    """

    def __init__(self, iommu: GoldenIommu) -> None:
        self._iommu = iommu
        self.function = ConfigFunction(iommu_space(), changed=lambda register: self._update())
        self._update()

    def _update(self) -> None:
        field = self.function.field
        allowed = (
            field("command", "bus_master")
            and field("msix_control", "enable")
            and not field("msix_control", "function_mask")
            and field("pm_control", "power_state") == 0
        )
        self._iommu.interrupts.held = not allowed
        self._iommu.interrupts.unmasked()

    def read(self, offset: int, size: int) -> int:
        """Load 1, 2, 4 or 8 bytes."""
        if size == 8:
            return self.read(offset, 4) | self.read(offset + 4, 4) << 32
        return self.function.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Store 1, 2, 4 or 8 bytes."""
        if size == 8:
            self.write(offset + 4, 4, value >> 32)
            self.write(offset, 4, value & 0xFFFF_FFFF)
            return
        self.function.write(offset, size, value)
