"""A virtqueue from the driver's side, whatever its format (virtio 1.3, 2.7 and 2.8)."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from cosim.guest.memory import Allocator, DeviceSpace
from models.memory import ByteMemory

__all__ = [
    "DESCRIPTOR_BYTES",
    "BrokenDevice",
    "Outstanding",
    "Piece",
    "QueueOptions",
    "Virtqueue",
]

#: Bytes of a descriptor of either format.
DESCRIPTOR_BYTES = 16


class BrokenDevice(RuntimeError):
    """The device does what no device may do."""


@dataclass(frozen=True)
class Piece:
    """Contiguous guest memory: a part of a buffer."""

    gpa: int
    length: int


@dataclass(frozen=True)
class QueueOptions:
    """What was negotiated for virtqueues."""

    indirect: bool = False
    event_idx: bool = False
    in_order: bool = False


@dataclass
class Outstanding:
    """A chain that the device has."""

    token: object
    writable: int  # bytes
    slots: list[int] = field(default_factory=list)


class Virtqueue:
    """One queue in guest memory; its format is a subclass's.

    Parameters
    ----------
    memory : ByteMemory
    allocator : Allocator
    space : DeviceSpace
    number : int
        Queue of the device.
    size : int
        Entries.
    options : QueueOptions
    """

    def __init__(
        self,
        memory: ByteMemory,
        allocator: Allocator,
        space: DeviceSpace,
        *,
        number: int,
        size: int,
        options: QueueOptions | None = None,
    ) -> None:
        self._memory, self._allocator, self._space = memory, allocator, space
        self.number, self.size, self.options = number, size, options or QueueOptions()
        #: Areas for descriptors, driver and device: GPA and bytes.
        self._areas = self._allocate()
        self._chains: dict[int, Outstanding] = {}
        self._ready: deque[tuple[object, int]] = deque()
        self._tables: dict[int, tuple[int, int]] = {}
        self.clear()

    def _allocate(self) -> tuple[tuple[int, int], ...]:
        """Return the three areas."""
        raise NotImplementedError

    def clear(self) -> None:
        """Begin anew, as before the queue is enabled."""
        for gpa, size in self._areas:
            self._memory.write(gpa, bytes(size))
        self._chains.clear()
        self._ready.clear()

    @property
    def areas(self) -> tuple[tuple[int, int], ...]:
        """GPA and bytes of descriptor area, driver area and device area."""
        return self._areas

    @property
    def addresses(self) -> tuple[int, ...]:
        """Descriptor area, driver area and device area, as the device addresses them."""
        return tuple(self._space.address(gpa, size) for gpa, size in self._areas)

    @property
    def room(self) -> int:
        """Free descriptors."""
        raise NotImplementedError

    def fits(self, pieces: int) -> bool:
        """Whether a chain of so many pieces can be added."""
        return pieces <= self.size and self.room >= (1 if self._by_table(pieces) else pieces)

    @property
    def outstanding(self) -> int:
        """Chains that the device has."""
        return len(self._chains)

    def add(self, readable: Sequence[Piece], writable: Sequence[Piece], token: object) -> None:
        """Make a chain available; it comes back from :meth:`take` with ``token``."""
        pieces = [(piece, False) for piece in readable] + [(piece, True) for piece in writable]
        if not pieces or not self.fits(len(pieces)):
            raise ValueError(f"{len(pieces)} pieces do not fit {self.room} free descriptors")
        self._add(pieces, Outstanding(token, sum(piece.length for piece in writable)))

    def _add(self, pieces: list[tuple[Piece, bool]], chain: Outstanding) -> None:
        raise NotImplementedError

    def _by_table(self, pieces: int) -> bool:
        """Whether a chain goes into an indirect table (2.7.5.3, 2.8.7)."""
        return self.options.indirect and pieces > 1

    def _table(self, key: int, entries: int) -> int:
        """GPA of an indirect table, the same for the same key while it is large enough."""
        gpa, held = self._tables.get(key, (0, 0))
        if held < entries:
            gpa = self._allocator.allocate(DESCRIPTOR_BYTES * entries, align=DESCRIPTOR_BYTES)
            self._tables[key] = gpa, entries
        return gpa

    def store(self, content: bytes) -> int:
        """Store bytes somewhere, and return how the device addresses them."""
        gpa = self._allocator.allocate(max(1, len(content)), align=DESCRIPTOR_BYTES)
        self._memory.write(gpa, content)
        return self._space.address(gpa, max(1, len(content)))

    @property
    def wants_notify(self) -> bool:
        """Whether the device asks to be notified of what was added since the last time asked."""
        raise NotImplementedError

    def take(self) -> tuple[object, int] | None:
        """Return token and written bytes of the oldest used chain, ``None`` if there is none.

        With IN_ORDER, a used element stands for all chains up to its own: the device has used the
        others completely (2.7.9, 2.8.9).
        """
        if self._ready:
            return self._ready.popleft()
        element = self._element()
        if element is None:
            return None
        identity, length = element
        if identity not in self._chains:
            raise BrokenDevice(f"Queue {self.number}: chain {identity} was not available")
        done = [identity]
        if self.options.in_order:
            order = list(self._chains)
            done = order[: order.index(identity) + 1]
        for key in done:
            chain = self._chains.pop(key)
            written = length if key == identity else chain.writable
            if written > chain.writable:
                raise BrokenDevice(
                    f"Queue {self.number}: {written} bytes written to {chain.writable}"
                )
            self._free(key, chain)
            self._ready.append((chain.token, written))
        return self._ready.popleft()

    def _element(self) -> tuple[int, int] | None:
        """Identity and length of the next used element, ``None`` if there is none."""
        raise NotImplementedError

    def _free(self, identity: int, chain: Outstanding) -> None:
        """Take a used chain's descriptors back, and its place in the used ring."""
        raise NotImplementedError

    def disable_events(self) -> None:
        """Ask for no interrupts."""
        raise NotImplementedError

    def enable_events(self, *, delay: int = 0) -> bool:
        """Ask for an interrupt, if possible after ``delay`` more chains were used.

        Returns whether there is something to take already, for which none may come.
        """
        raise NotImplementedError
