"""Quick forms of proofs as tests: the smallest always, the others in `make test-full`."""

from pathlib import Path

import pytest

from .__main__ import check
from .prover import emit
from .registry import PROOFS

SMALLEST = ("stream-register", "round-robin", "stream-arbiter")


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param(proof, id=proof.name, marks=[] if proof.name in SMALLEST else pytest.mark.full)
        for proof in PROOFS
        if proof.quick
    ],
)
def test_proof_holds_and_finds_its_planted_bugs(proof):
    wrong = check([proof], quick=True)
    assert not wrong, "\n".join(wrong)


def test_every_proof_says_what_it_covers_and_has_a_bug():
    for proof in PROOFS:
        assert proof.covers, proof.name
        assert proof.plants, proof.name


@pytest.mark.parametrize(
    "proof", [pytest.param(proof, id=proof.name) for proof in PROOFS if not proof.quick]
)
def test_proof_that_is_not_quick_has_a_harness(proof):
    """It fits the RTL as it is; whether it holds takes longer than tests may."""
    sound = emit(proof.make())
    for plant in proof.plants:
        assert emit(proof.make(plant)) != sound


def test_page_of_proofs_names_every_proof():
    page = (Path(__file__).parents[2] / "docs/proofs.md").read_text(encoding="utf-8")
    for proof in PROOFS:
        assert f"`{proof.name}`" in page, proof.name
