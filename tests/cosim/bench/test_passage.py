"""Buses, memory, registers: the same on both simulators; and what a failing run says."""

import pytest

from cosim.bench.build import Design, build
from cosim.bench.run import SimulationError, run

DESIGN = Design("tests.cosim.bench.passage:Passage")
MODULE = "tests.cosim.bench.tb_passage"


@pytest.fixture(scope="module")
def verilator() -> dict:
    return run(build(DESIGN), MODULE, options={"seed": 1})


def test_simulators_agree(verilator):
    icarus = run(build(DESIGN, "icarus"), MODULE, options={"seed": 1})
    same = ("digest", "cycle")
    assert [icarus[name] for name in same] == [verilator[name] for name in same]
    assert verilator["cycle"] > 1000


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_seeds(verilator, seed):
    run(build(DESIGN), MODULE, options={"seed": seed}, test="random_bursts")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hang", "No end after 150000 cycles"),
        ("unanswered_register", "regs: no answer to an access at 0xfc"),
        ("posted_error", "Register write at 0x80 was answered 2"),
        ("wrong_last", "fastmem: cycle [0-9]+: WLAST does not agree with AWLEN"),
        ("wrong_strobe", "write strobe outside of the transfer's bytes"),
        ("too_long", "burst crosses 4 KiB"),
    ],
)
def test_failure_is_named(verilator, name, message):
    with pytest.raises(SimulationError, match=message) as caught:
        run(
            build(DESIGN), "tests.cosim.bench.tb_failing", test=name, cycles=150_000,
            quiet=True, seed=77,
        )  # fmt: skip
    assert "seed 77" in str(caught.value)


def test_results_are_kept_as_junit(verilator, tmp_path):
    path = tmp_path / "results.xml"
    run(build(DESIGN), MODULE, options={"seed": 1}, test="errors_by_address", junit=path)
    assert 'name="errors_by_address"' in path.read_text(encoding="utf-8")
