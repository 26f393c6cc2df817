"""All proofs."""

from . import (
    arbiters,
    backlog,
    contexts,
    device_tlb,
    dma_bursts,
    dma_cut,
    iotlb,
    lookups,
    misses,
    nic_build,
    nic_commit,
    nic_frames,
    nic_switch,
    nic_turns,
    nic_used,
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
    *lookups.PROOFS,
    *walk_caches.PROOFS,
    *misses.PROOFS,
    *backlog.PROOFS,
    *resolver.PROOFS,
    *walker.PROOFS,
    *contexts.PROOFS,
    *device_tlb.PROOFS,
    *parking.PROOFS,
    *dma_cut.PROOFS,
    *dma_bursts.PROOFS,
    *nic_build.PROOFS,
    *nic_turns.PROOFS,
    *nic_frames.PROOFS,
    *nic_switch.PROOFS,
    *nic_commit.PROOFS,
    *nic_used.PROOFS,
)
