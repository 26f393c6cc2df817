"""All proofs."""

from . import iotlb, streams

__all__ = ["PROOFS"]

PROOFS = (*streams.PROOFS, *iotlb.PROOFS)
