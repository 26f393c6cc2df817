"""What the fuzzer of the NIC notices of counters of queues."""

import pytest

from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.play import compared
from cosim.nic_fuzz.wrong import Wrong
from models.nic.management import ManagedFunction
from models.spec.nic import Stat
from tests.cosim.nic_fuzz.test_sessions import SIZES, golden


def test_what_no_queue_has_counted_is_noticed(monkeypatch):
    count = ManagedFunction.count

    def forgetful(self, stat, amount=1, *, queue=None):
        count(self, stat, amount, queue=None if stat is Stat.RX_BYTES else queue)

    monkeypatch.setattr(ManagedFunction, "count", forgetful)
    with pytest.raises(Wrong, match=r"RX_BYTES .* of queues"):
        golden(generate("3/0", steps=1, sizes=SIZES))


def test_what_is_counted_for_another_queue_is_found(monkeypatch):
    session, count = generate("2/0", steps=8, sizes=SIZES), ManagedFunction.count
    right = golden(session)

    def other(self, stat, amount=1, *, queue: int | None = None):
        if queue is not None and stat is Stat.TX_DROPPED:
            queue ^= 2
        count(self, stat, amount, queue=queue)

    monkeypatch.setattr(ManagedFunction, "count", other)
    found = compared(session, right, golden(session))
    assert found is not None
    assert found.kind.endswith("queue counters")
