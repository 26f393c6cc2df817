"""MSIs of a device, through bridge and MSI page table, to whom they are for; in the simulator.

The first stage leads to four virtual interrupt files; the MSI page table puts them into a file of
an IMSIC, into memory-resident files, and nowhere.
"""

from random import Random

import cocotb

from cosim.bench.bench import Bench, MemoryWrite
from cosim.bench.initiator import Initiator
from cosim.bench.machine import Machine, options, report
from cosim.bench.ports import TOP
from models.directory import Context, DirectoryBuilder
from models.imsic import InterruptFile, MemoryInterruptFile, MsiFabric
from models.pagetable import PageTable
from models.spec import iommu_registers as regs
from models.spec.iommu import (
    Cause,
    CommandFunc,
    FaultRecord,
    MsiPte,
    MsiPteMrif,
    MsiPteNotice,
)
from models.spec.translation import DmaUser
from rtl.bus.axi import Resp
from tests.rtl.iommu.commands import iofence, iotinval

__all__ = ["delivered", "qos_ids"]

_CQ, _FQ, _MARK, _MSI_TABLE, _RESIDENT = 0x10_0000, 0x11_0000, 0x12_0000, 0x13_0000, 0x14_0000
_TABLES = 0x20_0000
#: Pages of an IMSIC: the guest's file, the one that notices go to, the hypervisor's own.
_IMSIC = 0x2_4000_0000
_GUEST, _NOTICES, _HYPERVISOR = range(3)
_IOVA, _VIRTUAL = 0x7000_0000, 0x2800_0000
_BASIC, _IN_MEMORY, _NOWHERE, _ALSO_IN_MEMORY = range(4)
_DEVICE, _GSCID, _PSCID, _NOTICE, _OWN = 5, 3, 9, 33, 44
_RCID, _MCID, _OWN_RCID, _OWN_MCID = 0x123, 0x456, 0x7AB, 0x0CD
_PATIENCE = 5000


class _World:
    """Device, tables, interrupt files, and the IOMMU's driver."""

    def __init__(self, dut, asked: dict) -> None:
        self.bench = bench = Bench(dut)
        config = bench.built.design.arguments[0]
        self.memory = bench.memory
        bench.memory.sparse(config.pas)
        for port in ("memory", "tables"):
            bench.timing(port, latency=asked["latency"], jitter=asked["jitter"])
        self.machine, self.device = Machine(bench, {"iommu": "regs"}), Initiator(bench, "dma")
        self.fabric, self.tail = MsiFabric(), 0
        self.files = [self.fabric.add(_IMSIC + 0x1000 * n, InterruptFile()) for n in range(3)]
        self.resident = [MemoryInterruptFile(self.memory, _RESIDENT + 512 * n) for n in range(2)]
        bench.watch_writes(_IMSIC, 0x3000, self._written)
        self._build()

    def _written(self, write: MemoryWrite) -> None:
        first = (write.strobe & -write.strobe).bit_length() - 1
        data = write.data[first : write.strobe.bit_length()]
        self.fabric.write(write.address + first, data)

    def _build(self) -> None:
        pages = [_TABLES]

        def allocate(count: int) -> int:
            size = 4096 * count
            start = (pages[0] + size - 1) & -size
            pages[0] = start + size
            return start

        access = (self.memory.read, self.memory.write, allocate)
        self.first, self.second = PageTable(*access), PageTable(*access, x4=True)
        self.directory = DirectoryBuilder(*access, extended=True)
        for number in range(4):
            self.first.map(_IOVA + 0x1000 * number, _VIRTUAL + 0x1000 * number)
        for page in range(_TABLES, _TABLES + 0x4_0000, 0x1000):
            self.second.map(page, page)
        self.directory.set(_DEVICE, Context(
            fsc=self.first.iosatp, iohgatp=self.second.iohgatp(_GSCID), pscid=_PSCID,
            msiptp=1 << 60 | _MSI_TABLE >> 12, msi_addr_mask=3, msi_addr_pattern=_VIRTUAL >> 12,
            rcid=_RCID, mcid=_MCID))  # fmt: skip
        self.entry(_BASIC, MsiPte.const({"v": 1, "m": 3, "ppn": _IMSIC >> 12}))
        notice = {"nid": _NOTICE & 0x3FF, "ppn": _IMSIC + 0x1000 * _NOTICES >> 12}
        for number, where in ((_IN_MEMORY, 0), (_ALSO_IN_MEMORY, 1)):
            mrif = {"v": 1, "m": 1, "address": _RESIDENT + 512 * where >> 9}
            self.entry(number, MsiPteMrif.const(mrif), MsiPteNotice.const(notice))

    def entry(self, number: int, *words) -> None:
        """Store an entry of the MSI page table."""
        for index, word in enumerate(words):
            raw = word.as_bits().to_bytes(8, "little")
            self.memory.write(_MSI_TABLE + 16 * number + 8 * index, raw)

    async def start(self) -> None:
        """Switch queues, the IOMMU's own MSI and translation on."""
        await self.bench.start()
        await self.machine.sleep(200)
        write = self.machine.mmio_write
        await write("iommu", regs.IOMMU_QOSID.offset, _OWN_RCID | _OWN_MCID << 16)
        address = regs.msi_addr(0).offset
        await write("iommu", address, _IMSIC + 0x1000 * _HYPERVISOR, 8)
        await write("iommu", address + 8, _OWN)
        await write("iommu", address + 12, 0)
        for base, csr, where in ((regs.CQB, regs.CQCSR, _CQ), (regs.FQB, regs.FQCSR, _FQ)):
            await write("iommu", base.offset, where >> 12 << 10 | 5, 8)
            await write("iommu", csr.offset, 3)
        await write("iommu", regs.DDTP.offset, self.directory.ddtp, 8)

    async def until(self, done, what: str) -> None:
        """Wait for something."""
        for _ in range(_PATIENCE):
            if done():
                return
            await self.machine.sleep(1)
        raise AssertionError(f"not within {_PATIENCE} cycles: {what}")

    async def commands(self, *commands: int) -> None:
        """Queue commands and a fence, and wait for its data."""
        self.memory.write(_MARK, bytes(4))
        for command in (*commands, iofence(_MARK, 1, pr=1, pw=1)):
            self.memory.write(_CQ + 16 * self.tail, command.to_bytes(16, "little"))
            self.tail = (self.tail + 1) % 64
        await self.machine.mmio_write("iommu", regs.CQT.offset, self.tail)
        await self.until(lambda: self.memory.read(_MARK, 4) == b"\1\0\0\0", "the fence")

    def send(self, file: int, identity: int, **how):
        """Begin an MSI of the device."""
        user = DmaUser.const({"device_id": _DEVICE}).as_bits()
        data = identity.to_bytes(4, "little")
        return self.device.start_write(_IOVA + 0x1000 * file, data, user=user, step=4, **how)

    async def msi(self, file: int, identity: int) -> int:
        """Send an MSI; returns its response."""
        return (await self.send(file, identity).wait()).resp


@cocotb.test()
async def delivered(dut):
    """Every MSI arrives once, at the file that its entry says; notices follow what is stored."""
    asked = options()
    world, rng = _World(dut, asked), Random(asked["seed"])
    await world.start()
    guest, notices, hypervisor = world.files
    resident, also = world.resident
    # One by one.
    assert await world.msi(_BASIC, 9) == Resp.OKAY
    assert guest.received == [9]
    guest.enable(9)
    assert guest.claim() == 9
    assert await world.msi(_IN_MEMORY, 8) == Resp.OKAY
    assert resident.pending(8)
    assert notices.received == [_NOTICE]  # although nothing is enabled
    assert await world.msi(_IN_MEMORY, 7) == Resp.OKAY
    assert resident.take() == [7, 8]
    assert notices.received == [_NOTICE] * 2
    # What has no entry is an error and a record, and the record interrupts the hypervisor.
    assert await world.msi(_NOWHERE, 5) == Resp.DECERR
    await world.until(lambda: hypervisor.received, "the fault queue's MSI")
    assert hypervisor.received == [_OWN]
    record = FaultRecord.from_bits(int.from_bytes(world.memory.read(_FQ, 32), "little"))
    assert (record.cause, record.did) == (Cause.MSI_PTE_INVALID, _DEVICE)
    # Many at once, for three files.
    guest.received.clear()
    notices.received.clear()
    sent = [(rng.choice([_BASIC, _IN_MEMORY, _ALSO_IN_MEMORY]), rng.randrange(1, 256))
            for _ in range(60)]  # fmt: skip
    started = [world.send(file, identity, id=rng.randrange(8)) for file, identity in sent]
    for transfer in started:
        assert (await transfer.wait()).resp == Resp.OKAY
    wanted = {file: sorted({n for f, n in sent if f == file}) for file, _ in sent}
    assert sorted(guest.received) == sorted(n for f, n in sent if f == _BASIC)
    assert resident.take() == wanted[_IN_MEMORY]
    assert also.take() == wanted[_ALSO_IN_MEMORY]
    assert notices.received == [_NOTICE] * sum(file != _BASIC for file, _ in sent)
    # The guest's processor runs again: the hypervisor gives the file back to the IMSIC.
    world.entry(_IN_MEMORY, MsiPte.const({"v": 1, "m": 3, "ppn": _IMSIC >> 12}))
    await world.commands(
        iotinval(CommandFunc.GVMA, gv=1, gscid=_GSCID), iotinval(gv=1, gscid=_GSCID)
    )
    guest.received.clear()
    assert await world.msi(_IN_MEMORY, 11) == Resp.OKAY
    assert guest.received == [11]
    assert resident.take() == []
    report({"sent": len(sent) + 5})


def _regions(world: _World) -> dict[range, tuple[int, int]]:
    """QoS IDs that the IOMMU's own accesses to each part of memory must have."""
    own, context = (_OWN_RCID, _OWN_MCID), (_RCID, _MCID)
    directory = world.directory.ddtp >> 10 << 12
    found = {range(start, start + 0x1000): own for start in (_CQ, _FQ, _MARK, directory)}
    found[range(_MSI_TABLE, _RESIDENT + 0x1000)] = context
    found[range(_IMSIC + 0x1000 * _NOTICES, _IMSIC + 0x1000 * _HYPERVISOR)] = context
    found[range(_IMSIC + 0x1000 * _HYPERVISOR, _IMSIC + 0x3000)] = own
    found[range(_TABLES, _TABLES + 0x4_0000)] = context
    return found


@cocotb.test()
async def qos_ids(dut):
    """Sideband of every access: the device's IDs for it, ``iommu_qosid`` for the IOMMU's own."""
    world = _World(dut, options())
    names = [f"{TOP}.{name}" for name in ("tables__ar", "tables__aw", "memory__aw")]
    for name in names:
        world.bench.stream(name).log()
    await world.start()
    for file, identity in ((_BASIC, 9), (_IN_MEMORY, 7), (_NOWHERE, 5)):
        await world.msi(file, identity)
    await world.until(lambda: world.files[_HYPERVISOR].received, "the fault queue's MSI")
    await world.commands()
    regions, seen = _regions(world), set()
    for name in names[:2]:
        log = world.bench.take_fields(name)
        for address, *ids in zip(
            *(log[field].tolist() for field in ("addr", "user.rcid", "user.mcid")), strict=True
        ):
            region = next(region for region in regions if address in region)
            assert tuple(ids) == regions[region], f"{name} at {address:#x}: {ids}"
            seen.add(region)
    assert seen == set(regions)
    log = world.bench.take_fields(names[2])
    assert set(zip(log["user.rcid"].tolist(), log["user.mcid"].tolist(), strict=True)) == {
        (_RCID, _MCID)
    }
    report({"regions": len(seen)})
