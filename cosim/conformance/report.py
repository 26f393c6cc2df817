"""Results of replays, and how they are printed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .replayer import replay
from .rows import Mismatch
from .selection import Selector
from .target import Target
from .vectors import VectorFile

__all__ = ["Result", "replay_file", "summary"]

_FAILURES_SHOWN = 5


@dataclass
class Result:
    """Outcome of one file."""

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for the terminal."""
        skipped = sum(self.skipped.values())
        counts = f"{self.passed} passed, {len(self.failures)} failed, {skipped} skipped"
        return f"{self.name:<24} {counts}"


async def replay_file(
    file: VectorFile,
    target: Target,
    selector: Selector,
    progress: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Replay one file; ``progress`` is called after each scenario."""
    result = Result(file.name)
    for scenario in file:
        reason = selector.reason(scenario, file.header.parameters)
        if reason:
            result.skipped[reason] += 1
        else:
            try:
                await replay(scenario, target, file.header.parameters)
            except Mismatch as mismatch:
                result.failures.append(str(mismatch))
            else:
                result.passed += 1
        progress(result)
    return result


def summary(results: list[Result]) -> str:
    """Failures, skips by reason, and the line of totals."""
    failures = [f"{r.name}: {text}" for r in results for text in r.failures]
    skipped: Counter[str] = sum((r.skipped for r in results), Counter())
    lines = [f"failed: {text}" for text in failures[:_FAILURES_SHOWN]]
    if len(failures) > _FAILURES_SHOWN:
        lines.append(f"failed: and {len(failures) - _FAILURES_SHOWN} more")
    lines += [f"skipped {count:5}: {reason}" for reason, count in skipped.most_common()]
    passed = sum(r.passed for r in results)
    total = f"{passed} passed, {len(failures)} failed, {sum(skipped.values())} skipped"
    return "\n".join([*lines, total])
