"""A golden IOMMU in the implementation's place, to try the fuzzer itself on."""

from typing import Any

from cosim.conformance.golden_target import GoldenTarget
from models.iommu import Response

from .scenario import parse_row

__all__ = ["GoldenImplementation"]


class GoldenImplementation(GoldenTarget):
    """A golden target as :class:`~cosim.fuzz.lockstep.Implementation`."""

    async def together(
        self, rows: list[list[Any]], store: tuple[int, int, int] | None
    ) -> list[Response]:
        """Translate one by one, then store."""
        responses = await self.translate([parse_row(row) for row in rows])
        if store:
            await self.write_register(*store)
        return responses
