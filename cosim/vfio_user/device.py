"""What a PCI function offers to a vfio-user client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["DmaWindow", "PciFunction"]


@dataclass(frozen=True, kw_only=True)
class DmaWindow:
    """Memory of the client that the function may reach.

    Parameters
    ----------
    address, size : int
        Extent by the addresses that DMA uses.
    fd : int or None
        File that holds it; ``None``: memory that cannot be shared.  Whoever wants to keep it
        duplicates it.
    offset : int
        Where in the file it begins.
    readable, writable : bool
    """

    address: int
    size: int
    fd: int | None
    offset: int = 0
    readable: bool = True
    writable: bool = True


class PciFunction(Protocol):
    """One function.  Its methods are awaited one at a time, in the order of the client's commands.

    An ``OSError`` that a method raises is the answer to the client, by its errno.
    """

    @property
    def regions(self) -> Mapping[int, int]:
        """Bytes of each region that there is, by RegionIndex."""
        ...

    @property
    def vectors(self) -> int:
        """MSI-X vectors."""
        ...

    @property
    def pin(self) -> bool:
        """Whether there is an interrupt pin."""
        ...

    async def read(self, region: int, offset: int, size: int) -> bytes:
        """Load ``size`` bytes, all of which are in the region."""
        ...

    async def write(self, region: int, offset: int, data: bytes) -> None:
        """Store bytes, all of which are in the region."""
        ...

    async def map_memory(self, window: DmaWindow) -> None:
        """Let DMA reach memory."""
        ...

    async def unmap_memory(self, address: int, size: int) -> None:
        """Take all windows within an extent away; returns when no DMA can reach them any more."""
        ...

    async def set_vector(self, vector: int, eventfd: int | None) -> None:
        """Signal an eventfd for a vector's messages, or nobody.  A descriptor that is to be kept is
        duplicated.
        """
        ...

    def set_pin(self, eventfd: int | None) -> None:
        """Signal an eventfd when the pin is asserted and not masked, and mask it then; or nobody.
        A descriptor that is to be kept is duplicated.
        """
        ...

    def mask_pin(self, masked: bool) -> None:
        """Mask the pin, or not."""
        ...

    async def reset(self) -> None:
        """Reset the function; windows and vectors stay."""
        ...

    async def disconnected(self) -> None:
        """The client is gone, whatever it was doing: end all DMA to its memory."""
        ...
