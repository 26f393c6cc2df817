"""The port that guest and hypervisor software is written against.

Two machines offer it: the RTL (:mod:`cosim.bench.machine`) and the golden machine
(:mod:`cosim.golden_machine`).  Time is counted in cycles of the hardware's clock.  Software is
plain ``async`` Python that awaits nothing but what this module names.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import numpy as np

__all__ = ["Event", "MessageHandler", "PhysicalMemory", "Port", "Task"]

#: Called with address, data and cycle of a 32-bit message-signalled interrupt.
MessageHandler = Callable[[int, int, int], None]


class PhysicalMemory(Protocol):
    """Simulated memory by system physical address; accesses take no time."""

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes; ``ValueError`` if they are not memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store bytes; ``ValueError`` if they are not memory."""
        ...

    def view(self, address: int, size: int) -> np.ndarray:
        """Return the bytes themselves, as an array of ``uint8``."""
        ...


class Event(Protocol):
    """A flag that tasks wait for."""

    @property
    def is_set(self) -> bool:
        """Whether :meth:`set` was called since the last :meth:`clear`."""
        ...

    def set(self) -> None:
        """Set the flag and wake who waits."""
        ...

    def clear(self) -> None:
        """Clear the flag."""
        ...

    def wait(self) -> Awaitable[None]:
        """Return when the flag is set."""
        ...


class Task(Protocol):
    """A coroutine that runs on its own."""

    @property
    def done(self) -> bool:
        """Whether it has ended, also by an exception."""
        ...

    def join(self) -> Awaitable[Any]:
        """Wait for its end; return its result or raise its exception."""
        ...

    def cancel(self) -> None:
        """End it where it waits."""
        ...


class Port(Protocol):
    """What software sees of a machine.

    ``space`` is ``"iommu"`` or ``"nic"``, the two register ports, or ``"iommu_config"``, the PCI
    configuration space of the IOMMU (those of the NIC are in its register map).  Accesses have 1,
    2, 4 or 8 bytes and are naturally aligned; 8 bytes go as two halves, the high one first.
    """

    @property
    def memory(self) -> PhysicalMemory:
        """Memory of the machine."""
        ...

    def now(self) -> int:
        """Return the current cycle."""
        ...

    def mmio_read(self, space: str, offset: int, size: int = 4) -> Awaitable[int]:
        """Load from a register; returns when the answer has come."""
        ...

    def mmio_write(self, space: str, offset: int, value: int, size: int = 4) -> Awaitable[None]:
        """Store to a register; returns when the response has come."""
        ...

    def mmio_post(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register without waiting; later accesses of the space stay behind it."""
        ...

    def sleep(self, cycles: int) -> Awaitable[None]:
        """Let ``cycles`` pass."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> Task:
        """Start a task.  An exception that nobody joins ends the run."""
        ...

    def event(self) -> Event:
        """Make a new event."""
        ...

    def on_message(self, base: int, size: int, handler: MessageHandler) -> None:
        """Call ``handler`` for each 32-bit write of the hardware into a range of addresses."""
        ...

    def send_frame(self, frame: bytes) -> Awaitable[None]:
        """Put a frame on the wire into the Ethernet port; returns when it is queued."""
        ...

    def on_frame(self, handler: Callable[[bytes, int], None]) -> None:
        """Call ``handler`` with each frame that leaves the Ethernet port, and its last cycle."""
        ...

    def on_pin(self, handler: Callable[[bool], None]) -> None:
        """Call ``handler`` with the level of the NIC's interrupt pin whenever it changes."""
        ...
