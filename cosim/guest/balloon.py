"""A guest's driver of its memory balloon (virtio 1.3, 5.5): it chooses which pages to lend."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from cosim.guest.transport import Processor
from models.memory import ByteMemory

__all__ = ["BalloonDevice", "BalloonDriver"]

_PFN_BYTES, _PFN_SHIFT = 4, 12
#: Pages in one array, as Linux' driver has it.
_ARRAY = 256


class BalloonDevice(Protocol):
    """What the driver sees of its device."""

    num_pages: int
    on_config: Callable[[], None] | None

    @property
    def actual(self) -> int:
        """Pages in the balloon."""
        ...

    def inflate(self, gpa: int, count: int) -> Awaitable[None]:
        """Lend pages whose numbers lie at ``gpa``."""
        ...

    def deflate(self, gpa: int, count: int) -> Awaitable[None]:
        """Take pages back, likewise."""
        ...


class BalloonDriver:
    """Lends free pages when the host asks, and takes them back when the guest needs them.

    Parameters
    ----------
    cpu : Processor
    device : BalloonDevice
    memory : ByteMemory
    array : int
        GPA of a page for arrays of page numbers.
    free : iterable of int
        GPAs of pages that the guest does not use, the first lent first.
    """

    def __init__(
        self,
        cpu: Processor,
        device: BalloonDevice,
        memory: ByteMemory,
        array: int,
        free: Iterable[int],
    ) -> None:
        self._device, self._memory, self._array = device, memory, array
        self._free, self._lent = deque(free), deque[int]()
        self._asked = cpu.event()
        device.on_config = self._asked.set
        cpu.spawn(self._serve(), "balloon")

    @property
    def free(self) -> int:
        """Free pages that the guest still has."""
        return len(self._free)

    def _write(self, pages: list[int]) -> None:
        numbers = [(gpa >> _PFN_SHIFT).to_bytes(_PFN_BYTES, "little") for gpa in pages]
        self._memory.write(self._array, b"".join(numbers))

    async def _serve(self) -> None:
        """Let the balloon be as large as is asked, as far as there are free pages (5.5.6.1)."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while wanted := min(self._device.num_pages - self._device.actual, len(self._free)):
                if wanted < 0 and not self._lent:
                    break
                if wanted < 0:
                    await self._take_back(min(-wanted, len(self._lent), _ARRAY))
                    continue
                pages = [self._free.popleft() for _ in range(min(wanted, _ARRAY))]
                self._write(pages)
                await self._device.inflate(self._array, len(pages))
                self._lent.extend(pages)

    async def _take_back(self, count: int) -> None:
        pages = [self._lent.pop() for _ in range(count)]
        self._write(pages)
        await self._device.deflate(self._array, count)
        self._free.extend(pages)

    async def claim(self) -> int:
        """Return a free page for use, from the balloon if there is no other; it reads as junk.

        The device is told first (``VIRTIO_BALLOON_F_MUST_TELL_HOST``).
        """
        if not self._free:
            if not self._lent:
                raise MemoryError("The guest has no free page, in the balloon neither")
            await self._take_back(1)
        return self._free.pop()
