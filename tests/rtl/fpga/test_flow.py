"""The ECP5 flow on a small block: cells are counted once, and what is there is kept."""

import json

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.bus.stream import StreamRegister
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


class _Pair(wiring.Component):
    """Two register slices, one behind the other."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = StreamRegister(8)
        m.submodules.back = back = StreamRegister(8)
        connect(m, flipped(self.i), front.i)
        connect(m, front.o, back.i)
        connect(m, back.o, flipped(self.o))
        return m


def test_a_block_is_cut_out_of_the_whole(tmp_path):
    made = synthesize(_Pair(), "pair", tmp_path, levels=1, say=quiet)
    assert list(made.blocks) == ["pair", "pair.back", "pair.front"]
    whole, back, front = (cells["FF"] for cells in made.blocks.values())
    # Two places and whether each holds something; what front hands to back may be named after both.
    assert (whole, back) == (36, 18)
    assert 10 <= front <= 18
    netlist = carve(made, "pair.back", say=quiet)
    cells = json.loads(netlist.read_text())["modules"]["pair.back"]["cells"].values()
    assert sum(cell["type"] == "TRELLIS_FF" for cell in cells) == 18
    assert place(netlist, 1, "LFE5UM5G-85F", say=quiet) > 100


class _Table(wiring.Component):
    """A memory with a write port, or a ROM of rows that are all different."""

    def __init__(self, depth: int, width: int, *, fixed: bool = False):
        self.depth, self.width, self.fixed = depth, width, fixed
        super().__init__(
            {
                "en": In(1),
                "store": In(range(depth)),
                "load": In(range(depth)),
                "stored": In(width),
                "loaded": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        init = [row * row for row in range(self.depth)] if self.fixed else []
        m.submodules.ram = ram = Memory(shape=self.width, depth=self.depth, init=init)
        read = ram.read_port()
        m.d.comb += [read.addr.eq(self.load), self.loaded.eq(read.data)]
        if not self.fixed:
            write = ram.write_port()
            m.d.comb += [
                write.en.eq(self.en),
                write.addr.eq(self.store),
                write.data.eq(self.stored),
            ]
        return m


@pytest.mark.parametrize(
    ("depth", "width", "fixed", "luts", "blocks"),
    [(36, 72, False, 3 * 18, 0), (256, 72, False, 0, 2), (256, 16, True, 0, 0)],
    ids=["shallow", "deep", "rom"],
)
def test_block_rams_are_for_what_is_deep(tmp_path, depth, width, fixed, luts, blocks):
    table = _Table(depth, width, fixed=fixed)
    cells = synthesize(table, "table", tmp_path, levels=1, say=quiet).blocks["table"]
    assert (cells["DPR"], cells["DP16KD"]) == (luts, blocks)


def test_names_are_checked(capsys):
    with pytest.raises(SystemExit):
        main(["--config", "huge"])
    assert "invalid choice: 'huge'" in capsys.readouterr().err
