"""Directory and page tables of a measurement, in simulated memory."""

from amaranth.utils import exact_log2

from models.directory import Context, DirectoryBuilder
from models.pagetable import KIB_4, PageTable
from models.spec import iommu_registers as spec
from models.spec.iommu import CommandFunc, CommandOpcode, Iofence, Iotinval

__all__ = ["Tables", "fence", "iotinval"]

#: Looks at the head without progress after which the queue is taken for stuck.
_PATIENCE = 1000


def iotinval(func: CommandFunc = CommandFunc.VMA, **operands: int) -> bytes:
    """Return an IOTINVAL command; ``addr`` is ADDR[63:12]."""
    fields = {"opcode": CommandOpcode.IOTINVAL, "func3": func, **operands}
    return Iotinval.const(fields).as_bits().to_bytes(16, "little")


def fence(address: int) -> bytes:
    """Return an IOFENCE.C that writes a word."""
    fields = {"opcode": CommandOpcode.IOFENCE, "av": 1, "data": 1, "addr": address >> 2}
    return Iofence.const(fields).as_bits().to_bytes(16, "little")


class Tables:
    """Devices with one or two stages of 4 KiB pages; software's side of the IOMMU.

    Parameters
    ----------
    machine : cosim.bench.machine.Machine
    base, size : int
        Memory to take pages from.
    extended : bool
        Device contexts of 64 bytes.
    levels : int
        Of the device directory; one holds 6 bits of device_id, 7 of contexts of 32 bytes.
    queue_log2 : int
        log2 of the entries of the command queue.
    sweep : int
        Cycles that caches go on clearing entries after the last invalidation is done.
    """

    def __init__(
        self,
        machine,
        base: int,
        size: int,
        *,
        extended: bool,
        levels: int = 1,
        queue_log2: int = 9,
        sweep: int = 0,
    ) -> None:
        self._machine, self._next, self._end = machine, base, base + size
        memory = machine.memory
        self._memory = memory
        self.directory = DirectoryBuilder(
            memory.read, memory.write, self.allocate, levels=levels, extended=extended
        )
        self._tail, self.queue_entries = 0, 1 << queue_log2
        self._sweep = sweep
        #: A word for fences.
        self.mark = self.allocate(1)

    def allocate(self, pages: int) -> int:
        """Return zeroed, naturally aligned pages."""
        address = -(-self._next // (pages * KIB_4)) * pages * KIB_4
        self._next = address + pages * KIB_4
        if self._next > self._end:
            raise MemoryError("The measurement's memory is used up")
        self._memory.write(address, bytes(pages * KIB_4))
        return address

    async def start(self) -> None:
        """Turn translation and the command queue on."""
        log2 = exact_log2(self.queue_entries)
        self._queue = self.allocate(max(1, self.queue_entries * 16 // KIB_4))
        write = self._machine.mmio_write
        base = spec.CQB["log2szm1"].insert(log2 - 1)
        base |= spec.CQB["ppn"].insert(self._queue >> 12)
        await write("iommu", spec.CQB.offset, base, 8)
        await write("iommu", spec.CQCSR.offset, spec.CQCSR["cqen"].mask)
        while not spec.CQCSR["cqon"].extract(
            await self._machine.mmio_read("iommu", spec.CQCSR.offset)
        ):
            pass
        await write("iommu", spec.DDTP.offset, self.directory.ddtp, 8)
        while spec.DDTP["busy"].extract(
            await self._machine.mmio_read("iommu", spec.DDTP.offset, 8)
        ):
            pass

    def two_stage(self, device: int, iova: int, pages: int, *, number: int = 0) -> list[int]:
        """Map pages through both stages, tables of the first in mapped pages; return targets.

        Every page, also of tables, is a 4 KiB page of the second stage: a cold walk reads 15 times.
        """
        number = number or device
        second = PageTable(self._memory.read, self._memory.write, self.allocate, x4=True)

        def backed(count: int) -> int:
            address = self.allocate(count)
            for page in range(address, address + count * KIB_4, KIB_4):
                second.map(page, page)
            return address

        first = PageTable(self._memory.read, self._memory.write, backed)
        targets = []
        for page in range(pages):
            target = self.allocate(1)
            gpa = 0x10_0000_0000 + page * KIB_4
            second.map(gpa, target)
            first.map(iova + page * KIB_4, gpa)
            targets.append(target)
        self.directory.set(
            device,
            Context(iohgatp=second.iohgatp(number), fsc=first.iosatp, pscid=number),
        )
        return targets

    def one_stage(self, device: int, iova: int, pages: int) -> list[int]:
        """Map pages through a first stage alone; a cold walk reads three times."""
        first = PageTable(self._memory.read, self._memory.write, self.allocate)
        targets = [self.allocate(1) for _ in range(pages)]
        for page, target in enumerate(targets):
            first.map(iova + page * KIB_4, target)
        self.directory.set(device, Context(fsc=first.iosatp, pscid=device))
        return targets

    async def command(self, *commands: bytes) -> None:
        """Queue commands and wait until they have been executed."""
        for command in commands:
            self._memory.write(self._queue + 16 * self._tail, command)
            self._tail = (self._tail + 1) % self.queue_entries
        await self._machine.mmio_write("iommu", spec.CQT.offset, self._tail)
        before, idle = -1, 0
        while (head := await self._machine.mmio_read("iommu", spec.CQH.offset)) != self._tail:
            before, idle = head, 0 if head != before else idle + 1
            if idle > _PATIENCE:
                state = await self._machine.mmio_read("iommu", spec.CQCSR.offset)
                raise AssertionError(f"The command queue stands at {head}, cqcsr {state:#x}")

    async def forget(self) -> None:
        """Invalidate all translations, and wait until caches keep what is walked again."""
        await self.command(iotinval(), iotinval(CommandFunc.GVMA))
        await self._machine.sleep(self._sweep)
