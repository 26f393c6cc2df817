"""Bit positions of the IOMMU's records, typed from the specification's figures and tables.

Models and hardware take them from one place, so no co-simulation would see a wrong one.
"""

import pytest

from models.spec import iommu as spec

RECORDS = {
    "TranslationControl": {
        "v": (0, 0),
        "en_ats": (1, 1),
        "en_pri": (2, 2),
        "t2gpa": (3, 3),
        "dtf": (4, 4),
        "pdtv": (5, 5),
        "prpr": (6, 6),
        "gade": (7, 7),
        "sade": (8, 8),
        "dpe": (9, 9),
        "sbe": (10, 10),
        "sxl": (11, 11),
        "custom": (31, 24),
    },
    "Iohgatp": {"ppn": (43, 0), "gscid": (59, 44), "mode": (63, 60)},
    "DcTa": {"pscid": (31, 12), "rcid": (51, 40), "mcid": (63, 52)},
    "Atp": {"ppn": (43, 0), "mode": (63, 60)},
    "Msiptp": {"ppn": (43, 0), "mode": (63, 60)},
    "DeviceContextBase": {
        "tc": (63, 0),
        "iohgatp": (127, 64),
        "ta": (191, 128),
        "fsc": (255, 192),
    },
    "DeviceContext": {
        "tc": (63, 0),
        "iohgatp": (127, 64),
        "ta": (191, 128),
        "fsc": (255, 192),
        "msiptp": (319, 256),
        "msi_addr_mask": (383, 320),
        "msi_addr_pattern": (447, 384),
        "reserved": (511, 448),
    },
    "ProcessTa": {"v": (0, 0), "ens": (1, 1), "sum": (2, 2), "pscid": (31, 12)},
    "ProcessContext": {"ta": (63, 0), "fsc": (127, 64)},
    "NonLeafEntry": {"v": (0, 0), "ppn": (53, 10)},
    "Pte": {
        "v": (0, 0),
        "r": (1, 1),
        "w": (2, 2),
        "x": (3, 3),
        "u": (4, 4),
        "g": (5, 5),
        "a": (6, 6),
        "d": (7, 7),
        "rsw": (9, 8),
        "ppn": (53, 10),
        "reserved": (58, 54),
        "rsw2": (60, 59),
        "pbmt": (62, 61),
        "n": (63, 63),
    },
    "MsiPte": {"v": (0, 0), "m": (2, 1), "ppn": (53, 10), "c": (63, 63)},
    "MsiPteMrif": {"v": (0, 0), "m": (2, 1), "address": (53, 7), "c": (63, 63)},
    "MsiPteNotice": {"nid": (9, 0), "ppn": (53, 10), "nid_high": (60, 60)},
    "Command": {"opcode": (6, 0), "func3": (9, 7)},
    "Iotinval": {
        "opcode": (6, 0),
        "func3": (9, 7),
        "av": (10, 10),
        "pscid": (31, 12),
        "pscv": (32, 32),
        "gv": (33, 33),
        "nl": (34, 34),
        "gscid": (59, 44),
        "s": (73, 73),
        "addr": (125, 74),
    },
    "Iofence": {
        "opcode": (6, 0),
        "func3": (9, 7),
        "av": (10, 10),
        "wsi": (11, 11),
        "pr": (12, 12),
        "pw": (13, 13),
        "data": (63, 32),
        "addr": (125, 64),
    },
    "Iodir": {
        "opcode": (6, 0),
        "func3": (9, 7),
        "pid": (31, 12),
        "dv": (33, 33),
        "did": (63, 40),
    },
    "AtsCommand": {
        "opcode": (6, 0),
        "func3": (9, 7),
        "pid": (31, 12),
        "pv": (32, 32),
        "dsv": (33, 33),
        "rid": (55, 40),
        "dseg": (63, 56),
        "payload": (127, 64),
    },
    "FaultRecord": {
        "cause": (11, 0),
        "pid": (31, 12),
        "pv": (32, 32),
        "priv": (33, 33),
        "ttyp": (39, 34),
        "did": (63, 40),
        "custom": (95, 64),
        "reserved": (127, 96),
        "iotval": (191, 128),
        "iotval2": (255, 192),
    },
    "PageRequestRecord": {
        "pid": (31, 12),
        "pv": (32, 32),
        "priv": (33, 33),
        "exec": (34, 34),
        "did": (63, 40),
        "payload": (127, 64),
    },
    "PageRequestPayload": {
        "r": (0, 0),
        "w": (1, 1),
        "last": (2, 2),
        "index": (11, 3),
        "address": (63, 12),
    },
    "GroupResponsePayload": {"index": (40, 32), "code": (47, 44), "destination": (63, 48)},
    "InvalidationPayload": {"g": (0, 0), "s": (11, 11), "address": (63, 12)},
}
SIZES = {
    "DeviceContextBase": 256,
    "DeviceContext": 512,
    "ProcessContext": 128,
    "NonLeafEntry": 64,
    "Pte": 64,
    "MsiPte": 64,
    "MsiPteMrif": 64,
    "MsiPteNotice": 64,
    "Command": 128,
    "Iotinval": 128,
    "Iofence": 128,
    "Iodir": 128,
    "AtsCommand": 128,
    "FaultRecord": 256,
    "PageRequestRecord": 128,
    "PageRequestPayload": 64,
    "GroupResponsePayload": 64,
    "InvalidationPayload": 64,
}
ENCODINGS = {
    "DdtpMode": {"OFF": 0, "BARE": 1, "LVL1": 2, "LVL2": 3, "LVL3": 4},
    "IohgatpMode": {"BARE": 0, "SV39X4": 8, "SV48X4": 9, "SV57X4": 10},
    "IoatpMode": {"BARE": 0, "SV39": 8, "SV48": 9, "SV57": 10},
    "PdtpMode": {"BARE": 0, "PD8": 1, "PD17": 2, "PD20": 3},
    "MsiptpMode": {"OFF": 0, "FLAT": 1},
    "CommandOpcode": {"IOTINVAL": 1, "IOFENCE": 2, "IODIR": 3, "ATS": 4},
    "Ttyp": {
        "NONE": 0,
        "UNTRANSLATED_EXECUTE": 1,
        "UNTRANSLATED_READ": 2,
        "UNTRANSLATED_WRITE": 3,
        "TRANSLATED_EXECUTE": 5,
        "TRANSLATED_READ": 6,
        "TRANSLATED_WRITE": 7,
        "ATS_REQUEST": 8,
        "MESSAGE": 9,
    },
    "PageResponse": {"SUCCESS": 0, "INVALID": 1, "FAILURE": 15},
    "Cause": {
        "INSTRUCTION_ACCESS_FAULT": 1,
        "READ_ADDRESS_MISALIGNED": 4,
        "READ_ACCESS_FAULT": 5,
        "WRITE_ADDRESS_MISALIGNED": 6,
        "WRITE_ACCESS_FAULT": 7,
        "INSTRUCTION_PAGE_FAULT": 12,
        "READ_PAGE_FAULT": 13,
        "WRITE_PAGE_FAULT": 15,
        "INSTRUCTION_GUEST_PAGE_FAULT": 20,
        "READ_GUEST_PAGE_FAULT": 21,
        "WRITE_GUEST_PAGE_FAULT": 23,
        "ALL_INBOUND_DISALLOWED": 256,
        "DDT_ACCESS_FAULT": 257,
        "DDT_INVALID": 258,
        "DDT_MISCONFIGURED": 259,
        "TYPE_DISALLOWED": 260,
        "MSI_PTE_ACCESS_FAULT": 261,
        "MSI_PTE_INVALID": 262,
        "MSI_PTE_MISCONFIGURED": 263,
        "MRIF_ACCESS_FAULT": 264,
        "PDT_ACCESS_FAULT": 265,
        "PDT_INVALID": 266,
        "PDT_MISCONFIGURED": 267,
        "DDT_CORRUPTION": 268,
        "PDT_CORRUPTION": 269,
        "MSI_PT_CORRUPTION": 270,
        "MRIF_CORRUPTION": 271,
        "INTERNAL_ERROR": 272,
        "MSI_WRITE_ACCESS_FAULT": 273,
        "PT_CORRUPTION": 274,
    },
}


def positions():
    for record, fields in RECORDS.items():
        for name, bits in fields.items():
            yield pytest.param(record, name, bits, id=f"{record}.{name}")


@pytest.mark.parametrize(("record", "name", "bits"), positions())
def test_field(record, name, bits):
    high, low = bits
    field = getattr(spec, record).as_shape()[name]
    assert (field.offset + field.width - 1, field.offset) == (high, low)


@pytest.mark.parametrize("record", RECORDS)
def test_gaps_are_reserved(record):
    """Every field that is not in the table above is a reserved one."""
    for name, _ in getattr(spec, record).as_shape():
        assert name in RECORDS[record] or name.startswith(("reserved", "operands"))


@pytest.mark.parametrize(("record", "bits"), SIZES.items())
def test_size(record, bits):
    assert getattr(spec, record).as_shape().size == bits


@pytest.mark.parametrize(("name", "members"), ENCODINGS.items())
def test_encoding(name, members):
    assert {member.name: member.value for member in getattr(spec, name)} == members


def test_functions_of_commands():
    """``func3`` by opcode: VMA, GVMA; C; INVAL_DDT, INVAL_PDT; INVAL, PRGR."""
    func = spec.CommandFunc
    assert (func.VMA, func.GVMA) == (0, 1)
    assert func.C == 0
    assert (func.INVAL_DDT, func.INVAL_PDT) == (0, 1)
    assert (func.INVAL, func.PRGR) == (0, 1)


def test_standard_events():
    event = spec.HpmEvent
    assert [
        event.UNTRANSLATED_REQUEST,
        event.TRANSLATED_REQUEST,
        event.ATS_REQUEST,
        event.TLB_MISS,
        event.DDT_WALK,
        event.PDT_WALK,
        event.FIRST_STAGE_WALK,
        event.SECOND_STAGE_WALK,
    ] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert event.LOOKUP >= 16384  # custom


def test_every_record_is_pinned():
    records = {
        name
        for name in spec.__all__
        if hasattr(getattr(spec, name), "as_shape") and hasattr(getattr(spec, name), "from_bits")
    }
    enums = {name for name in records if hasattr(getattr(spec, name), "__members__")}
    assert records - enums == set(RECORDS)
