"""Rows of translations: from JSON to requests, and expectations held against answers."""

import json
from dataclasses import dataclass
from typing import Any

from models.iommu import Request, Response
from models.spec.iommu import Cause, FaultRecord, Ttyp
from models.spec.translation import AddressType, TranslationStatus

__all__ = ["Expected", "Mismatch", "Record", "check_response", "expected_record", "parse_request"]

_GUEST_PAGE_FAULTS = {
    Cause.INSTRUCTION_GUEST_PAGE_FAULT,
    Cause.READ_GUEST_PAGE_FAULT,
    Cause.WRITE_GUEST_PAGE_FAULT,
}
_TYPES = {
    "u": AddressType.UNTRANSLATED,
    "t": AddressType.TRANSLATED,
    "a": AddressType.ATS_REQUEST,
}
_READ, _WRITE, _EXECUTE = 1, 2, 4
_PAGE_OFFSET = 0xFFF
#: The vectors carry bits 46:0 of an MRIF's address; the specification has 55:9 (AIA, 9.5.2).
_MRIF_ADDRESS_COMPARED = (1 << 47) - 1
#: Bits of iotval2 that say what kind of implicit access it was.
_IMPLICIT = 3


class Mismatch(Exception):
    """An implementation did something else than the vectors say."""


@dataclass(frozen=True)
class Record:
    """What is compared of a fault record, without its cause."""

    ttyp: int
    device_id: int
    process_id: int | None
    privileged: bool
    iotval: int
    iotval2: int

    @classmethod
    def of(
        cls,
        cause: int,
        ttyp: int,
        device_id: int,
        process_id: int | None,
        privileged: bool,
        iotval: int,
        iotval2: int,
    ) -> "Record":
        """Leave out what the specification leaves open: page offsets, iotval2 of other causes."""
        if ttyp not in (Ttyp.NONE, Ttyp.MESSAGE):
            iotval &= ~_PAGE_OFFSET
        guest = cause in _GUEST_PAGE_FAULTS
        kept = iotval2 & (~_PAGE_OFFSET | _IMPLICIT) if guest else 0
        return cls(ttyp, device_id, process_id, privileged and process_id is not None, iotval, kept)

    @classmethod
    def decode(cls, raw: bytes) -> tuple[int, "Record"]:
        """Return cause and record of 32 bytes of the fault queue."""
        bits = int.from_bytes(raw, "little")
        fields = {
            name: bits >> field.offset & (1 << field.width) - 1
            for name, field in FaultRecord.as_shape()
        }
        if not fields["pv"] and (fields["pid"] or fields["priv"]):
            raise Mismatch(f"fault record without process_id has PID or PRIV: {raw.hex()}")
        record = cls.of(
            fields["cause"],
            fields["ttyp"],
            fields["did"],
            fields["pid"] if fields["pv"] else None,
            bool(fields["priv"]),
            fields["iotval"],
            fields["iotval2"],
        )
        return fields["cause"], record


@dataclass(frozen=True)
class Expected:
    """A fault record that must be there, with any of ``causes``."""

    causes: frozenset[int]
    record: Record

    @classmethod
    def of(cls, causes: int | list[int], *fields: Any) -> "Expected":
        """Make one from a cause or the causes allowed, and the other fields of a record."""
        allowed = frozenset(causes if isinstance(causes, list) else [causes])
        return cls(allowed, Record.of(min(allowed), *fields))

    def allows(self, cause: int, record: Record) -> bool:
        """Whether a record that was found is this one."""
        return cause in self.causes and record == self.record


def parse_request(row: list[Any]) -> Request:
    """Request of a row ``[op, did, pid, iova, ...]``."""
    operation, device_id, process_id, iova = row[:4]
    kind, access, *flags = operation
    ats = kind == "a"
    return Request(
        device_id=device_id,
        iova=int(iova, 16),
        at=_TYPES[kind],
        process_id=process_id,
        write=access in "wy" if ats else access == "w",
        execute=access in "xy" if ats else access == "x",
        privileged="p" in flags,
    )


def expected_record(row: list[Any]) -> Expected | None:
    """Fault record that a row says must appear."""
    if len(row) < 6 or not row[5]:
        return None
    request = parse_request(row)
    causes, ttyp, iotval2 = row[5]
    return Expected.of(
        causes,
        ttyp,
        request.device_id,
        request.process_id,
        request.privileged,
        request.iova,
        int(iotval2, 16),
    )


def check_response(row: list[Any], request: Request, response: Response) -> None:
    """Raise :class:`Mismatch` if an answer is not the one that the row allows."""
    status, *rest = row[4]

    def want(what: str, got: Any, expected: Any) -> None:
        if got != expected:
            raise Mismatch(f"{json.dumps(row)}: {what} is {got}, expected {expected}")

    want("status", int(response.status), status)
    if status != TranslationStatus.SUCCESS:
        return
    if request.at is AddressType.ATS_REQUEST:
        _check_completion(rest, response, want)
    elif rest[0] == "mrif":
        mrif = response.mrif
        got = mrif and (
            mrif.address & _MRIF_ADDRESS_COMPARED,
            mrif.notice_id,
            mrif.notice_address,
        )
        want("MRIF", got, (int(rest[1], 16), rest[2], int(rest[3], 16)))
    else:
        want("MRIF", response.mrif, None)
        want("SPA", f"{response.spa:x}", rest[0])
        want("PBMT", response.pbmt, rest[1])


def _check_completion(expected: list[Any], response: Response, want: Any) -> None:
    spa, rights, mask, size, priv, glob, u = expected
    got = _READ * response.r | _WRITE * response.w | _EXECUTE * response.x
    want("R/W/X", got & mask, rights & mask)
    want("U", int(response.u), u)
    if not got & (_READ | _WRITE):
        return
    want("Priv", int(response.priv), priv)
    if glob is not None:
        want("Global", int(response.glob), glob)
    if spa is not None:
        want("address", f"{response.spa:x}", spa)
    if size:
        want("range too large", response.size > abs(size), False)
