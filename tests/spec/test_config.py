"""Configurations that cannot be built are refused where they are made."""

import re

import pytest

from models.spec.config import NicConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vfs": 64, "queue_pairs": 2, "tx_slots": 256, "rx_slots": 256},
         "A NIC has at most 256 queues, not 260"),
        ({"vfs": 19}, "tx_slots must be at least 41 for 20 functions, not 40"),
        ({"tx_slots": 256, "rx_slots": 18}, "rx_slots must be at least 19 for 9 functions, not 18"),
        ({"dma_slots": 128}, "dma_slots must be a power of two in 2 to 64, not 128"),
    ],
)  # fmt: skip
def test_nic_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NicConfig(**fields)
