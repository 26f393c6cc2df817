"""The hypervisor's IOMMU driver: registers, queues in memory, messages; polls at probe only."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cosim.port import Event, Port
from models.directory import Context, DirectoryBuilder, directory_levels
from models.spec import iommu_registers as spec
from models.spec.iommu import (
    AtsCommand,
    CommandFunc,
    CommandOpcode,
    DdtpMode,
    FaultRecord,
    GroupResponsePayload,
    HpmEvent,
    InvalidationPayload,
    Iodir,
    Iofence,
    Iotinval,
    PageRequestPayload,
    PageRequestRecord,
    PageResponse,
)
from models.spec.registers import Register

__all__ = ["Fault", "IommuDriver", "IommuError", "PageRequestEntry"]

_COMMAND_BYTES, _FAULT_BYTES, _REQUEST_BYTES = 16, 32, 16
#: Offsets in the driver's message page: vectors, then the word that fences write.
_FENCE_OFFSET = 0x100
_VECTORS = {"fault": 1, "page_request": 2}
_PATIENCE = 100_000


class IommuError(RuntimeError):
    """The IOMMU does not do what it was told."""


@dataclass(frozen=True)
class Fault:
    """A fault record (section "Fault/Event-Queue"), and when software read it."""

    cause: int
    ttyp: int
    device_id: int
    iova: int
    iotval2: int
    cycle: int


@dataclass(frozen=True)
class PageRequestEntry:
    """A page request as software sees it."""

    device_id: int
    iova: int
    read: bool
    write: bool
    last: bool
    index: int


class IommuDriver:
    """Drives one IOMMU through its register page and queues.

    Parameters
    ----------
    port : Port
    allocate : callable
        ``allocate(pages)`` returns the address of zeroed, naturally aligned pages.
    on_page_request : callable
        Called with each :class:`PageRequestEntry`.
    queue_log2 : int
        log2 of the entries of each queue.
    requests_log2 : int or None
        Of the page-request queue, if it is to be another.
    last_device : int
        Largest device_id; the directory is as deep as it needs.
    """

    def __init__(
        self,
        port: Port,
        allocate: Callable[[int], int],
        on_page_request: Callable[[PageRequestEntry], None],
        *,
        queue_log2: int = 7,
        requests_log2: int | None = None,
        last_device: int = 63,
    ) -> None:
        self._port, self._allocate = port, allocate
        self._on_page_request = on_page_request
        self._entries = 1 << queue_log2
        self._queue_log2, self._last_device = queue_log2, last_device
        self.requests_log2 = queue_log2 if requests_log2 is None else requests_log2
        self.faults: list[Fault] = []
        self.messages = 0
        #: Cycles from the message that there are page requests until they are looked at.
        self.requests_delay = 0
        #: How often the page-request queue was found to have overflowed.
        self.overflows = 0
        #: Invalidations commanded, of its own caches and of devices'.
        self.invalidations = 0
        self._tail = self._fence = 0
        self._used = 0  # commands since cqh was last read
        self._fences: deque[tuple[int, Event]] = deque()
        self._heads = {"fq": 0, "pq": 0}

    # Probe ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Probe, set queues, messages and an empty directory up, and turn translation on."""
        capabilities = await self._load(spec.CAPABILITIES)
        if spec.CAPABILITIES["version"].extract(capabilities) != spec.VERSION_1_0:
            raise IommuError(f"Not a v1.0 IOMMU: capabilities {capabilities:#x}")
        for name in ("sv39x4", "ats"):
            if not spec.CAPABILITIES[name].extract(capabilities):
                raise IommuError(f"This hypervisor needs {name}")
        extended = bool(spec.CAPABILITIES["msi_flat"].extract(capabilities))
        memory = self._port.memory
        self.directory = DirectoryBuilder(
            memory.read,
            memory.write,
            self._allocate,
            levels=directory_levels(self._last_device, extended=extended),
            extended=extended,
        )
        self._message_page = self._allocate(1)
        self._port.on_message(self._message_page, 4096, self._message)
        self._work = {name: self._port.event() for name in _VECTORS}
        self._port.spawn(self._serve("fault", self._drain_faults), "fault queue")
        self._port.spawn(self._serve("page_request", self._drain_requests), "page requests")
        await self._store(spec.FCTL, 0)
        await self._store(
            spec.ICVEC,
            spec.ICVEC["fiv"].insert(_VECTORS["fault"])
            | spec.ICVEC["piv"].insert(_VECTORS["page_request"]),
        )
        for vector in range(3):
            await self._store(spec.msi_addr(vector), self._message_page + 4 * vector)
            await self._store(spec.msi_data(vector), vector)
            await self._store(spec.msi_vec_ctl(vector), 0)
        self._commands = await self._queue(spec.CQB, _COMMAND_BYTES, self._queue_log2)
        self._fault_records = await self._queue(spec.FQB, _FAULT_BYTES, self._queue_log2)
        self._requests = await self._queue(spec.PQB, _REQUEST_BYTES, self.requests_log2)
        await self._enable(spec.CQCSR, "cqen", "cqon")
        await self._enable(spec.FQCSR, "fqen", "fqon", "fie")
        await self._enable(spec.PQCSR, "pqen", "pqon", "pie")
        await self._store(spec.DDTP, self.directory.ddtp)
        ddtp = await self._settled(spec.DDTP, "busy", 0)
        if ddtp != self.directory.ddtp:
            levels = self.directory.levels
            raise IommuError(f"No directory of {levels} levels: ddtp is {ddtp:#x}")

    async def stop(self) -> None:
        """Turn translation and queues off, whoever has turned them on, and empty the queues."""
        await self._store(spec.DDTP, spec.DDTP["mode"].insert(DdtpMode.OFF))
        await self._settled(spec.DDTP, "busy", 0)
        for csr, on, index in (
            (spec.CQCSR, "cqon", spec.CQT),
            (spec.FQCSR, "fqon", spec.FQH),
            (spec.PQCSR, "pqon", spec.PQH),
        ):
            await self._store(csr, 0)
            await self._settled(csr, on, 0)
            await self._store(index, 0)

    async def bypass(self) -> None:
        """Let all devices pass untranslated (``ddtp.mode`` Bare)."""
        await self._store(spec.DDTP, spec.DDTP["mode"].insert(DdtpMode.BARE))
        await self._settled(spec.DDTP, "busy", 0)

    def _load(self, register: Register):
        return self._port.mmio_read("iommu", register.offset, register.bytes)

    def _store(self, register: Register, value: int):
        return self._port.mmio_write("iommu", register.offset, value, register.bytes)

    async def _queue(self, base: Register, entry_bytes: int, log2: int) -> int:
        pages = max(1, (entry_bytes << log2) // 4096)
        address = self._allocate(pages)
        value = base["ppn"].insert(address >> 12) | base["log2szm1"].insert(log2 - 1)
        await self._store(base, value)
        if await self._load(base) != value:
            raise IommuError(f"{base.name} does not take {value:#x}")
        return address

    async def _enable(self, csr: Register, enable: str, on: str, *more: str) -> None:
        await self._store(csr, sum(csr[name].mask for name in (enable, *more)))
        await self._settled(csr, on, 1)

    async def _settled(self, register: Register, field: str, value: int) -> int:
        for _ in range(_PATIENCE // 100):
            found = await self._load(register)
            if register[field].extract(found) == value:
                return found
            await self._port.sleep(100)
        raise IommuError(f"{register.name}.{field} does not become {value}")

    # Commands ------------------------------------------------------------------------------------

    async def _command(self, *commands: int) -> None:
        """Queue commands and tell the IOMMU."""
        for command in commands:
            while await self._free_from() == (self._tail + 1) % self._entries:
                await self._port.sleep(100)
            self._port.memory.write(
                self._commands + _COMMAND_BYTES * self._tail, command.to_bytes(16, "little")
            )
            self._tail = (self._tail + 1) % self._entries
            self._used += 1
        await self._store(spec.CQT, self._tail)

    async def _free_from(self) -> int:
        """Return ``cqh``, which is only read when the queue could be full."""
        if self._used < self._entries - 1:
            return -1
        head = await self._load(spec.CQH)
        csr = await self._load(spec.CQCSR)
        for name in ("cqmf", "cmd_to", "cmd_ill"):
            if spec.CQCSR[name].extract(csr):
                raise IommuError(f"Command queue stopped at {head}: cqcsr.{name}")
        self._used = (self._tail - head) % self._entries
        return head

    async def fence(self) -> None:
        """Return when all earlier commands are done (IOFENCE.C with PR and PW)."""
        self._fence += 1
        number, event = self._fence, self._port.event()
        self._fences.append((number, event))
        fields = {
            "opcode": CommandOpcode.IOFENCE,
            "func3": CommandFunc.C,
            "av": 1,
            "pr": 1,
            "pw": 1,
            "data": number,
            "addr": self._message_page + _FENCE_OFFSET >> 2,
        }
        await self._command(Iofence.const(fields).as_bits())
        await event.wait()

    async def only_fence_left(self) -> bool:
        """Whether all commands were executed but for the last one, if that has not been."""
        return await self._load(spec.CQH) == (self._tail - 1) % self._entries

    async def invalidate_second_stage(self, gscid: int, gpa: int | None = None) -> None:
        """IOTINVAL.GVMA for a VM, or for one page of it."""
        self.invalidations += 1
        fields = {"opcode": CommandOpcode.IOTINVAL, "func3": CommandFunc.GVMA}
        fields |= {"gv": 1, "gscid": gscid}
        if gpa is not None:
            fields |= {"av": 1, "addr": gpa >> 12}
        await self._command(Iotinval.const(fields).as_bits())

    async def invalidate_first_stage(self, gscid: int, pscid: int, iova: int | None = None) -> None:
        """IOTINVAL.VMA for a guest's address space, or for one page of it."""
        self.invalidations += 1
        fields = {"opcode": CommandOpcode.IOTINVAL, "func3": CommandFunc.VMA}
        fields |= {"gv": 1, "gscid": gscid, "pscv": 1, "pscid": pscid}
        if iova is not None:
            fields |= {"av": 1, "addr": iova >> 12}
        await self._command(Iotinval.const(fields).as_bits())

    async def invalidate_device(self, device_id: int, iova: int | None = None) -> None:
        """ATS.INVAL: a device's own cache, of one page or of everything."""
        self.invalidations += 1
        payload = {"address": iova >> 12} if iova is not None else {"s": 1, "address": _ALL_PAGES}
        await self._ats(CommandFunc.INVAL, device_id, InvalidationPayload.const(payload).as_bits())

    async def respond(self, device_id: int, index: int, code: PageResponse) -> None:
        """ATS.PRGR: answer a page request group."""
        payload = {"index": index, "code": code, "destination": device_id & 0xFFFF}
        await self._ats(CommandFunc.PRGR, device_id, GroupResponsePayload.const(payload).as_bits())

    async def _ats(self, function: CommandFunc, device_id: int, payload: int) -> None:
        fields = {"opcode": CommandOpcode.ATS, "func3": function, "payload": payload}
        fields |= {"rid": device_id & 0xFFFF}
        if device_id >> 16:
            fields |= {"dsv": 1, "dseg": device_id >> 16}
        await self._command(AtsCommand.const(fields).as_bits())

    async def set_context(self, device_id: int, context: Context) -> None:
        """Write a device's context and make sure that it is used."""
        self.directory.set(device_id, context)
        await self._forget(device_id)

    async def remove_context(self, device_id: int) -> None:
        """Take a device's context away."""
        self.directory.remove(device_id)
        await self._forget(device_id)

    async def _forget(self, device_id: int) -> None:
        fields = {"opcode": CommandOpcode.IODIR, "func3": CommandFunc.INVAL_DDT}
        await self._command(Iodir.const(fields | {"dv": 1, "did": device_id}).as_bits())
        await self.fence()

    # Messages ------------------------------------------------------------------------------------

    def _message(self, address: int, data: int, cycle: int) -> None:
        offset = address - self._message_page
        if offset == _FENCE_OFFSET:
            while self._fences and self._fences[0][0] <= data:
                self._fences.popleft()[1].set()
            return
        self.messages += 1
        for name, vector in _VECTORS.items():
            if data == vector:
                self._work[name].set()

    async def _serve(self, name: str, drain: Callable[[], Awaitable[None]]) -> None:
        """Drain a queue whenever its message has come."""
        while True:
            await self._work[name].wait()
            self._work[name].clear()
            await drain()

    async def _drain(
        self,
        prefix: str,
        pending: str,
        registers: tuple[Register, Register, Register],
        take: Callable[[int], None],
        log2: int,
    ) -> int:
        """Take all records of a queue; clearing the interrupt first lets none be missed.

        Returns the queue's control and status.
        """
        head_register, tail_register, csr = registers
        await self._store(spec.IPSR, spec.IPSR[pending].mask)
        flags = await self._load(csr)
        if csr[f"{prefix}mf"].extract(flags):
            raise IommuError(f"{csr.name}.{prefix}mf: records were lost")
        tail = await self._load(tail_register)
        if tail != self._heads[prefix]:
            while self._heads[prefix] != tail:
                index = self._heads[prefix]
                self._heads[prefix] = (index + 1) % (1 << log2)
                take(index)
            await self._store(head_register, self._heads[prefix])
        return flags

    async def _drain_faults(self) -> None:
        registers = spec.FQH, spec.FQT, spec.FQCSR
        flags = await self._drain("fq", "fip", registers, self._take_fault, self._queue_log2)
        if spec.FQCSR["fqof"].extract(flags):
            raise IommuError("fqcsr.fqof: records were lost")

    def _take_fault(self, index: int) -> None:
        raw = self._port.memory.read(self._fault_records + _FAULT_BYTES * index, _FAULT_BYTES)
        record = FaultRecord.from_bits(int.from_bytes(raw, "little"))
        self.faults.append(
            Fault(
                cause=record.cause,
                ttyp=int(record.ttyp),
                device_id=record.did,
                iova=record.iotval,
                iotval2=record.iotval2,
                cycle=self._port.now(),
            )
        )

    async def _drain_requests(self) -> None:
        """Requests that found no room were answered by the IOMMU; devices ask again."""
        if self.requests_delay:
            await self._port.sleep(self.requests_delay)
        registers = spec.PQH, spec.PQT, spec.PQCSR
        flags = await self._drain("pq", "pip", registers, self._take_request, self.requests_log2)
        if spec.PQCSR["pqof"].extract(flags):
            self.overflows += 1
            on = sum(spec.PQCSR[name].mask for name in ("pqen", "pie", "pqof"))
            await self._store(spec.PQCSR, on)

    def _take_request(self, index: int) -> None:
        raw = self._port.memory.read(self._requests + _REQUEST_BYTES * index, _REQUEST_BYTES)
        record = PageRequestRecord.from_bits(int.from_bytes(raw, "little"))
        payload = PageRequestPayload.from_bits(record.payload)
        self._on_page_request(
            PageRequestEntry(
                device_id=record.did,
                iova=payload.address << 12,
                read=bool(payload.r),
                write=bool(payload.w),
                last=bool(payload.last),
                index=payload.index,
            )
        )

    # Counters ------------------------------------------------------------------------------------

    async def count(self, counter: int, event: HpmEvent, device_id: int) -> None:
        """Let a counter (from 1) count an event of one device, from 0."""
        selector = spec.iohpmevt(counter)
        await self._store(spec.iohpmctr(counter), 0)
        await self._store(
            selector,
            selector["eventid"].insert(event)
            | selector["did_gscid"].insert(device_id)
            | selector["dv_gscv"].mask,
        )

    async def counted(self, counter: int) -> int:
        """Return a counter's value."""
        return await self._load(spec.iohpmctr(counter))


#: NAPOT address that covers all pages: everything but the top bit set (PCIe Base 6.0, 10.3.1.1).
_ALL_PAGES = (1 << 51) - 1
