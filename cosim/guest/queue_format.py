"""Which kind of virtqueue features ask for."""

from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import QueueOptions, Virtqueue
from models.spec.virtio import Feature

__all__ = ["queue_format"]


def queue_format(features: int) -> tuple[type[Virtqueue], QueueOptions]:
    """Return class and options of the virtqueues of a driver that has accepted ``features``."""

    def accepted(feature: Feature) -> bool:
        return bool(features >> feature & 1)

    options = QueueOptions(
        indirect=accepted(Feature.RING_INDIRECT_DESC),
        event_idx=accepted(Feature.RING_EVENT_IDX),
        in_order=accepted(Feature.IN_ORDER),
    )
    return PackedQueue if accepted(Feature.RING_PACKED) else SplitQueue, options
