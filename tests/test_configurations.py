"""Every named configuration is hardware that elaborates."""

import pytest
from amaranth.back import rtlil

from models.spec.config import CONFIGS, config
from rtl.system import System

#: They take half a minute and more.
LARGE = ("full", "wide", "hyper")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.full if n in LARGE else ()) for n in CONFIGS]
)
def test_it_elaborates(name):
    text = rtlil.convert(System(config(name)))
    assert "module \\top" in text
