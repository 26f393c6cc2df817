"""``iovirt bench nic``: cycles per packet of the NIC behind the IOMMU (docs/figures.md)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from cosim.bench.build import Built, Design, build
from cosim.bench.dma_taps import dma_taps
from cosim.bench.run import run as simulate
from models.spec.config import SystemConfig, config

__all__ = [
    "DIRECTIONS",
    "FRAMES",
    "FUNCTIONS",
    "IOMMU",
    "LATENCIES",
    "PACKETS",
    "QUICK",
    "RINGS",
    "Points",
    "bench_nic",
]

FRAMES = (64, 256, 1500, 9000)
RINGS = ("split", "packed")
FUNCTIONS = (1, 2, 8)
DIRECTIONS = ("tx", "rx", "both")
IOMMU = ("on", "off")
LATENCIES = (20, 100)
_BENCH = "cosim.benchmarks.nic_bench"
#: Frames of each function in one direction, by size: as many as make what overload drops even out.
PACKETS = {64: 600, 256: 600, 1500: 200, 9000: 100}


@dataclass(frozen=True, kw_only=True)
class Points:
    """Which points are measured: all combinations of these."""

    frames: tuple[int, ...] = FRAMES
    rings: tuple[str, ...] = RINGS
    functions: tuple[int, ...] = FUNCTIONS
    directions: tuple[str, ...] = DIRECTIONS
    iommu: tuple[str, ...] = IOMMU
    latencies: tuple[int, ...] = LATENCIES

    def each(self) -> list[dict[str, Any]]:
        """Return what identifies each point."""
        names = ("latency", "frame", "ring", "functions", "direction", "iommu")
        every = (
            *(self.latencies, self.frames, self.rings),
            *(self.functions, self.directions, self.iommu),
        )
        return [dict(zip(names, values, strict=True)) for values in product(*every)]


#: A few points, those of the goals.
QUICK = Points(frames=(64, 1500), functions=(8,), latencies=(20,))


def _system(found: SystemConfig, *, longest: int) -> SystemConfig:
    """The configuration with all ring formats, and an MTU that the longest frame fits."""
    nic = replace(found.nic, packed=True)
    if longest > nic.mtu + 14:
        nic = replace(nic, mtu=9000, frame_bytes=16384)
    return replace(found, nic=nic)


def bench_nic(
    *,
    name: str | SystemConfig = "default",
    points: Points | None = None,
    packets: int | None = None,
    gap: int = 0,
    seed: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure; returns ``points`` and ``round_trip_cycles``, keys as in docs/figures.md.

    ``name`` is a configuration's, or the configuration.
    Runs are of ``packets`` frames over all functions, or ``PACKETS`` of each.  The port offers a
    frame every ``gap`` cycles, with 0 as many as its bus can take.  Frames that the configuration's
    MTU does not allow are measured on one whose frame slots are 16 KiB and whose MTU is 9000, alike
    in everything else.
    """
    points = points or Points()
    asked = config(name) if isinstance(name, str) else name
    builds: dict[SystemConfig, Built] = {}

    def built(longest: int) -> Built:
        system = _system(asked, longest=longest)
        if system not in builds:
            say(f"building {asked.name}, MTU {system.nic.mtu}")
            builds[system] = build(Design("rtl.system:System", (system,), dma_taps(system)))
        return builds[system]

    found = []
    for point in points.each():
        point["gap"] = gap
        frames = packets or PACKETS[point["frame"]] * point["functions"]
        options = {**point, "packets": frames, "seed": seed}
        measured = simulate(built(point["frame"]), _BENCH, test="throughput", options=options)
        say(
            f"L {point['latency']:<3} {point['frame']:>4} B {point['ring']:<6} "
            f"{point['direction']:<4} {point['functions']} functions, IOMMU {point['iommu']:<3}: "
            f"{measured['cycles_per_packet']:8.2f} cycles per packet"
        )
        found.append({**point, **measured})
    round_trip = {}
    for latency in points.latencies:
        options = {"latency": latency, "seed": seed}
        measured = simulate(built(64), _BENCH, test="round_trip", options=options)
        round_trip[f"latency_{latency}"] = measured
    return {"points": found, "round_trip_cycles": round_trip}
