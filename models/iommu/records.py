"""What goes into the golden IOMMU and comes out of it, in integers."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from models.spec.iommu import Cause, Ttyp
from models.spec.translation import AddressType, TranslationStatus

__all__ = [
    "Access",
    "Fault",
    "InvalidationMessage",
    "Mrif",
    "PageRequest",
    "Request",
    "Response",
    "ResponseMessage",
    "bits_of",
    "extractor",
]


def extractor(layout: Any, name: str) -> Callable[[int], int]:
    """Return a function that takes a field of an Amaranth layout out of an integer."""
    field = layout.as_shape()[name]
    offset, mask = field.offset, (1 << field.width) - 1
    return lambda value: value >> offset & mask


def bits_of(layout: Any, *names: str) -> int:
    """Mask of fields of an Amaranth layout, in place."""
    mask = 0
    for name in names:
        field = layout.as_shape()[name]
        mask |= (1 << field.width) - 1 << field.offset
    return mask


@dataclass(frozen=True, kw_only=True)
class Request:
    """One address to translate; see :class:`models.spec.translation.TranslationRequest`.

    ``process_id`` is ``None`` if the transaction has none; ``privileged`` then means nothing.
    ``also_read`` is set for accesses that read and write, as the debug interface asks for.
    """

    device_id: int
    iova: int
    at: AddressType = AddressType.UNTRANSLATED
    process_id: int | None = None
    write: bool = False
    execute: bool = False
    privileged: bool = False
    also_read: bool = False

    @property
    def supervisor(self) -> bool:
        """Whether supervisor privilege is requested: only with a process_id."""
        return self.privileged and self.process_id is not None

    @property
    def ttyp(self) -> Ttyp:
        """Transaction type in fault records (section "Fault/Event-Queue")."""
        if self.at is AddressType.ATS_REQUEST:
            return Ttyp.ATS_REQUEST
        if self.at is AddressType.MESSAGE:
            return Ttyp.MESSAGE
        first = Ttyp.UNTRANSLATED_EXECUTE
        if self.at is AddressType.TRANSLATED:
            first = Ttyp.TRANSLATED_EXECUTE
        return Ttyp(first + (0 if self.execute else 2 if self.write else 1))


@dataclass(frozen=True)
class Mrif:
    """Where an MSI to a memory-resident interrupt file goes."""

    address: int
    notice_id: int
    notice_address: int


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer; see :class:`models.spec.translation.TranslationResponse`.  ``size`` in bytes."""

    status: TranslationStatus = TranslationStatus.SUCCESS
    cause: int = 0
    spa: int = 0
    size: int = 4096
    r: bool = False
    w: bool = False
    x: bool = False
    priv: bool = False
    glob: bool = False
    u: bool = False
    pbmt: int = 0
    mrif: Mrif | None = None


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A Page Request Message; ``segment`` is ``None`` where a system has one segment only."""

    rid: int
    payload: int
    segment: int | None = None
    process_id: int | None = None
    privileged: bool = False
    execute: bool = False

    @property
    def device_id(self) -> int:
        """Segment and requester ID."""
        return (self.segment or 0) << 16 | self.rid


@dataclass(frozen=True, kw_only=True)
class ResponseMessage:
    """A PRG Response Message to a device."""

    rid: int
    segment: int | None
    process_id: int | None
    payload: int


@dataclass(frozen=True, kw_only=True)
class InvalidationMessage:
    """An Invalidate Request Message to a device."""

    rid: int
    segment: int | None
    process_id: int | None
    payload: int
    itag: int


class Fault(Exception):
    """A fault of the process to translate an IOVA."""

    def __init__(self, cause: Cause, iotval2: int = 0) -> None:
        super().__init__(cause)
        self.cause, self.iotval2 = cause, iotval2


class _Kind(Enum):
    """Access type that faults are reported with."""

    EXECUTE = (
        Cause.INSTRUCTION_ACCESS_FAULT,
        Cause.INSTRUCTION_PAGE_FAULT,
        Cause.INSTRUCTION_GUEST_PAGE_FAULT,
    )
    READ = (Cause.READ_ACCESS_FAULT, Cause.READ_PAGE_FAULT, Cause.READ_GUEST_PAGE_FAULT)
    WRITE = (Cause.WRITE_ACCESS_FAULT, Cause.WRITE_PAGE_FAULT, Cause.WRITE_GUEST_PAGE_FAULT)


@dataclass(frozen=True, kw_only=True)
class Access:
    """Rights that a transaction wants.

    ``strict``: rights that are missing are faults; else (ATS) they are merely not granted.
    """

    read: bool
    write: bool
    execute: bool
    supervisor: bool = False
    sum: bool = False
    strict: bool = True

    @classmethod
    def of(cls, request: Request, *, sum: bool) -> "Access":
        """Return what a request wants."""
        ats = request.at is AddressType.ATS_REQUEST
        return cls(
            read=ats or request.also_read or not (request.write or request.execute),
            write=request.write,
            execute=request.execute,
            supervisor=request.supervisor,
            sum=sum,
            strict=not ats,
        )

    @property
    def _causes(self) -> tuple[Cause, Cause, Cause]:
        if self.execute and self.strict:
            return _Kind.EXECUTE.value
        return _Kind.WRITE.value if self.write else _Kind.READ.value

    def access_fault(self) -> Fault:
        """A table could not be accessed."""
        return Fault(self._causes[0])

    def page_fault(self) -> Fault:
        """The first stage refuses."""
        return Fault(self._causes[1])

    def guest_page_fault(self, gpa: int, *, implicit: bool, implicit_write: bool) -> Fault:
        """The second stage refuses ``gpa``; bits 1:0 of iotval2 say for what it was accessed."""
        return Fault(self._causes[2], gpa & ~3 | implicit | implicit_write << 1)
