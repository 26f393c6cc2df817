"""All proofs."""

from . import (
    arbiters,
    backlog,
    device_tlb,
    iotlb,
    misses,
    parking,
    resolver,
    streams,
    walk_caches,
    walker,
)

__all__ = ["PROOFS"]

PROOFS = (
    *streams.PROOFS,
    *arbiters.PROOFS,
    *iotlb.PROOFS,
    *walk_caches.PROOFS,
    *misses.PROOFS,
    *backlog.PROOFS,
    *resolver.PROOFS,
    *walker.PROOFS,
    *device_tlb.PROOFS,
    *parking.PROOFS,
)
