"""Checksum and segmentation offload of transmitted frames (virtio 1.3, 5.1.6.2)."""

from models.nic.packets import Packet, checksum, pseudo_header
from models.spec.ethernet import IpProtocol
from models.spec.virtio import Feature, GsoType, NetHeader, NetHeaderFlag

__all__ = ["HEADER_BYTES", "BadOffload", "complete", "offload", "segment"]

#: Bytes of ``virtio_net_hdr``.
HEADER_BYTES = NetHeader.as_shape().size // 8
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
#: Feature and IP version of each kind of segmentation.
_GSO_FEATURES: dict[int, tuple[Feature, int]] = {
    GsoType.TCPV4: (Feature.NET_HOST_TSO4, 4),
    GsoType.TCPV6: (Feature.NET_HOST_TSO6, 6),
}


class BadOffload(Exception):
    """A frame asks for an offload that was not negotiated, or that cannot be done."""


def complete(frame: bytes, start: int, offset: int) -> bytes:
    """Put the checksum from ``start`` on at ``start + offset``.

    What is there already counts: the sum of the pseudo header.  A checksum of 0 is sent as FFFFh,
    its other form, since UDP has 0 say that there is none (RFC 768).
    """
    at = start + offset
    if at + 2 > len(frame):
        raise BadOffload(f"A checksum at {at} is not in a frame of {len(frame)} bytes")
    value = checksum(frame[start:]) or 0xFFFF
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


def segment(frame: bytes, header, version: int) -> list[bytes]:
    """Cut a TCP packet into segments of ``gso_size`` bytes of payload.

    ``hdr_len`` is not looked at: the headers themselves say how long they are, and ``csum_start``
    has to agree.  Of the checksum that the driver has begun nothing is used.
    """
    packet = Packet.of(frame)
    if packet is None or packet.version != version or packet.protocol != IpProtocol.TCP:
        raise BadOffload("Not the packet that gso_type says")
    start = packet.transport
    if header.csum_start != start or header.csum_offset != 16 or not header.gso_size:
        raise BadOffload("Checksum or size make no sense")
    if len(frame) < start + 20 or start - packet.network < 20:
        raise BadOffload("Headers are cut")
    payload = start + 4 * (frame[start + 12] >> 4)
    if not start + 20 <= payload <= len(frame):
        raise BadOffload("TCP header is cut")
    data, size = frame[payload:], header.gso_size
    cuts = range(0, max(len(data), 1), size)
    return [
        _segment(packet, data[at : at + size], number, at, at == cuts[-1])
        for number, at in enumerate(cuts)
    ]


def _segment(packet: Packet, data: bytes, number: int, done: int, last: bool) -> bytes:
    """The segment of that number, from 0, with ``data``; ``done`` bytes went before."""
    frame, start = packet.frame, packet.transport
    ip = bytearray(frame[packet.network : start])
    tcp = bytearray(frame[start : start + 4 * (frame[start + 12] >> 4)])
    if packet.version == 4:
        ip[2:4] = (len(ip) + len(tcp) + len(data)).to_bytes(2, "big")
        identity = int.from_bytes(ip[4:6], "big") + number & 0xFFFF
        ip[4:6] = identity.to_bytes(2, "big")
        ip[10:12] = bytes(2)
        ip[10:12] = checksum(bytes(ip)).to_bytes(2, "big")
    else:
        ip[4:6] = (len(tcp) + len(data)).to_bytes(2, "big")
    sequence = int.from_bytes(tcp[4:8], "big") + done & 0xFFFF_FFFF
    tcp[4:8] = sequence.to_bytes(4, "big")
    if done:
        tcp[13] &= ~_CWR
    if not last:
        tcp[13] &= ~(_FIN | _PSH)
    tcp[16:18] = bytes(2)
    whole = (
        pseudo_header(*packet.addresses, IpProtocol.TCP, len(tcp) + len(data)) + bytes(tcp) + data
    )
    tcp[16:18] = (checksum(whole) or 0xFFFF).to_bytes(2, "big")
    return frame[: packet.network] + bytes(ip) + bytes(tcp) + data


def offload(frame: bytes, header, features: int) -> list[bytes]:
    """Return the frames that one of the driver's becomes by its NetHeader.

    Flags that the device does not know are ignored (5.1.6.2.2).
    """
    needs_checksum = header.flags & NetHeaderFlag.NEEDS_CSUM
    if needs_checksum and not features >> Feature.NET_CSUM & 1:
        raise BadOffload("Checksum offload was not negotiated")
    if header.gso_type:
        feature, version = _GSO_FEATURES.get(header.gso_type & ~GsoType.ECN, (None, 0))
        if feature is None or not features >> feature & 1 or not needs_checksum:
            raise BadOffload(f"gso_type {header.gso_type} was not negotiated")
        if header.gso_type & GsoType.ECN and not features >> Feature.NET_HOST_ECN & 1:
            raise BadOffload("ECN was not negotiated")
        return segment(frame, header, version)
    if needs_checksum:
        return [complete(frame, header.csum_start, header.csum_offset)]
    return [frame]
