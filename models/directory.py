"""Builders of device and process directories in a memory, as a hypervisor or a guest makes them.

They take the callables of :mod:`models.pagetable`.  Nothing here invalidates caches.
"""

from dataclasses import dataclass

from models.pagetable import KIB_4, Allocate, Read, Write
from models.spec.iommu import (
    Atp,
    DdtpMode,
    DeviceContext,
    DeviceContextBase,
    NonLeafEntry,
    PdtpMode,
    ProcessContext,
)
from models.spec.iommu_registers import DDTP

__all__ = ["Context", "DirectoryBuilder", "ProcessDirectoryBuilder", "directory_levels"]

#: Bits of device_id that index each level, lowest first.
_BASE, _EXTENDED = (7, 9, 8), (6, 9, 9)


def directory_levels(last_device: int, *, extended: bool) -> int:
    """Levels that a device directory needs for device_ids up to one."""
    bits = _EXTENDED if extended else _BASE
    for levels in (1, 2, 3):
        if not last_device >> sum(bits[:levels]):
            return levels
    raise ValueError(f"device_id has 24 bits, too few for {last_device:#x}")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a device context says; the fields are those of :class:`models.spec.iommu.DeviceContext`.

    ``fsc`` is :attr:`~models.pagetable.PageTable.iosatp`, a process directory's ``pdtp``, or 0;
    ``iohgatp`` is :meth:`~models.pagetable.PageTable.iohgatp` or 0.
    """

    fsc: int = 0
    iohgatp: int = 0
    pscid: int = 0
    en_ats: bool = False
    en_pri: bool = False
    t2gpa: bool = False
    dtf: bool = False
    pdtv: bool = False
    prpr: bool = False
    gade: bool = False
    sade: bool = False
    dpe: bool = False
    msiptp: int = 0
    msi_addr_mask: int = 0
    msi_addr_pattern: int = 0
    rcid: int = 0
    mcid: int = 0

    def encode(self, *, extended: bool) -> bytes:
        """Bytes in memory, valid bit set."""
        names = ("en_ats", "en_pri", "t2gpa", "dtf", "pdtv", "prpr", "gade", "sade", "dpe")
        fields = {
            "tc": {"v": 1} | {name: int(getattr(self, name)) for name in names},
            "ta": {"pscid": self.pscid, "rcid": self.rcid, "mcid": self.mcid},
        }
        layout = DeviceContext if extended else DeviceContextBase
        bits = layout.const(fields).as_bits() | self.iohgatp << 64 | self.fsc << 192
        if extended:
            bits |= self.msiptp << 256 | self.msi_addr_mask << 320 | self.msi_addr_pattern << 384
        elif self.msiptp:
            raise ValueError("Only extended contexts have MSI page tables")
        return bits.to_bytes(64 if extended else 32, "little")


class _Directory:
    """A radix tree of 4 KiB tables with small records in its leaves."""

    def __init__(
        self,
        read: Read,
        write: Write,
        allocate: Allocate,
        index_bits: tuple[int, ...],
        record: int,
        root: int | None = None,
    ) -> None:
        self._read, self._write, self._allocate = read, write, allocate
        self._index_bits, self._record = index_bits, record
        self.root = self._new_table() if root is None else root

    def _new_table(self) -> int:
        address = self._allocate(1)
        self._write(address, bytes(KIB_4))
        return address

    def slot(self, number: int, *, make: bool = False) -> int | None:
        """Address of a record; ``None`` if its table is missing and not to be made."""
        if number < 0 or number >> sum(self._index_bits):
            raise ValueError(f"{number:#x} is too wide for {len(self._index_bits)} levels")
        table = self.root
        for level in range(len(self._index_bits) - 1, 0, -1):
            index = number >> sum(self._index_bits[:level]) & (1 << self._index_bits[level]) - 1
            raw = self._read(table + 8 * index, 8)
            entry = NonLeafEntry.from_bits(int.from_bytes(raw, "little"))
            if entry.v:
                table = entry.ppn << 12
                continue
            if not make:
                return None
            child = self._new_table()
            bits = NonLeafEntry.const({"v": 1, "ppn": child >> 12}).as_bits()
            self._write(table + 8 * index, bits.to_bytes(8, "little"))
            table = child
        return table + self._record * (number & (1 << self._index_bits[0]) - 1)

    def _put(self, number: int, record: bytes) -> None:
        slot = self.slot(number, make=True)
        assert slot is not None
        self._write(slot, bytes(8))
        self._write(slot + 8, record[8:])
        self._write(slot, record[:8])  # the valid bit comes last

    def remove(self, number: int) -> None:
        """Make a record invalid."""
        slot = self.slot(number)
        if slot is not None:
            self._write(slot, bytes(8))


class DirectoryBuilder(_Directory):
    """Device directory ("Device-Directory-Table").

    Parameters
    ----------
    read, write, allocate : callable
        System memory; see the module.
    levels : int
        1 to 3.
    extended : bool
        Contexts of 64 bytes (``capabilities.MSI_FLAT``) in place of 32.
    root : int or None
        Address of an existing root; ``None`` allocates one.
    """

    def __init__(
        self,
        read: Read,
        write: Write,
        allocate: Allocate,
        *,
        levels: int = 1,
        extended: bool = False,
        root: int | None = None,
    ) -> None:
        if levels not in (1, 2, 3):
            raise ValueError(f"Device directories have 1 to 3 levels, not {levels!r}")
        self.levels, self.extended = levels, extended
        bits = _EXTENDED if extended else _BASE
        super().__init__(read, write, allocate, bits[:levels], 64 if extended else 32, root)

    @property
    def ddtp(self) -> int:
        """Value that makes ``ddtp`` point here."""
        mode = (DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3)[self.levels - 1]
        return DDTP["mode"].insert(mode) | DDTP["ppn"].insert(self.root >> 12)

    def set(self, device_id: int, context: Context) -> None:
        """Write the context of a device."""
        self._put(device_id, context.encode(extended=self.extended))


class ProcessDirectoryBuilder(_Directory):
    """Process directory of one device ("Process-Directory-Table").

    The callables take guest physical addresses if the device has a second stage.
    """

    def __init__(self, read: Read, write: Write, allocate: Allocate, *, levels: int = 1) -> None:
        if levels not in (1, 2, 3):
            raise ValueError(f"Process directories have 1 to 3 levels, not {levels!r}")
        self.levels = levels
        super().__init__(read, write, allocate, (8, 9, 3)[:levels], 16)

    @property
    def pdtp(self) -> int:
        """``fsc`` of a device context with PDTV."""
        mode = (PdtpMode.PD8, PdtpMode.PD17, PdtpMode.PD20)[self.levels - 1]
        return Atp.const({"mode": mode, "ppn": self.root >> 12}).as_bits()

    def set(
        self, process_id: int, *, fsc: int = 0, pscid: int = 0, ens: bool = False, sum: bool = False
    ) -> None:
        """Write the context of a process."""
        fields = {"v": 1, "ens": int(ens), "sum": int(sum), "pscid": pscid}
        bits = ProcessContext.const({"ta": fields}).as_bits() | fsc << 64
        self._put(process_id, bits.to_bytes(16, "little"))
