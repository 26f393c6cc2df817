"""Sessions over a pager that evicts at random: the same comes of them, and all books balance."""

from collections import Counter
from dataclasses import replace

import pytest

from cosim.bench.run import run as simulate
from cosim.guest.features import KNOWN_FEATURES
from cosim.hypervisor.paging.second_stage import SecondStage
from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.main import fuzz_nic
from cosim.nic_fuzz.play import compared
from cosim.nic_fuzz.wrong import Wrong
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.nic.dma import Dma
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.nic_fuzz.test_sessions import SIZES, golden


def paged(name, *, steps, hostile):
    """A session over a pager with few frames."""
    setup = {"frames": 64, "compression": 1, "sharing": 1 - hostile, "hostile": hostile}
    session = generate(name, steps=steps, sizes=SIZES)
    return replace(session, ats=True, paging={**setup, "pause": 1000})


@pytest.mark.parametrize("hostile", [pytest.param(0, marks=pytest.mark.full), 1])
def test_what_comes_of_a_session_does_not_depend_on_the_pager(hostile):
    session, counts = paged("9/1", steps=4, hostile=hostile), Counter()
    found = golden(session, counts=counts)
    assert compared(session, golden(replace(session, paging={})), found) is None
    assert counts["paging evictions"] > 20
    assert counts["paging retries"] > 5


def test_a_pager_that_forgets_no_translation_is_noticed(monkeypatch):
    async def forget(self, pages):
        pass

    monkeypatch.setattr(SecondStage, "forget", forget)
    with pytest.raises(Wrong):
        golden(paged("9/1", steps=4, hostile=0))


def test_a_retry_that_is_counted_twice_is_noticed(monkeypatch):
    made = Dma.__init__

    def generous(self, surroundings, device_id, ats, count, *more):
        made(
            self,
            surroundings,
            device_id,
            ats,
            lambda stat, amount: count(stat, amount + (stat is Stat.PAGE_RETRIES)),
            *more,
        )

    monkeypatch.setattr(Dma, "__init__", generous)
    with pytest.raises(Wrong, match="retries"):
        golden(paged("9/1", steps=1, hostile=0))


def test_some_sessions_have_a_pager_of_every_kind():
    sessions = [generate(f"1/{number}", steps=1, sizes=SIZES) for number in range(120)]
    found = [session.paging for session in sessions if session.paging]
    assert 20 < len(found) < 60
    for name in ("compression", "sharing", "hostile"):
        assert {setup[name] for setup in found} == {0, 1}
    assert not any(setup["sharing"] and setup["hostile"] for setup in found)


def test_a_short_session_on_the_rtl(tmp_path):
    """On the NIC of ``tiny`` as it is, without features that most steps need."""
    session = paged("8/1", steps=40, hostile=1)
    features = KNOWN_FEATURES & ~(1 << Feature.RING_PACKED)
    session.driver = {"features": features, "size": 64, "pairs": 1}
    session.steps = [step for step in session.steps if step[0] in ("post", "reset", "evict")][:3]
    session.save(tmp_path / "session.json")
    options = {"files": [str(tmp_path / "session.json")]}
    built = build_system(Settings(config="tiny"))
    found = simulate(built, "cosim.nic_fuzz.rtl_bench", options=options)
    assert (found["failure"], found["sessions"]) == ("", 1)
    assert found["counts"]["paging evictions"] > 50
    assert found["counts"]["paging retries"] > 10


@pytest.mark.full
def test_rtl_and_golden_machine_agree(tmp_path):
    found = fuzz_nic(
        name="tiny", sessions=6, seed=7, paged=True, folder=tmp_path, progress=False
    )  # fmt: skip
    assert found["failures"] == []
    assert found["paging"]["evictions"] > 500
    assert found["paging"]["retries"] > 100
