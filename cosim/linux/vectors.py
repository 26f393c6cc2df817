"""MSI-X vectors of a function whose client keeps the table, as QEMU does."""

import os
from collections.abc import Awaitable, Callable

from models.spec.nic import MSIX_ENTRY_BYTES

__all__ = ["Pin", "Vectors"]


class Vectors:
    """Eventfds of a client, and the hardware's table with a message for each.

    Parameters
    ----------
    store : callable
        ``await store(offset, value)`` writes 32 bits of the hardware's table.
    route : callable
        ``route(vector, handler)`` has messages of a vector call a handler; returns their address
        and data.
    """

    def __init__(
        self,
        store: Callable[[int, int], Awaitable[None]],
        route: Callable[[int, Callable[[], None]], tuple[int, int]],
    ) -> None:
        self._store, self._route = store, route
        self._eventfds: dict[int, int] = {}
        #: Messages that reached an eventfd.
        self.signals = 0

    async def set(self, vector: int, eventfd: int | None) -> None:
        """Let a vector's messages signal an eventfd, or mask it."""
        old = self._eventfds.pop(vector, None)
        if old is not None:
            os.close(old)
        if eventfd is not None:
            self._eventfds[vector] = os.dup(eventfd)
        elif old is None:
            return
        await self._set_entry(vector)

    async def restore(self) -> None:
        """Fill the table again, after a reset."""
        for vector in list(self._eventfds):
            await self._set_entry(vector)

    def close(self) -> None:
        """Forget all eventfds; the table is left as it is."""
        for fd in self._eventfds.values():
            os.close(fd)
        self._eventfds.clear()

    async def _set_entry(self, vector: int) -> None:
        entry = MSIX_ENTRY_BYTES * vector
        await self._store(entry + 12, 1)
        if vector not in self._eventfds:
            return
        address, data = self._route(vector, lambda: self._signal(vector))
        for at, value in ((0, address & 0xFFFF_FFFF), (4, address >> 32), (8, data), (12, 0)):
            await self._store(entry + at, value)

    def _signal(self, vector: int) -> None:
        eventfd = self._eventfds.get(vector)
        if eventfd is not None:
            os.eventfd_write(eventfd, 1)
            self.signals += 1


class Pin:
    """Eventfd of an interrupt pin: a level on one side, edges that mask themselves on the other."""

    def __init__(self) -> None:
        self._eventfd: int | None = None
        self._level = self._masked = False
        #: Times that the eventfd was signalled.
        self.signals = 0

    def level(self, asserted: bool) -> None:
        """Follow the hardware's pin."""
        self._level = asserted
        self._look()

    def set(self, eventfd: int | None) -> None:
        """Let the pin signal an eventfd, or nobody; it is not masked then."""
        self.close()
        self._masked = False
        if eventfd is not None:
            self._eventfd = os.dup(eventfd)
        self._look()

    def mask(self, masked: bool) -> None:
        """Mask the pin, or not: it signals again if it is asserted."""
        self._masked = masked
        self._look()

    def close(self) -> None:
        """Forget the eventfd."""
        if self._eventfd is not None:
            os.close(self._eventfd)
        self._eventfd = None

    def _look(self) -> None:
        if self._level and not self._masked and self._eventfd is not None:
            self._masked = True
            os.eventfd_write(self._eventfd, 1)
            self.signals += 1
