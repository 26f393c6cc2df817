"""Interrupts of a PF by its pin: golden machine and RTL."""

from cosim.bench.run import run as simulate
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from tests.cosim.interrupt_pin import by_pin
from tests.cosim.platform import run


def check(found):
    first, last = found["levels"]
    assert 6 < first < last - 6
    physical, virtual = found["messages"]
    assert not physical
    assert virtual > 6


def test_golden_machine():
    check(run(by_pin, name="tiny"))


def test_rtl():
    check(simulate(build_system(Settings(config="tiny")), "tests.cosim.tb_interrupt_pin"))
