"""Table builders against entries typed from the specifications, and against each other's walk."""

import random

import pytest

from models.directory import Context, DirectoryBuilder, ProcessDirectoryBuilder
from models.memory import AccessFault, DataCorruption, FaultyMemory, Memory
from models.pagetable import (
    GIB_1,
    KIB_4,
    KIB_64,
    MIB_2,
    PageFlags,
    PageTable,
)


class Pages:
    """Hands out zeroless pages from 0x8000_0000 on, naturally aligned."""

    def __init__(self):
        self.memory = Memory()
        self.next = 0x8000_0000

    def allocate(self, pages):
        size = pages * 4096
        self.next += -self.next % size
        address, self.next = self.next, self.next + size
        self.memory.write(address, b"\xff" * size)
        return address

    @property
    def callables(self):
        return self.memory.read, self.memory.write, self.allocate

    def dword(self, address):
        return int.from_bytes(self.memory.read(address, 8), "little")


@pytest.fixture
def pages():
    return Pages()


def test_entries_of_a_4_kib_page(pages):
    table = PageTable(*pages.callables)
    table.map(0x20_1030_4000, 0x9_ABCD_E000)
    # VPN[2] = 0x80, VPN[1] = 0x81, VPN[0] = 0x104
    first = pages.dword(table.root + 8 * 0x80)
    assert first & 0x3FF == 1
    second = pages.dword((first >> 10 << 12) + 8 * 0x81)
    assert second & 0x3FF == 1
    assert pages.dword((second >> 10 << 12) + 8 * 0x104) == 0x9ABCDE << 10 | 0xD7
    assert table.iosatp == 8 << 60 | table.root >> 12


def test_x4_root_takes_eleven_bits(pages):
    pages.allocate(1)
    table = PageTable(*pages.callables, x4=True)
    assert table.root % 0x4000 == 0
    table.map(0x1FF_C000_0000, 0x40_0000_0000, GIB_1, PageFlags.DATA)
    assert pages.dword(table.root + 8 * 0x7FF) == 0x40_0000_0000 >> 12 << 10 | 0xD7
    assert table.iohgatp(0x123) == 8 << 60 | 0x123 << 44 | table.root >> 12
    with pytest.raises(ValueError, match="more than 41 bits"):
        table.map(1 << 41, 0)
    with pytest.raises(ValueError, match="no first stage"):
        _ = table.iosatp


@pytest.mark.parametrize(("levels", "mode"), [(3, 8), (4, 9), (5, 10)])
def test_modes(pages, levels, mode):
    assert PageTable(*pages.callables, levels=levels).iosatp >> 60 == mode
    assert PageTable(*pages.callables, levels=levels, x4=True).iohgatp(0) >> 60 == mode


def test_canonical_addresses_only(pages):
    table = PageTable(*pages.callables)
    table.map(0xFFFF_FFC0_0000_0000, 0x1000_0000)
    assert table.walk(0xFFFF_FFC0_0000_0ABC).target == 0x1000_0000
    with pytest.raises(ValueError, match="not canonical"):
        table.map(0x40_0000_0000, 0)


def test_napot_page_is_sixteen_equal_entries(pages):
    table = PageTable(*pages.callables)
    table.map(0x5_0000, 0x123_0000, KIB_64)
    mapping = table.walk(0x5_F123)
    assert (mapping.address, mapping.target, mapping.size) == (0x5_0000, 0x123_0000, KIB_64)
    assert len(list(table)) == 1
    leaf = pages.dword(table.root) >> 10 << 12
    leaf = pages.dword(leaf) >> 10 << 12
    assert {pages.dword(leaf + 8 * index) for index in range(0x50, 0x60)} == {
        1 << 63 | 0x1238 << 10 | 0xD7
    }
    assert table.unmap(0x5_3000) == mapping
    assert table.walk(0x5_F000) is None


def test_overlaps_and_bad_sizes_are_refused(pages):
    table = PageTable(*pages.callables)
    table.map(MIB_2, MIB_2, MIB_2)
    with pytest.raises(ValueError, match="larger page"):
        table.map(MIB_2 + KIB_4, 0)
    with pytest.raises(ValueError, match="is mapped"):
        table.map(MIB_2, 0, MIB_2)
    with pytest.raises(ValueError, match="multiples"):
        table.map(KIB_4, 0, MIB_2)
    with pytest.raises(ValueError, match="Page sizes"):
        table.map(0, 0, 8192)
    with pytest.raises(ValueError, match="not mapped"):
        table.unmap(0)


def test_protect_move_unmap(pages):
    table = PageTable(*pages.callables)
    table.map(0x1000, 0x9000)
    assert table.protect(0x1000, PageFlags.READ_ONLY).flags == PageFlags.DATA
    assert table.walk(0x1000).flags == PageFlags.READ_ONLY
    table.move(0x1000, 0xA000)
    assert (table.walk(0x1FFF).target, table.walk(0x1FFF).flags) == (0xA000, PageFlags.READ_ONLY)
    table.unmap(0x1000)
    assert table.walk(0x1000) is None
    table.map(0x1000, 0xB000)
    assert table.walk(0x1000).target == 0xB000


@pytest.mark.parametrize(("levels", "x4"), [(3, False), (3, True), (4, True), (5, False)])
def test_random_mappings_equal_a_dictionary(pages, levels, x4):
    rng = random.Random(levels)
    table = PageTable(*pages.callables, levels=levels, x4=x4)
    bits = 12 + 9 * levels + (2 if x4 else -1)
    expected = {}
    for _ in range(300):
        page = rng.getrandbits(bits - 12)
        target = rng.getrandbits(44)
        if page in expected:
            continue
        expected[page] = target
        table.map(page << 12, target << 12)
    assert {m.address >> 12: m.target >> 12 for m in table} == expected
    for page, target in expected.items():
        assert table.walk(page << 12 | 0x123).target == target << 12


def test_range_uses_largest_pages(pages):
    table = PageTable(*pages.callables)
    table.map_range(MIB_2 - KIB_4, GIB_1 + MIB_2 - KIB_4, 2 * MIB_2 + 2 * KIB_4)
    assert [m.size for m in table] == [KIB_4, MIB_2, MIB_2, KIB_4]
    assert table.walk(2 * MIB_2 + 5).target == GIB_1 + 2 * MIB_2


def test_device_context_bits(pages):
    directory = DirectoryBuilder(*pages.callables)
    assert directory.ddtp == (directory.root >> 12) << 10 | 2
    directory.set(
        0x7F, Context(en_ats=True, en_pri=True, iohgatp=8 << 60 | 5, pscid=0x54321, fsc=8 << 60 | 6)
    )
    slot = directory.root + 32 * 0x7F
    assert [pages.dword(slot + 8 * i) for i in range(4)] == [
        0b111,
        8 << 60 | 5,
        0x54321 << 12,
        8 << 60 | 6,
    ]
    directory.remove(0x7F)
    assert pages.dword(slot) == 0
    with pytest.raises(ValueError, match="too wide"):
        directory.set(0x80, Context())
    with pytest.raises(ValueError, match="MSI page tables"):
        directory.set(0, Context(msiptp=1 << 60))


def test_three_level_extended_directory(pages):
    directory = DirectoryBuilder(*pages.callables, levels=3, extended=True)
    directory.set(0xABCDEF, Context(msiptp=1 << 60 | 7, msi_addr_mask=3, msi_addr_pattern=0x40))
    # DDI2 = 23:15, DDI1 = 14:6, DDI0 = 5:0
    entry = pages.dword(directory.root + 8 * (0xABCDEF >> 15))
    entry = pages.dword((entry >> 10 << 12) + 8 * (0xABCDEF >> 6 & 0x1FF))
    slot = (entry >> 10 << 12) + 64 * (0xABCDEF & 0x3F)
    assert slot == directory.slot(0xABCDEF)
    assert [pages.dword(slot + 8 * i) for i in range(8)] == [1, 0, 0, 0, 1 << 60 | 7, 3, 0x40, 0]
    assert directory.slot(0) is None


def test_process_context_bits(pages):
    directory = ProcessDirectoryBuilder(*pages.callables, levels=2)
    directory.set(0x1_23, fsc=8 << 60 | 9, pscid=0xABCDE, ens=True, sum=True)
    assert directory.pdtp == 2 << 60 | directory.root >> 12
    entry = pages.dword(directory.root + 8 * 1)
    slot = (entry >> 10 << 12) + 16 * 0x23
    assert [pages.dword(slot), pages.dword(slot + 8)] == [0xABCDE << 12 | 7, 8 << 60 | 9]


def test_memory_is_zero_until_written_and_crosses_pages():
    memory = Memory(address_bits=40)
    memory.write(0xFFE, b"abcd")
    assert memory.read(0xFFC, 8) == b"\0\0abcd\0\0"
    assert memory.read(0x2000_0FFE, 4) == bytes(4)
    with pytest.raises(AccessFault):
        memory.read((1 << 40) - 4, 8)


def test_injected_errors_hit_overlapping_accesses_only():
    memory = FaultyMemory(Memory())
    memory.inject([(0x1000, 8, 1), (0x2000, 8, 2)])
    with pytest.raises(AccessFault):
        memory.read(0xFFF, 2)
    with pytest.raises(DataCorruption):
        memory.write(0x2007, b"x")
    memory.write(0x1008, b"ok")
    assert memory.read(0x1008, 2) == b"ok"
    memory.inject([])
    assert memory.read(0x2007, 1) == b"\0"


def test_runs_of_pages_are_those_mapped_one_by_one():
    """Across tables, and refused as a whole table part if something is in the way."""
    one, many = (PageTable(*Pages().callables) for _ in range(2))
    start, target, count = MIB_2 - 3 * KIB_4, 0x40_0000_0000, 5 + MIB_2 // KIB_4
    for n in range(count):
        one.map(start + n * KIB_4, target + n * KIB_4)
    many.map_pages(start, target, count)
    assert list(one) == list(many)
    with pytest.raises(ValueError, match="is mapped"):
        many.map_pages(start + (count - 1) * KIB_4, target, 3)
    many.unmap_pages(start + KIB_4, count - 2)
    left = [leaf.address for leaf in many]
    assert left == [start, start + (count - 1) * KIB_4]
    with pytest.raises(ValueError, match="Not every page"):
        many.unmap_pages(start, 2)
    with pytest.raises(ValueError, match="4 KiB pages"):
        many.map_pages(start + 1, target, 1)
