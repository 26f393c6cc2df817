"""The command ``iovirt conformance``."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from models.iommu import Parameters

from .golden_target import GoldenTarget
from .report import Result, replay_file, summary
from .selection import Selector
from .sync import finish
from .vectors import VectorError, VectorFile, find

__all__ = ["TARGETS", "main"]

#: Replays files in so many processes and says each file's result as soon as it is there.
Runner = Callable[[list[VectorFile], Callable[[Result], None], int | None], list[Result]]

_RTL_MODULE = "cosim.conformance.rtl_runs"


def run_golden(
    files: list[VectorFile],
    finished: Callable[[Result], None],
    parameters: Parameters | None = None,
) -> list[Result]:
    """Replay files on the golden IOMMU; without ``parameters`` it has each profile's."""
    target, selector, results = GoldenTarget(parameters), Selector(parameters), []
    for file in files:
        results.append(finish(replay_file(file, target, selector)))
        finished(results[-1])
    return results


def _run_rtl(
    files: list[VectorFile], finished: Callable[[Result], None], jobs: int | None
) -> list[Result]:
    # Golden replays must not need what simulation needs.
    return import_module(_RTL_MODULE).run(files, finished, jobs)


#: Implementations that can be replayed on.  The RTL's module has ``run`` of type :data:`Runner`.
TARGETS: dict[str, Runner] = {
    "golden": lambda files, finished, jobs: run_golden(files, finished),
    "rtl": _run_rtl,
}


def _show(result: Result) -> None:
    print(result.line(), flush=True)


def main(paths: Sequence[str | Path], target: str = "golden", *, jobs: int | None = None) -> int:
    """Replay files, or all files in folders, on a target.

    Prints a line per file, the failures, the skips by reason, and ``N passed, N failed,
    N skipped``.  Returns 0; 1 if a scenario failed; 2 with one line on standard error if the
    arguments or files make no sense.  ``jobs`` simulations at a time, by default one per core.
    """
    if target not in TARGETS:
        print(f"iovirt: no target {target!r}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if jobs is not None and jobs < 1:
        print(f"iovirt: at least one job is needed, not {jobs}", file=sys.stderr)
        return 2
    try:
        files = find([Path(path) for path in paths])
        results = TARGETS[target](files, _show, jobs)
    except VectorError as error:
        print(f"iovirt: {error}", file=sys.stderr)
        return 2
    print(summary(results))
    return int(any(result.failures for result in results))
