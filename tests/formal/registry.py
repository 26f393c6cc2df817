"""All proofs."""

from . import iotlb, misses, streams

__all__ = ["PROOFS"]

PROOFS = (*streams.PROOFS, *iotlb.PROOFS, *misses.PROOFS)
