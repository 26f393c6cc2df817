"""Golden model of the NIC, written from virtio 1.3, PCI's MSI-X and ATS, and ``models.spec``.

``nic`` is the whole; ``function`` what a driver sees of a PF or VF; ``dma`` moves data with
translation, parking and retry; ``rings`` serves split virtqueues; ``switch`` forwards frames.
Functional: everything in order of arrival, no caches, no time but that of parked requests.
"""

from models.nic.dma import Surroundings
from models.nic.nic import GoldenNic

__all__ = ["GoldenNic", "Surroundings"]
