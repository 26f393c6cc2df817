"""Golden model of the RISC-V IOMMU, written from the specification.

``iommu`` is the whole; ``translate``, ``directory``, ``walk`` and ``msi`` are the process to
translate an IOVA; ``ats`` and ``pri`` what devices see; ``registers``, ``commands``, ``queues``,
``interrupts`` and ``hpm`` what software sees.  Functional scope: everything but custom encodings;
QoS IDs are as wide as their fields.
"""

from models.iommu.iommu import GoldenIommu
from models.iommu.parameters import Capabilities, Parameters
from models.iommu.records import (
    InvalidationMessage,
    Mrif,
    PageRequest,
    Request,
    Response,
    ResponseMessage,
)

__all__ = [
    "Capabilities",
    "GoldenIommu",
    "InvalidationMessage",
    "Mrif",
    "PageRequest",
    "Parameters",
    "Request",
    "Response",
    "ResponseMessage",
]
