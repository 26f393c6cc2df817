"""Debug registers of the whole IOMMU, while devices translate and fences run."""

from models.pagetable import PageFlags
from models.spec import iommu_registers as regs
from models.spec.iommu import Cause, Ttyp
from tests.rtl.agents import wait_for
from tests.rtl.iommu.commands import iofence
from tests.rtl.iommu.test_iommu import DATA, DEVICE, System

NW, GO = 8, 1


async def translate(system, ctx, iova: int, flags: int) -> int:
    """Ask and wait; returns tr_response."""
    await system.software.write(ctx, regs.TR_REQ_IOVA, iova)
    await system.software.write(ctx, regs.TR_REQ_CTL, DEVICE << 40 | flags | GO)
    while await system.software.read(ctx, regs.TR_REQ_CTL) & GO:
        pass
    return await system.software.read(ctx, regs.TR_RESPONSE)


def covers(response: int, iova: int, spa: int) -> bool:
    """Whether a response without a fault maps ``iova`` to ``spa``; any size that covers it may."""
    if response & 1:
        return False
    page, pages = response >> 10, 1
    if response >> 9 & 1:
        while page & pages:
            pages *= 2
        pages *= 2
    offset = (iova >> 12) % pages
    return page // pages * pages + offset == spa >> 12


def test_debug_translations_beside_devices_and_fences():
    system = System(dbg=True)
    for n in range(4):
        flags = PageFlags.READ_ONLY if n == 3 else PageFlags.DATA
        system.first.map(0x4000_0000 + n * 0x1000, 0x8000_0000 + n * 0x1000, flags=flags)
        system.second.map(0x8000_0000 + n * 0x1000, DATA + (7 - n) * 0x1000)

    async def testbench(ctx):
        await system.start(ctx)
        for n in range(4):
            for _ in range(4):
                system.read(0x4000_0120 + n * 0x1000, id=n)
            iova, spa = 0x4000_0000 + n * 0x1000, DATA + (7 - n) * 0x1000
            assert covers(await translate(system, ctx, iova, NW), iova, spa)
            writable = await translate(system, ctx, iova, 0)
            assert covers(writable, iova, spa) == (n != 3)
            await system.command(ctx, iofence(pr=1, pw=1))
        await wait_for(ctx, lambda: len(system.r.got) == 16, then=20)
        assert await system.software.read(ctx, regs.FQT) == 1
        record = system.fault(0)
        assert record.cause == Cause.WRITE_PAGE_FAULT
        assert (record.ttyp, record.did) == (Ttyp.UNTRANSLATED_WRITE, DEVICE)
        assert await translate(system, ctx, 0x7000_0000, NW) & 1

    system.run(testbench)
