"""Translations that a function keeps, and how long it may (PCIe Base 6.0, 10.2 and 10.3).

:class:`Atc` is the golden NIC's.  :class:`AtcRules` judges another's from what crosses its ports:
it knows what has been granted and taken back, and not what is cached.
"""

from dataclasses import dataclass, field

from models.iommu.records import Response
from models.spec.iommu import PAGE_SHIFT, InvalidationPayload
from models.spec.translation import TranslationStatus

__all__ = ["Atc", "AtcRules", "NotGranted", "invalidated_pages"]

_ALL_PAGES = 1 << 64 - PAGE_SHIFT


def invalidated_pages(payload: int) -> range:
    """Pages that an Invalidate Request Message is about (10.3.1, 10.2.3.2).

    With S the lowest zero of the address tells the size: that bit and the ones below it are not
    part of the address, so none is a range of two pages.
    """
    fields = InvalidationPayload.from_bits(payload)
    if not fields.s:
        return range(fields.address, fields.address + 1)
    size = 2
    while fields.address & (size >> 1) and size < _ALL_PAGES:
        size *= 2
    first = fields.address - fields.address % size
    return range(first, first + size)


@dataclass
class _Grant:
    """A completion: a range of pages and what they are translated to."""

    device_id: int
    pages: range
    target: int  # page number that the first is translated to
    r: bool
    w: bool
    asked: int  # when
    revoked: list[range] = field(default_factory=list)

    @classmethod
    def of(cls, device_id: int, iova: int, response: Response, asked: int) -> "_Grant":
        """Make one of an answer, which is about all of its aligned range."""
        size = response.size >> PAGE_SHIFT
        page, spa = iova >> PAGE_SHIFT, response.spa >> PAGE_SHIFT
        first = page - page % size
        return cls(
            device_id, range(first, first + size), spa - spa % size, response.r, response.w, asked
        )

    def target_of(self, page: int, write: bool) -> int | None:
        """Return the page that one is translated to, if it may be used so."""
        if page not in self.pages or not (self.w if write else self.r):
            return None
        if any(page in gone for gone in self.revoked):
            return None
        return self.target + page - self.pages.start

    def allows(self, target: int, write: bool) -> bool:
        """Whether a translated page may be used."""
        page = self.pages.start + target - self.target
        return self.target_of(page, write) == target


def _revoke(grants: list[_Grant], pages: range) -> list[_Grant]:
    """Return what is left of grants when pages are taken out of them."""
    left = []
    for grant in grants:
        if pages.start <= grant.pages.start and grant.pages.stop <= pages.stop:
            continue
        if pages.start < grant.pages.stop and grant.pages.start < pages.stop:
            grant.revoked.append(pages)
        left.append(grant)
    return left


def _is_grant(response: Response) -> bool:
    """Whether there is something to keep: not a failure, and not without any right (10.2.3)."""
    return response.status is TranslationStatus.SUCCESS and (response.r or response.w)


class Atc:
    """Translations of one function, as many as there are."""

    def __init__(self) -> None:
        self._grants: list[_Grant] = []

    def find(self, iova: int, write: bool) -> int | None:
        """Return the SPA of an IOVA if it is known and may be used so."""
        for grant in reversed(self._grants):
            target = grant.target_of(iova >> PAGE_SHIFT, write)
            if target is not None:
                return target << PAGE_SHIFT | iova % (1 << PAGE_SHIFT)
        return None

    def keep(self, iova: int, response: Response) -> None:
        """Take an answer in, unless accesses are to stay untranslated (U, 10.2.3.5)."""
        if _is_grant(response) and not response.u:
            self._grants.append(_Grant.of(0, iova, response, 0))

    def forget(self, pages: range) -> None:
        """Invalidate a range."""
        self._grants = _revoke(self._grants, pages)

    def drop(self) -> None:
        """Forget everything: ATS was turned off, or the function reset (10.5.1.3, 6.6.2)."""
        self._grants.clear()


class NotGranted(AssertionError):
    """A translation was used that nobody had given, or that had been taken back."""


class AtcRules:
    """What devices with ATS may access by translated address.

    A completion may be used until an Invalidate Completion was sent for a request that came after
    it had been asked for and that is about its range.  Accesses that use it have ended by then.
    """

    def __init__(self) -> None:
        self._now = 0
        self._asks: dict[int, tuple[int, int, int]] = {}
        self._grants: list[_Grant] = []
        self._requests: dict[tuple[int, int], tuple[range, int]] = {}
        self._accesses: dict[object, tuple[int, int, bool]] = {}
        #: Accesses judged.
        self.judged = 0

    def ask(self, tag: int, device_id: int, iova: int) -> None:
        """A translation request left."""
        self._now += 1
        self._asks[tag] = device_id, iova, self._now

    def answer(self, tag: int, response: Response) -> None:
        """Its completion came."""
        device_id, iova, asked = self._asks.pop(tag)
        if _is_grant(response):
            self._grants.append(_Grant.of(device_id, iova, response, asked))

    def invalidation(self, device_id: int, itag: int, payload: int) -> None:
        """An Invalidate Request came."""
        self._now += 1
        self._requests[device_id, itag] = invalidated_pages(payload), self._now

    def completion(self, device_id: int, itag: int) -> None:
        """Its Invalidate Completion left; ``NotGranted`` if something older is still in use."""
        pages, came = self._requests.pop((device_id, itag))
        self._revoke(device_id, pages, came)
        for access in self._accesses.values():
            self._judge(*access, "is still in use")

    def drop(self, device_id: int) -> None:
        """The function was reset, or its ATS turned off."""
        self._now += 1
        self._revoke(device_id, range(_ALL_PAGES), self._now)

    def begin(self, key: object, device_id: int, spa: int, write: bool) -> None:
        """A translated access begins; ``NotGranted`` if it may not."""
        access = device_id, spa >> PAGE_SHIFT, write
        self._judge(*access, "is used")
        self._accesses[key] = access
        self.judged += 1

    def end(self, key: object) -> None:
        """It has ended."""
        del self._accesses[key]

    def _revoke(self, device_id: int, pages: range, before: int) -> None:
        older = [g for g in self._grants if g.device_id == device_id and g.asked < before]
        others = [g for g in self._grants if g.device_id != device_id or g.asked >= before]
        self._grants = others + _revoke(older, pages)

    def _judge(self, device_id: int, target: int, write: bool, what: str) -> None:
        if not any(
            grant.device_id == device_id and grant.allows(target, write) for grant in self._grants
        ):
            right = "write" if write else "read"
            raise NotGranted(
                f"{target << PAGE_SHIFT:#x} {what} by device {device_id} without a grant to {right}"
            )
