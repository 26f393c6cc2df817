"""Takes configurations through yosys and nextpnr-ecp5 and prints a table per block.

``python -m rtl.fpga.synth [--config NAME...] [--top iommu|system] [--blocks [BLOCK...]]
[--paths N] [--crossings]``

Cells come from ``synth_ecp5`` with all blocks flattened, which is smaller; blocks are told by their
names.  Clocks are nextpnr's, out of context (no pads), the median of the seeds.  With ``--blocks``
blocks are cut out of that netlist and placed alone: their clock is that of paths from register to
register inside; paths to and from ports are not in it.
``--paths`` lists the longest paths by the blocks they cross, from the netlist alone
(:mod:`rtl.fpga.paths`): with ``--cells-only`` nothing need be placed for it.  ``--crossings``
lists those that cross more than one block, of all there are (:mod:`rtl.fpga.crossings`).
"""

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.spec.config import CONFIGS, SystemConfig, config
from rtl.fpga.crossings import blocks_of, crossings, elaborate
from rtl.fpga.flow import CELLS, DEVICES, Synthesis, carve, place, synthesize
from rtl.fpga.paths import Netlist, describe
from rtl.fpga.sites import describe_sites, fits, sites_of

__all__ = ["main"]

#: Blocks with fewer LUT4 are not placed alone, unless they are named.
_LEAST = 300
#: Paths that are estimated to be shorter, in ns, are not listed.
_SHORT = 8.0


def _component(system: SystemConfig, top: str):
    if top == "iommu":
        from rtl.iommu.iommu import Iommu

        return Iommu(system.iommu)
    from rtl.system import System

    return System(system)


class _Progress:
    """One line on a terminal that is written over; lines now and then elsewhere."""

    def __init__(self) -> None:
        self.what, self._said = "", time.monotonic()
        self._terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Show what goes on."""
        if self._terminal:
            print(f"\r\x1b[K{self.what}: {text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said > 60:
            self._said = time.monotonic()
            print(f"{self.what}: {text}", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)


def _table(result: Synthesis, clocks: dict[str, float]) -> str:
    width = max(map(len, result.blocks)) + 2
    heads = [*CELLS, *(["MHz"] if clocks else [])]
    lines = ["block".ljust(width) + "".join(name.rjust(11) for name in heads)]
    for path, cells in result.blocks.items():
        line = path.ljust(width) + "".join(f"{cells[name]:11,}" for name in CELLS)
        lines.append(line + (f"{clocks[path]:11.1f}" if path in clocks else ""))
    return "\n".join(lines)


def _clocks(
    netlist: Path, asked: argparse.Namespace, name: str, progress: _Progress
) -> list[float]:
    """Clock of each seed; as many are placed at once as there are processors."""
    progress.what = name

    def one(seed: int) -> float:
        return place(
            netlist, seed, asked.device, say=lambda text: progress.say(f"seed {seed}: {text}")
        )

    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for seed, clock in enumerate(pool.map(one, range(1, asked.seeds + 1)), 1):
            found.append(clock)
            progress.line(f"  {name}: seed {seed}: {clock:.1f} MHz on {asked.device}")
    return found


def _blocks(result: Synthesis, asked: list[str]) -> list[str]:
    """Blocks to place alone; ``ValueError`` for a name that is none."""
    for name in asked:
        if name not in result.blocks:
            raise ValueError(f"no block {name!r}; there are {', '.join(result.blocks)}")
    large = [name for name, cells in result.blocks.items() if cells["LUT4"] >= _LEAST]
    return asked or large[1:]


def _crossings(
    system: SystemConfig, asked: argparse.Namespace, folder: Path, progress: _Progress
) -> int:
    """Print which paths cross more than one block; returns at how many ends."""
    flat = elaborate(_component(system, asked.top), asked.top, folder, say=progress.say)
    found, ends = crossings(flat, asked.top, blocks_of(_component(system, asked.top)))
    for crossing in found:
        progress.line(f"  {crossing.ends:6} ends  " + " > ".join(crossing.blocks))
    count = sum(crossing.ends for crossing in found)
    progress.line(f"{system.name}: paths to {count} of {ends:,} ends cross more than one block")
    return count


def _one(system: SystemConfig, asked: argparse.Namespace, progress: _Progress) -> dict:
    """Synthesize and place one configuration; returns its figures."""
    name, folder = f"{system.name}.{asked.top}", asked.folder / system.name
    progress.what = f"{name}, synthesis"
    component, dense = _component(system, asked.top), asked.top == "system"
    result = synthesize(
        component, asked.top, folder, levels=asked.levels, say=progress.say, dense=dense
    )
    whole = result.blocks[result.top]
    progress.line(_table(result, {}))
    progress.line(f"{name}: {describe_sites(whole)}")
    figures: dict = {"cells": result.blocks, "sites": sites_of(whole), "device": asked.device}
    if asked.paths:
        groups = Netlist(result.netlist, result.top).groups(_SHORT)
        progress.line(describe(groups, asked.paths))
    if asked.crossings:
        figures["crossings"] = _crossings(system, asked, folder, progress)
    if asked.blocks is not None:
        clocks = {}
        for block in _blocks(result, asked.blocks):
            progress.what = f"{system.name}.{block}, netlist"
            netlist = carve(result, block, say=progress.say)
            found = _clocks(netlist, asked, f"{system.name}.{block}", progress)
            clocks[block] = statistics.median(found)
        progress.line(_table(result, clocks))
        figures["blocks"] = clocks
    if not fits(whole):
        progress.line(f"{name} does not fit {asked.device}: not placed")
    elif not asked.cells_only:
        found = _clocks(result.netlist, asked, name, progress)
        figures |= {"mhz": statistics.median(found), "seeds": found}
        progress.line(
            f"{name}: {figures['mhz']:.1f} MHz on {asked.device}, median of {len(found)} seeds"
        )
    return figures


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="synth", description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="+", default=["default"], choices=sorted(CONFIGS))
    parser.add_argument("--top", choices=["iommu", "system"], default="iommu")
    parser.add_argument("--levels", type=int, default=2, help="of blocks that are counted")
    parser.add_argument("--cells-only", action="store_true", help="do not place the whole")
    parser.add_argument(
        "--blocks",
        nargs="*",
        metavar="BLOCK",
        help=f"place blocks alone too: those named, or all of {_LEAST} LUT4 and more",
    )
    parser.add_argument(
        "--paths", type=int, default=0, metavar="N", help="estimate and list N kinds of long paths"
    )
    parser.add_argument(
        "--crossings", action="store_true", help="list paths that cross more than one block"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", choices=sorted(DEVICES), default="LFE5UM5G-85F")
    parser.add_argument("--folder", type=Path, default=Path("build/synth"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    asked = parser.parse_args(argv)
    progress, found = _Progress(), {}
    try:
        for name in asked.config:
            found[name] = _one(config(name), asked, progress)
    except (RuntimeError, ValueError) as error:
        print(f"synth: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsynth: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
