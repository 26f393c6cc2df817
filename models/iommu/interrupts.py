"""Interrupts of the IOMMU itself (registers ``ipsr``, ``icvec`` and ``msi_cfg_tbl``)."""

from collections.abc import Callable

from models.iommu.access import PhysicalMemory
from models.iommu.records import Fault
from models.iommu.registers import RegisterFile
from models.spec.iommu import Cause
from models.spec.iommu_registers import FCTL, IPSR, MSI_CFG_TBL_ENTRIES

__all__ = ["Interrupts"]

#: Field of ``icvec`` for each bit of ``ipsr``.
_VECTORS = {"cip": "civ", "fip": "fiv", "pmip": "pmiv", "pip": "piv"}
#: Enables of the queues' interrupts and what keeps them pending.
_LEVELS = {
    "cip": ("cqcsr", "cie", ("fence_w_ip", "cmd_ill", "cmd_to", "cqmf")),
    "fip": ("fqcsr", "fie", ("fqof", "fqmf")),
    "pip": ("pqcsr", "pie", ("pqof", "pqmf")),
}


class Interrupts:
    """Sets ``ipsr`` and sends messages.

    Parameters
    ----------
    registers : RegisterFile
    memory : PhysicalMemory
    report : callable
        Called as ``report(cause, iotval)`` when a message cannot be written.
    """

    def __init__(
        self,
        registers: RegisterFile,
        memory: PhysicalMemory,
        report: Callable[[Cause, int], None],
    ) -> None:
        self._registers, self._memory, self._report = registers, memory, report
        self._waiting: set[int] = set()  # vectors masked when their message was due
        #: PCI configuration holds all messages back.
        self.held = False

    def wires(self) -> int:
        """Levels of the wires, bit by vector; 0 while messages are used."""
        if not FCTL["wsi"].extract(self._registers["fctl"]):
            return 0
        levels = 0
        for bit, vector in _VECTORS.items():
            if self._registers.field("ipsr", bit):
                levels |= 1 << self._registers.field("icvec", vector)
        return levels

    def update(self) -> None:
        """Set the bits whose conditions hold."""
        for bit, (csr, enable, causes) in _LEVELS.items():
            on = self._registers.field(csr, enable)
            if on and any(self._registers.field(csr, cause) for cause in causes):
                self.set(bit)

    def event(self, bit: str) -> None:
        """Note a new record: sets ``fip`` or ``pip`` if that queue's interrupt is enabled."""
        csr, enable, _ = _LEVELS[bit]
        if self._registers.field(csr, enable):
            self.set(bit)

    def set(self, bit: str) -> None:
        """Set a bit of ``ipsr``; a 0 that becomes 1 sends a message."""
        if self._registers["ipsr"] & IPSR[bit].mask:
            return
        self._registers.set_field("ipsr", bit, 1)
        if not FCTL["wsi"].extract(self._registers["fctl"]):
            self._send(self._registers.field("icvec", _VECTORS[bit]))

    def unmasked(self) -> None:
        """Send what waited for vectors that are not masked any more."""
        for vector in range(MSI_CFG_TBL_ENTRIES):
            if vector in self._waiting and not self._registers.field(f"msi_vec_ctl_{vector}", "m"):
                self._send(vector)

    def _send(self, vector: int) -> None:
        if self.held or self._registers.field(f"msi_vec_ctl_{vector}", "m"):
            self._waiting.add(vector)
            return
        self._waiting.discard(vector)
        address = self._registers[f"msi_addr_{vector}"]
        order = "big" if FCTL["be"].extract(self._registers["fctl"]) else "little"
        try:
            self._memory.store_bytes(
                address,
                self._registers[f"msi_data_{vector}"].to_bytes(4, order),
                access_fault=lambda: Fault(Cause.MSI_WRITE_ACCESS_FAULT),
                corruption=Cause.MSI_WRITE_ACCESS_FAULT,
            )
        except Fault as fault:
            self._report(fault.cause, address)
