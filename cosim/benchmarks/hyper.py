"""``iovirt bench hyper``: share of a 200 Gb/s link against tenants (docs/figures.md)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cosim.bench.build import build
from cosim.bench.run import run as simulate
from cosim.benchmarks.iommu import design
from models.spec.config import IommuConfig, config
from models.timing.hyper import LINK, TENANTS, VARIANTS, Traffic, share

__all__ = ["bench_hyper"]

#: Tenants whose points the RTL runs, unless asked for others.
RTL_TENANTS, _SERIAL_TENANTS = (4, 32, 1024), 32
_BENCH = "cosim.benchmarks.hyper_bench"
#: Packets of a run: the last quarter is measured; of each tenant some come before, so that its
#: context is cached.
_PACKETS, _TURNS = 600, 4


def _packets(variant: str, tenants: int, *, quick: bool) -> int:
    """A serial IOMMU takes as long for 30 packets as the others for thousands."""
    if variant == "serial":
        return 20 if quick else 30
    return max(100 if quick else _PACKETS, _TURNS * tenants)


def _rtl(variant: str, rtl: IommuConfig) -> IommuConfig | None:
    """What of the RTL a variant is; ``None`` if it is the model's alone.

    The serial one has one walk and, as far as it has them, no walk caches.
    """
    if variant == "serial":
        return replace(rtl, misses=1, walkers=1, walk_cache=0)
    return rtl if variant == "parallel" else None


def bench_hyper(
    *,
    rtl: tuple[int, ...] | None = None,
    seed: int = 1,
    quick: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return the curve of each variant, and model and RTL side by side where both are."""
    tenants = TENANTS[::3] if quick else TENANTS
    wanted = (RTL_TENANTS[:1] if quick else RTL_TENANTS) if rtl is None else rtl
    found: dict[str, Any] = {"constants": LINK.as_dict(), "variants": {}}
    for variant in VARIANTS:
        curve = {
            str(count): {"share": share(variant, Traffic(tenants=count, seed=seed)), "by": "model"}
            for count in tenants
        }
        found["variants"][variant] = curve
    for variant in VARIANTS:
        iommu = _rtl(variant, config("hyper").iommu)
        # The serial one walks for every translation, however many tenants there are.
        counts = [n for n in wanted if variant != "serial" or n <= _SERIAL_TENANTS]
        if iommu is None or not counts:
            continue
        say(f"building hyper, {variant}")
        built = build(design(iommu))
        for count in counts:
            say(f"running {variant} with {count} tenants")
            options = {
                "tenants": count,
                "packets": _packets(variant, count, quick=quick),
                "seed": seed,
                "memory_ns": LINK.memory_ns,
            }
            run = simulate(built, _BENCH, options=options, seed=seed)
            here = replace(Traffic(tenants=count, seed=seed), packets=options["packets"])
            model = share(variant, here, like_rtl=iommu)
            point = {"share": run["share"], "by": "RTL", "model": model}
            point["error"] = model / run["share"] - 1
            found["variants"][variant][str(count)] = point | run
    return found
