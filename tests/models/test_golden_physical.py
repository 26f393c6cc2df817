"""Addresses beyond ``capabilities.PAS`` in the golden IOMMU, whatever leads there."""

import pytest

from models.iommu import Capabilities, GoldenIommu, Parameters, Request
from models.memory import Memory
from models.spec.iommu import Cause, MsiPte
from models.spec.iommu_registers import DDTP
from models.spec.translation import AddressType

PAS = 40
DDT, FIRST, SECOND, TABLE, MSIS = 0x1000, 0x2000, 0x4000, 0x8000, 0x9000
V, LEAF, EN_ATS = 1, 0xDF, 2
LAST, BEYOND = (1 << PAS) - 0x1000, 1 << PAS


class World:
    """One device, 1; IOVA 0x5000 leads to the last page, 0x6000 and 0x7000 beyond it."""

    def __init__(self, *, first=False, second=False, files=False):
        self.memory = Memory(PAS)
        capabilities = Capabilities(sv39=1, sv39x4=1, ats=1, msi_flat=int(files), pas=PAS)
        self.iommu = GoldenIommu(self.memory, Parameters(capabilities=capabilities))
        self.iommu.write_register(DDTP.offset, 8, 2 | DDT >> 12 << 10)
        mode = 8 << 60
        words = [V | EN_ATS, mode | SECOND >> 12 if second else 0]
        words += [0, mode | FIRST >> 12 if first else 0]
        if files:
            words += [1 << 60 | MSIS >> 12, 0, 0x8, 0]
        for index, word in enumerate(words):
            self.store(DDT + 8 * len(words) + 8 * index, word)
        root = FIRST if first else SECOND
        self.store(root, TABLE >> 12 << 10 | V)
        self.store(TABLE, (TABLE + 0x10000) >> 12 << 10 | V)
        for page, target in ((5, LAST), (6, BEYOND), (7, 1 << 55)):
            self.store(TABLE + 0x10000 + 8 * page, target >> 12 << 10 | LEAF)

    def store(self, address, word):
        self.memory.write(address, word.to_bytes(8, "little"))

    def ask(self, iova, **how):
        answer = self.iommu.translate(Request(device_id=1, iova=iova, **how))
        return answer.cause or answer.spa


@pytest.mark.parametrize("stages", [{"first": True}, {"second": True}])
def test_leaves_beyond_are_access_faults(stages):
    world = World(**stages)
    assert world.ask(0x5008) == LAST + 8
    for iova in (0x6000, 0x7000):
        assert world.ask(iova) == Cause.READ_ACCESS_FAULT
        assert world.ask(iova, write=True) == Cause.WRITE_ACCESS_FAULT
        assert world.ask(iova, execute=True) == Cause.INSTRUCTION_ACCESS_FAULT


@pytest.mark.parametrize("mode", [1, 2])
def test_addresses_that_nothing_translates_are_access_faults(mode):
    world = World()
    world.iommu.write_register(DDTP.offset, 8, mode | DDT >> 12 << 10)
    kinds = [AddressType.UNTRANSLATED, AddressType.TRANSLATED][:mode]
    for at in kinds:
        assert world.ask(LAST, at=at) == LAST
        for iova in (BEYOND, 1 << 55, 1 << 63):
            assert world.ask(iova, at=at) == Cause.READ_ACCESS_FAULT


def test_interrupt_files_beyond_are_access_faults():
    world = World(second=True, files=True)
    for target, answer in ((LAST, LAST), (BEYOND, Cause.WRITE_ACCESS_FAULT)):
        entry = MsiPte.const({"v": 1, "m": 3, "ppn": target >> 12})
        world.store(MSIS, entry.as_bits())
        assert world.ask(0x8000, write=True) == answer
