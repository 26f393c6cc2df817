"""``iovirt fuzz iommu``: random agreement of the RTL with the golden IOMMU."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cosim.bench.build import Built, Design, build
from cosim.bench.run import run as simulate
from cosim.conformance.rows import Mismatch
from cosim.conformance.sync import finish
from models.iommu import Parameters
from models.spec.config import IommuConfig

from . import coverage
from .configurations import configurations
from .failure import Failure
from .generator import generate
from .golden import GoldenImplementation
from .lockstep import Lockstep
from .scenario import Scenario, ScenarioError
from .shrink import shrink
from .statistics import Statistics

__all__ = ["FuzzError", "chosen", "main", "play_on_golden", "shrink_on_golden"]

_BENCH = "cosim.fuzz.rtl_bench"
#: Requests of a scenario.
_SCENARIO = 600
_LONGEST = 24 * 3600
TARGETS = ("rtl", "golden")


class FuzzError(Exception):
    """What was asked makes no sense; the message is one line."""


@dataclass
class _Outcome:
    name: str
    config: IommuConfig
    failure: str
    statistics: Statistics
    scenario: Scenario | None = None

    def line(self) -> str:
        seen, rate = self.statistics, 0.0
        if seen.seconds:
            rate = seen.translations / seen.seconds
        missed = f"{seen.miss_share:6.1%} missed" if seen.lookups else "  (no counters)"
        return (
            f"{self.name:<18} {seen.translations:>8} translations {missed} "
            f"{seen.fault_share:6.1%} faulted {rate:7.0f} per second"
            f"{'  FAILED' if self.failure else ''}"
        )


def chosen(names: str) -> dict[str, IommuConfig]:
    """Configurations of a list of names with commas; ``all`` for all of them."""
    known = configurations()
    if names == "all":
        return known
    wrong = [name for name in names.split(",") if name not in known]
    if wrong:
        raise FuzzError(f"no configuration {wrong[0]!r}; there are {', '.join(known)}")
    return {name: known[name] for name in names.split(",")}


def play_on_golden(scenario: Scenario, statistics: Statistics) -> Failure | None:
    """Play a scenario on a second golden IOMMU; returns what went wrong."""
    implementation = GoldenImplementation(Parameters.from_config(scenario.config))
    try:
        finish(Lockstep(implementation, statistics).play(scenario))
    except Mismatch as mismatch:
        return Failure.of(mismatch)
    statistics.scenarios += 1
    return None


def _built(config: IommuConfig) -> Built:
    return build(Design("rtl.iommu.iommu:Iommu", (config, 1)), quick=True)


def _replay(scenario: Scenario, target: str) -> tuple[str, Statistics]:
    statistics = Statistics()
    if target == "golden":
        return str(play_on_golden(scenario, statistics) or ""), statistics
    with tempfile.TemporaryDirectory(prefix="iovirt-fuzz-") as scratch:
        path = Path(scratch) / "scenario.json"
        scenario.save(path)
        options = {
            "files": [str(path)],
            "pas": scenario.config.pas,
            "sets": scenario.config.iotlb_sets,
        }
        found = simulate(_built(scenario.config), _BENCH, options=options, quiet=True)
    return found["failure"], Statistics.from_dict(found["statistics"])


def _fuzz(
    name: str, config: IommuConfig, seed: int, translations: int, target: str, shrinking: float
) -> _Outcome:
    if target == "golden":
        return _fuzz_golden(name, config, seed, translations, shrinking)
    with tempfile.TemporaryDirectory(prefix="iovirt-fuzz-") as scratch:
        failed = Path(scratch) / "failure.json"
        options = {
            "config": asdict(config),
            "pas": config.pas,
            "sets": config.iotlb_sets,
            "seed": f"{seed}/{name}",
            "translations": translations,
            "scenario": min(_SCENARIO, translations),
            "failures": str(failed),
            "shrinking": shrinking,
        }
        found = simulate(
            _built(config), _BENCH, options=options, timeout=_LONGEST, cycles=1 << 62, quiet=True
        )
        scenario = Scenario.load(failed) if failed.exists() else None
    statistics = Statistics.from_dict(found["statistics"])
    return _Outcome(name, config, found["failure"], statistics, scenario)


def _fuzz_golden(
    name: str, config: IommuConfig, seed: int, translations: int, shrinking: float
) -> _Outcome:
    statistics, began, number = Statistics(), time.monotonic(), 0
    failure, scenario = None, None
    while statistics.translations < translations and not failure:
        size = min(_SCENARIO, translations)
        scenario = generate(config, f"{seed}/{name}/{number}", size)
        failure = play_on_golden(scenario, statistics)
        number += 1
    statistics.seconds = time.monotonic() - began
    if not failure or scenario is None:
        return _Outcome(name, config, "", statistics)
    small = shrink_on_golden(scenario, lambda s: play_on_golden(s, Statistics()), shrinking)
    return _Outcome(name, config, str(failure), statistics, small)


def _keep(outcome: _Outcome, target: str, folder: Path) -> None:
    """Say what failed, and how to replay it."""
    assert outcome.scenario is not None
    scenario = outcome.scenario
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scenario.name.replace('/', '-')}.json"
    scenario.save(path)
    print(f"{outcome.name}: {outcome.failure}")
    print(f"shrunk to {len(scenario.steps)} steps, {scenario.translations} requests, "
          f"{len(scenario.memory)} stores")  # fmt: skip
    option = "" if target == "rtl" else f" --target {target}"
    print(f"replay with: iovirt fuzz iommu{option} --replay {path}", flush=True)


def shrink_on_golden(
    scenario: Scenario, play: Callable[[Scenario], Failure | None], seconds: float
) -> Scenario:
    """Shrink what fails when played with ``play``."""

    async def played(smaller: Scenario) -> Failure | None:
        return play(smaller)

    return finish(shrink(scenario, played, seconds=seconds))


def main(
    *,
    translations: int = 10_000,
    seed: int = 1,
    names: str = "default",
    target: str = "rtl",
    replay: Sequence[Path] = (),
    result: str | None = None,
    folder: Path = Path("build/fuzz"),
    jobs: int | None = None,
    shrinking: float = 600.0,
) -> int:
    """Run the command; returns its exit status."""
    if target not in TARGETS:
        raise FuzzError(f"no target {target!r}; there are {', '.join(TARGETS)}")
    if translations < 1:
        raise FuzzError(f"translations must be at least 1, not {translations}")
    if replay:
        return _replay_all(replay, target)
    configs = chosen(names)
    share = -(-translations // len(configs))
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        running = [
            pool.submit(_fuzz, name, config, seed, share, target, shrinking)
            for name, config in configs.items()
        ]
        outcomes = []
        for future in running:
            outcomes.append(future.result())
            print(outcomes[-1].line(), file=sys.stderr if result == "-" else None, flush=True)
    total = Statistics()
    for outcome in outcomes:
        total.add(outcome.statistics)
    failed = [outcome for outcome in outcomes if outcome.failure]
    if target == "rtl" and not failed:
        coverage.add(total)
    short = total.shortcomings(list(configs.values()), counted=target == "rtl")
    _tell(seed, total, short, file=sys.stderr if result == "-" else sys.stdout)
    if result:
        text = json.dumps(
            {
                "seed": seed,
                "target": target,
                "configurations": list(configs),
                "failures": [{"config": o.name, "what": o.failure} for o in failed],
                "shortcomings": short,
                **total.as_dict(),
            },
            indent=2,
        )
        if result == "-":
            print(text)
        else:
            Path(result).write_text(text + "\n", encoding="utf-8")
    for outcome in failed:
        _keep(outcome, target, folder)
    return int(bool(failed or short))


def _replay_all(paths: Sequence[Path], target: str) -> int:
    failed = False
    for path in paths:
        try:
            failure, _ = _replay(Scenario.load(path), target)
        except ScenarioError as error:
            raise FuzzError(str(error)) from None
        print(f"{path}: {failure or 'no mismatch'}")
        failed |= bool(failure)
    return int(failed)


def _tell(seed: int, total: Statistics, short: list[str], *, file) -> None:
    def say(text: str) -> None:
        print(text, file=file, flush=True)

    say(f"seed {seed}: {total.translations} translations in {total.scenarios} scenarios")
    if total.lookups:
        say(f"missed in the IOTLB: {total.miss_share:.1%} of {total.lookups} lookups")
    say(f"faulted: {total.fault_share:.1%}")
    say("requests: " + ", ".join(f"{n} {what}" for what, n in sorted(total.types.items())))
    say(f"page requests: {total.page_requests}; debug requests: {total.debug}")
    for name, count in sorted(total.commands.items()):
        say(f"  {name:<18} {count}")
    for text in short:
        say(f"not enough: {text}")
