"""A machine of golden models: the :class:`cosim.port.Port` without a simulator.

Golden IOMMU and NIC over one memory, on the scheduler of :mod:`cosim.kernel`.  Time is nominal:
a register access and each thing that the NIC does take a fixed number of cycles.  There are no
caches, so its counters know no hit rate.
"""

import os
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from cosim.kernel import Event, Kernel, Task
from cosim.port import MessageHandler
from models.iommu import (
    GoldenIommu,
    InvalidationMessage,
    PageRequest,
    Parameters,
    Request,
    Response,
    ResponseMessage,
)
from models.iommu.pci import IommuPci
from models.nic import GoldenNic
from models.spec.config import SystemConfig

__all__ = ["FlatMemory", "GoldenMachine"]


class FlatMemory:
    """One region of memory, and files beside it; a :class:`cosim.port.PhysicalMemory`.

    Parameters
    ----------
    base, size : int
        Extent; other addresses are not memory, unless a file is mapped there.
    """

    def __init__(self, base: int, size: int) -> None:
        self.base, self.size = base, size
        self._bytes = np.zeros(size, np.uint8)
        self._files: dict[int, np.ndarray] = {}

    def map(self, base: int, size: int, *, fd: int | None = None, offset: int = 0) -> np.ndarray:
        """Put a file's bytes at ``base``, or fresh ones; return them.  ``fd`` is not kept."""
        if fd is None:
            bytes_ = np.zeros(size, np.uint8)
        else:
            with os.fdopen(os.dup(fd), "r+b") as file:
                bytes_ = np.memmap(file, np.uint8, mode="r+", offset=offset, shape=(size,))
        self._files[base] = bytes_
        return bytes_

    def unmap(self, base: int) -> None:
        """Take away what was mapped at ``base``."""
        del self._files[base]

    def view(self, address: int, size: int) -> np.ndarray:
        """Return the bytes themselves; ``ValueError`` if they are not memory."""
        if self.base <= address and address + size <= self.base + self.size:
            return self._bytes[address - self.base :][:size]
        for base, found in self._files.items():
            if base <= address and address + size <= base + len(found):
                return found[address - base :][:size]
        raise ValueError(f"{address:#x} + {size:#x} is not memory")

    def read(self, address: int, size: int) -> bytes:
        """Return bytes."""
        return self.view(address, size).tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.view(address, len(data))[:] = np.frombuffer(data, np.uint8)


class _HardwareMemory:
    """Memory as the hardware sees it: its writes into watched ranges are told."""

    def __init__(self, memory: FlatMemory, written: Callable[[int, bytes], None]) -> None:
        self._memory, self._written = memory, written

    def read(self, address: int, size: int) -> bytes:
        return self._memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self._memory.write(address, data)
        self._written(address, data)


class _Surroundings:
    """What the golden NIC is connected to."""

    def __init__(self, machine: "GoldenMachine") -> None:
        self._machine = machine
        self.memory = machine.hardware_memory

    def translate(self, request: Request) -> Response:
        return self._machine.iommu.translate(request)

    def page_request(self, message: PageRequest) -> None:
        self._machine.iommu.page_request(message)

    def transmit(self, frame: bytes) -> None:
        self._machine.frame_left(frame)

    def now(self) -> int:
        return self._machine.now()


class GoldenMachine:
    """A :class:`cosim.port.Port` on golden models.

    Parameters
    ----------
    config : SystemConfig
    memory_base, memory_bytes : int
        Extent of memory.
    latency : int
        Cycles of each step of the NIC.
    access : int
        Cycles of a register access.
    batch : int
        Transmit chains that the NIC gives back together.
    """

    def __init__(
        self,
        config: SystemConfig,
        *,
        memory_base: int = 0x8000_0000,
        memory_bytes: int = 1 << 28,
        latency: int = 20,
        access: int = 10,
        batch: int = 1,
    ) -> None:
        self.config, self.kernel = config, Kernel()
        self.memory = FlatMemory(memory_base, memory_bytes)
        self.hardware_memory = _HardwareMemory(self.memory, self._written)
        self._latency, self._access = latency, access
        self._watched: list[tuple[int, int, MessageHandler]] = []
        self._frame_handlers: list[Callable[[bytes, int], None]] = []
        self._pin, self._pin_handlers = False, list[Callable[[bool], None]]()
        self._posted: list[tuple[str, int, int, int]] = []
        self._stepping = False
        self.iommu = GoldenIommu(self.hardware_memory, Parameters.from_config(config.iommu))
        self.iommu_pci = IommuPci(self.iommu)
        self.nic = GoldenNic(config.nic, _Surroundings(self), batch=batch)

    # What the hardware does ----------------------------------------------------------------------

    def _written(self, address: int, data: bytes) -> None:
        for base, size, handler in self._watched:
            if base <= address < base + size and len(data) == 4:
                handler(address, int.from_bytes(data, "little"), self.now())

    def frame_left(self, frame: bytes) -> None:
        """Tell of a frame that leaves the port."""
        for handler in self._frame_handlers:
            handler(frame, self.now())

    def _schedule(self) -> None:
        if not self._stepping:
            self._stepping = True
            self.kernel.call_later(self._latency, self._step)

    def _step(self) -> None:
        self._stepping = False
        busy = self.nic.step()
        busy = self._carry_messages() or busy
        self._look_at_pin()
        if busy:
            self._schedule()
        elif self.nic.deadline is not None:
            self.kernel.call_later(max(1, self.nic.deadline - self.now()), self._schedule)

    def _look_at_pin(self) -> None:
        """Tell of the NIC's interrupt pin if it has changed."""
        if self.nic.pci.pin != self._pin:
            self._pin = not self._pin
            for handler in self._pin_handlers:
                handler(self._pin)

    def _carry_messages(self) -> bool:
        """Take messages from the IOMMU to the NIC; invalidations are complete at once.

        Who was answered may ask again, and if the IOMMU answers that itself because its queue has
        no room, that takes time too: it is the next step's.
        """
        found = False
        while messages := self.iommu.take_messages():
            found = True
            for message in messages:
                if isinstance(message, ResponseMessage):
                    device_id = (message.segment or 0) << 16 | message.rid
                    self.nic.group_response(device_id, message.payload)
                else:
                    self._invalidate(message)
            if any(isinstance(message, ResponseMessage) for message in messages):
                break
        return found

    def _invalidate(self, message: InvalidationMessage) -> None:
        self.nic.invalidate((message.segment or 0) << 16 | message.rid, message.payload)
        self.iommu.invalidation_completion(
            rid=message.rid, segment=message.segment, itag_vector=1 << message.itag, count=1
        )

    # Port ----------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the current cycle."""
        return self.kernel.now()

    async def sleep(self, cycles: int) -> None:
        """Let ``cycles`` pass."""
        await self.kernel.sleep(cycles)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> Task:
        """Start a task."""
        return self.kernel.spawn(coroutine, name)

    def event(self) -> Event:
        """Make a new event."""
        return self.kernel.event()

    async def mmio_read(self, space: str, offset: int, size: int = 4) -> int:
        """Load from a register."""
        await self.sleep(self._access)
        self._flush()
        if space == "nic":
            value = self.nic.read_register(offset, size)
            self._look_at_pin()
            return value
        if space == "iommu_config":
            return self.iommu_pci.read(offset, size)
        if space != "iommu":
            raise KeyError(f"No register space {space!r}")
        return self.iommu.read_register(offset, size)

    async def mmio_write(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register."""
        self.mmio_post(space, offset, value, size)
        await self.sleep(self._access)
        self._flush()

    def mmio_post(self, space: str, offset: int, value: int, size: int = 4) -> None:
        """Store to a register without waiting."""
        if space not in ("nic", "iommu", "iommu_config"):
            raise KeyError(f"No register space {space!r}")
        self._posted.append((space, offset, value, size))
        self.kernel.call_later(self._access, self._flush)

    def _flush(self) -> None:
        """Let everything that was posted take effect, in order."""
        posted, self._posted = self._posted, []
        for space, offset, value, size in posted:
            if space == "nic":
                self.nic.write_register(offset, size, value)
                self._look_at_pin()
            elif space == "iommu_config":
                self.iommu_pci.write(offset, size, value)
            elif size == 8:  # two halves, the high one first
                self.iommu.write_register(offset + 4, 4, value >> 32)
                self.iommu.write_register(offset, 4, value & 0xFFFF_FFFF)
            else:
                self.iommu.write_register(offset, size, value)
            self._schedule()

    def on_message(self, base: int, size: int, handler: MessageHandler) -> None:
        """Call ``handler`` for each 32-bit write of the hardware into a range."""
        self._watched.append((base, size, handler))

    async def send_frame(self, frame: bytes) -> None:
        """Put a frame on the wire."""
        self.kernel.call_later(self._latency, lambda: self._arrive(frame))

    def _arrive(self, frame: bytes) -> None:
        self.nic.receive(frame)
        self._schedule()

    def on_frame(self, handler: Callable[[bytes, int], None]) -> None:
        """Call ``handler`` with each frame that leaves the Ethernet port."""
        self._frame_handlers.append(handler)

    def on_pin(self, handler: Callable[[bool], None]) -> None:
        """Call ``handler`` with the level of the NIC's interrupt pin whenever it changes."""
        self._pin_handlers.append(handler)

    def run(self, main: Coroutine[Any, Any, Any], *, limit: int | None = None) -> Any:
        """Run until ``main`` ends; see :meth:`cosim.kernel.Kernel.run`."""
        return self.kernel.run(main, limit=limit)
