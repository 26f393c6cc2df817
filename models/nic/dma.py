"""DMA of the golden NIC: translation by ATS, page requests, retry.

Transfers are generators.  They yield a :class:`Parked` when a page is not there and are sent the
code of the group response; all else of the NIC goes on meanwhile.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from models.iommu.records import PageRequest, Request, Response
from models.memory import ByteMemory
from models.nic.atc import Atc
from models.spec.iommu import PAGE_SHIFT, PageRequestPayload, PageResponse
from models.spec.nic import QueueError, Stat
from models.spec.translation import AddressType, TranslationStatus

__all__ = ["Count", "Dma", "Parked", "Refused", "Stopped", "Surroundings", "Transfer"]

_PAGE = 1 << PAGE_SHIFT

#: ``count(stat, amount)``
Count = Callable[[Stat, int], None]


class Surroundings(Protocol):
    """What the NIC is connected to."""

    @property
    def memory(self) -> ByteMemory:
        """System memory, by SPA."""
        ...

    def translate(self, request: Request) -> Response:
        """Ask the IOMMU."""
        ...

    def page_request(self, message: PageRequest) -> None:
        """Send a page request message to the IOMMU."""
        ...

    def transmit(self, frame: bytes) -> None:
        """Send a frame out of the Ethernet port."""
        ...

    def now(self) -> int:
        """Return the current cycle."""
        ...


@dataclass(frozen=True)
class Parked:
    """A transfer waits for the page at ``iova``."""

    device_id: int
    iova: int
    write: bool

    def serves(self, other: "Parked") -> bool:
        """Return whether a page request for this is one for the other, too."""
        return (
            self.device_id == other.device_id
            and self.iova >> PAGE_SHIFT == other.iova >> PAGE_SHIFT
            and (self.write or not other.write)
        )

    def message(self, index: int) -> PageRequest:
        """Page request for it (PCIe Base 6.0, 10.4.1), a group of one with the given index."""
        fields = {
            "r": int(not self.write),
            "w": int(self.write),
            "last": 1,
            "index": index,
            "address": self.iova >> PAGE_SHIFT,
        }
        payload = PageRequestPayload.const(fields).as_bits()
        return PageRequest(rid=self.device_id, payload=payload)


#: A transfer under way: yields where it parks, takes the response code, returns bytes read.
Transfer = Generator[Parked, PageResponse, bytes]


class Stopped(Exception):
    """The queue cannot go on."""

    def __init__(self, error: QueueError):
        super().__init__(error.name)
        self.error = error


class Refused(Stopped):
    """A page request was answered "invalid": a buffer of this chain is not to be had."""


class Dma:
    """DMA of one function.

    Parameters
    ----------
    surroundings : Surroundings
    device_id : int
        Whose accesses these are.
    ats : callable
        Tells whether the function translates by ATS.
    count : Count
        Counts for the function.
    atc : Atc or None
        Translations that it keeps.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        device_id: int,
        ats: Callable[[], bool],
        count: Count,
        atc: Atc | None = None,
    ) -> None:
        self._outside, self.device_id = surroundings, device_id
        self._ats, self._count = ats, count
        self.atc = atc

    def read(self, iova: int, size: int, refused: QueueError) -> Transfer:
        """Return bytes; a fault that retry cannot mend stops the queue with ``refused``."""
        found = b""
        while len(found) < size:
            part = min(size - len(found), _PAGE - (iova + len(found)) % _PAGE)
            spa = yield from self._translate(iova + len(found), False, refused)
            found += self._memory(
                lambda spa=spa, part=part: self._outside.memory.read(spa, part), refused
            )
            self._count(Stat.DMA_READ_BYTES, part)
        return found

    def write(self, iova: int, data: bytes, refused: QueueError) -> Transfer:
        """Store bytes, likewise."""
        done = 0
        while done < len(data):
            part = data[done : done + _PAGE - (iova + done) % _PAGE]
            spa = yield from self._translate(iova + done, True, refused)
            self._memory(lambda spa=spa, part=part: self._outside.memory.write(spa, part), refused)
            self._count(Stat.DMA_WRITE_BYTES, len(part))
            done += len(part)
        return b""

    def _memory(self, access: Callable[[], bytes | None], refused: QueueError) -> bytes:
        """Access memory; without ATS nobody knows whether it or the translation has refused."""
        try:
            return access() or b""
        except ValueError:
            self._count(Stat.DMA_FAULTS, 1)
            raise Stopped(QueueError.BUS if self._ats() else refused) from None

    def message(self, address: int, value: int) -> bool:
        """Write an MSI-X message, untranslated; return whether it arrived."""
        request = Request(device_id=self.device_id, iova=address, write=True)
        response = self._outside.translate(request)
        if response.status is not TranslationStatus.SUCCESS:
            self._count(Stat.DMA_FAULTS, 1)
            return False
        try:
            self._outside.memory.write(response.spa, value.to_bytes(4, "little"))
        except ValueError:
            self._count(Stat.DMA_FAULTS, 1)
            return False
        return True

    def _ask(self, at: AddressType, iova: int, write: bool, refused: QueueError) -> Response:
        request = Request(device_id=self.device_id, iova=iova, at=at, write=write)
        response = self._outside.translate(request)
        if response.status is not TranslationStatus.SUCCESS:
            self._count(Stat.DMA_FAULTS, 1)
            raise Stopped(refused)
        return response

    def _translate(
        self, iova: int, write: bool, refused: QueueError
    ) -> Generator[Parked, PageResponse, int]:
        """Return the SPA of ``iova``, which may have to be waited for."""
        iova &= (1 << 64) - 1
        if not self._ats():
            return self._ask(AddressType.UNTRANSLATED, iova, write, refused).spa
        while True:
            known = self.atc.find(iova, write) if self.atc is not None else None
            if known is not None:
                self._count(Stat.ATC_HITS, 1)
                return self._ask(AddressType.TRANSLATED, known, write, refused).spa
            self._count(Stat.TRANSLATIONS, 1)
            answer = self._ask(AddressType.ATS_REQUEST, iova, write, refused)
            if self.atc is not None:
                self.atc.keep(iova, answer)
            if answer.w if write else answer.r:
                return self._ask(AddressType.TRANSLATED, answer.spa, write, refused).spa
            since = self._outside.now()
            code = yield Parked(self.device_id, iova, write)
            self._count(Stat.PARKED_CYCLES, self._outside.now() - since)
            if code == PageResponse.INVALID:
                self._count(Stat.DMA_FAULTS, 1)
                raise Refused(refused)
            if code != PageResponse.SUCCESS:
                self._count(Stat.DMA_FAULTS, 1)
                raise Stopped(QueueError.PAGE_REQUEST_FAILED)
            self._count(Stat.PAGE_RETRIES, 1)
