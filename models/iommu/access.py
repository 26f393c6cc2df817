"""Accesses of the IOMMU to memory."""

from collections.abc import Callable

from models.iommu.records import Fault
from models.memory import ByteMemory, DataCorruption
from models.spec.iommu import Cause

__all__ = ["PhysicalMemory"]


class PhysicalMemory:
    """Memory behind PMA and PMP checks.

    An access beyond ``capabilities.PAS``, or one that memory refuses with :class:`ValueError`,
    is an access fault; :class:`~models.memory.DataCorruption` is poisoned data.

    Parameters
    ----------
    memory : ByteMemory
    address_bits : int
        ``capabilities.PAS``.
    """

    def __init__(self, memory: ByteMemory, address_bits: int) -> None:
        self.memory, self._limit = memory, 1 << address_bits

    def load(
        self,
        address: int,
        size: int,
        *,
        access_fault: Callable[[], Fault],
        corruption: Cause,
        big_endian: bool = False,
    ) -> list[int]:
        """Return doublewords; raises ``access_fault()`` or a fault with cause ``corruption``."""
        if address + size > self._limit:
            raise access_fault()
        try:
            raw = self.memory.read(address, size)
        except DataCorruption:
            raise Fault(corruption) from None
        except ValueError:
            raise access_fault() from None
        order = "big" if big_endian else "little"
        return [int.from_bytes(raw[start : start + 8], order) for start in range(0, size, 8)]

    def store(
        self,
        address: int,
        doublewords: list[int],
        *,
        access_fault: Callable[[], Fault],
        corruption: Cause,
        big_endian: bool = False,
    ) -> None:
        """Store doublewords, with the same errors."""
        order = "big" if big_endian else "little"
        raw = b"".join(value.to_bytes(8, order) for value in doublewords)
        self.store_bytes(address, raw, access_fault=access_fault, corruption=corruption)

    def store_bytes(
        self, address: int, raw: bytes, *, access_fault: Callable[[], Fault], corruption: Cause
    ) -> None:
        """Store bytes, with the same errors."""
        if address + len(raw) > self._limit:
            raise access_fault()
        try:
            self.memory.write(address, raw)
        except DataCorruption:
            raise Fault(corruption) from None
        except ValueError:
            raise access_fault() from None
