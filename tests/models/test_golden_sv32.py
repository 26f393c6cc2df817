"""Sv32 and Sv32x4 in the golden IOMMU, fctl.GXL and DC.tc.SXL.

Sections "Translation control", "IO hypervisor guest address translation and protection",
"Device-context configuration checks", "Features-control register".
"""

from dataclasses import replace

import pytest

from models.iommu import Capabilities, GoldenIommu, Parameters, Request
from models.memory import Memory
from models.spec.config import IommuConfig
from models.spec.iommu import Cause
from models.spec.iommu_registers import DDTP, FCTL

DDT, FIRST, SECOND, TABLE, GTABLE = 0x1000, 0x2000, 0x4000, 0x8000, 0x9000
V, LEAF = 1, 0xDF  # D A U X W R V
EN, SXL, SADE, SBE = 1, 1 << 11, 1 << 8, 1 << 10
MODE8 = 8 << 60
BOTH = FCTL["be"].mask | FCTL["gxl"].mask
WIDE = Capabilities(sv32=1, sv32x4=1, sv39=1, sv39x4=1, end=1, amo_hwad=1, pas=56)


class World:
    """One device, 1, with first and second stage as asked for."""

    def __init__(self, *, tc=EN | SXL, first=True, second=False, fctl=0, capabilities=WIDE):
        self.memory = Memory(capabilities.pas)
        self.iommu = GoldenIommu(
            self.memory, Parameters(capabilities=capabilities, fctl_writable=BOTH)
        )
        self.order = "big" if fctl & 1 else "little"
        self.iommu.write_register(FCTL.offset, 4, fctl)
        self.iommu.write_register(DDTP.offset, 8, 2 | DDT >> 12 << 10)
        words = [tc, MODE8 | SECOND >> 12 if second else 0, 0, MODE8 | FIRST >> 12 if first else 0]
        for index, word in enumerate(words):
            self.memory.write(DDT + 32 + 8 * index, word.to_bytes(8, self.order))

    def pte(self, table, index, target, bits, size=4, order="little"):
        entry = target >> 12 << 10 | bits
        self.memory.write(table + size * index, entry.to_bytes(size, order))

    def ask(self, iova, **how):
        answer = self.iommu.translate(Request(device_id=1, iova=iova, **how))
        return answer.cause or (answer.spa, answer.size)


def test_pages_of_4_kib_and_4_mib():
    world = World()
    world.pte(FIRST, 0x201, TABLE, V)
    world.pte(TABLE, 0x3FF, 0x3_1234_5000, LEAF)
    world.pte(FIRST, 0x3FF, 0x3_FFC0_0000, LEAF)
    assert world.ask(0x807F_F123) == (0x3_1234_5123, 1 << 12)
    assert world.ask(0xFFC1_2345) == (0x3_FFC1_2345, 1 << 22)
    assert world.ask(0x807F_E000) == Cause.READ_PAGE_FAULT


def test_misaligned_superpage_and_bits_of_a_pointer_fault():
    world = World()
    world.pte(FIRST, 0, 0x40_1000, LEAF)
    assert world.ask(0) == Cause.READ_PAGE_FAULT
    for bits in (1 << 4, 1 << 6, 1 << 7):
        world.pte(FIRST, 0, TABLE, V | bits)
        assert world.ask(0) == Cause.READ_PAGE_FAULT


def test_iova_has_32_bits_and_no_sign():
    world = World()
    world.pte(FIRST, 0x3FF, 0, LEAF)
    assert world.ask(0xFFC0_0000) == (0, 1 << 22)
    assert world.ask(0xFFFF_FFFF_FFC0_0000) == Cause.READ_PAGE_FAULT
    assert world.ask(0x1_FFC0_0000, write=True) == Cause.WRITE_PAGE_FAULT


def test_sv32x4_has_34_bits_and_a_root_of_16_kib():
    world = World(first=False, second=True, fctl=FCTL["gxl"].mask)
    world.pte(SECOND, 0xFFF, 0x2_0000_0000, LEAF)
    assert world.ask(0x3_FFC0_0010) == (0x2_0000_0010, 1 << 22)
    assert world.ask(0x4_0000_0000) == Cause.READ_GUEST_PAGE_FAULT


def test_both_stages_of_32_bits():
    world = World(second=True, fctl=FCTL["gxl"].mask)
    world.pte(SECOND, 0, 0, LEAF)
    world.pte(SECOND, 0x801, GTABLE, V)
    world.pte(GTABLE, 5, 0xABC_D000, LEAF)
    world.pte(FIRST, 1, 0x2_0040_0000, LEAF)
    assert world.ask(0x40_5678) == (0xABC_D678, 1 << 12)
    assert world.ask(0x40_6678) == Cause.READ_GUEST_PAGE_FAULT


def test_sxl_limits_guest_addresses_of_wide_second_stages_too():
    world = World(first=False, second=True)
    for index in (0xF, 0x10):
        world.pte(SECOND, index, 0, LEAF, size=8)
    assert world.ask(0x3_C000_0000) == (0, 1 << 30)
    assert world.ask(0x4_0000_0000) == Cause.READ_GUEST_PAGE_FAULT


def test_updates_touch_four_bytes_in_the_right_order():
    for fctl, tc, order in ((0, 0, "little"), (FCTL["be"].mask, SBE, "big")):
        world = World(tc=EN | SXL | SADE | tc, fctl=fctl)
        world.pte(FIRST, 4, 0x80_0000, LEAF & ~0xC0, order=order)
        world.memory.write(FIRST + 20, b"next")
        assert world.ask(0x100_0000, write=True) == (0x80_0000, 1 << 22)
        assert int.from_bytes(world.memory.read(FIRST + 16, 4), order) & 0xFF == LEAF
        assert world.memory.read(FIRST + 20, 4) == b"next"


@pytest.mark.parametrize(
    ("writable", "gxl", "sxl", "good"),
    [(1, 0, 0, 1), (1, 0, 1, 1), (1, 1, 0, 0), (1, 1, 1, 1), (0, 0, 1, 0), (0, 0, 0, 1)],
)
def test_legal_values_of_sxl(writable, gxl, sxl, good):
    world = World(tc=EN | SXL * sxl, first=False, fctl=gxl << 2)
    world.iommu.parameters = parameters = Parameters(
        capabilities=WIDE, fctl_writable=BOTH if writable else FCTL["be"].mask
    )
    world.iommu._translator.parameters = parameters
    assert world.ask(0x1000) == ((0x1000, 1 << 56) if good else Cause.DDT_MISCONFIGURED)


@pytest.mark.parametrize("stage", ["first", "second"])
def test_modes_of_the_other_width_are_misconfigured(stage):
    none = replace(WIDE, sv32=0, sv32x4=0)
    how = {"first": stage == "first", "second": stage == "second", "fctl": FCTL["gxl"].mask}
    assert World(**how).ask(0) != Cause.DDT_MISCONFIGURED
    assert World(**how, capabilities=none).ask(0) == Cause.DDT_MISCONFIGURED
    world = World(**how)
    for offset in (8, 24):
        word = int.from_bytes(world.memory.read(DDT + 32 + offset, 8), "little")
        if word:
            world.memory.write(DDT + 32 + offset, (word | 1 << 60).to_bytes(8, "little"))
    assert world.ask(0) == Cause.DDT_MISCONFIGURED


@pytest.mark.parametrize(
    ("changes", "fctl", "writable"),
    [
        ({}, 0, {"wsi"}),
        ({"end": True, "igs": 0}, 0, {"be"}),
        ({"sv32": True}, 0, {"wsi"}),
        ({"sv32": True, "sv32x4": True}, 0, {"wsi", "gxl"}),
        ({"sv32x4": True, "sv39x4": False}, FCTL["gxl"].mask, {"wsi"}),
        ({"igs": 1}, FCTL["wsi"].mask, set()),
    ],
)
def test_features_of_a_configuration(changes, fctl, writable):
    parameters = Parameters.from_config(IommuConfig(**changes))
    assert parameters.fctl == fctl
    assert parameters.fctl_writable == sum(FCTL[name].mask for name in writable)
    assert parameters.capabilities.sv32x4 == int(changes.get("sv32x4", False))


def test_qos_ids_are_reserved_without_the_capability():
    for there in (0, 1):
        world = World(first=False, tc=EN, capabilities=replace(WIDE, qosid=there))
        ta = 0xABC << 40 | 0x123 << 52
        world.memory.write(DDT + 32 + 16, ta.to_bytes(8, "little"))
        assert (world.ask(0) == Cause.DDT_MISCONFIGURED) is not bool(there)
    context = world.iommu._translator.locate(1)
    assert (context.rcid, context.mcid) == (0xABC, 0x123)
