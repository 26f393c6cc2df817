"""Fault queue and page-request queue: the two that the IOMMU writes."""

from models.iommu.access import PhysicalMemory
from models.iommu.interrupts import Interrupts
from models.iommu.records import Fault
from models.iommu.registers import QUEUES, RegisterFile
from models.spec.iommu import Cause

__all__ = ["RecordQueue"]


class RecordQueue:
    """A queue of records for software.

    Parameters
    ----------
    prefix : str
        ``"fq"`` or ``"pq"``.
    registers : RegisterFile
    memory : PhysicalMemory
    interrupts : Interrupts
    """

    def __init__(
        self,
        prefix: str,
        registers: RegisterFile,
        memory: PhysicalMemory,
        interrupts: Interrupts,
    ) -> None:
        self._queue, self._registers = QUEUES[prefix], registers
        self._memory, self._interrupts = memory, interrupts
        self._full, self._failed = f"{prefix}of", f"{prefix}mf"
        self._interrupt = f"{prefix[0]}ip"

    def _status(self, field: str) -> bool:
        return bool(self._registers.field(self._queue.csr, field))

    @property
    def on(self) -> bool:
        """Whether the queue is active."""
        return self._status(self._queue.on)

    @property
    def overflowed(self) -> bool:
        """Whether a record was dropped for want of room, and software has not cleared that."""
        return self._status(self._full)

    @property
    def failed(self) -> bool:
        """Whether a record met a memory fault, and software has not cleared that."""
        return self._status(self._failed)

    def push(self, doublewords: list[int], *, big_endian: bool) -> bool:
        """Append a record; ``False`` if it was dropped."""
        if not self.on or self.overflowed or self.failed:
            return False
        queue, registers = self._queue, self._registers
        tail = registers[queue.tail]
        following = (tail + 1) % registers.entries(queue)
        if following == registers[queue.head]:
            registers.set_field(queue.csr, self._full, 1)
            self._interrupts.update()
            return False
        try:
            self._memory.store(
                registers.slot(queue, tail),
                doublewords,
                access_fault=lambda: Fault(Cause.INTERNAL_ERROR),
                corruption=Cause.INTERNAL_ERROR,
                big_endian=big_endian,
            )
        except Fault:
            registers.set_field(queue.csr, self._failed, 1)
            self._interrupts.update()
            return False
        registers[queue.tail] = following
        self._interrupts.event(self._interrupt)
        return True
