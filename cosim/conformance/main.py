"""The command ``iovirt conformance``."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module, util
from pathlib import Path

from models.iommu import Parameters

from .golden_target import GoldenTarget
from .report import Result, replay_file, summary
from .selection import Selector
from .sync import finish
from .vectors import VectorError, VectorFile, find

__all__ = ["TARGETS", "main"]

#: Replays files and says each file's result as soon as it is there.
Runner = Callable[[list[VectorFile], Callable[[Result], None]], list[Result]]

_RTL_MODULE = "cosim.conformance.rtl_target"


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


def _run_rtl(files: list[VectorFile], finished: Callable[[Result], None]) -> list[Result]:
    if util.find_spec(_RTL_MODULE) is None:
        raise VectorError("target rtl is not built into this version")
    return import_module(_RTL_MODULE).run(files, finished)


#: Implementations that can be replayed on.  The RTL's module has ``run`` of type :data:`Runner`.
TARGETS: dict[str, Runner] = {"golden": run_golden, "rtl": _run_rtl}


def main(paths: Sequence[str | Path], target: str = "golden") -> int:
    """Replay files, or all files in folders, on a target.

    Prints a line per file, the failures, the skips by reason, and ``N passed, N failed,
    N skipped``.  Returns 0; 1 if a scenario failed; 2 with one line on standard error if the
    arguments or files make no sense.
    """
    if target not in TARGETS:
        print(f"iovirt: no target {target!r}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    try:
        files = find([Path(path) for path in paths])
        results = TARGETS[target](files, lambda result: print(result.line(), flush=True))
    except VectorError as error:
        print(f"iovirt: {error}", file=sys.stderr)
        return 2
    print(summary(results))
    return int(any(result.failures for result in results))
