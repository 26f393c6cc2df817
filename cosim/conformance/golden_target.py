"""The golden IOMMU as a target."""

from models.iommu import GoldenIommu, PageRequest, Parameters, Request, Response
from models.memory import FaultyMemory, Memory

from .target import Message

__all__ = ["GoldenTarget"]


class GoldenTarget:
    """A :class:`~cosim.conformance.target.Target` that computes.

    Its memory ends where physical addresses end; software's accesses beyond raise
    :class:`~models.memory.AccessFault`.

    Parameters
    ----------
    parameters : Parameters or None
        What it has; ``None``: whatever the profile says.
    """

    def __init__(self, parameters: Parameters | None = None) -> None:
        self._parameters = parameters
        self._build(parameters or Parameters())

    def _build(self, parameters: Parameters) -> None:
        self._memory = Memory(parameters.capabilities.pas)
        self._checked = FaultyMemory(self._memory)
        self.iommu = GoldenIommu(self._checked, parameters)

    async def reset(self, parameters: Parameters) -> None:
        """Begin anew."""
        self._build(self._parameters or parameters)

    async def read_memory(self, address: int, size: int) -> bytes:
        """Load as software."""
        return self._memory.read(address, size)

    async def write_memory(self, address: int, data: bytes) -> None:
        """Store as software."""
        self._memory.write(address, data)

    async def read_register(self, offset: int, size: int) -> int:
        """Load 4 or 8 bytes."""
        return self.iommu.read_register(offset, size)

    async def write_register(self, offset: int, size: int, value: int) -> None:
        """Store 4 or 8 bytes."""
        self.iommu.write_register(offset, size, value)

    async def translate(self, requests: list[Request]) -> list[Response]:
        """Answer requests, one after the other."""
        return [self.iommu.translate(request) for request in requests]

    async def page_request(self, message: PageRequest) -> None:
        """Deliver a Page Request Message."""
        self.iommu.page_request(message)

    async def invalidation_completion(
        self, *, rid: int, segment: int | None, itag_vector: int, count: int
    ) -> None:
        """Deliver an Invalidate Completion Message."""
        self.iommu.invalidation_completion(
            rid=rid, segment=segment, itag_vector=itag_vector, count=count
        )

    async def messages(self) -> list[Message]:
        """Return messages sent since the last call."""
        return self.iommu.take_messages()

    async def inject(self, errors: list[tuple[int, int, int]]) -> None:
        """Fail accesses of the IOMMU."""
        self._checked.inject(errors)

    async def settle(self) -> None:
        """Do nothing: every call has completed."""
