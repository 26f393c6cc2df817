"""Interrupts that a hostile driver wants and does not have, or has and does not want."""

from collections import Counter

import pytest

from cosim.guest.features import KNOWN_FEATURES
from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.interrupts import EVERY, NONE
from cosim.nic_fuzz.play import compared
from cosim.nic_fuzz.world import HOSTILE
from cosim.nic_fuzz.wrong import Wrong
from models.nic.function import Function
from models.nic.packed_ring import PackedRing
from models.nic.split_ring import SplitRing
from models.spec.nic import Isr
from models.spec.virtio import Feature
from tests.cosim.nic_fuzz.test_sessions import golden

PACKED, EVENT_IDX = 1 << Feature.RING_PACKED, 1 << Feature.RING_EVENT_IDX
#: Features that are refused.
FORMATS = {
    "packed": 0,
    "packed without index": EVENT_IDX,
    "split": PACKED,
    "split without index": PACKED | EVENT_IDX,
}
CHAIN = {"table": 0, "odd": 0, "flags": 0, "pieces": [[0, 100, 0, None, None]],
         "head": bytes(12).hex(), "seed": 1}  # fmt: skip


def sending(refused, *wishes, chains=3):
    """A session that sends so many frames with each of some wishes."""
    session = generate("interrupts", steps=1, sizes=(8,))
    features = KNOWN_FEATURES & ~(1 << Feature.IN_ORDER) & ~refused
    session.driver = {"features": features, "size": 8, "pairs": 1}
    session.paging = {}
    session.steps = [["post", 1, 0, [CHAIN] * chains, [], wish] for wish in wishes]
    return session


def told(refused, *wishes, **options):
    """Whether there were interrupts of the transmit queue, for each wish."""
    found = golden(sending(refused, *wishes, **options))
    assert all(len(one["interrupts"]) <= 1 for one in found)
    return [one["interrupts"] == [1] for one in found]


@pytest.mark.parametrize("name", FORMATS)
def test_a_driver_has_what_it_asks_for(name):
    index = not FORMATS[name] & EVENT_IDX
    wishes = (EVERY, NONE, 0, 2, 3, NONE, EVERY)
    expected = [True, False, True, True, not index, False, True]
    assert told(FORMATS[name], *wishes) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupt_that_is_lost_is_noticed(monkeypatch, name):
    interrupt, count = Function.interrupt, Counter()

    def lose(self, vector, cause):
        count[self.number, cause] += 1
        if self.number != HOSTILE or cause is not Isr.QUEUE or count[HOSTILE, cause] != 2:
            interrupt(self, vector, cause)

    session = sending(FORMATS[name], 0, 1, 0, chains=1)
    golden(session)
    session.steps[1][-1] = 0
    monkeypatch.setattr(Function, "interrupt", lose)
    with pytest.raises(Wrong, match=r"step 1 .*vector 1: 0, not 1"):
        golden(session)


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupt_that_is_not_wanted_is_noticed(monkeypatch, name):
    kind = SplitRing if FORMATS[name] & PACKED else PackedRing
    give_back = kind.give_back

    def always(self, used):
        yield from give_back(self, used)
        return True

    session = sending(FORMATS[name], EVERY, NONE)
    golden(session)
    monkeypatch.setattr(kind, "give_back", always)
    with pytest.raises(Wrong, match=r"vector 1: 3, not (0 to 0|1 to 1)"):
        golden(session)


def test_a_configuration_change_that_is_lost_is_noticed(monkeypatch):
    session = sending(0)
    session.steps = [["way", "packed-empty-table"]]
    assert golden(session)[0]["needs reset"]
    monkeypatch.setattr(Function, "config_interrupt", lambda self: None)
    with pytest.raises(Wrong, match="0 configuration changes, not 1"):
        golden(session)


def test_interrupts_that_differ_are_found():
    session = sending(0, EVERY)
    found = golden(session)
    difference = compared(session, found, [found[0] | {"interrupts": []}])
    assert difference is not None
    assert difference.kind == "post interrupts"
