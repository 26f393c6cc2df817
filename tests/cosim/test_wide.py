"""A PF with 64 VFs: golden machine and RTL."""

import pytest

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from models.spec.config import config
from tests.cosim.platform import run
from tests.cosim.wide import SCENARIOS


@pytest.fixture(scope="module")
def built():
    """It takes minutes."""
    return build(Design("rtl.system:System", (config("wide"),)), "verilator", quick=True)


def check(scenario, found):
    assert found["functions"] == 65
    if scenario == "some":
        assert 4 < found["received"] <= found["sent"]
        assert found["lost"] > 0
    else:
        assert found["frames"] == 6 * 64


@pytest.mark.parametrize("scenario", ["some", pytest.param("crowd", marks=pytest.mark.full)])
def test_golden(scenario):
    check(scenario, run(SCENARIOS[scenario], name="wide"))


@pytest.mark.full
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rtl(built, scenario):
    options = {"seed": 1, "scenario": scenario}
    check(scenario, simulate(built, "tests.cosim.tb_wide", options=options))
