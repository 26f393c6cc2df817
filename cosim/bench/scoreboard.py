"""Holds what came against what should have come, and fails on silence."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Scoreboard"]


class Scoreboard:
    """Compares observations with expectations.

    Parameters
    ----------
    name : str
        For messages.
    key : callable, optional
        Observations may overtake each other if this gives them different values (a tag, say);
        within one value the order must be that of the expectations.
    """

    def __init__(self, name: str, key: Callable[[Any], Hashable] | None = None):
        self.name, self.matched = name, 0
        self._key = key or (lambda item: None)
        self._expected: dict[Hashable, deque] = {}

    def expect(self, item: Any) -> None:
        """Add something that must come."""
        self._expected.setdefault(self._key(item), deque()).append(item)

    def observe(self, item: Any) -> None:
        """Compare what came with the oldest expectation of its key."""
        queue = self._expected.get(self._key(item))
        if not queue:
            raise AssertionError(f"{self.name}: unexpected {item!r} after {self.matched} matches")
        wanted = queue.popleft()
        if item != wanted:
            raise AssertionError(
                f"{self.name}: got {item!r}, expected {wanted!r}, after {self.matched} matches"
            )
        self.matched += 1

    @property
    def missing(self) -> list:
        """What has not come yet."""
        return [item for queue in self._expected.values() for item in queue]

    def finish(self, at_least: int) -> None:
        """Assert that everything expected came, and that it was enough to mean something."""
        missing = self.missing
        if missing:
            shown = ", ".join(repr(item) for item in missing[:5])
            raise AssertionError(f"{self.name}: {len(missing)} never came: {shown}")
        if self.matched < at_least:
            raise AssertionError(f"{self.name}: only {self.matched} of {at_least} compared")
