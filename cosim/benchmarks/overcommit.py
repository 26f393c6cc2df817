"""``iovirt bench overcommit``: guests with more memory than there is (docs/overcommit.md)."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from cosim.bench.run import run as simulate
from cosim.benchmarks.overcommit_guest import PAGES_MIN
from cosim.benchmarks.overcommit_load import Load
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.spec.config import SystemConfig, config

__all__ = ["FRAMES", "GUESTS", "PAGES", "bench_overcommit", "checked_sizes", "loads"]

_BENCH = "cosim.benchmarks.overcommit_bench"
GUESTS, PAGES, FRAMES = 8, 128, 60
_PAGES_MAX, _FRAMES_MAX = 4096, 100_000
#: What is on beside swapping, and the share of guests' memory that exists: one of so many.
_POINTS = (
    ((), 2),
    (("compression",), 2),
    (("sharing",), 2),
    (("balloon",), 2),
    (("compression", "sharing", "balloon"), 2),
    ((), 4),
    (("compression", "sharing", "balloon"), 4),
)
_MECHANISMS = ("compression", "sharing", "balloon")


def checked_sizes(system: SystemConfig, *, guests: int, pages: int, frames: int) -> None:
    """Raise ``ValueError`` if a system cannot run that."""
    for name, value, low, high in (
        ("guests", guests, 2, system.nic.vfs),
        ("pages", pages, PAGES_MIN, _PAGES_MAX),
        ("frames", frames, 2, _FRAMES_MAX),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be in {low} to {high} with {system.name}, not {value}")


def loads(*, guests: int, pages: int, frames: int, seed: int) -> Iterator[Load]:
    """Each point: all memory there is, then with a half and a quarter of it."""
    common: dict[str, Any] = {"guests": guests, "pages": pages, "frames": frames, "seed": seed}
    everything = guests * pages
    off: dict[str, bool] = dict.fromkeys(("swap", *_MECHANISMS), False)
    yield Load(memory_pages=everything, mechanisms=off, **common)
    for names, share in _POINTS:
        on = off | dict.fromkeys(("swap", *names), True)
        yield Load(memory_pages=everything // share, mechanisms=on, **common)


def bench_overcommit(
    *,
    name: str = "default",
    guests: int | None = None,
    pages: int = PAGES,
    frames: int = FRAMES,
    seed: int = 1,
    quick: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure; returns ``points``, keys as in docs/overcommit.md.

    ``guests`` is as many as there are VFs, up to ``GUESTS``, if not said otherwise.  ``quick`` runs
    three points: everything resident, everything on, and that with a quarter of memory.
    """
    system = config(name)
    guests = min(GUESTS, system.nic.vfs) if guests is None else guests
    checked_sizes(system, guests=guests, pages=pages, frames=frames)
    every = list(loads(guests=guests, pages=pages, frames=frames, seed=seed))
    if quick:
        every = [load for load in every if all(load.mechanisms.values()) or load is every[0]]
    say(f"building {name}; seed {seed}")
    built = build_system(Settings(config=name))
    points = []
    for load in every:
        point = simulate(built, _BENCH, options=asdict(load), seed=seed)
        say(
            f"1/{guests * pages // load.memory_pages} resident, {_named(load.mechanisms):<36}: "
            f"{point['throughput']:.3f} bytes per cycle, {point['faults']} faults, "
            f"{point['lost']} lost, {point['mismatches']} wrong"
        )
        points.append(point)
    return {"points": points}


def _named(mechanisms: dict[str, bool]) -> str:
    return ", ".join(name for name, on in mechanisms.items() if on) or "pinned"
