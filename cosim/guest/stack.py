"""What a guest's network stack leaves to its device: checksums and segments."""

from dataclasses import dataclass

from models.spec.virtio import GsoType, NetHeader, NetHeaderFlag

__all__ = ["Outgoing", "large", "partial", "plain"]

_HEADER_BYTES = NetHeader.as_shape().size // 8
_CHECKSUM_OFFSETS = {6: 16, 17: 6}
_LEAST = {6: 20, 17: 8}


@dataclass(frozen=True)
class Outgoing:
    """A frame as it is given to the device, and its ``virtio_net_hdr``."""

    content: bytes
    header: bytes = bytes(_HEADER_BYTES)


def plain(frame: bytes) -> Outgoing:
    """A frame of which nothing is left to the device."""
    return Outgoing(frame)


def _fold(total: int) -> int:
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def _sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    return _fold(sum(high << 8 | low for high, low in zip(data[::2], data[1::2], strict=True)))


def _transport(frame: bytes) -> tuple[int, int, int, bytes] | None:
    """Protocol, offset, end and addresses of TCP or UDP in a frame that is no fragment."""
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    kind, ip = frame[at - 2 : at], frame[at:]
    if kind == b"\x08\x00" and len(ip) >= 20 and ip[0] >= 0x45:
        head, total = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
        if int.from_bytes(ip[6:8], "big") & 0x3FFF or not head <= total <= len(ip):
            return None
        found = ip[9], at + head, at + total, ip[12:20]
    elif kind == b"\x86\xdd" and len(ip) >= 40:
        total = 40 + int.from_bytes(ip[4:6], "big")
        if total > len(ip):
            return None
        found = ip[6], at + 40, at + total, ip[8:40]
    else:
        return None
    return found if found[0] in _LEAST and found[2] - found[1] >= _LEAST[found[0]] else None


def partial(frame: bytes) -> Outgoing:
    """Leave a frame's TCP or UDP checksum to the device (virtio 1.3, 5.1.6.2).

    Only if the frame ends with its packet and its checksum is right, so that the frame comes out
    as it was; any other stays as it is.
    """
    found = _transport(frame)
    if found is None or found[2] != len(frame):
        return plain(frame)
    protocol, start, end, addresses = found
    offset = _CHECKSUM_OFFSETS[protocol]
    at = start + offset
    stored = frame[at : at + 2]
    pseudo = _fold(_sum(addresses) + protocol + end - start)
    if _fold(pseudo + _sum(frame[start:])) != 0xFFFF or stored == b"\0\0":
        return plain(frame)
    content = frame[:at] + pseudo.to_bytes(2, "big") + frame[at + 2 :]
    return Outgoing(content, _header(NetHeaderFlag.NEEDS_CSUM, start, offset))


def large(frame: bytes, size: int, *, ecn: bool = False) -> Outgoing:
    """Leave a TCP frame of any length to be cut into segments with ``size`` bytes of payload.

    ``ValueError`` if it is no TCP frame.
    """
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    four = frame[at - 2 : at] == b"\x08\x00"
    head, protocol = ((frame[at] & 15) * 4, frame[at + 9]) if four else (40, frame[at + 6])
    if protocol != 6 or (not four and frame[at - 2 : at] != b"\x86\xdd"):
        raise ValueError("Only TCP can be cut into segments")
    start = at + head
    addresses = frame[at + 12 : at + 20] if four else frame[at + 8 : at + 40]
    pseudo = _fold(_sum(addresses) + protocol + len(frame) - start)
    content = frame[: start + 16] + pseudo.to_bytes(2, "big") + frame[start + 18 :]
    kind = GsoType.TCPV4 if four else GsoType.TCPV6
    header = _header(
        NetHeaderFlag.NEEDS_CSUM,
        start,
        16,
        gso_type=kind | (GsoType.ECN if ecn else 0),
        gso_size=size,
        hdr_len=start + (frame[start + 12] >> 4) * 4,
    )
    return Outgoing(content, header)


def _header(flags: NetHeaderFlag, start: int, offset: int, **more: int) -> bytes:
    fields = {"flags": flags, "csum_start": start, "csum_offset": offset}
    return NetHeader.const(fields | more).as_bits().to_bytes(_HEADER_BYTES, "little")
