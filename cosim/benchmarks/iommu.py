"""``iovirt bench iommu``: the IOMMU's figures in cycles, by memory latency."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from amaranth.hdl import UnusedElaboratable

from cosim.bench.build import Built, Design, build
from cosim.bench.ports import Tap
from cosim.bench.run import run as simulate
from models.spec.config import IommuConfig, config
from models.spec.translation import TranslationRequest, TranslationResponse
from rtl.bus.axi import Axi4
from rtl.iommu.admission import IOVA_BITS
from rtl.iommu.seams import Invalidate
from rtl.iommu_bridge import DmaUser, IommuWithBridge

__all__ = ["LATENCIES", "WALKERS", "bench_iommu", "sixteen_leaves", "storage_bits"]

LATENCIES = (1, 20, 100)
#: Walk contexts of the curve of misses.
WALKERS = (1, 2, 4, 8, 16, 32, 64, 128)
_BENCH = "cosim.benchmarks.iommu_bench"
_DATA_LATENCY = 2


def _design(rtl: IommuConfig) -> Design:
    """The IOMMU with its bridge, and the ports that are measured."""
    top = IommuWithBridge(rtl)
    tables = top.signature.members["tables"].signature
    memory = top.signature.members["memory"].signature
    up = Axi4(addr_width=IOVA_BITS, user=DmaUser, data_width=64, id_width=4)
    assert isinstance(tables, Axi4)
    assert isinstance(memory, Axi4)
    taps = (
        Tap(instance="iommu", name="translate1__request", shape=TranslationRequest),
        Tap(instance="iommu", name="translate1__response", shape=TranslationResponse),
        Tap(instance="iommu", name="memory__ar", shape=tables.address_layout),
        Tap(instance="iommu", name="memory__r", shape=tables.read_layout),
        Tap(instance="bridge", name="up__ar", shape=up.address_layout),
        Tap(instance="bridge", name="down__ar", shape=memory.address_layout),
        Tap(instance="iommu.translator", name="invalidate", shape=Invalidate),
    )
    return Design("rtl.iommu_bridge:IommuWithBridge", (rtl,), taps)


def sixteen_leaves(rtl: IommuConfig) -> IommuConfig:
    """Return the configuration with at most 16 leaf translations cached in all."""
    return replace(rtl, iotlb_ways=7, iotlb_sets=2, iotlb_superpages=1)


def storage_bits(rtl: IommuConfig) -> dict[str, int]:
    """Bits that the caches hold, by cache: tags, payloads and valid bits as specified."""
    from models.spec.iotlb import IotlbFill

    entry = IotlbFill.as_shape().size + 1
    pages = rtl.iotlb_ways * rtl.iotlb_sets
    return {"iotlb": pages * entry, "iotlb_superpages": rtl.iotlb_superpages * entry}


def _measure(built: Built, latency: int, parts: list[str], seed: int, pages: int = 256) -> dict:
    options = {
        "latency": latency,
        "data_latency": _DATA_LATENCY,
        "parts": parts,
        "seed": seed,
        "pages": pages,
    }
    return simulate(built, _BENCH, options=options, seed=seed)


def bench_iommu(
    *,
    name: str = "default",
    latencies: tuple[int, ...] = LATENCIES,
    walkers: tuple[int, ...] = WALKERS,
    seed: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure; returns one object per latency, keys as in docs/figures.md."""
    rtl = config(name).iommu
    # Components are made for their signatures alone.
    warnings.simplefilter("ignore", UnusedElaboratable)
    say(f"building {name}")
    whole, few = build(_design(rtl)), build(_design(sixteen_leaves(rtl)))
    found: dict[str, Any] = {}
    for latency in latencies:
        say(f"measuring at L = {latency}")
        figures = _measure(whole, latency, ["hits", "bridge"], seed)
        random = _measure(whole, latency, ["random"], seed)["random_cycles_per_request"]
        figures["random64_default_cycles_per_request"] = random
        random = _measure(few, latency, ["random"], seed)["random_cycles_per_request"]
        figures["random64_two_stage_cycles_per_request"] = random
        figures["storage_bits"] = {
            "default": storage_bits(rtl),
            "sixteen": storage_bits(sixteen_leaves(rtl)),
        }
        figures["all_miss_per_kcycle"] = {}
        found[f"latency_{latency}"] = figures
    for count in walkers:
        say(f"building with {count} walk contexts")
        built = build(_design(replace(rtl, misses=count, walkers=count)))
        for latency in latencies:
            rate = _measure(built, latency, ["all_miss"], seed, pages=1000)
            curve = found[f"latency_{latency}"]["all_miss_per_kcycle"]
            curve[str(count)] = rate["all_miss_per_kcycle"]
    return found
