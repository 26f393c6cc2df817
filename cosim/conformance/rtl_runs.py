"""Replays on the RTL IOMMU under Verilator.

What a configuration can run is decided before the simulator starts.  There is one build per
profile; its scenarios are dealt out to several simulations (:mod:`cosim.conformance.rtl_bench`),
each of which replays its share of every file and says so file by file.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from cosim.bench.build import Built, Design, ToolError, build
from cosim.bench.run import run as simulate
from cosim.fuzz.coverage import cover
from models.iommu import Parameters
from models.spec.config import IommuConfig

from .report import Result
from .rtl_target import config_for
from .selection import Selector
from .vectors import VectorError, VectorFile

__all__ = ["run"]

_BENCH = "cosim.conformance.rtl_bench"
#: Cycles of jitter of the memory, so that walks finish out of order.
_JITTER = 20
#: Seconds between two looks at what simulations have done.
_LOOK = 0.5


def _select(file: VectorFile, selector: Selector, result: Result) -> list[int]:
    """Numbers of the scenarios that a configuration can run; notes the others as skipped."""
    chosen = []
    for number, scenario in enumerate(file):
        reason = selector.reason(scenario, file.header.parameters)
        if reason:
            result.skipped[reason] += 1
        else:
            chosen.append(number)
    return chosen


class _Job:
    """One simulation, and what it has said so far."""

    def __init__(self, number: int, folder: Path, files: list[tuple[str, list[int]]]) -> None:
        self.results = folder / f"results{number}.jsonl"
        self._files, self._read = files, 0

    def simulate(self, built: Built, rtl: IommuConfig) -> dict:
        """Run to the end."""
        options = {"files": self._files, "results": str(self.results), "pas": rtl.pas}
        return simulate(built, _BENCH, options={**options, "jitter": _JITTER})

    def news(self) -> Iterator[dict]:
        """What it has said since the last call."""
        if not self.results.exists():
            return
        with open(self.results, encoding="utf-8") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith("\n"):
                    self._read += len(line.encode())
                    yield json.loads(line)


class _Collection:
    """Results of files, each complete when all jobs have spoken."""

    def __init__(self, results: dict[str, Result], jobs: int, finished: Callable) -> None:
        self._results, self._jobs, self._finished = results, jobs, finished
        self._spoken: Counter[str] = Counter()

    def add(self, line: dict) -> None:
        result = self._results[line["path"]]
        result.passed += line["passed"]
        result.failures += line["failures"]
        self._spoken[line["path"]] += 1
        if self._spoken[line["path"]] == self._jobs:
            self._finished(result)


def _replay(
    rtl: IommuConfig,
    files: list[tuple[str, list[int]]],
    results: dict[str, Result],
    jobs: int,
    finished: Callable[[Result], None],
) -> None:
    """Replay chosen scenarios of files in one configuration."""
    try:
        built = build(Design("rtl.iommu.iommu:Iommu", (rtl, 1)))
    except ToolError as error:
        raise VectorError(str(error)) from error
    collection = _Collection(results, jobs, finished)
    with (
        tempfile.TemporaryDirectory(prefix="iovirt-conformance-") as scratch,
        ThreadPoolExecutor(jobs) as pool,
    ):
        shares = [[(path, numbers[n::jobs]) for path, numbers in files] for n in range(jobs)]
        running = [_Job(n, Path(scratch), share) for n, share in enumerate(shares)]
        futures: list[Future] = [pool.submit(job.simulate, built, rtl) for job in running]
        pending = True
        while pending:
            pending = bool(wait(futures, timeout=_LOOK, return_when=FIRST_EXCEPTION).not_done)
            for job in running:
                for line in job.news():
                    collection.add(line)
            for future in futures:
                if future.done():
                    future.result()  # raises what went wrong


def run(
    files: list[VectorFile],
    finished: Callable[[Result], None],
    jobs: int | None = None,
    geometry: Mapping[str, int] | None = None,
) -> list[Result]:
    """Replay files on the RTL, each in the configuration that its profile asks for.

    ``jobs`` simulations run at a time, by default one per core; ``geometry`` as of
    :func:`~cosim.conformance.rtl_target.config_for`.  Raises
    :class:`~cosim.bench.run.SimulationError` if a simulation dies.
    """
    jobs = jobs or os.cpu_count() or 1
    results = {str(file.path.resolve()): Result(file.name) for file in files}
    profiles: dict[Parameters, list[VectorFile]] = {}
    for file in files:
        profiles.setdefault(file.header.parameters, []).append(file)
    for profile, members in profiles.items():
        rtl = config_for(profile, geometry)
        selector, chosen = Selector(Parameters.from_config(rtl)), []
        for file in members:
            path = str(file.path.resolve())
            chosen.append((path, _select(file, selector, results[path])))
        _replay(rtl, chosen, results, jobs, finished)
        for file, (path, numbers) in zip(members, chosen, strict=True):
            if not results[path].failures:
                cover(file, set(numbers), Parameters.from_config(rtl))
    return list(results.values())
