"""``iovirt fuzz nic``: hostile and correct drivers side by side, on RTL and golden machine."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from cosim.bench.build import Built, Design, build
from cosim.bench.run import run as simulate
from cosim.command import Wrong, must_be_known
from cosim.guest.malformed import OF_CONTROL_QUEUES, WAYS
from cosim.nic_fuzz.memory_ways import MEMORY_WAYS, RING_ADDRESS
from cosim.nic_fuzz.session import Session, SessionError
from models.spec.config import SystemConfig, config
from models.spec.nic import FEATURE_FLAGS, QueueError

__all__ = ["STEPS", "fuzz_nic", "print_nic_fuzz", "system"]

_BENCH = "cosim.nic_fuzz.rtl_bench"
#: Steps of a session.
STEPS = 20
#: Groups of ways to be malformed.
_WAYS = "ways", "ways of control queues", "ways of memory"
_LONGEST = 24 * 3600
_SIZES = (2, 4, 8, 16, 64, 256)
_ROOM = {"queue_pairs": 2, "tx_slots": 64, "rx_slots": 64}


def system(name: str) -> SystemConfig:
    """A named configuration whose NIC has everything, and room for what all send at once."""
    found = config(name)
    return replace(found, nic=replace(found.nic, **dict.fromkeys(FEATURE_FLAGS, True), **_ROOM))


def _built(name: str) -> Built:
    return build(Design("rtl.system:System", (system(name),)), quick=True)


def _options(name: str, shrinking: float, failure: Path) -> dict[str, Any]:
    most = system(name).nic.queue_size_max
    return {
        "sizes": [size for size in _SIZES if size <= most],
        "shrinking": shrinking,
        "failure": str(failure),
    }


def fuzz_nic(
    *,
    name: str,
    sessions: int,
    steps: int = STEPS,
    paged: bool | None = None,
    seed: int = 1,
    replay: Sequence[Path] = (),
    jobs: int | None = None,
    shrinking: float = 600,
    progress: bool = True,
    folder: Path = Path("build/fuzz"),
) -> dict[str, Any]:
    """Play sessions, or replay files; returns what happened.

    Parameters
    ----------
    name : str
        Configuration; its NIC gets all features.
    sessions, steps, seed : int
        How many, steps of each, and what they are drawn from.
    paged : bool or None
        Whether there is a pager that evicts at random; ``None``: in some of them.
    replay : sequence of Path
        Files to play instead.
    jobs : int or None
        Simulations at a time; ``None`` for as many as there are processors.
    shrinking : float
        Seconds for making a session that failed smaller.
    progress : bool
        Show it on standard error.
    folder : Path
        Where such a session is put.
    """
    must_be_known(name)
    if sessions < 1 or steps < 1:
        raise Wrong("sessions and steps are at least 1")
    for path in replay:
        try:
            Session.load(path)
        except SessionError as error:
            raise Wrong(str(error)) from None
    built, parts = _built(name), min(jobs or os.cpu_count() or 1, sessions)
    if replay:
        parts = 1
    with (
        tempfile.TemporaryDirectory(prefix="iovirt-fuzz-") as scratch,
        ThreadPoolExecutor(parts) as pool,
    ):
        running = []
        for part in range(parts):
            failure = Path(scratch) / f"{part}.json"
            options = _options(name, shrinking, failure) | {"progress": progress}
            if replay:
                options["files"] = [str(path.resolve()) for path in replay]
            else:
                first, end = sessions * part // parts, sessions * (part + 1) // parts
                options |= {"seed": seed, "steps": steps, "paged": paged}
                options |= {"first": first, "sessions": end - first}
            running.append(
                pool.submit(
                    simulate, built, _BENCH, options=options, timeout=_LONGEST, cycles=1 << 62
                )
            )
        found = [one.result() for one in running]
        failures = []
        for part, one in enumerate(found):
            if one["failure"]:
                kept = _keep(Path(scratch) / f"{part}.json", folder, f"nic-{name}-{seed}-{part}")
                failures.append({"what": one["failure"], "file": str(kept)})
    counts = sum((Counter(one["counts"]) for one in found), Counter())
    return {
        "config": name,
        "seed": seed,
        "sessions": sum(one["sessions"] for one in found),
        "cycles": sum(one["cycles"] for one in found),
        "seconds": max(one["seconds"] for one in found),
        "failures": failures,
        "steps": {k: n for k, n in sorted(counts.items()) if " " not in k},
        "paging": {
            name.removeprefix("paging "): n
            for name, n in sorted(counts.items())
            if name.startswith("paging ")
        },
        "ways": _counted(counts, "way", [way.name for way in WAYS]),
        "ways of control queues": _counted(
            counts, "control_way", [*(way.name for way in OF_CONTROL_QUEUES), RING_ADDRESS]
        ),
        "ways of memory": _counted(counts, "memory_way", [way.name for way in MEMORY_WAYS]),
        "codes": {code.name: counts[f"code {code.name}"] for code in QueueError if code},
    }


def _counted(counts: Counter[str], kind: str, names: Iterable[str]) -> dict[str, int]:
    """How often steps of a kind were done, by name."""
    return {name: counts[f"{kind} {name}"] for name in names}


def _keep(failed: Path, folder: Path, name: str) -> Path:
    """Put a session that failed where it stays."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.json"
    kept.write_bytes(failed.read_bytes())
    return kept


def print_nic_fuzz(found: dict[str, Any], to: TextIO) -> None:
    """Print what happened."""

    def say(text: str) -> None:
        print(text, file=to, flush=True)

    say(
        f"{found['config']}, seed {found['seed']}: {found['sessions']} sessions, "
        f"{found['cycles']:,} cycles, {found['seconds']:.0f} s"
    )
    for title in ("steps", "paging", *_WAYS, "codes"):
        say(f"{title}:")
        for name, count in found[title].items():
            say(f"  {name:<42} {count:>7,}")
    for failure in found["failures"]:
        say(f"FAILED: {failure['what']}")
        say(f"  replay: iovirt fuzz nic --config {found['config']} --replay {failure['file']}")
    if not found["failures"]:
        say("RTL and golden machine agree; correct drivers noticed nothing")
