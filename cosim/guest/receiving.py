"""Frames out of used receive buffers (virtio 1.3, 5.1.6.4)."""

from dataclasses import dataclass
from typing import Any

from cosim.guest.virtqueue import BrokenDevice, Piece, Virtqueue
from models.memory import ByteMemory
from models.spec.virtio import Feature, NetHeader, NetHeaderFlag

__all__ = ["Packet", "assemble"]

_HEADER_BYTES = NetHeader.as_shape().size // 8


@dataclass(frozen=True)
class Packet:
    """A received frame and its NetHeader."""

    frame: bytes
    header: Any

    @property
    def validated(self) -> bool:
        """Whether the device has found its checksum right."""
        return bool(self.header.flags & NetHeaderFlag.DATA_VALID)


def assemble(
    queue: Virtqueue, memory: ByteMemory, features: int, free: list[list[Piece]]
) -> Packet | None:
    """Put the oldest frame together; its buffers are added to ``free``.

    Buffers that came back empty are free again: their frame was dropped.  ``None`` if there is
    none; :class:`BrokenDevice` if the device may not have done what it has.
    """
    length = 0
    while not length:  # of no bytes: the frame was dropped
        first = queue.take()
        if first is None:
            return None
        content, length = _buffer(memory, first, free)
    if not _HEADER_BYTES < length <= len(content):
        raise BrokenDevice(f"{length} bytes received into {len(content)}")
    header = NetHeader.from_bits(int.from_bytes(content[:_HEADER_BYTES], "little"))
    _check(header, features)
    frame = content[_HEADER_BYTES:length]
    for _ in range(header.num_buffers - 1):
        if length != len(content):
            raise BrokenDevice(f"A buffer of {len(content)} bytes was used for {length}")
        following = queue.take()
        if following is None:
            raise BrokenDevice(f"Fewer buffers than {header.num_buffers} were used")
        content, length = _buffer(memory, following, free)
        frame += content[:length]
    return Packet(frame, header)


def _buffer(
    memory: ByteMemory, found: tuple[object, int], free: list[list[Piece]]
) -> tuple[bytes, int]:
    """Content of a used buffer, and the bytes written to it."""
    pieces, length = found
    assert isinstance(pieces, list)
    free.append(pieces)
    return b"".join(memory.read(piece.gpa, piece.length) for piece in pieces), length


def _check(header: Any, features: int) -> None:
    """Make sure that a header says nothing that was not negotiated (5.1.6.4.1)."""
    allowed = NetHeaderFlag.DATA_VALID if features >> Feature.NET_GUEST_CSUM & 1 else 0
    buffers = header.num_buffers == 1
    if features >> Feature.NET_MRG_RXBUF & 1:
        buffers = header.num_buffers > 0
    if not buffers or header.flags & ~allowed or header.gso_type:
        raise BrokenDevice(
            f"Flags {header.flags}, gso_type {header.gso_type}, num_buffers {header.num_buffers} "
            f"were not negotiated"
        )
