"""``iovirt bench faults``: four ways to meet a page that is not there (docs/figures.md)."""

from collections.abc import Callable
from itertools import product
from typing import Any

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from cosim.benchmarks.fault_times import PARTS, fault_taps
from cosim.benchmarks.faulting import POLICIES
from models.spec.config import config

__all__ = ["DIRECTIONS", "RATES", "bench_faults"]

RATES = (0.0, 0.001, 0.01, 0.1)
DIRECTIONS = ("tx", "rx")
_BENCH = "cosim.benchmarks.faults_bench"
#: Frames of the function that faults, by rate: a few faults at the least.
_PACKETS = {0.0: 2000, 0.001: 6000, 0.01: 3000, 0.1: 1000}


def bench_faults(
    *,
    name: str = "default",
    policies: tuple[str, ...] = POLICIES,
    rates: tuple[float, ...] = RATES,
    directions: tuple[str, ...] = DIRECTIONS,
    functions: int = 2,
    latency: int = 20,
    seed: int = 1,
    quick: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure; returns ``points``, keys as in docs/figures.md.

    Pinned memory has no faults at any rate: the point of a direction is measured once.  ``quick``
    sends a tenth of the frames.
    """
    say(f"building {name}")
    built = build(Design("rtl.system:System", (config(name),), fault_taps()))
    points: list[dict[str, Any]] = []
    for direction in directions:
        pinned: dict[str, Any] = {}
        for policy, rate in product(("pin", *(p for p in policies if p != "pin")), rates):
            if policy == "pin" and pinned:
                measured = pinned
            else:
                packets = _PACKETS.get(rate, 2000) // (10 if quick else 1)
                options = {
                    **{"policy": policy, "rate": rate, "direction": direction},
                    **{"functions": functions, "packets": packets},
                    **{"latency": latency, "seed": seed},
                }
                measured = simulate(built, _BENCH, options=options, seed=seed)
            pinned = pinned or measured
            point = _point(policy, rate, direction, measured, pinned)
            points.append(point)
            say(
                f"{direction} {policy:<5} {rate:<5}: goodput {point['goodput_rel']:.3f}, p99 "
                f"{point['p99_rel']:.2f}, others {point['others_p99_rel']:.2f}, lost "
                f"{point['lost']}, dropped {point['dropped_counted']}"
            )
    return {"points": points}


def _point(
    policy: str, rate: float, direction: str, measured: dict[str, Any], pinned: dict[str, Any]
) -> dict[str, Any]:
    """Relate a measurement to that of pinned memory."""

    def relative(name: str) -> float:
        return measured[name] / pinned[name]

    return {
        "policy": policy,
        "rate": rate,
        "direction": direction,
        "goodput_rel": relative("goodput"),
        "lost": measured["lost"],
        "dropped_counted": measured["dropped_counted"],
        "p50": measured["p50"],
        "p99_rel": relative("p99"),
        "others_p99_rel": relative("others_p99"),
        "service_cycles": {part: measured[part] for part in (*PARTS, "total")},
        **{
            key: measured[key]
            for key in ("goodput", "p99", "others_p99", "mismatches", "faults", "backed_up")
        },
    }
