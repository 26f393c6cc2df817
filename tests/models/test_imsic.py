"""Interrupt files, in an IMSIC and in memory."""

import pytest

from models.imsic import InterruptFile, MemoryInterruptFile, MsiFabric
from models.iommu import Capabilities, GoldenIommu, Mrif, Parameters, Request
from models.memory import Memory
from models.spec.iommu_registers import DDTP


def msi(identity, order="little"):
    return identity.to_bytes(4, order)


def test_both_registers_set_pending_bits():
    file = InterruptFile(2047)
    file.write(0, msi(5))
    file.write(4, msi(2047, "big"))
    assert file.pending(5)
    assert file.pending(2047)
    assert file.received == [5, 2047]
    assert (file.eip(0), file.eip(31)) == (1 << 5, 1 << 63)


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, msi(0)), (0, msi(256)), (4, msi(5)), (8, msi(5)), (0, b"\5\0"), (0, bytes([5] + [0] * 7))],
)
def test_other_writes_do_nothing(offset, data):
    file = InterruptFile(255)
    file.write(offset, data)
    assert not file.received
    assert file.read(0, 4) == bytes(4)


def test_claims_come_by_priority_and_only_if_enabled():
    file = InterruptFile()
    for identity in (9, 3, 200):
        file.write(0, msi(identity))
    assert file.claim() == 0
    for identity in (3, 9):
        file.enable(identity)
    assert [file.claim(), file.claim(), file.claim()] == [3, 9, 0]
    file.enable(200)
    file.threshold = 200
    assert file.top == 0
    file.threshold = 0
    file.delivery = False
    assert file.top == 0
    file.delivery = True
    assert file.claim() == 200
    assert not file.pending(200)


def test_memory_resident_file_keeps_pending_and_enable_bits_by_turns():
    memory = Memory()
    file = MemoryInterruptFile(memory, 0x2200)
    file.set_pending(64)
    file.enable(130)
    file.set_pending(130)
    assert int.from_bytes(memory.read(0x2210, 8), "little") == 1
    assert int.from_bytes(memory.read(0x2220, 8), "little") == 4
    assert int.from_bytes(memory.read(0x2228, 8), "little") == 4
    assert file.pending(130)
    assert file.take() == [64, 130]
    assert file.take() == []
    file.enable(130, False)
    assert int.from_bytes(memory.read(0x2228, 8), "little") == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="64 n - 1"):
        InterruptFile(100)
    with pytest.raises(ValueError, match="multiple of 512"):
        MemoryInterruptFile(Memory(), 0x100)
    with pytest.raises(ValueError, match="1 to 2047, not 0"):
        MemoryInterruptFile(Memory(), 0).set_pending(0)
    fabric = MsiFabric()
    fabric.add(0x1000, InterruptFile())
    for address in (0x1000, 0x1800):
        with pytest.raises(ValueError, match="not free or not aligned"):
            fabric.add(address, InterruptFile())


def test_msis_through_the_golden_iommu_reach_their_files():
    """One device, two virtual interrupt files: one in an IMSIC, one in memory."""
    memory, fabric = Memory(), MsiFabric()
    real, notices = (fabric.add(0x2800_0000 + 0x1000 * n, InterruptFile()) for n in range(2))
    resident = MemoryInterruptFile(memory, 0x5_0000)
    resident.enable(7)
    capabilities = Capabilities(sv39=1, sv39x4=1, msi_flat=1, msi_mrif=1, pas=46)
    iommu = GoldenIommu(memory, Parameters(capabilities=capabilities))

    def store(address, *words):
        memory.write(address, b"".join(word.to_bytes(8, "little") for word in words))

    store(0x1_0000 + 64, 1, 8 << 60 | 0x2_0000 >> 12, 0, 0, 1 << 60 | 0x4_0000 >> 12, 1, 0x300, 0)
    store(0x4_0000, 0x2800_0000 >> 12 << 10 | 7, 0, 0x5_0000 >> 9 << 7 | 3,
          0x2800_1000 >> 12 << 10 | 33)  # fmt: skip
    iommu.write_register(DDTP.offset, 8, 2 | 0x1_0000 >> 12 << 10)

    answer = iommu.translate(Request(device_id=1, iova=0x30_0000, write=True))
    fabric.write(answer.spa, msi(9))
    assert real.received == [9]

    answer = iommu.translate(Request(device_id=1, iova=0x30_1000, write=True))
    assert answer.mrif == Mrif(0x5_0000, 33, 0x2800_1000)
    for identity in (8, 7):
        MemoryInterruptFile(memory, answer.mrif.address).set_pending(identity)
        fabric.write(answer.mrif.notice_address, msi(answer.mrif.notice_id))
    assert notices.received == [33, 33]
    assert resident.take() == [7, 8]
