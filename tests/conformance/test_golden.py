"""The golden IOMMU judged by an independent implementation's vectors."""

from pathlib import Path

import pytest

from cosim.conformance.golden_target import GoldenTarget
from cosim.conformance.main import run_golden
from cosim.conformance.replayer import replay
from cosim.conformance.rows import Mismatch
from cosim.conformance.sync import finish
from cosim.conformance.vectors import VectorFile, find
from models.iommu import Parameters
from models.spec.config import config

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.jsonl.gz"))


def ignore(result):
    """Print nothing."""


def test_subset_has_all_topics_and_both_profiles():
    topics = {path.name.split(".")[0] for path in FILES}
    assert len(topics) == 18
    assert sum(".base." in path.name for path in FILES) == 13
    assert sum(path.stat().st_size for path in FILES) < 200_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_golden_passes_all_and_skips_none(path):
    (result,) = run_golden([VectorFile(path)], ignore)
    assert result.failures == []
    assert not result.skipped
    assert result.passed == len(VectorFile(path)) > 0


def test_configuration_skips_by_capability_and_table_form_alone():
    parameters = Parameters.from_config(config("tiny").iommu)
    results = run_golden(find([HERE]), ignore, parameters)
    assert not [text for result in results for text in result.failures]
    assert sum(result.passed for result in results) > 40
    reasons = {reason for result in results for reason in result.skipped}
    assert "table form: device contexts of 64 bytes" in reasons
    assert "table form: device directory of more than 1 levels" in reasons
    assert "capability PD8: wanted" in reasons
    assert all(reason.startswith(("table form", "capability", "parameter")) for reason in reasons)


class Broken(GoldenTarget):
    """A golden IOMMU with one defect."""

    def __init__(self, defect):
        super().__init__()
        self.defect = defect

    async def translate(self, requests):
        responses = await super().translate(requests)
        return [self.defect(response) for response in responses]


def changed(response, **fields):
    return type(response)(**{**response.__dict__, **fields})


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("first-stage.base", lambda r: changed(r, spa=r.spa ^ 0x1000)),
        ("first-stage.base", lambda r: changed(r, status=r.status.COMPLETER_ABORT)),
        ("first-stage.full", lambda r: changed(r, pbmt=r.pbmt ^ 1)),
        ("ats.full", lambda r: changed(r, r=True, w=True)),
        ("ats.full", lambda r: changed(r, size=1 << 40)),
        ("ats.full", lambda r: changed(r, glob=not r.glob)),
        ("ats.full", lambda r: changed(r, u=not r.u)),
        ("msi-mrif.full", lambda r: changed(r, mrif=None)),
    ],
)
def test_wrong_answers_are_found(name, defect):
    file = VectorFile(HERE / f"{name}.jsonl.gz")
    failed = 0
    for scenario in file:
        try:
            finish(replay(scenario, Broken(defect), file.header.parameters))
        except Mismatch:
            failed += 1
    assert failed


@pytest.mark.parametrize("method", ["write_register", "write_memory", "inject"])
def test_deaf_target_is_found(method):
    """Silence fails: no faults recorded, tables not there, errors not met."""

    class Deaf(GoldenTarget):
        pass

    async def nothing(self, *arguments):
        return None

    setattr(Deaf, method, nothing)
    file = VectorFile(HERE / "fault-queue.full.jsonl.gz")
    failed = 0
    for scenario in file:
        try:
            finish(replay(scenario, Deaf(), file.header.parameters))
        except Mismatch:
            failed += 1
    assert failed
