"""A split virtqueue from the driver's side (virtio 1.3, 2.7)."""

from dataclasses import dataclass

from cosim.guest.memory import Allocator, DeviceSpace
from models.memory import ByteMemory
from models.spec.virtio import (
    USED_F_NO_NOTIFY,
    Descriptor,
    DescriptorFlag,
    UsedElement,
    avail_bytes,
    used_bytes,
)

__all__ = ["BrokenDevice", "Piece", "Virtqueue"]

_DESCRIPTOR_BYTES = Descriptor.as_shape().size // 8
_USED_BYTES = UsedElement.as_shape().size // 8
_WRAP = 0xFFFF


class BrokenDevice(RuntimeError):
    """The device does what no device may do."""


@dataclass(frozen=True)
class Piece:
    """Contiguous guest memory: a part of a buffer."""

    gpa: int
    length: int


class Virtqueue:
    """Descriptor table and rings of one queue, in guest memory.

    Parameters
    ----------
    memory : ByteMemory
    allocator : Allocator
    space : DeviceSpace
    number : int
        Queue of the device.
    size : int
        Entries, a power of two.
    """

    def __init__(
        self,
        memory: ByteMemory,
        allocator: Allocator,
        space: DeviceSpace,
        *,
        number: int,
        size: int,
    ) -> None:
        self._memory, self._space = memory, space
        self.number, self.size = number, size
        self._desc = allocator.allocate(_DESCRIPTOR_BYTES * size, align=16)
        self._avail = allocator.allocate(avail_bytes(size) + 2, align=2)
        self._used = allocator.allocate(used_bytes(size) + 2, align=4)
        self._free: list[int] = []
        self._chains: dict[int, tuple[object, list[int], bool]] = {}
        self._available = self._seen = 0
        self.clear()

    def clear(self) -> None:
        """Begin anew, as before the queue is enabled."""
        self._memory.write(self._desc, bytes(_DESCRIPTOR_BYTES * self.size))
        self._memory.write(self._avail, bytes(avail_bytes(self.size) + 2))
        self._memory.write(self._used, bytes(used_bytes(self.size) + 2))
        self._free = list(range(self.size))
        self._chains.clear()
        self._available = self._seen = 0

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Descriptor area, driver area and device area, as the device addresses them."""
        return (
            self._space.address(self._desc, _DESCRIPTOR_BYTES * self.size),
            self._space.address(self._avail, avail_bytes(self.size) + 2),
            self._space.address(self._used, used_bytes(self.size) + 2),
        )

    @property
    def room(self) -> int:
        """Free descriptors."""
        return len(self._free)

    @property
    def outstanding(self) -> int:
        """Chains that the device has."""
        return len(self._chains)

    def add(self, pieces: list[Piece], token: object, *, writable: bool) -> None:
        """Make a chain available; it comes back from :meth:`take` with ``token``."""
        if not pieces or len(pieces) > self.room:
            raise ValueError(f"{len(pieces)} pieces do not fit {self.room} free descriptors")
        numbers = [self._free.pop(0) for _ in pieces]
        for position, (number, piece) in enumerate(zip(numbers, pieces, strict=True)):
            last = position == len(pieces) - 1
            flags = DescriptorFlag.WRITE if writable else DescriptorFlag(0)
            flags |= DescriptorFlag(0) if last else DescriptorFlag.NEXT
            address = self._space.address(piece.gpa, piece.length)
            following = 0 if last else numbers[position + 1]
            self.write_descriptor(number, address, piece.length, flags, following)
        self._chains[numbers[0]] = token, numbers, writable
        self.publish(numbers[0])

    def write_descriptor(
        self, number: int, address: int, length: int, flags: int, following: int
    ) -> None:
        """Store one descriptor as it is."""
        fields = {"addr": address, "len": length, "flags": flags, "next": following}
        raw = Descriptor.const(fields).as_bits().to_bytes(_DESCRIPTOR_BYTES, "little")
        self._memory.write(self._desc + _DESCRIPTOR_BYTES * number, raw)

    def publish(self, head: int) -> None:
        """Put a head into the available ring; the index comes last (2.7.13)."""
        slot = self._avail + 4 + 2 * (self._available % self.size)
        self._memory.write(slot, head.to_bytes(2, "little"))
        self.set_available(self._available + 1)

    def set_available(self, index: int) -> None:
        """Store ``avail.idx``."""
        self._available = index & _WRAP
        self._memory.write(self._avail + 2, self._available.to_bytes(2, "little"))

    @property
    def wants_notify(self) -> bool:
        """Whether the device asks to be notified (2.7.10)."""
        return not self._memory.read(self._used, 1)[0] & USED_F_NO_NOTIFY

    def take(self) -> tuple[object, int] | None:
        """Return token and written bytes of the oldest used chain, ``None`` if there is none."""
        index = int.from_bytes(self._memory.read(self._used + 2, 2), "little")
        if index == self._seen:
            return None
        if index - self._seen & _WRAP > self.size:
            raise BrokenDevice(f"Queue {self.number}: used.idx went from {self._seen} to {index}")
        slot = self._used + 4 + _USED_BYTES * (self._seen % self.size)
        raw = self._memory.read(slot, _USED_BYTES)
        element = UsedElement.from_bits(int.from_bytes(raw, "little"))
        if element.id not in self._chains:
            raise BrokenDevice(f"Queue {self.number}: chain {element.id} was not available")
        token, numbers, writable = self._chains.pop(element.id)
        if element.len and not writable:
            raise BrokenDevice(f"Queue {self.number}: {element.len} bytes written to a read buffer")
        self._free += numbers
        self._seen = self._seen + 1 & _WRAP
        return token, element.len
