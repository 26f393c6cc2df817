"""Offsets, widths and bits of the IOMMU's registers, typed from the specification's tables."""

import pytest

from models.spec import iommu_registers as spec
from models.spec.registers import Access, Field, Register, field_mask

#: Offset, bytes.
OFFSETS = {
    "capabilities": (0, 8),
    "fctl": (8, 4),
    "ddtp": (16, 8),
    "cqb": (24, 8),
    "cqh": (32, 4),
    "cqt": (36, 4),
    "fqb": (40, 8),
    "fqh": (48, 4),
    "fqt": (52, 4),
    "pqb": (56, 8),
    "pqh": (64, 4),
    "pqt": (68, 4),
    "cqcsr": (72, 4),
    "fqcsr": (76, 4),
    "pqcsr": (80, 4),
    "ipsr": (84, 4),
    "iocountovf": (88, 4),
    "iocountinh": (92, 4),
    "iohpmcycles": (96, 8),
    "iohpmctr1": (104, 8),
    "iohpmctr31": (344, 8),
    "iohpmevt1": (352, 8),
    "iohpmevt31": (592, 8),
    "tr_req_iova": (600, 8),
    "tr_req_ctl": (608, 8),
    "tr_response": (616, 8),
    "iommu_qosid": (624, 4),
    "icvec": (760, 8),
    "msi_addr_0": (768, 8),
    "msi_data_0": (776, 4),
    "msi_vec_ctl_0": (780, 4),
    "msi_addr_15": (1008, 8),
    "msi_data_15": (1016, 4),
    "msi_vec_ctl_15": (1020, 4),
}
FIELDS = {
    "capabilities": {
        "version": (7, 0),
        "sv32": (8, 8),
        "sv39": (9, 9),
        "sv48": (10, 10),
        "sv57": (11, 11),
        "svrsw60t59b": (14, 14),
        "svpbmt": (15, 15),
        "sv32x4": (16, 16),
        "sv39x4": (17, 17),
        "sv48x4": (18, 18),
        "sv57x4": (19, 19),
        "amo_mrif": (21, 21),
        "msi_flat": (22, 22),
        "msi_mrif": (23, 23),
        "amo_hwad": (24, 24),
        "ats": (25, 25),
        "t2gpa": (26, 26),
        "end": (27, 27),
        "igs": (29, 28),
        "hpm": (30, 30),
        "dbg": (31, 31),
        "pas": (37, 32),
        "pd8": (38, 38),
        "pd17": (39, 39),
        "pd20": (40, 40),
        "qosid": (41, 41),
        "nl": (42, 42),
        "s": (43, 43),
    },
    "fctl": {"be": (0, 0), "wsi": (1, 1), "gxl": (2, 2)},
    "ddtp": {"mode": (3, 0), "busy": (4, 4), "ppn": (53, 10)},
    "cqb": {"log2szm1": (4, 0), "ppn": (53, 10)},
    "fqb": {"log2szm1": (4, 0), "ppn": (53, 10)},
    "pqb": {"log2szm1": (4, 0), "ppn": (53, 10)},
    "cqcsr": {
        "cqen": (0, 0),
        "cie": (1, 1),
        "cqmf": (8, 8),
        "cmd_to": (9, 9),
        "cmd_ill": (10, 10),
        "fence_w_ip": (11, 11),
        "cqon": (16, 16),
        "busy": (17, 17),
    },
    "fqcsr": {
        "fqen": (0, 0),
        "fie": (1, 1),
        "fqmf": (8, 8),
        "fqof": (9, 9),
        "fqon": (16, 16),
        "busy": (17, 17),
    },
    "pqcsr": {
        "pqen": (0, 0),
        "pie": (1, 1),
        "pqmf": (8, 8),
        "pqof": (9, 9),
        "pqon": (16, 16),
        "busy": (17, 17),
    },
    "ipsr": {"cip": (0, 0), "fip": (1, 1), "pmip": (2, 2), "pip": (3, 3)},
    "iocountovf": {"cy": (0, 0), "hpm": (31, 1)},
    "iocountinh": {"cy": (0, 0), "hpm": (31, 1)},
    "iohpmcycles": {"counter": (62, 0), "of": (63, 63)},
    "iohpmevt1": {
        "eventid": (14, 0),
        "dmask": (15, 15),
        "pid_pscid": (35, 16),
        "did_gscid": (59, 36),
        "pv_pscv": (60, 60),
        "dv_gscv": (61, 61),
        "idt": (62, 62),
        "of": (63, 63),
    },
    "tr_req_iova": {"vpn": (63, 12)},
    "tr_req_ctl": {
        "go_busy": (0, 0),
        "priv": (1, 1),
        "exe": (2, 2),
        "nw": (3, 3),
        "pid": (31, 12),
        "pv": (32, 32),
        "did": (63, 40),
    },
    "tr_response": {"fault": (0, 0), "pbmt": (8, 7), "s": (9, 9), "ppn": (53, 10)},
    "iommu_qosid": {"rcid": (11, 0), "mcid": (27, 16)},
    "icvec": {"civ": (3, 0), "fiv": (7, 4), "pmiv": (11, 8), "piv": (15, 12)},
    "msi_addr_0": {"addr": (55, 2)},
    "msi_vec_ctl_0": {"m": (0, 0)},
}
BY_NAME = {register.name: register for register in spec.REGISTERS}
RW1C = {
    "cqcsr": 0xF00,
    "fqcsr": 0x300,
    "pqcsr": 0x300,
    "ipsr": 0xF,
}


@pytest.mark.parametrize(("name", "place"), OFFSETS.items())
def test_place(name, place):
    assert (BY_NAME[name].offset, BY_NAME[name].bytes) == place


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    fields = BY_NAME[name].fields
    assert {field: (entry.high, entry.low) for field, entry in fields.items()} == FIELDS[name]


@pytest.mark.parametrize("name", BY_NAME)
def test_written_to_clear(name):
    assert BY_NAME[name].mask(Access.RW1C) == RW1C.get(name, 0)


def test_indices_that_the_iommu_owns_are_read_only():
    for name, access in [
        ("cqh", Access.RO),
        ("cqt", Access.RW),
        ("fqh", Access.RW),
        ("fqt", Access.RO),
        ("pqh", Access.RW),
        ("pqt", Access.RO),
    ]:
        assert BY_NAME[name]["index"].access is access


def test_registers_do_not_overlap_and_fill_no_reserved_space():
    taken = set()
    for register in spec.REGISTERS:
        place = set(range(register.offset, register.offset + register.bytes))
        assert not place & taken
        taken |= place
    assert not taken & set(range(628, 760))  # reserved and custom
    assert max(taken) == 1023


@pytest.mark.parametrize("index", [0, 32])
def test_counters_are_numbered_1_to_31(index):
    with pytest.raises(ValueError, match=f"numbered 1 to 31, not {index}"):
        spec.iohpmctr(index)
    with pytest.raises(ValueError, match=f"numbered 1 to 31, not {index}"):
        spec.iohpmevt(index)


def test_bad_registers_are_refused():
    flag = Field(0, 0, Access.RW, "")
    with pytest.raises(ValueError, match="naturally aligned"):
        Register(name="x", offset=4, width=64)
    with pytest.raises(ValueError, match="outside of the register"):
        Register(name="x", offset=0, width=32, fields={"a": Field(32, 0, Access.RW, "")})
    with pytest.raises(ValueError, match="overlaps a"):
        Register(name="x", offset=0, width=32, fields={"a": flag, "b": flag})


def test_field_arithmetic():
    mode = spec.DDTP["mode"]
    assert (mode.mask, mode.extract(0xABCD), mode.insert(4)) == (0xF, 0xD, 4)
    with pytest.raises(ValueError, match="has 4 bits"):
        mode.insert(16)
    assert field_mask(spec.CQCSR, "cqmf", "cmd_ill") == 0x500
