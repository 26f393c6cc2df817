"""Sparse memory: the same on both simulators."""

import pytest

from cosim.bench.build import Design, build
from cosim.bench.run import run

DESIGN = Design("tests.cosim.bench.passage:Passage")
MODULE = "tests.cosim.bench.tb_sparse"


@pytest.fixture(scope="module")
def verilator() -> dict:
    return run(build(DESIGN), MODULE, options={"seed": 1})


def test_simulators_agree(verilator):
    assert run(build(DESIGN, "icarus"), MODULE, options={"seed": 1}) == verilator
    assert verilator["cycle"] > 1000


@pytest.mark.parametrize("seed", [2, 3])
def test_other_seeds(verilator, seed):
    run(build(DESIGN), MODULE, options={"seed": seed}, test="agrees_with_a_model")
