"""Runs the demonstration on the RTL, in a simulation of its own."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from cosim.bench.build import Built, Design, build
from cosim.bench.run import run as simulate
from cosim.report.hit_rates import IOTLB, TAPS
from cosim.report.waves import append_manifest, hit_counts
from cosim.scenarios.result import Result
from cosim.scenarios.settings import Settings

__all__ = ["SHOWN", "build_system", "run_demo"]

_BENCH = "cosim.scenarios.rtl_bench"
#: What waves show: all ports of the system, and those of the IOTLB.
SHOWN = (("", 1), (IOTLB, 1))


def build_system(settings: Settings) -> Built:
    """Return the simulation that a demonstration runs on."""
    design = Design("rtl.system:System", (settings.system,), TAPS, SHOWN)
    return build(design, settings.sim, "vcd")


def run_demo(
    settings: Settings,
    capture: Path,
    *,
    waves: Path | None = None,
    progress: bool = False,
    timeout: float = 3 * 3600,
) -> Result:
    """Run it; hit rates are counted by hardware, by the cache model and from waves.

    ``waves`` is where the waves are kept, put there once they are whole.  Raises
    :class:`~cosim.bench.build.ToolError` and :class:`~cosim.bench.run.SimulationError`.
    """
    built = build_system(settings)
    folder = waves.resolve().parent if waves else None
    with tempfile.TemporaryDirectory(prefix=".iovirt-waves-", dir=folder) as scratch:
        file = Path(scratch) / "waves.vcd"
        options = {
            "settings": asdict(settings),
            "capture": str(capture.resolve()),
            "progress": progress,
        }
        outcome = simulate(
            built, _BENCH, options=options, seed=settings.seed, waves=file, timeout=timeout
        )
        result = Result.from_dict(outcome)
        counted = {f.device_id: (f.lookups, f.misses) for f in result.functions}
        manifest = json.loads(built.manifest.read_text(encoding="utf-8"))
        append_manifest(file, manifest, settings.system.iommu, counted)
        _wave_rates(file, result)
        if waves is not None:
            os.replace(file, waves)
    return result


def _wave_rates(file: Path, result: Result) -> None:
    counts = hit_counts(file)
    for function in result.functions:
        found = counts.get(function.device_id)
        if found is not None:
            function.iotlb_hit_rate.waves = found.rate
        result.problems += function.counted_elsewhere(found, "in the waves")
