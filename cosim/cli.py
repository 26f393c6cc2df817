"""The command ``iovirt``.

Exit status: 0 if all is well, 1 if a run found something wrong, 2 with one line on standard error
if what was asked makes no sense or a tool is missing.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosim.bench.build import SIMULATORS, ToolError
from cosim.bench.run import SimulationError
from cosim.benchmarks.commands import add_bench
from cosim.capture import CaptureError, read_capture, shipped_capture
from cosim.command import (
    Parser,
    Wrong,
    checked,
    give,
    is_special,
    must_be_known,
    must_be_writable,
    write,
)
from cosim.conformance.main import TARGETS
from cosim.conformance.main import main as conformance
from cosim.fuzz.coverage import COVERAGE_FILE, CoverageError
from cosim.fuzz.coverage import main as coverage
from cosim.fuzz.main import FuzzError
from cosim.fuzzing import add_fuzz
from cosim.linux.cases import CASES, PLANTS
from cosim.linux.figures import caught
from cosim.linux.main import LinuxOptions, print_cases, run_cases
from cosim.report.table import print_result
from cosim.report.waves import WaveError, check
from cosim.scenarios.demo import HOSTILE
from cosim.scenarios.on_rtl import run_demo
from cosim.scenarios.settings import Settings
from models.spec.config import CONFIGS

__all__ = ["main"]

#: Scenarios of ``iovirt run``, with what each shows.
SCENARIOS = {
    "demo": "three guests on three VFs and a host on the wire exchange a capture, with page faults",
}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="iovirt", description="I/O virtualization that runs.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    run = commands.add_parser("run", help="run a scenario on the RTL")
    run.add_argument("scenario", choices=SCENARIOS, help="see 'iovirt list'")
    run.add_argument("--pcap", type=Path, metavar="FILE", help="pcap or pcapng to replay")
    run.add_argument("--packets", type=int, default=0, metavar="N", help="at most N frames")
    run.add_argument("--sim", default="verilator", help=f"one of {', '.join(SIMULATORS)}")
    run.add_argument("--config", help=f"one of {', '.join(CONFIGS)}; tiny on Icarus")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--latency", type=int, default=20, help="of memory, in cycles")
    run.add_argument("--jitter", type=int, default=20, help="more cycles at most, at random")
    run.add_argument(
        "--service-cycles", type=int, metavar="N", help="cycles to serve a page request"
    )
    run.add_argument("--resident", action="store_true", help="no page faults: all memory is there")
    run.add_argument("--offload", action="store_true", help="guests leave checksums to their NIC")
    run.add_argument("--hostile", default="", metavar="KIND", help=f"guest 3: {', '.join(HOSTILE)}")
    run.add_argument("--waves", type=Path, metavar="FILE", help="keep the waves (VCD)")
    run.add_argument("--json", metavar="FILE", help="write the figures; - for standard output")
    run.add_argument("--quiet", action="store_true", help="no progress")
    run.set_defaults(function=_run)

    listing = commands.add_parser("list", help="list scenarios and configurations")
    listing.set_defaults(function=_list)

    waves = commands.add_parser("waves", help="analyse waves")
    actions = waves.add_subparsers(dest="action", required=True, parser_class=Parser)
    checking = actions.add_parser("check", help="recompute IOTLB hit rates from a wave file alone")
    checking.add_argument("file", type=Path)
    checking.set_defaults(function=_check)

    add_bench(commands)

    replaying = commands.add_parser("conformance", help="replay IOMMU test vectors")
    replaying.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files or folders")
    replaying.add_argument("--target", default="golden", help=f"one of {', '.join(TARGETS)}")
    replaying.add_argument("--jobs", type=int, metavar="N", help="simulations at a time")
    replaying.set_defaults(
        function=lambda asked: conformance(asked.paths, asked.target, jobs=asked.jobs)
    )

    add_fuzz(commands)
    _linux_parser(commands)

    covering = commands.add_parser("coverage", help="what was hit on the RTL, and the holes")
    covering.add_argument("--file", type=Path, default=COVERAGE_FILE, metavar="FILE")
    covering.set_defaults(function=lambda asked: coverage(asked.file))
    return parser


def _linux_parser(commands: Any) -> None:
    linux = commands.add_parser("linux", help="an unmodified Linux in QEMU drives the RTL")
    linux.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; else all")
    linux.add_argument("--config", default="default", help=f"one of {', '.join(CONFIGS)}")
    linux.add_argument("--latency", type=int, default=20, help="of memory, in cycles")
    linux.add_argument("--jitter", type=int, default=20, help="more cycles at most, at random")
    linux.add_argument("--seed", type=int, default=1)
    linux.add_argument("--limit", type=float, default=1200, metavar="S", help="seconds of a case")
    linux.add_argument("--qemu", type=Path, metavar="FILE", help="QEMU with vfio-user-pci")
    linux.add_argument("--kernel", type=Path, metavar="FILE", help="instead of Debian's")
    linux.add_argument("--modules", type=Path, metavar="DIR", help="of that kernel")
    linux.add_argument("--busybox", type=Path, metavar="FILE", help="static, for the guest")
    linux.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep what guests say, and captures"
    )
    linux.add_argument(
        "--waves",
        type=Path,
        metavar="DIR",
        help="keep waves of each case, for `iovirt waves check`",
    )
    linux.add_argument(
        "--plant",
        default="",
        choices=PLANTS,
        help="a mistake that watchers must find, else it is an error (amd64-paged; riscv64-dma)",
    )
    linux.add_argument("--json", metavar="FILE", help="write the figures; - for standard output")
    linux.add_argument("--quiet", action="store_true", help="no progress")
    linux.set_defaults(function=_linux)


def _linux(asked: argparse.Namespace) -> int:
    checked(asked)
    for name in asked.cases:
        if name not in CASES:
            raise Wrong(f"no case {name!r}; there are {', '.join(CASES)}")
    must_be_known(asked.config)
    for folder in (asked.logs, asked.waves):
        if folder is not None and not folder.is_dir():
            raise Wrong(f"{str(folder)!r} is no folder")
    options = LinuxOptions(
        config=asked.config,
        latency=asked.latency,
        jitter=asked.jitter,
        seed=asked.seed,
        limit_s=asked.limit,
        qemu=asked.qemu,
        kernel=asked.kernel,
        modules=asked.modules,
        busybox=asked.busybox,
        logs=asked.logs,
        waves=asked.waves,
        plant=asked.plant,
        progress=not asked.quiet,
    )
    found = run_cases(asked.cases, options)
    give(found, asked.json, print_cases)
    good = [caught(case) if asked.plant else case["passed"] for case in found["cases"]]
    return int(not all(good))


def _settings(asked: argparse.Namespace) -> Settings:
    if asked.sim not in SIMULATORS:
        raise Wrong(f"no simulator {asked.sim!r}; there are {', '.join(SIMULATORS)}")
    try:
        return Settings(
            config=asked.config or ("tiny" if asked.sim == "icarus" else "default"),
            sim=asked.sim,
            seed=asked.seed,
            packets=asked.packets,
            latency=asked.latency,
            jitter=asked.jitter,
            service_cycles=asked.service_cycles,
            resident=asked.resident,
            offload=asked.offload,
            hostile=asked.hostile,
        )
    except ValueError as error:
        raise Wrong(str(error)) from None


def _run(asked: argparse.Namespace) -> int:
    settings = _settings(asked)
    to_stdout = asked.json == "-"
    for path in (asked.waves, None if to_stdout else asked.json):
        if path is not None:
            must_be_writable(Path(path))
    if asked.waves is not None and (asked.waves.suffix != ".vcd" or is_special(asked.waves)):
        raise Wrong(f"{asked.waves}: waves are VCD; name a file .vcd")
    source = asked.pcap or shipped_capture()
    capture = read_capture(source, mtu=settings.system.nic.mtu)
    if not asked.quiet:
        count = min(len(capture.frames), settings.packets or len(capture.frames))
        print(
            f"{capture.name}: {count} of {len(capture.frames)} frames; building and running "
            f"{settings.config} on {settings.sim}",
            file=sys.stderr,
            flush=True,
        )
    result = run_demo(settings, source, waves=asked.waves, progress=not asked.quiet)
    print_result(result, sys.stderr if to_stdout else sys.stdout)
    if asked.json is not None:
        text = json.dumps(result.as_dict(), indent=2) + "\n"
        if to_stdout:
            print(text, end="")
        else:
            write(Path(asked.json), text)
    return int(not result.good)


def _list(asked: argparse.Namespace) -> int:
    for name, what in SCENARIOS.items():
        print(f"{name:<10} {what}")
    print(f"configurations: {', '.join(CONFIGS)}")
    return 0


def _check(asked: argparse.Namespace) -> int:
    good = True
    for device in check(asked.file):
        good &= device.equal
        counts = device.waves
        by_hardware = (
            ""
            if device.counted is None
            else ", as counted by hardware"
            if device.equal
            else f"; hardware counted {device.counted[0]} lookups, {device.counted[1]} misses"
        )
        print(
            f"device_id {device.device_id}: {counts.hits + counts.misses} lookups, "
            f"{counts.misses} misses, hit rate {100 * counts.rate:.2f} %{by_hardware}"
        )
    return int(not good)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    asked = _parser().parse_args(arguments)
    function: Callable[[argparse.Namespace], int] = asked.function
    try:
        return function(asked)
    except (Wrong, CaptureError, CoverageError, FuzzError, WaveError, ToolError) as error:
        print(f"iovirt: {error}", file=sys.stderr)
        return 2
    except SimulationError as error:
        print(f"iovirt: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"iovirt: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
