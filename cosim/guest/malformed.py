"""Every way in which a driver can make a virtqueue malformed, and what the device is to say.

The table is docs/virtqueues.md.  A way changes a queue that the device serves, all of whose chains
have come back, and has then to notify it.  Receive queues then need a frame of 1514 bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cosim.guest.packed_queue import PackedQueue
from cosim.guest.split_queue import SplitQueue
from cosim.guest.virtqueue import DESCRIPTOR_BYTES, Virtqueue
from models.spec.nic import MERGED_BUFFERS, QueueError
from models.spec.virtio import Descriptor, DescriptorFlag, PackedDescriptor

__all__ = ["CONTROL_WAYS", "NOT_OWNED", "OF_CONTROL_QUEUES", "WAYS", "Way"]

_BYTES = 64
_NEXT, _WRITE, _INDIRECT = DescriptorFlag.NEXT, DescriptorFlag.WRITE, DescriptorFlag.INDIRECT
#: Bytes of the header of a received frame, with which a buffer is no longer too short.
_HEADER_BYTES = 12
_ANY_SIZE = range(2, (1 << 15) + 1)


@dataclass(frozen=True)
class Way:
    """One way.

    ``receive`` tells that it is about a receive queue, which then also needs a frame; ``indirect``
    whether INDIRECT_DESC is to be negotiated, ``merged`` whether MRG_RXBUF; ``sizes`` are those
    that the queue may have.
    """

    name: str
    packed: bool
    code: QueueError
    harm: Callable[[Virtqueue], None]
    receive: bool = False
    indirect: bool = True
    merged: bool = False
    sizes: range = _ANY_SIZE


WAYS: list[Way] = []
#: Of control queues, beside those of WAYS that are about no direction.
CONTROL_WAYS: list[Way] = []
#: An address that no guest owns.
NOT_OWNED = 0x4000_0000


def _split(code: QueueError, *, control: bool = False, **about: Any):
    """Enlist a function that harms a split queue."""

    def enlist(harm: Callable[[SplitQueue], None]) -> Callable[[SplitQueue], None]:
        def apply(queue: Virtqueue) -> None:
            assert isinstance(queue, SplitQueue)
            harm(queue)

        name = f"split-{harm.__name__.strip('_').replace('_', '-')}"
        ways = CONTROL_WAYS if control else WAYS
        ways.append(Way(name, False, code, apply, **about))
        return harm

    return enlist


def _packed(code: QueueError, *, control: bool = False, **about: Any):
    """Enlist a function that harms a packed queue."""

    def enlist(harm: Callable[[PackedQueue], None]) -> Callable[[PackedQueue], None]:
        def apply(queue: Virtqueue) -> None:
            assert isinstance(queue, PackedQueue)
            harm(queue)

        name = f"packed-{harm.__name__.strip('_').removeprefix('p_').replace('_', '-')}"
        ways = CONTROL_WAYS if control else WAYS
        ways.append(Way(name, True, code, apply, **about))
        return harm

    return enlist


# Split ---------------------------------------------------------------------------------------


def _chain(queue: SplitQueue, entries: Sequence[tuple[int, int]], length: int = _BYTES) -> None:
    """Store descriptors 0, 1, ... with flags and next, and publish the first."""
    for number, (flags, following) in enumerate(entries):
        address = queue.store(bytes(length))
        queue.write_descriptor(number, address, length, flags, following)
    queue.publish(0)


def _table(queue: SplitQueue, entries: Sequence[tuple[int, int]]) -> bytes:
    """An indirect table of descriptors with flags and next."""
    address, content = queue.store(bytes(_BYTES)), b""
    for flags, following in entries:
        fields = {"addr": address, "len": _BYTES, "flags": flags, "next": following}
        content += Descriptor.const(fields).as_bits().to_bytes(DESCRIPTOR_BYTES, "little")
    return content


def _refer(queue: SplitQueue, table: bytes, *, flags: int = 0, length: int | None = None) -> None:
    """Publish a descriptor that refers to a table."""
    address = queue.store(table)
    size = len(table) if length is None else length
    queue.write_descriptor(0, address, size, _INDIRECT | flags, 0)
    queue.publish(0)


@_split(QueueError.BAD_INDEX)
def _index_too_far(queue: SplitQueue) -> None:
    queue.set_available(queue.available + queue.size + 1)


@_split(QueueError.BAD_INDEX)
def _index_backwards(queue: SplitQueue) -> None:
    queue.set_available(queue.available - 1)


@_split(QueueError.BAD_HEAD)
def _head_beyond_queue(queue: SplitQueue) -> None:
    queue.publish(queue.size)


@_split(QueueError.BAD_HEAD)
def _next_beyond_queue(queue: SplitQueue) -> None:
    _chain(queue, [(_NEXT, queue.size)])


@_split(QueueError.BAD_CHAIN)
def _loop(queue: SplitQueue) -> None:
    _chain(queue, [(_NEXT, 1), (_NEXT, 0)])


@_split(QueueError.BAD_CHAIN)
def _writable_to_transmit(queue: SplitQueue) -> None:
    _chain(queue, [(_NEXT, 1), (_WRITE, 0)])


@_split(QueueError.BAD_CHAIN, receive=True)
def _readable_to_receive(queue: SplitQueue) -> None:
    _chain(queue, [(_WRITE | _NEXT, 1), (0, 0)], length=2048)


@_split(QueueError.BAD_LENGTH, receive=True)
def _short_buffer(queue: SplitQueue) -> None:
    _chain(queue, [(_WRITE, 0)], length=11)


def _shortest(queue: SplitQueue, count: int) -> None:
    """Publish so many buffers with room for the header alone, from the table's end."""
    for number in range(queue.size - count, queue.size):
        queue.write_descriptor(number, queue.store(bytes(_HEADER_BYTES)), _HEADER_BYTES, _WRITE, 0)
        queue.publish(number)


@_split(QueueError.BAD_LENGTH, receive=True, merged=True, sizes=range(2, MERGED_BUFFERS))
def _ring_too_small(queue: SplitQueue) -> None:
    _shortest(queue, queue.room)


@_split(QueueError.BAD_LENGTH, receive=True, merged=True, sizes=_ANY_SIZE[MERGED_BUFFERS - 1 :])
def _merged_too_small(queue: SplitQueue) -> None:
    _shortest(queue, min(queue.room, MERGED_BUFFERS))


@_split(QueueError.BAD_FLAGS, indirect=False)
def _indirect_not_negotiated(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(0, 0)]))


@_split(QueueError.BAD_INDIRECT)
def _indirect_with_next(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(0, 0)]), flags=_NEXT)


@_split(QueueError.BAD_INDIRECT)
def _empty_table(queue: SplitQueue) -> None:
    _refer(queue, b"")


@_split(QueueError.BAD_INDIRECT)
def _broken_table(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(0, 0)]), length=DESCRIPTOR_BYTES + 8)


@_split(QueueError.BAD_INDIRECT)
def _table_in_table(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(_INDIRECT, 0)]))


@_split(QueueError.BAD_INDIRECT)
def _next_beyond_table(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(_NEXT, 1)]))


@_split(QueueError.BAD_CHAIN)
def _loop_in_table(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(_NEXT, 1), (_NEXT, 0)]))


@_split(QueueError.BAD_CHAIN)
def _writable_in_table(queue: SplitQueue) -> None:
    _refer(queue, _table(queue, [(_WRITE, 0)]))


@_split(QueueError.BAD_CHAIN)
def _table_longer_than_queue(queue: SplitQueue) -> None:
    following = [(_NEXT, n + 1) for n in range(queue.size)]
    _refer(queue, _table(queue, [*following, (0, 0)]))


@_split(QueueError.RING_ADDRESS)
def _table_nowhere(queue: SplitQueue) -> None:
    queue.write_descriptor(0, NOT_OWNED, DESCRIPTOR_BYTES, _INDIRECT, 0)
    queue.publish(0)


@_split(QueueError.BAD_CHAIN, control=True, sizes=_ANY_SIZE[1:])
def _readable_behind_answer(queue: SplitQueue) -> None:
    _chain(queue, [(_NEXT, 1), (_WRITE | _NEXT, 2), (0, 0)])


@_split(QueueError.BUFFER_ADDRESS, control=True)
def _command_nowhere(queue: SplitQueue) -> None:
    queue.write_descriptor(0, NOT_OWNED, _BYTES, _NEXT, 1)
    queue.write_descriptor(1, queue.store(bytes(1)), 1, _WRITE, 0)
    queue.publish(0)


@_split(QueueError.BUFFER_ADDRESS, control=True)
def _answer_nowhere(queue: SplitQueue) -> None:
    queue.write_descriptor(0, queue.store(bytes(_BYTES)), _BYTES, _NEXT, 1)
    queue.write_descriptor(1, NOT_OWNED, 1, _WRITE, 0)
    queue.publish(0)


# Packed --------------------------------------------------------------------------------------


def _list(queue: PackedQueue, flags: Sequence[int], length: int = _BYTES) -> None:
    """Store descriptors with flags at the next positions, the first one last."""
    for place, flag in reversed(list(enumerate(flags))):
        address = queue.store(bytes(length))
        queue.write_descriptor(queue.next_position + place, address, length, 0, flag)
    queue.skip(len(flags))


def _entries(queue: PackedQueue, flags: Sequence[int]) -> bytes:
    """An indirect table of descriptors with flags."""
    address, content = queue.store(bytes(_BYTES)), b""
    for flag in flags:
        fields = {"addr": address, "len": _BYTES, "flags": flag}
        content += PackedDescriptor.const(fields).as_bits().to_bytes(DESCRIPTOR_BYTES, "little")
    return content


def _point(queue: PackedQueue, table: bytes, *, flags: int = 0, length: int | None = None) -> None:
    """Make a descriptor available that refers to a table."""
    size = len(table) if length is None else length
    address = queue.store(table)
    queue.write_descriptor(queue.next_position, address, size, 0, _INDIRECT | flags)
    queue.skip(1)


@_packed(QueueError.BAD_WRAP)
def _p_chain_into_what_is_not_available(queue: PackedQueue) -> None:
    _list(queue, [_NEXT])


@_packed(QueueError.BAD_CHAIN)
def _p_chain_longer_than_queue(queue: PackedQueue) -> None:
    _list(queue, [_NEXT] * queue.size)


@_packed(QueueError.BAD_CHAIN)
def _p_writable_to_transmit(queue: PackedQueue) -> None:
    _list(queue, [_NEXT, _WRITE])


@_packed(QueueError.BAD_CHAIN, receive=True)
def _p_readable_to_receive(queue: PackedQueue) -> None:
    _list(queue, [_NEXT | _WRITE, 0], length=2048)


@_packed(QueueError.BAD_LENGTH, receive=True)
def _p_short_buffer(queue: PackedQueue) -> None:
    _list(queue, [_WRITE], length=11)


@_packed(QueueError.BAD_LENGTH, receive=True, merged=True, sizes=range(2, 1025))
def _p_ring_too_small(queue: PackedQueue) -> None:
    """One buffer, of 12 bytes and single ones, takes the ring."""
    pieces = [(_HEADER_BYTES, _WRITE | _NEXT), *[(1, _WRITE | _NEXT)] * (queue.room - 1)]
    pieces = pieces[: queue.room]
    for place, (length, flags) in reversed(list(enumerate(pieces))):
        flags = flags if place < len(pieces) - 1 else _WRITE
        address = queue.store(bytes(length))
        queue.write_descriptor(queue.next_position + place, address, length, 0, flags)
    queue.skip(len(pieces))


@_packed(QueueError.BAD_LENGTH, receive=True, merged=True, sizes=_ANY_SIZE[MERGED_BUFFERS - 1 :])
def _p_merged_too_small(queue: PackedQueue) -> None:
    _list(queue, [_WRITE] * min(queue.room, MERGED_BUFFERS), length=_HEADER_BYTES)


@_packed(QueueError.BAD_FLAGS, indirect=False)
def _p_indirect_not_negotiated(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [0]))


@_packed(QueueError.BAD_INDIRECT)
def _p_indirect_with_next(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [0]), flags=_NEXT)


@_packed(QueueError.BAD_INDIRECT)
def _p_indirect_in_chain(queue: PackedQueue) -> None:
    place, table = queue.next_position, queue.store(_entries(queue, [0]))
    queue.write_descriptor(place + 1, table, DESCRIPTOR_BYTES, 0, _INDIRECT)
    queue.write_descriptor(place, queue.store(bytes(_BYTES)), _BYTES, 0, _NEXT)
    queue.skip(2)


@_packed(QueueError.RING_ADDRESS)
def _p_table_nowhere(queue: PackedQueue) -> None:
    queue.write_descriptor(queue.next_position, NOT_OWNED, DESCRIPTOR_BYTES, 0, _INDIRECT)
    queue.skip(1)


@_packed(QueueError.BAD_INDIRECT)
def _p_empty_table(queue: PackedQueue) -> None:
    _point(queue, b"")


@_packed(QueueError.BAD_INDIRECT)
def _p_broken_table(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [0]), length=DESCRIPTOR_BYTES + 8)


@_packed(QueueError.BAD_CHAIN)
def _p_writable_in_table(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [_WRITE]))


@_packed(QueueError.BAD_CHAIN)
def _p_table_longer_than_queue(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [0] * (queue.size + 1)))


@_packed(QueueError.BAD_CHAIN, control=True, sizes=_ANY_SIZE[1:])
def _p_readable_behind_answer(queue: PackedQueue) -> None:
    _list(queue, [_NEXT, _WRITE | _NEXT, 0])


@_packed(QueueError.BAD_CHAIN, control=True)
def _p_readable_behind_answer_in_table(queue: PackedQueue) -> None:
    _point(queue, _entries(queue, [0, _WRITE, 0]))


#: What can be done to a control queue: ways of its own, and those that are about no direction.
OF_CONTROL_QUEUES = [
    *CONTROL_WAYS,
    *(way for way in WAYS if not way.receive and "writable" not in way.name),
]
