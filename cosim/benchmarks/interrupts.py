"""``iovirt bench interrupts``: interrupts per packet and latency (docs/figures.md)."""

from collections.abc import Callable
from typing import Any

from cosim.bench.run import run as simulate
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings

__all__ = ["LOADS", "MODERATION", "bench_interrupts"]

_BENCH = "cosim.benchmarks.interrupts_bench"
#: Cycles from one frame to the next, and frames.
LOADS = {"low": (2000, 100), "high": (100, 800)}
#: QueueCoalescing by name: used buffers, and cycles at the latest.
MODERATION = {
    "none": {"packets": 0, "cycles": 0},
    "timer": {"packets": 0, "cycles": 2000},
    "count": {"packets": 8, "cycles": 20_000},
}


def bench_interrupts(
    *,
    name: str = "default",
    seed: int = 1,
    quick: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure one function that receives; returns ``points``, keys as in docs/figures.md.

    ``quick`` receives a quarter of the frames.
    """
    say(f"building {name}")
    built = build_system(Settings(config=name))
    points = []
    for load, (gap, packets) in LOADS.items():
        for moderation, setting in MODERATION.items():
            options = {
                **setting,
                "config": name,
                "gap": gap,
                "count": packets // 4 if quick else packets,
            }
            measured = simulate(built, _BENCH, options=options, seed=seed)
            point = {"load": load, "moderation": moderation, **measured}
            say(
                f"{load:<4} {moderation:<5}: {point['interrupts_per_packet']:.3f} interrupts per "
                f"packet, latency {point['latency_p50']:.0f}, p99 {point['latency_p99']:.0f} cycles"
            )
            points.append(point)
    return {"points": points}
