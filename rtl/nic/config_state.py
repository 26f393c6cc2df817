"""What the common configuration keeps in RAM per function and per queue."""

from amaranth.lib import data
from amaranth.utils import exact_log2

from models.spec.config import NicConfig
from models.spec.virtio import MSI_NO_VECTOR

__all__ = [
    "ERROR_WORD",
    "QUEUE_SHIFT",
    "QUEUE_WORDS",
    "FunctionRow",
    "QueueWords",
    "reset_row",
    "reset_words",
]

#: 32-bit words per queue.
QUEUE_WORDS = 8
QUEUE_SHIFT = exact_log2(QUEUE_WORDS)
#: The word that has the reason code.
ERROR_WORD = 1


class FunctionRow(data.Struct):
    """Common configuration of a function that is not per queue, and its ISR status."""

    device_feature_select: 32
    driver_feature_select: 32
    driver_features: 64
    config_msix_vector: 16
    device_status: 8
    config_generation: 8
    queue_select: 16
    isr: 8


class QueueWords(data.Struct):
    """Configuration of a queue, in the order of its words."""

    size: 16
    msix_vector: 16
    error: 8  # QueueError; outlives a reset, until the queue is started again
    reserved: 24
    desc: 64
    driver: 64
    device: 64


def reset_row():
    """Return the row of a function after a reset."""
    return FunctionRow.const({"config_msix_vector": MSI_NO_VECTOR})


def reset_words(config: NicConfig) -> list[int]:
    """Words of a queue after a reset, the lowest first."""
    fields = {"size": config.queue_size_max, "msix_vector": MSI_NO_VECTOR}
    value = QueueWords.const(fields).as_bits()
    return [value >> 32 * word & 0xFFFF_FFFF for word in range(QUEUE_WORDS)]
