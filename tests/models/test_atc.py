"""The rules of ATS: what may be used, until when; and the golden NIC's cache."""

import pytest

from models.iommu.records import Response
from models.nic.atc import Atc, AtcRules, NotGranted, invalidated_pages
from models.spec.iommu import InvalidationPayload
from models.spec.translation import TranslationStatus

BOTH = Response(spa=0x9000, r=True, w=True)
READ = Response(spa=0x9000, r=True)


def payload(page, several=0):
    return InvalidationPayload.const({"address": page, "s": several}).as_bits()


@pytest.mark.parametrize(
    ("page", "several", "expected"),
    [
        (0x123, 0, range(0x123, 0x124)),
        (0x122, 1, range(0x122, 0x124)),
        (0x121, 1, range(0x120, 0x124)),
        (0x123, 1, range(0x120, 0x128)),
        (0xFF, 1, range(0x200)),
        ((1 << 51) - 1, 1, range(1 << 52)),
        ((1 << 52) - 1, 1, range(1 << 52)),
    ],
)
def test_ranges_of_invalidations(page, several, expected):
    assert invalidated_pages(payload(page, several)) == expected


def granted(response=BOTH, page=5):
    rules = AtcRules()
    rules.ask(1, 8, page << 12)
    rules.answer(1, response)
    return rules


def test_a_grant_is_of_one_device_with_its_rights():
    rules = granted(READ)
    rules.begin("a", 8, 0x9008, False)
    for device, spa, write in ((8, 0x9008, True), (9, 0x9008, False), (8, 0xA000, False)):
        with pytest.raises(NotGranted):
            rules.begin("b", device, spa, write)
    assert rules.judged == 1


def test_a_grant_is_of_its_whole_range_but_for_what_was_taken_back():
    rules = granted(Response(spa=0x40_5000, r=True, size=1 << 21))
    rules.begin("a", 8, 0x41_0000, False)
    rules.end("a")
    rules.invalidation(8, 3, payload(0x10))
    rules.completion(8, 3)
    rules.begin("b", 8, 0x41_1000, False)
    with pytest.raises(NotGranted):
        rules.begin("c", 8, 0x41_0000, False)


def test_nothing_is_used_after_the_completion():
    rules = granted()
    rules.begin("a", 8, 0x9000, True)
    rules.invalidation(8, 3, payload(5))
    rules.begin("b", 8, 0x9000, True)  # not yet
    rules.end("a")
    with pytest.raises(NotGranted, match="still in use"):
        rules.completion(8, 3)
    rules.end("b")
    with pytest.raises(NotGranted, match="is used"):
        rules.begin("c", 8, 0x9000, True)


def test_what_was_asked_for_before_is_as_old_as_that():
    rules = AtcRules()
    rules.ask(1, 8, 0x5000)
    rules.invalidation(8, 3, payload(5))
    rules.ask(2, 8, 0x5000)
    rules.answer(1, BOTH)
    rules.completion(8, 3)
    with pytest.raises(NotGranted):
        rules.begin("a", 8, 0x9000, False)
    rules.answer(2, BOTH)
    rules.begin("b", 8, 0x9000, False)
    rules.drop(8)
    with pytest.raises(NotGranted):
        rules.begin("c", 8, 0x9000, False)


@pytest.mark.parametrize(
    "response",
    [Response(), Response(status=TranslationStatus.UNSUPPORTED_REQUEST, r=True), None],
)
def test_what_the_golden_nic_does_not_keep(response):
    atc = Atc()
    atc.keep(0x5000, response or Response(r=True, w=True, u=True))
    assert atc.find(0x5000, False) is None


def test_what_the_golden_nic_keeps():
    atc = Atc()
    atc.keep(0x5000, READ)
    assert (atc.find(0x5123, False), atc.find(0x5123, True)) == (0x9123, None)
    atc.keep(0x5000, BOTH)
    assert atc.find(0x5123, True) == 0x9123
    atc.forget(range(6, 9))
    assert atc.find(0x5123, True) == 0x9123
    atc.forget(range(4, 6))
    assert atc.find(0x5123, False) is None
    atc.keep(0x5000, BOTH)
    atc.drop()
    assert atc.find(0x5123, False) is None
