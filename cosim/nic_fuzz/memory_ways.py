"""Ways in which memory is not to be had, of rings and buffers; the table is docs/virtqueues.md."""

from dataclasses import dataclass

from cosim.guest.malformed import NOT_OWNED
from cosim.guest.memory import DeviceSpace
from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import Virtqueue
from models.spec.nic import QueueError
from models.spec.virtio import DescriptorFlag

__all__ = [
    "MEMORY_WAYS",
    "NOWHERE_GPA",
    "NOWHERE_SPA",
    "PAGE_TIMEOUT",
    "RING_ADDRESS",
    "LostArea",
    "MemoryWay",
    "lost_area",
    "post",
]

#: A page of the guest's that is mapped to where the system has no memory.
NOWHERE_GPA, NOWHERE_SPA = 0x3000_0000, 0x1_0000_0000
_HEADER_BYTES = 12
_NEXT, _WRITE = DescriptorFlag.NEXT, DescriptorFlag.WRITE


@dataclass(frozen=True)
class MemoryWay:
    """One way; ``ats`` tells whether the function waits for pages, ``None`` if that is all one.

    ``buffer`` is the address of a buffer, ``None`` if it is a ring that is not to be had.
    """

    name: str
    code: QueueError
    ats: bool | None = None
    buffer: int | None = NOT_OWNED


PAGE_TIMEOUT = "page-timeout"
#: Of rings, also of control queues.
RING_ADDRESS = "ring-address"
MEMORY_WAYS = (
    MemoryWay(RING_ADDRESS, QueueError.RING_ADDRESS, buffer=None),
    MemoryWay("buffer-refused", QueueError.NONE, ats=True),
    MemoryWay("buffer-address", QueueError.BUFFER_ADDRESS, ats=False),
    # Without ATS the NIC does not tell the bus from the translation.
    MemoryWay("bus", QueueError.BUS, ats=True, buffer=NOWHERE_GPA),
    MemoryWay(PAGE_TIMEOUT, QueueError.PAGE_REQUEST_FAILED, ats=True),
)


class LostArea(DeviceSpace):
    """An address space in which what lies at one GPA is where the guest has no memory."""

    gpa: int | None = None

    def address(self, gpa: int, size: int) -> int:
        """Return what the device calls ``size`` bytes at a GPA."""
        return NOT_OWNED if gpa == self.gpa else gpa


def lost_area(number: int, *, packed: bool) -> int:
    """An area that every device looks at: it need not tell when a packed queue's driver is to
    notify (2.8.14).
    """
    return number % (2 if packed else 3)


def post(queue: Virtqueue, content: bytes, bad: int | None, *, receive: bool) -> None:
    """Make a frame with its header available, or room for it; at ``bad`` if that is given."""
    flags = _WRITE if receive else DescriptorFlag(0)
    header, size = queue.store(bytes(_HEADER_BYTES)), len(content)
    place = queue.store(content) if bad is None else bad
    pieces = [(header, _HEADER_BYTES, flags | _NEXT), (place, size, flags)]
    if isinstance(queue, SplitQueue):
        for number, (address, length, flag) in enumerate(pieces):
            queue.write_descriptor(number, address, length, flag, 1)
        queue.publish(0)
        return
    assert isinstance(queue, PackedQueue)
    for number, (address, length, flag) in reversed(list(enumerate(pieces))):
        queue.write_descriptor(queue.next_position + number, address, length, 0, flag)
    queue.skip(len(pieces))
