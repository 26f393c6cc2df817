"""Runs cocotb tests on a built simulation, in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .build import ROOT, Built, ToolError

__all__ = ["SimulationError", "run"]


class SimulationError(RuntimeError):
    """A test failed, or the simulator ended without results."""


def _command(built: Built, waves: Path | None) -> tuple[list[str], dict[str, str]]:
    import cocotb_tools.config

    if built.simulator == "verilator":
        command = [str(built.folder / "bench")]
        if waves:
            command += ["--trace", "--trace-file", str(waves)]
        return command, {}
    vvp = shutil.which("vvp")
    if not vvp:
        raise ToolError("vvp is not installed (apt-get install iverilog)")
    glue = cocotb_tools.config.lib_name_path("vpi", "icarus")
    command = [vvp, "-m", str(glue)]
    command += ["-m", str(built.folder / "fastmem.vpi"), str(built.folder / "sim.vvp")]
    command += [f"+waves={waves}"] if waves else []
    return command, {}


def _environment(built: Built, module: str, seed: int, results: Path, extra: dict) -> dict:
    import cocotb_tools.config
    import find_libpython

    libpython = find_libpython.find_libpython()
    if not libpython:
        raise ToolError("Python's shared library is not installed (apt-get install libpython3-dev)")
    return {
        **os.environ,
        "GPI_USERS": ";".join([libpython, cocotb_tools.config.pygpi_entry_point()]),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "PYGPI_PYTHON_BIN": sys.executable,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TOPLEVEL": "bench",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_LOG_LEVEL": os.environ.get("COCOTB_LOG_LEVEL", "WARNING"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "IOVIRT_LIBRARY": str(built.library),
        "PYTHONWARNINGS": "ignore",
        **extra,
    }


def run(
    built: Built,
    module: str,
    *,
    options: dict | None = None,
    seed: int = 1,
    waves: Path | None = None,
    timeout: float = 3600,
    cycles: int = 100_000_000,
    test: str = "",
    quiet: bool = False,
    junit: Path | None = None,
) -> dict:
    """Run every cocotb test of ``module`` on ``built`` (or the one named); returns its results.

    ``options`` reaches the tests as :func:`cosim.bench.machine.options`; what they give to
    :func:`cosim.bench.machine.report` is returned.  Raises :class:`SimulationError` if a test
    fails, the simulator dies, or ``timeout`` seconds pass.
    """
    if waves and not built.trace:
        raise ValueError("Waves need a build with a trace")
    with tempfile.TemporaryDirectory(prefix="iovirt-run-") as scratch:
        folder = Path(scratch)
        results, report = folder / "results.xml", folder / "report.json"
        (folder / "options.json").write_text(json.dumps(options or {}), encoding="utf-8")
        extra = {
            "IOVIRT_OPTIONS": str(folder / "options.json"),
            "IOVIRT_REPORT": str(report),
            "IOVIRT_DESIGN": f"{built.design.factory}",
            "COCOTB_TEST_FILTER": test,
            "IOVIRT_CYCLES": str(cycles),
        }
        command, more = _command(built, waves.resolve() if waves else None)
        env = _environment(built, module, seed, results, {**extra, **more})
        _dump_built(built, folder / "built.pickle")
        env["IOVIRT_BUILT"] = str(folder / "built.pickle")
        log = folder / "log.txt"
        with open(log, "w", encoding="utf-8") as output:
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env=env,
                    stdout=output,
                    stderr=None if not quiet else output,
                    stdin=subprocess.DEVNULL,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise SimulationError(f"{module}: no end after {timeout:.0f} s") from error
        if junit and results.exists():
            shutil.copy(results, junit)
        text = log.read_text(encoding="utf-8", errors="replace")
        _check(module, seed, results, done.returncode, text)
        if not report.exists():
            return {}
        return json.loads(report.read_text(encoding="utf-8"))


def _dump_built(built: Built, path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(built))


def _check(module: str, seed: int, results: Path, status: int, log: str) -> None:
    tail = "\n".join(log.splitlines()[-60:])
    if not results.exists():
        raise SimulationError(f"{module} (seed {seed}): simulator ended with {status}\n{tail}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None
              or case.find("error") is not None]  # fmt: skip
    if failed or not cases:
        names = ", ".join(str(case.get("name")) for case in failed) or "no test ran"
        raise SimulationError(f"{module} (seed {seed}): failed: {names}\n{tail}")
