"""IOTLB hit rates by the cache model, from the transfers at the IOTLB's ports alone."""

from collections.abc import Iterable, Mapping

from cosim.bench.ports import Tap
from models.cache import Fill, HitCounts, Invalidation, IotlbModel, Lookup
from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup

__all__ = ["IOTLB", "PORTS", "TAPS", "counts_from_transfers"]

#: Instance of the IOTLB within the system.
IOTLB = "iommu.translator.iotlb"
#: Its ports that decide what it holds, and what crosses them.
PORTS = {"lookup": IotlbLookup, "fill": IotlbFill, "invalidate": IotlbInvalidate}
TAPS = tuple(Tap(instance=IOTLB, name=name, shape=shape) for name, shape in PORTS.items())

#: Transfers of a port: cycle, payload as a number.
Transfers = Iterable[tuple[int, int]]


def counts_from_transfers(
    transfers: Mapping[str, Transfers], config: IommuConfig
) -> dict[int, HitCounts]:
    """Return hits and misses by device_id; ``transfers`` by port, each in order of cycles."""
    model = IotlbModel.from_config(config)
    model.replay(
        lookups=((cycle, Lookup.from_bits(bits)) for cycle, bits in transfers["lookup"]),
        fills=((cycle, Fill.from_bits(bits)) for cycle, bits in transfers["fill"]),
        invalidations=(
            (cycle, Invalidation.from_bits(bits)) for cycle, bits in transfers["invalidate"]
        ),
    )
    return model.counts
