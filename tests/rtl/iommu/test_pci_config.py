"""Configuration space of the IOMMU: RTL and golden model, and which messages it holds back."""

from models.iommu import GoldenIommu, Parameters
from models.iommu.pci import IommuPci as GoldenPci
from models.memory import Memory
from models.spec import iommu_registers as regs
from models.spec.config import config
from models.spec.pci import iommu_space
from rtl.iommu.interrupts import Interrupts
from rtl.iommu.pci_config import IommuPci
from tests.rtl.agents import Registers, put, run, seeded

TINY = config("tiny").iommu
SPACE = iommu_space()
#: Offset, bits that may be written, value after reset: by the rules of PCI, not by the tables.
WORDS = {
    0x00: (0, 0x0008_1EFD),
    0x04: (0x0000_0146, 0x0010_0000),
    0x08: (0, 0x0806_0001),
    0x10: (0xFFFF_F000, 0x0000_0004),  # 4 KiB, 64 bits
    0x14: (0xFFFF_FFFF, 0),
    **dict.fromkeys(range(0x18, 0x28, 4), (0, 0)),
    0x34: (0, 0x40),
    0x84: (0xC000_0000, 0x000F_0011),  # MSI-X with 16 vectors: msi_cfg_tbl
    0x88: (0, 0x0000_0300),
    0x8C: (0, 0x0000_0400),
    0x100: (0, 0),
}


def golden():
    return GoldenPci(GoldenIommu(Memory(), Parameters.from_config(TINY)))


def test_every_register():
    dut, model, rng = IommuPci(), golden(), seeded(1)
    software = Registers(dut.bus)

    async def both(ctx, offset, value=None, strobes=15):
        if value is None:
            found = await software.read32(ctx, offset)
            assert found == model.read(offset, 4), hex(offset)
            return found
        await software.write32(ctx, offset, value, strobes)
        for lane in range(4):
            if strobes >> lane & 1:
                model.write(offset + lane, 1, value >> 8 * lane & 0xFF)
        return value

    async def bench(ctx):
        for offset, (writable, reset) in WORDS.items():
            assert await both(ctx, offset) == reset, hex(offset)
            for pattern in (0xFFFF_FFFF, 0, 0x5A5A_5A5A, 0xA5A5_A5A5):
                await both(ctx, offset, pattern)
                expected = (reset & ~writable) | (pattern & writable)
                assert await both(ctx, offset) == expected, hex(offset)
            await both(ctx, offset, reset)
        for _ in range(200):
            offset = rng.choice(list(SPACE.words))
            await both(ctx, offset, rng.getrandbits(32), rng.randrange(16))
            await both(ctx, offset)
            held = model._iommu.interrupts.held
            assert bool(ctx.get(dut.held)) == held

    run(dut, bench)


def test_messages_wait_until_they_are_allowed():
    dut = Interrupts(TINY)
    sent = []

    async def memory(ctx):
        ctx.set(dut.memory.aw.ready, 1)
        ctx.set(dut.memory.w.ready, 1)
        ctx.set(dut.memory.b.valid, 1)
        while True:
            *_, valid, payload = await ctx.tick().sample(dut.memory.aw.valid, dut.memory.aw.payload)
            if valid:
                sent.append(payload.addr)

    async def bench(ctx):
        ctx.set(dut.held, 1)
        ctx.set(dut.bus.response.ready, 1)
        for place, value in ((0, 0x8000_0040), (4, 0), (8, 5), (12, 0)):
            request = {"addr": regs.msi_addr(0).offset + place, "data": value, "write": 1}
            await put(ctx, dut.bus.request, request | {"strb": 15})
        ctx.set(dut.causes, 1)
        await ctx.tick().repeat(30)
        assert ctx.get(dut.pending) == 1
        assert not sent
        ctx.set(dut.held, 0)
        await ctx.tick().repeat(30)
        assert sent == [0x8000_0040]

    run(dut, bench, background=[memory])


def test_golden_model_holds_messages_too():
    memory = Memory()
    iommu = GoldenIommu(memory, Parameters.from_config(TINY))
    pci = GoldenPci(iommu)
    iommu.write_register(regs.msi_addr(0).offset, 8, 0x9000)
    iommu.write_register(regs.msi_data(0).offset, 4, 77)
    iommu.interrupts.set("fip")
    assert memory.read(0x9000, 4) == bytes(4)
    control = SPACE["msix_control"]
    pci.write(control.offset, 2, control["enable"].mask)
    assert memory.read(0x9000, 4) == bytes(4)
    pci.write(SPACE["command"].offset, 2, 4)
    assert memory.read(0x9000, 4) == bytes((77, 0, 0, 0))
