"""What counts as a difference: between answers, and between words of memory."""

from dataclasses import replace

from models.iommu import Response
from models.iommu.records import bits_of, extractor
from models.spec.iommu import Pte
from models.spec.translation import AddressType, TranslationStatus

from .failure import Failure
from .oracle import Judged

__all__ = ["difference", "same_but_dirty", "same_word", "unreadable"]

_NAPOT_LEAF, _LEAF = bits_of(Pte, "n", "v"), bits_of(Pte, "r", "x")
_UPDATED = bits_of(Pte, "a", "d")
_DIRTY = bits_of(Pte, "d")
_PPN, _NAPOT_64K, _NAPOT_MASK = extractor(Pte, "ppn"), 0b1000, 0xF
_NAPOT_LOG2 = 16


def difference(judged: Judged, got: Response) -> Failure | None:
    """Say what is wrong with an answer; ``None`` if nothing is."""
    want, request = judged.response, judged.request
    if got.status != want.status or (
        want.status != TranslationStatus.SUCCESS and got.cause != want.cause
    ):
        had, due = (f"status {int(r.status)} cause {r.cause}" for r in (got, want))
        return Failure(f"{had} for {due}", f"{had}, expected {due}")
    if want.status != TranslationStatus.SUCCESS:
        return None
    if request.at is AddressType.ATS_REQUEST:
        return _completion_difference(judged, got)
    if got.mrif != want.mrif:
        return _other("MRIF", got.mrif, want.mrif)
    if want.mrif is None and got.spa != want.spa:
        return _other("SPA", f"{got.spa:#x}", f"{want.spa:#x}")
    if want.mrif is None and got.pbmt != want.pbmt:
        return _other("PBMT", got.pbmt, want.pbmt)
    return None


def _other(name: str, got: object, want: object) -> Failure:
    return Failure(name, f"{name} is {got}, expected {want}")


def _completion_difference(judged: Judged, got: Response) -> Failure | None:
    want = judged.response
    if not judged.request.write:
        # W need not be granted to who does not ask for it.  A NAPOT page is cached as a whole: D
        # of another of its entries counts.
        napot = _NAPOT_LOG2 in (judged.facts.first, judged.facts.second)
        if want.w and not got.w:
            want = replace(want, w=False)
        elif napot and got.w and not want.w:
            want = replace(want, w=True)
    granted = bool(want.r or want.w)
    for name in ("r", "w", "x", "u", *(("priv", "glob") if granted else ())):
        if bool(getattr(got, name)) != bool(getattr(want, name)):
            return _other(name, getattr(got, name), getattr(want, name))
    if granted and not want.u and got.spa != want.spa:
        return _other("address", f"{got.spa:#x}", f"{want.spa:#x}")
    if granted and not 4096 <= got.size <= want.size:
        return Failure("range", f"range {got.size:#x}, expected at most {want.size:#x}")
    return None


def unreadable(judged: Judged) -> bool:
    """Whether it is an ATS request for writing that is granted nothing."""
    request, want = judged.request, judged.response
    writes = request.at is AddressType.ATS_REQUEST and request.write
    return writes and want.status == TranslationStatus.SUCCESS and not (want.r or want.w)


def same_word(want: int, got: int) -> bool:
    """Whether 64 bits of memory agree, read as little-endian.

    A NAPOT page may be cached as a whole, so which of its 16 entries get A and D is open.
    """
    for order in ("little", "big"):
        first, second = (int.from_bytes(word.to_bytes(8, "little"), order) for word in (want, got))
        if first == second or (_is_napot(first) and not (first ^ second) & ~_UPDATED):
            return True
    return False


def same_but_dirty(want: int, got: int) -> bool:
    """Whether 64 bits of memory, read as little-endian, differ in no more than an entry's D."""
    changed = want ^ got
    return changed in (_DIRTY, int.from_bytes(_DIRTY.to_bytes(8, "little"), "big"), _DIRTY << 32)


def _is_napot(pte: int) -> bool:
    size = _PPN(pte) & _NAPOT_MASK
    return pte & _NAPOT_LEAF == _NAPOT_LEAF and bool(pte & _LEAF) and size == _NAPOT_64K
