"""The ECP5 flow on a small block: cells are counted once, and what is there is kept."""

import pytest

from rtl.fpga.flow import CELLS, carve, place, synthesize
from rtl.fpga.synth import main
from rtl.iommu.slots import SlotTable

pytestmark = pytest.mark.full


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    table = SlotTable(slots=2, id_width=2)
    return synthesize(table, "slots", tmp_path_factory.mktemp("synth"), levels=1, say=quiet)


def test_cells_are_counted(made):
    assert set(made.blocks) == {"slots"}
    assert set(made.blocks["slots"]) == set(CELLS)
    # live, issued, follows, youngest, an ID and an earlier slot for each of two.
    assert made.blocks["slots"]["FF"] == 2 * (4 + 2 + 1)
    assert made.blocks["slots"]["LUT4"] > 10


def test_a_run_goes_on_where_it_was(made):
    netlist = carve(made, "slots", say=quiet)
    mhz = place(netlist, 1, "LFE5U-85F", say=quiet)
    assert mhz > 50
    before = {path: path.stat().st_mtime for path in netlist.parent.iterdir()}
    table = SlotTable(slots=2, id_width=2)
    again = synthesize(table, "slots", netlist.parent, levels=1, say=quiet)
    assert again == made
    assert place(carve(again, "slots", say=quiet), 1, "LFE5U-85F", say=quiet) == mhz
    assert {path: path.stat().st_mtime for path in netlist.parent.iterdir()} == before


def test_names_are_checked(capsys):
    with pytest.raises(SystemExit):
        main(["--config", "huge"])
    assert "invalid choice: 'huge'" in capsys.readouterr().err
