"""Frames with every kind of packet, right and wrong, for tests of offloads."""

import struct
from random import Random

from models.nic.packets import checksum, pseudo_header

__all__ = ["MACS", "ip_frame", "random_frame", "spoiled", "sum_of"]

#: Destination and source of frames.
MACS = bytes.fromhex("020000000002020000000001")


def sum_of(data: bytes) -> int:
    """Ones' complement sum of words whose first byte is the lower one, 0 only for zeros."""
    total = sum(struct.unpack(f"<{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip_frame(
    rng: Random, version: int = 4, protocol: int = 6, size: int = 20, *, tagged=False,
    options: int = 0, flags: int = 0x10, tcp_options: int = 0,
) -> bytes:  # fmt: skip
    """A frame with a right TCP or UDP packet of ``size`` bytes of payload."""
    tag = b"\x81\x00" + rng.randbytes(2) if tagged else b""
    body = rng.randbytes(size)
    if protocol == 6:
        words = 5 + tcp_options
        head = rng.randbytes(12) + bytes((words << 4, flags)) + rng.randbytes(2) + bytes(4)
        head += rng.randbytes(4 * tcp_options)
        at = 16
    else:
        head, at = rng.randbytes(4) + struct.pack(">HH", 8 + size, 0), 6
    length = len(head) + size
    if version == 4:
        addresses = rng.randbytes(8)
        ip = bytes((0x45 + options, 0)) + struct.pack(">H", 20 + 4 * options + length)
        ip += rng.randbytes(2) + b"\x40\x00\x40" + bytes((protocol,)) + bytes(2) + addresses
        ip += rng.randbytes(4 * options)
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        source, target = addresses[:4], addresses[4:]
    else:
        addresses = rng.randbytes(32)
        ip = b"\x60\x00\x00\x00" + struct.pack(">HBB", length, protocol, 64) + addresses
        source, target = addresses[:16], addresses[16:]
    whole = pseudo_header(source, target, protocol, length) + head + body
    value = checksum(whole) or 0xFFFF
    head = head[:at] + value.to_bytes(2, "big") + head[at + 2 :]
    kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
    return MACS + tag + kind + ip + head + body


def random_frame(rng: Random, longest: int = 200) -> bytes:
    """Any packet."""
    version = rng.choice((4, 6))
    return ip_frame(
        rng,
        version,
        rng.choice((6, 17)),
        rng.randrange(longest),
        tagged=rng.random() < 0.3,
        options=rng.choice((0, 0, 0, 1, 10)) if version == 4 else 0,
        tcp_options=rng.choice((0, 0, 3, 10)),
    )


def spoiled(rng: Random, frame: bytes) -> bytes:
    """The frame with something that is not as it should be, or with padding."""
    way = rng.randrange(6)
    at = rng.randrange(12, min(len(frame), 90))
    if way == 0:
        return frame + rng.randbytes(rng.randrange(1, 40))
    if way == 1:
        return frame[: rng.randrange(14, len(frame) + 1)]
    if way == 2:  # a bit of the headers
        return frame[:at] + bytes((frame[at] ^ 1 << rng.randrange(8),)) + frame[at + 1 :]
    if way == 3:  # no checksum
        for place in (40, 44, 60, 64):
            if len(frame) > place + 2 and rng.random() < 0.5:
                frame = frame[:place] + bytes(2) + frame[place + 2 :]
        return frame
    if way == 4:  # a fragment
        return frame[:20] + rng.choice((b"\x20\x00", b"\x00\x07")) + frame[22:]
    return frame[:-1] + bytes((frame[-1] ^ 0x80,))
