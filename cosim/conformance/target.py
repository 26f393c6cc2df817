"""What an implementation under test offers to the replayer."""

from typing import Protocol

from models.iommu import (
    InvalidationMessage,
    PageRequest,
    Parameters,
    Request,
    Response,
    ResponseMessage,
)

__all__ = ["Message", "Target"]

Message = InvalidationMessage | ResponseMessage


class Target(Protocol):
    """An IOMMU with its memory.  Every call returns when its effect is complete.

    Calls are coroutines, so that a target can be hardware in a simulator; one that is plain Python
    never waits in them.
    """

    async def reset(self, parameters: Parameters) -> None:
        """Reset the IOMMU, zero all memory, drop messages, remove injected errors.

        ``parameters`` are the profile's; a target that is built with its own ignores them.
        """
        ...

    async def read_memory(self, address: int, size: int) -> bytes:
        """Load as software."""
        ...

    async def write_memory(self, address: int, data: bytes) -> None:
        """Store as software."""
        ...

    async def read_register(self, offset: int, size: int) -> int:
        """Load 4 or 8 bytes."""
        ...

    async def write_register(self, offset: int, size: int, value: int) -> None:
        """Store 4 or 8 bytes; returns when the busy bits of ``ddtp`` and ``*csr`` are 0."""
        ...

    async def translate(self, requests: list[Request]) -> list[Response]:
        """Answer requests that are independent of each other, in their order."""
        ...

    async def page_request(self, message: PageRequest) -> None:
        """Deliver a Page Request Message."""
        ...

    async def invalidation_completion(
        self, *, rid: int, segment: int | None, itag_vector: int, count: int
    ) -> None:
        """Deliver an Invalidate Completion Message."""
        ...

    async def messages(self) -> list[Message]:
        """Return messages sent to devices since the last call, in order."""
        ...

    async def inject(self, errors: list[tuple[int, int, int]]) -> None:
        """Fail the IOMMU's accesses to ``(address, size, kind)``; kind 1 is an access fault.

        2 is corruption.  Replaces what was injected before.
        """
        ...

    async def settle(self) -> None:
        """Wait until nothing happens any more: commands done or waiting, records written."""
        ...
