"""The NIC's figures in cycles per packet, by memory latency, size and direction."""

from typing import Any

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from models.spec.config import config

__all__ = ["LATENCIES", "SIZES", "WAYS", "bench_nic"]

LATENCIES = (20, 100)
SIZES = (64, 1500)
WAYS = ("tx", "rx", "tx+rx")
_BENCH = "cosim.benchmarks.nic_bench"


def bench_nic(
    *,
    name: str = "default",
    latencies: tuple[int, ...] = LATENCIES,
    sizes: tuple[int, ...] = SIZES,
    ways: tuple[str, ...] = WAYS,
    packets: int = 100,
    functions: int = 8,
) -> dict[str, Any]:
    """Measure; returns one object per latency, size and direction."""
    built = build(Design("rtl.system:System", (config(name),)))
    found = {}
    for latency in latencies:
        for size in sizes:
            for way in ways:
                options = {
                    "config": name,
                    "latency": latency,
                    "size": size,
                    "way": way,
                    "packets": packets,
                    "functions": functions,
                }
                key = f"latency_{latency}_{size}_{way}"
                found[key] = simulate(built, _BENCH, options=options, seed=1)
    return found
