"""Golden model of the NIC, written from virtio 1.3, PCI's MSI-X and ATS, and ``models.spec``.

``nic`` is the whole; ``function`` what a driver sees of a PF or VF and ``management`` what its
hypervisor sees; ``dma`` moves data with translation, parking and retry; ``atc`` keeps
translations, and judges those who do; ``rings`` are virtqueues, ``split_ring`` and ``packed_ring``
their formats; ``service`` sends and receives for one queue, with ``offload`` for checksums and
segments; ``switch`` forwards frames and ``steering`` chooses queues; ``packets`` knows what frames
hold.
Functional: everything in order of arrival, no other caches, no time but that of parked requests.
"""

from models.nic.dma import Surroundings
from models.nic.nic import GoldenNic

__all__ = ["GoldenNic", "Surroundings"]
