"""Sites of the device that cells take."""

import pytest

from rtl.fpga.sites import SITES, describe_sites, fits, sites_of

#: What yosys has counted of a system, and nextpnr of the same netlist:
#: 61,109 logic LUTs, 7,784 of carries, 17,356 of RAMs and 8,678 beside them; 162 block RAMs.
CELLS = {"LUT4": 61_852, "CCU2C": 3_899, "DPR": 4_386, "DP16KD": 162, "MULT18X18D": 1}
PLACED = 61_109 + 7_784 + 17_356 + 8_678


def test_sites_are_those_that_nextpnr_counts():
    assert sites_of(CELLS)["LUT"] == pytest.approx(PLACED, rel=0.015)
    assert sites_of(CELLS)["DP16KD"] == 162


def test_what_is_too_large_does_not_fit():
    assert not fits(CELLS)
    assert fits({**CELLS, "DPR": 2_000})
    assert not fits({**CELLS, "DPR": 2_000, "DP16KD": SITES["DP16KD"] + 1})


def test_shares_are_shown():
    assert "95,966 of 83,640 LUT (115%)" in describe_sites(CELLS)
