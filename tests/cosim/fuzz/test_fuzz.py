"""The fuzzer itself: golden model against golden model, with planted defects."""

import json
from pathlib import Path

import pytest

from cosim.cli import main
from cosim.conformance.rows import Mismatch
from cosim.conformance.sync import finish
from cosim.fuzz.configurations import configurations
from cosim.fuzz.failure import Failure
from cosim.fuzz.generator import generate
from cosim.fuzz.lockstep import Lockstep
from cosim.fuzz.main import play_on_golden, shrink_on_golden
from cosim.fuzz.scenario import Scenario
from cosim.fuzz.statistics import Statistics
from models.iommu import Parameters
from models.spec.config import CAPABILITY_BITS, config
from tests.cosim.fuzz.mutants import MUTANTS, Caching, Mutant

FULL = config("full").iommu
#: Defects that take long to find.
RARE = {
    "PBMT 3 is taken",
    "SXL limits nothing",
    "reserved bits of contexts are taken",
    "ranges with interrupt files",
}


def mismatch(scenario, make, statistics=None) -> Failure | None:
    implementation = make(Parameters.from_config(scenario.config))
    try:
        finish(Lockstep(implementation, statistics or Statistics()).play(scenario))
    except Mismatch as found:
        return Failure.of(found)
    return None


@pytest.mark.parametrize("name", configurations())
def test_golden_agrees_with_itself_in_every_configuration(name):
    statistics = Statistics()
    for number in range(2):
        scenario = generate(configurations()[name], f"self/{name}/{number}", 300)
        assert play_on_golden(scenario, statistics) is None
    assert statistics.fault_share > 0.05
    assert statistics.translations >= 600


def test_scenarios_are_replayable(tmp_path):
    scenario = generate(FULL, "again", 200)
    assert scenario == generate(FULL, "again", 200)
    scenario.save(tmp_path / "scenario.json")
    assert Scenario.load(tmp_path / "scenario.json") == scenario


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.full if n in RARE else ()) for n in MUTANTS],
)
def test_defect_is_found(name):
    for number in range(80):
        scenario = generate(FULL, f"mutants/{number}", 300)
        if mismatch(scenario, lambda parameters: Mutant(parameters, MUTANTS[name])):
            return
    pytest.fail(f"not found: {name}")


@pytest.mark.parametrize(
    "deaf",
    [
        "IOTINVAL.VMA",
        "IODIR.INVAL_DDT",
        *(pytest.param(n, marks=pytest.mark.full) for n in ("IOTINVAL.GVMA", "IODIR.INVAL_PDT")),
    ],
)
def test_forgotten_invalidation_is_found(deaf):
    statistics, parameters = Statistics(), Parameters.from_config(FULL)
    while statistics.translations < 20_000:
        scenario = generate(FULL, f"deaf/{statistics.scenarios}", 600)
        if mismatch(scenario, lambda parameters: Caching(parameters, deaf), statistics):
            good = Caching(parameters)
            assert mismatch(scenario, lambda parameters, good=good: good) is None
            assert good.hits
            print(f"{deaf} ignored: found after {statistics.translations} translations")
            return
        statistics.scenarios += 1
    pytest.fail(f"not found: {deaf} ignored")


def test_failures_shrink_to_a_few_steps():
    plant = MUTANTS["reserved bits of PTEs are taken"]

    def play(scenario):
        return mismatch(scenario, lambda parameters: Mutant(parameters, plant))

    scenario = next(s for s in (generate(FULL, f"shrink/{n}", 300) for n in range(20)) if play(s))
    small = shrink_on_golden(scenario, play, 60)
    assert play(small)
    assert small.translations == 1
    assert len(small.steps) <= 6
    assert len(small.memory) <= 24 + 15  # a page of 64 KiB is 16 of them


def test_command_reports_shares_and_figures(tmp_path, capsys):
    figures = tmp_path / "figures.json"
    arguments = ["fuzz", "iommu", "--target", "golden", "--config", "full,tiny"]
    assert main([*arguments, "--translations", "6000", "--json", str(figures)]) == 0
    text = capsys.readouterr().out
    assert "faulted" in text
    assert "IODIR.INVAL_PDT" in text
    assert json.loads(figures.read_text())["translations"] >= 6000


def test_command_says_what_makes_no_sense(capsys, tmp_path):
    for arguments in (["--config", "none"], ["--target", "none"], ["--translations", "0"],
                      ["--replay", str(tmp_path / "none.json")]):  # fmt: skip
        assert main(["fuzz", "iommu", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "wrong.json").write_text("{}")
    assert main(["fuzz", "iommu", "--replay", str(Path(tmp_path / "wrong.json"))]) == 2


def test_every_capability_is_left_out_somewhere():
    for name in CAPABILITY_BITS:
        there = [getattr(rtl, name) for rtl in configurations().values()]
        assert 0 < sum(there) < len(there), name
