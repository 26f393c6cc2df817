"""The register page: storage and legal values.  What a store sets off is for the IOMMU itself."""

from collections.abc import Callable

from models.iommu.parameters import IGS_WSI, Parameters
from models.spec import iommu_registers as spec
from models.spec.iommu import DdtpMode, HpmEvent
from models.spec.registers import Access, Register

__all__ = ["QUEUES", "Queue", "RegisterFile"]


class Queue:
    """Names of the registers of one in-memory queue, and the size of its entries."""

    def __init__(self, prefix: str, entry_bytes: int, software_index: str, errors: tuple[str, ...]):
        self.prefix, self.entry_bytes = prefix, entry_bytes
        self.base, self.head, self.tail = f"{prefix}b", f"{prefix}h", f"{prefix}t"
        self.csr, self.enable, self.on = f"{prefix}csr", f"{prefix}en", f"{prefix}on"
        self.software_index = software_index
        self.iommu_index = self.tail if software_index == self.head else self.head
        #: Status bits that enabling the queue clears.
        self.errors = errors


QUEUES = {
    "cq": Queue("cq", 16, "cqt", ("cqmf", "cmd_to", "cmd_ill", "fence_w_ip")),
    "fq": Queue("fq", 32, "fqh", ("fqmf", "fqof")),
    "pq": Queue("pq", 16, "pqh", ("pqmf", "pqof")),
}
_BY_NAME = {register.name: register for register in spec.REGISTERS}
_PAGE_REQUEST_REGISTERS = {"pqb", "pqh", "pqt", "pqcsr"}
_DEBUG_REGISTERS = {"tr_req_iova", "tr_req_ctl", "tr_response"}
_LEVELS = (DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3)


class RegisterFile:
    """Values of all registers.

    Parameters
    ----------
    parameters : Parameters
    written : callable
        Called as ``written(name, old, stored)`` after a store, with what the store carried in
        place of the new value for bits that are written to 1.
    """

    def __init__(self, parameters: Parameters, written: Callable[[str, int, int], None]) -> None:
        self.parameters, self._written = parameters, written
        self._there = {r.name: self._exists(r.name) for r in spec.REGISTERS}
        self._masks = {r.name: self._writable(r) for r in spec.REGISTERS}
        self._words: dict[int, tuple[Register, int]] = {}
        for register in spec.REGISTERS:
            for part in range(0, register.bytes, 4):
                self._words[register.offset + part] = (register, 8 * part)
        self._values = dict.fromkeys(_BY_NAME, 0)
        self._values["capabilities"] = parameters.capabilities.bits
        self._values["fctl"] = parameters.fctl

    def _exists(self, name: str) -> bool:
        capabilities = self.parameters.capabilities
        if name in _PAGE_REQUEST_REGISTERS:
            return bool(capabilities.ats)
        if name in _DEBUG_REGISTERS:
            return bool(capabilities.dbg)
        if name.startswith("msi_"):
            return capabilities.igs != IGS_WSI
        if name == "iommu_qosid":
            return bool(capabilities.qosid)
        if name.startswith("io"):
            if not capabilities.hpm:
                return False
            for prefix in ("iohpmctr", "iohpmevt"):
                if name.startswith(prefix):
                    return int(name.removeprefix(prefix)) <= self.parameters.hpm_counters
        return True

    def _writable(self, register: Register) -> int:
        parameters, capabilities = self.parameters, self.parameters.capabilities
        mask = register.mask(Access.RW)
        counters = (1 << parameters.hpm_bits) - 1
        if register.name == "fctl":
            return mask & parameters.fctl_writable
        if register.name == "iocountinh":
            return mask & (2 << parameters.hpm_counters) - 1
        if register.name == "iohpmcycles":
            return spec.IOHPMCYCLES["counter"].mask & counters | spec.IOHPMCYCLES["of"].mask
        if register.name.startswith("iohpmctr"):
            return mask & counters
        if register.name == "icvec":
            vectors = (1 << parameters.vector_bits) - 1
            there = {"civ": 1, "fiv": 1, "pmiv": capabilities.hpm, "piv": capabilities.ats}
            return sum(register[name].insert(vectors) for name in there if there[name])
        return mask

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[name] = value

    def field(self, name: str, field: str) -> int:
        """Value of one field."""
        return _BY_NAME[name][field].extract(self._values[name])

    def set_field(self, name: str, field: str, value: int) -> None:
        """Change one field, as the hardware does."""
        entry = _BY_NAME[name][field]
        self._values[name] = self._values[name] & ~entry.mask | entry.insert(value)

    def entries(self, queue: Queue) -> int:
        """Entries of a queue."""
        return 2 << self.field(queue.base, "log2szm1")

    def slot(self, queue: Queue, index: int) -> int:
        """Address of a queue's entry."""
        return (self.field(queue.base, "ppn") << 12) + queue.entry_bytes * index

    def read(self, offset: int, size: int) -> int:
        """Load 4 or 8 bytes; what is no register reads 0."""
        _check(offset, size)
        value = 0
        for part in range(0, size, 4):
            if offset + part in self._words:
                register, shift = self._words[offset + part]
                value |= (self._load(register.name) >> shift & 0xFFFF_FFFF) << 8 * part
        return value

    def _load(self, name: str) -> int:
        if not self._there[name]:
            return 0
        if name == "iocountovf":
            value = self.field("iohpmcycles", "of")
            for index in range(1, self.parameters.hpm_counters + 1):
                value |= self.field(f"iohpmevt{index}", "of") << index
            return value
        return self._values[name]

    def write(self, offset: int, size: int, value: int) -> None:
        """Store 4 or 8 bytes; stores to what is no register do nothing."""
        _check(offset, size)
        if offset not in self._words:
            return
        register, shift = self._words[offset]
        if size == 8 and register.bytes == 4:  # two registers, low one first
            self.write(offset, 4, value & 0xFFFF_FFFF)
            self.write(offset + 4, 4, value >> 32)
        elif self._there[register.name]:
            self._store(register, value << shift, (1 << 8 * size) - 1 << shift)

    def _store(self, register: Register, value: int, lanes: int) -> None:
        name, old = register.name, self._values[register.name]
        mask = self._masks[name] & lanes
        new = old & ~mask | value & mask
        new &= ~(value & lanes & register.mask(Access.RW1C))
        new |= value & lanes & register.mask(Access.RW1S)
        self._values[name] = self._legal(name, old, new)
        for queue in QUEUES.values():
            if name == queue.base:
                self._values[queue.software_index] &= self.entries(queue) - 1
        self._written(name, old, value & lanes)

    def _legal(self, name: str, old: int, new: int) -> int:
        """WARL fields: an illegal value leaves the old one."""
        if name == "ddtp":
            legal = (DdtpMode.OFF, DdtpMode.BARE, *_LEVELS[: self.parameters.ddt_levels])
            if spec.DDTP["mode"].extract(new) not in legal:
                mode = spec.DDTP["mode"].mask
                return new & ~mode | old & mode
        elif name.startswith("iohpmevt"):
            event = spec.IOHPMEVT[0]["eventid"]
            if event.extract(new) not in list(HpmEvent):
                return new & ~event.mask | old & event.mask
        for queue in QUEUES.values():
            if name == queue.base:
                field = _BY_NAME[name]["log2szm1"]
                if field.extract(new) + 1 > self.parameters.queue_entries_log2_max:
                    return new & ~field.mask | old & field.mask
            elif name == queue.software_index:
                return new & self.entries(queue) - 1
        return new


def _check(offset: int, size: int) -> None:
    if size not in (4, 8) or offset % size or not 0 <= offset < spec.PAGE_BYTES:
        raise ValueError(f"No register access: {size} bytes at {offset:#x}")
