"""Longest paths of a netlist before it is placed, and which blocks they cross.

A few seconds of estimate in place of minutes of placement: cells have the delays of an
LFE5UM5G-85F of speed 8, and each net one that grows with its fan-out, as nextpnr's do on the
average.  What placement makes of a path differs from that by a third either way; which paths are
long, and where they could be cut, does not.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Group", "Netlist", "describe"]

#: Nanoseconds from a clock edge to an output, by kind of cell.
_BEGIN = {"TRELLIS_FF": 0.31, "DP16KD": 3.4, "MULT18X18D": 2.0}
#: From an input to an output of logic, and what the way to that input takes if it is a wired one.
_LOGIC = {"LUT4": 0.14, "PFUMX": 0.16, "L6MUX21": 0.15, "TRELLIS_DPR16X4": 0.14, "CCU2C": 0.37}
_WIRED = {
    ("PFUMX", "ALUT"): 0.0,
    ("PFUMX", "BLUT"): 0.0,
    ("L6MUX21", "D0"): 0.2,
    ("L6MUX21", "D1"): 0.2,
    ("CCU2C", "CIN"): 0.0,
}
_CARRY = 0.05
#: Nets: the shortest, more for each doubling of the fan-out, and the longest.
_NET, _DOUBLING, _MOST = 0.42, 0.18, 1.8
#: Inputs of RAMs that lead to an output at once.
_COMB_RAM = "RAD"
_CLOCKS = {"CLK", "WCK", "CLKA", "CLKB"}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Paths of the same way from block to block.

    Parameters
    ----------
    blocks : tuple[str, ...]
        Where they begin, what they cross, where they end.
    ends : int
        End points whose longest path is one of these.
    delay : float
        Of the longest, in ns.
    path : tuple[str, ...]
        Its nets, from the register that it begins at to the one that it ends at.
    levels : int
        Cells of logic on it.
    """

    blocks: tuple[str, ...]
    ends: int
    delay: float
    path: tuple[str, ...]
    levels: int


class Netlist:
    """A flat netlist of ECP5 cells, as :func:`rtl.fpga.flow.synthesize` writes it.

    Parameters
    ----------
    path : Path
        JSON of yosys.
    top : str
        Its top module.
    """

    def __init__(self, path: Path, top: str):
        module = json.loads(path.read_text(encoding="utf-8"))["modules"][top]
        self._cells: dict[str, dict] = module["cells"]
        self._scopes = {n for n, c in self._cells.items() if c["type"] == "$scopeinfo"}
        self._block: dict[str, str] = {}
        self._names: dict[int, str] = {}
        for name, net in module["netnames"].items():
            for place, bit in enumerate(net["bits"]):
                label = f"{name}[{place}]" if len(net["bits"]) > 1 else name
                old = self._names.get(bit)
                if old is None or (_made(label), len(label)) < (_made(old), len(old)):
                    self._names[bit] = label
        self._driver: dict[int, str] = {}
        self._fan_out: Counter[int] = Counter()
        for name, cell in self._cells.items():
            for port, bits in cell["connections"].items():
                out = cell["port_directions"].get(port) == "output"
                for bit in bits:
                    if isinstance(bit, int):
                        if out:
                            self._driver[bit] = name
                        elif port not in _CLOCKS:
                            self._fan_out[bit] += 1
        self._arrival: dict[int, tuple[float, int | None, int]] = {}
        self._arrive()

    def block(self, cell: str) -> str:
        """The block that a cell belongs to; empty for the top's own."""
        found = self._block.get(cell)
        if found is None:
            found = cell
            while found and found not in self._scopes:
                found = found.rpartition(".")[0]
            self._block[cell] = found
        return found

    def _net(self, kind: str, port: str, bit: int) -> float:
        wired = _WIRED.get((kind, port))
        if wired is not None:
            return wired
        fan_out = self._fan_out[bit]
        if port == "DI" and kind == "TRELLIS_FF" and fan_out == 1:
            return 0.1
        return min(_NET + _DOUBLING * math.log2(fan_out), _MOST)

    def _inputs(self, cell: dict, *, ends: bool) -> Iterator[tuple[str, int]]:
        """Inputs that end a path, or those through which paths go on."""
        kind = cell["type"]
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) != "input" or port in _CLOCKS:
                continue
            on = port == _COMB_RAM if kind == "TRELLIS_DPR16X4" else kind in _LOGIC
            if on != ends:
                for bit in bits:
                    if isinstance(bit, int):
                        yield port, bit

    def _arrive(self) -> None:
        """When each net has its value, from which one, through how much logic."""
        waits: dict[str, int] = {}
        readers: defaultdict[int, list[str]] = defaultdict(list)
        done: list[int] = []
        for bit, name in self._driver.items():
            kind = self._cells[name]["type"]
            if kind not in _LOGIC:
                self._arrival[bit] = (_BEGIN.get(kind, 0.0), None, 0)
                done.append(bit)
        for name, cell in self._cells.items():
            if cell["type"] in _LOGIC:
                sources = [bit for _, bit in self._inputs(cell, ends=False) if bit in self._driver]
                waits[name] = len(sources)
                for bit in sources:
                    readers[bit].append(name)
                if not sources:
                    done += self._evaluate(name)
        while done:
            for name in readers[done.pop()]:
                waits[name] -= 1
                if not waits[name]:
                    done += self._evaluate(name)

    def _evaluate(self, name: str) -> list[int]:
        """Arrival at the outputs of logic whose inputs are known."""
        cell = self._cells[name]
        kind, worst = cell["type"], (0.0, None, -1)
        for port, bit in self._inputs(cell, ends=False):
            before = self._arrival.get(bit)
            if before is not None:
                own = _CARRY if port == "CIN" else _LOGIC[kind]
                late = before[0] + self._net(kind, port, bit) + own
                worst = max(worst, (late, bit, before[2]))
        found = []
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) == "output":
                for bit in bits:
                    if isinstance(bit, int):
                        self._arrival[bit] = (worst[0], worst[1], worst[2] + 1)
                        found.append(bit)
        return found

    def ends(self) -> Iterator[tuple[float, str, str, int]]:
        """Every end point: delay of its longest path, cell, port, and net."""
        for name, cell in self._cells.items():
            for port, bit in self._inputs(cell, ends=True):
                if bit in self._arrival:
                    yield (
                        self._arrival[bit][0] + self._net(cell["type"], port, bit),
                        name,
                        port,
                        bit,
                    )

    def path(self, bit: int) -> list[int]:
        """Nets of the longest path to a net, its begin first."""
        found, at = [], bit
        while at is not None:
            found.append(at)
            at = self._arrival[at][1]
        return found[::-1]

    def groups(self, bound: float) -> list[Group]:
        """Paths of end points that take longer than ``bound`` ns; longest first."""
        counts: Counter[tuple] = Counter()
        worst: dict[tuple, tuple[float, list[int], str]] = {}
        for delay, cell, port, bit in self.ends():
            if delay > bound:
                path = self.path(bit)
                blocks: list[str] = []
                for name in [*(self._driver[net] for net in path), cell]:
                    block = self.block(name)
                    if block and (not blocks or blocks[-1] != block):
                        blocks.append(block)
                key = tuple(blocks)
                counts[key] += 1
                if key not in worst or delay > worst[key][0]:
                    worst[key] = (delay, path, f"{cell}.{port}")
        return sorted(
            (
                Group(
                    blocks=key,
                    ends=counts[key],
                    delay=delay,
                    path=(*(self._names.get(net, str(net)) for net in path), end),
                    levels=len(path) - 1,
                )
                for key, (delay, path, end) in worst.items()
            ),
            key=lambda group: -group.delay,
        )


def _made(name: str) -> bool:
    """Whether yosys has made a name up."""
    return re.search(r"_(LUT4|PFUMX|L6MUX21|CCU2C|TRELLIS_FF|DO[AB]?\d*)(_|$)|\$", name) is not None


def describe(groups: list[Group], most: int) -> str:
    """A table of the longest groups, a line for each, and the named nets on its longest path."""
    lines = []
    for group in groups[:most]:
        lines.append(
            f"{group.delay:6.1f} ns {group.levels:3} levels {group.ends:6} ends  "
            + " > ".join(group.blocks)
        )
        named = [name for name in group.path if not _made(name)]
        lines.append("    " + " > ".join([*named[:-1], group.path[-1]]))
    return "\n".join(lines)
