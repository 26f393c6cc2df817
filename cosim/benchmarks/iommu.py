"""``iovirt bench iommu``: the IOMMU's figures in cycles, by memory latency (docs/figures.md)."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from amaranth.hdl import UnusedElaboratable

from cosim.bench.build import Built, Design, build, verilog_text
from cosim.bench.ports import TOP, Tap
from cosim.bench.run import run as simulate
from cosim.benchmarks.storage import storage_bits
from models.spec.config import IommuConfig, config
from models.spec.translation import TranslationRequest, TranslationResponse
from rtl.bus.axi import Axi4
from rtl.iommu_bridge import IommuWithBridge

__all__ = ["LATENCIES", "WALKERS", "bench_iommu", "design", "sixteen_leaves"]

LATENCIES = (1, 20, 100)
#: Walk contexts of the curve of misses.
WALKERS = (1, 2, 4, 8, 16, 32, 64, 128)
_BENCH = "cosim.benchmarks.iommu_bench"
_DATA_LATENCY = 2
_PAGES, _MANY_PAGES = 256, 1000


def design(rtl: IommuConfig) -> Design:
    """The IOMMU with its bridge; its own ports are logged."""
    # The component is made for its signature alone; it says so when it is collected.
    warnings.simplefilter("ignore", UnusedElaboratable)
    members = IommuWithBridge(rtl).signature.members
    axi = {name: members[name].signature for name in ("dma", "memory", "tables")}
    assert all(isinstance(port, Axi4) for port in axi.values())
    shapes = {
        "translate__request": TranslationRequest,
        "translate__response": TranslationResponse,
        "tables__ar": axi["tables"].address_layout,
        "tables__r": axi["tables"].read_layout,
        "tables__aw": axi["tables"].address_layout,
        "dma__ar": axi["dma"].address_layout,
        "memory__ar": axi["memory"].address_layout,
        "memory__aw": axi["memory"].address_layout,
    }
    taps = tuple(Tap(instance=TOP, name=name, shape=shape) for name, shape in shapes.items())
    return Design("rtl.iommu_bridge:IommuWithBridge", (rtl,), taps)


def sixteen_leaves(rtl: IommuConfig) -> IommuConfig:
    """Return the configuration with at most 16 leaf translations cached in all.

    Those are the IOTLB's; walk caches hold non-leaf entries alone and stay.
    """
    return replace(rtl, iotlb_ways=7, iotlb_sets=2, iotlb_superpages=1)


class _Bench:
    """Runs parts of the measurement on builds of one configuration."""

    def __init__(self, seed: int, *, quick: bool) -> None:
        self._seed, self._quick = seed, quick

    def measure(self, built: Built, latency: int, *parts: str, pages: int = _PAGES) -> dict:
        options = {
            "latency": latency,
            "data_latency": _DATA_LATENCY,
            "parts": parts,
            "seed": self._seed,
            "pages": pages,
            "quick": self._quick,
        }
        return simulate(built, _BENCH, options=options, seed=self._seed)

    def figures(self, whole: Built, few: Built | None, latency: int) -> dict[str, Any]:
        found = self.measure(whole, latency, "hits", "bridge")
        for key, built in (("default", whole), ("two_stage", few)):
            if built is not None:
                rate = self.measure(built, latency, "random")["random_cycles_per_request"]
                found[f"random64_{key}_cycles_per_request"] = rate
        found |= self.measure(whole, latency, "iotinval")
        found |= self.measure(whole, latency, "fairness", pages=_MANY_PAGES)
        return found


def bench_iommu(
    *,
    name: str = "default",
    latencies: tuple[int, ...] = LATENCIES,
    walkers: tuple[int, ...] = WALKERS,
    seed: int = 1,
    quick: bool = False,
    sixteen: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure; returns one object per latency, keys as in docs/figures.md.

    ``quick`` measures fewer commands of each kind, and of ``walkers`` only those in the build.
    Without ``sixteen`` nothing is measured with 16 cached translations, which takes a build.
    """
    rtl = config(name).iommu
    bench = _Bench(seed, quick=quick)
    say(f"building {name}")
    designs = {"whole": design(rtl)}
    if sixteen:
        designs["sixteen"] = design(sixteen_leaves(rtl))
    builds = {which: build(each) for which, each in designs.items()}
    whole, few = builds["whole"], builds.get("sixteen")
    storage = {which: storage_bits(verilog_text(each)) for which, each in designs.items()}
    found: dict[str, Any] = {}
    for latency in latencies:
        say(f"measuring at L = {latency}")
        figures = bench.figures(whole, few, latency)
        found[f"latency_{latency}"] = figures | {"storage_bits": storage, "all_miss_per_kcycle": {}}
    for count in (rtl.walkers,) if quick else walkers:
        say(f"building with {count} walk contexts")
        built = whole if quick else build(design(replace(rtl, misses=count, walkers=count)))
        for latency in latencies:
            rate = bench.measure(built, latency, "all_miss", pages=_MANY_PAGES)
            curve = found[f"latency_{latency}"]["all_miss_per_kcycle"]
            curve[str(count)] = rate["all_miss_per_kcycle"]
    return found
