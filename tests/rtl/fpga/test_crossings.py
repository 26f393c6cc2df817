"""No combinational path of the design goes through more than one block."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from models.spec.config import config
from rtl.bus.stream import StreamStage
from rtl.fpga.crossings import Crossing, blocks_of, crossings, elaborate
from rtl.system import System

STREAM = stream.Signature(8)


class Block(wiring.Component):
    """Adds a register to what passes."""

    i: In(STREAM)
    o: Out(STREAM)

    def elaborate(self, platform):
        m = Module()
        own = Signal(8)
        m.d.sync += own.eq(self.i.payload)
        m.d.comb += [
            self.o.payload.eq(self.i.payload + own),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
        ]
        return m


class Line(wiring.Component):
    """Blocks in a row, slices at some of their outputs."""

    i: In(STREAM)
    o: Out(STREAM)

    def __init__(self, *sliced):
        self.sliced = sliced
        super().__init__()

    def elaborate(self, platform):
        m, source = Module(), flipped(self.i)
        for name in "abcd":
            m.submodules[name] = block = Block()
            connect(m, source, block.i)
            source = block.o
            if name in self.sliced:
                m.submodules[f"behind_{name}"] = slice_ = StreamStage(8)
                connect(m, source, slice_.i)
                source = slice_.o
        connect(m, source, flipped(self.o))
        return m


def found(tmp_path, line) -> list[Crossing]:
    flat = elaborate(line, "line", tmp_path, say=lambda text: None)
    return crossings(flat, "line", blocks_of(line))[0]


def test_paths_through_two_blocks_are_found(tmp_path):
    assert found(tmp_path, Line()) == [Crossing(blocks=("a", "b", "c", "d"), ends=8)]


def test_paths_may_begin_or_end_between_blocks(tmp_path):
    assert found(tmp_path, Line("a")) == [Crossing(blocks=("-", "b", "c", "d"), ends=8)]
    assert found(tmp_path, Line("c"))[0].blocks == ("a", "b", "c", "-")


def test_slices_end_paths_and_are_no_blocks(tmp_path):
    assert blocks_of(Line("b")) == set("abcd")
    assert found(tmp_path, Line("b")) == []


def test_the_system_has_none(tmp_path):
    system = System(config("tiny"))
    flat = elaborate(system, "system", tmp_path, say=lambda text: None)
    assert crossings(flat, "system", blocks_of(system))[0] == []
