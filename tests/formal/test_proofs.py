"""Quick forms of proofs as tests: the smallest always, the others in `make test-full`."""

from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .__main__ import check
from .fixed import fixed_inputs
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


class _Block(wiring.Component):
    """Inputs of every kind."""

    pair: In(data.StructLayout({"low": 4, "high": 4}))
    level: In(3)
    enable: In(1)
    silent: In(stream.Signature(8))
    heard: In(stream.Signature(8))
    answer: Out(stream.Signature(8))

    def elaborate(self, platform):
        return Module()


def test_inputs_that_a_harness_holds_fixed_are_listed():
    m, block, anything = Module(), _Block(), Signal(4)
    m.submodules.block = block
    m.d.comb += [
        block.pair.eq(anything),
        block.pair.high.eq(-1),  # whatever was said before
        block.enable.eq(0),
        block.heard.valid.eq(anything[0]),
        block.answer.ready.eq(1),
    ]
    with m.If(anything[1]):
        m.d.comb += block.enable.eq(1)
    assert fixed_inputs(m) == {
        "pair.high": 15,
        "level": 0,
        "silent.valid": 0,
        "heard.payload": 0,
        "answer.ready": 1,
    }
    emit((m, [anything]))  # a module that nobody elaborates warns
