"""Receive queue pairs that a driver takes out of use: nothing comes by them any more."""

from cosim.bench.run import run as simulate
from cosim.guest.features import KNOWN_FEATURES
from tests.cosim.closing import COSTS, closing
from tests.cosim.features_world import RECEIVING, receiving_rtl
from tests.cosim.platform import run


def test_golden_machine():
    found = run(
        lambda platform: closing(platform, KNOWN_FEATURES),
        name="tiny",
        nic=RECEIVING,
        costs=COSTS,
    )
    assert min(found["counts"]) > 60


def test_rtl():
    options = {"seed": 1, "features": KNOWN_FEATURES}
    assert min(simulate(receiving_rtl(), "tests.cosim.tb_closing", options=options)["counts"]) > 60
