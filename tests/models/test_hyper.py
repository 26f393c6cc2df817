"""The event model of the hyper-tenant curve against what can be worked out by hand."""

import pytest

from models.timing.hyper import LINK, VARIANTS, Traffic, closed_form, share


def test_published_constants():
    assert LINK.packet_ns == pytest.approx(61.68)
    assert closed_form(24) == pytest.approx(0.0098, abs=1e-4)
    assert closed_form(15) == pytest.approx(0.0125, abs=1e-4)
    assert 102 < 1 / closed_form(24) < 103


def test_serial_model_is_the_closed_form_when_all_miss():
    found = share("serial", Traffic(tenants=512))
    # The RTL's step takes three cycles more than the memory.
    assert found == pytest.approx(closed_form(24, extra=3), rel=0.02)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_many_walks_fill_the_link(variant):
    assert share(variant, Traffic(tenants=1024)) >= 0.95


def test_a_small_window_does_not():
    few = share("parallel", Traffic(tenants=1024, window=16))
    assert few < 0.6
