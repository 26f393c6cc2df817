"""Performance monitor (registers ``iohpmctr``, ``iohpmevt``, ``iocountinh``, ``iohpmcycles``)."""

from models.iommu.interrupts import Interrupts
from models.iommu.registers import RegisterFile
from models.spec.iommu import HpmEvent
from models.spec.iommu_registers import IOHPMEVT

__all__ = ["PerformanceMonitor"]

#: Events that can be filtered by GSCID and PSCID too.
_BY_ADDRESS_SPACE = {HpmEvent.TLB_MISS, HpmEvent.FIRST_STAGE_WALK, HpmEvent.SECOND_STAGE_WALK}
_EVT = IOHPMEVT[0]


class PerformanceMonitor:
    """Counts events by the selectors."""

    def __init__(self, registers: RegisterFile, interrupts: Interrupts) -> None:
        self._registers, self._interrupts = registers, interrupts
        self._parameters = registers.parameters

    def count(
        self,
        event: HpmEvent,
        *,
        device_id: int,
        process_id: int | None = None,
        gscid: int | None = None,
        pscid: int | None = None,
    ) -> None:
        """Let every counter that is set to this event and transaction count it."""
        if not self._parameters.capabilities.hpm:
            return
        for index in range(1, self._parameters.hpm_counters + 1):
            selector = self._registers[f"iohpmevt{index}"]
            if _EVT["eventid"].extract(selector) != event:
                continue
            if self._registers["iocountinh"] >> index & 1:
                continue
            if _EVT["idt"].extract(selector):
                if event not in _BY_ADDRESS_SPACE:
                    continue
                ids = gscid, pscid
            else:
                ids = device_id, process_id
            if self._selected(selector, *ids):
                self._increment(f"iohpmctr{index}", "counter", f"iohpmevt{index}", 1)

    def advance(self, cycles: int) -> None:
        """Let ``iohpmcycles`` count time that passed."""
        if self._parameters.capabilities.hpm and not self._registers["iocountinh"] & 1:
            self._increment("iohpmcycles", "counter", "iohpmcycles", cycles)

    def _selected(self, selector: int, wide: int | None, narrow: int | None) -> bool:
        """Whether the filters let through device_id or GSCID, and process_id or PSCID."""
        if _EVT["pv_pscv"].extract(selector) and narrow != _EVT["pid_pscid"].extract(selector):
            return False
        if not _EVT["dv_gscv"].extract(selector):
            return True
        if wide is None:
            return False
        wanted = _EVT["did_gscid"].extract(selector)
        ignored = 0
        if _EVT["dmask"].extract(selector):  # up to and including the lowest 0 bit
            ignored = wanted ^ (wanted + 1)
        return not (wide ^ wanted) & ~ignored & 0xFF_FFFF

    def _increment(self, counter: str, field: str, overflow: str, by: int) -> None:
        bits = min(self._parameters.hpm_bits, 63 if counter == "iohpmcycles" else 64)
        value = self._registers.field(counter, field) + by
        self._registers.set_field(counter, field, value & (1 << bits) - 1)
        if value >> bits and not self._registers.field(overflow, "of"):
            self._registers.set_field(overflow, "of", 1)
            self._interrupts.set("pmip")
