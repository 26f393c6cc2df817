"""IPv4 packets and VLAN tags as the hosts of scenarios send them (RFC 791, IEEE 802.1Q)."""

import struct

from models.nic.packets import checksum, pseudo_header
from models.spec.ethernet import EtherType, IpProtocol

__all__ = ["ipv4", "summed", "vlan_tag"]

_CHECKSUM_OFFSETS = {IpProtocol.TCP: 16, IpProtocol.UDP: 6}


def vlan_tag(vid: int, priority: int = 0) -> bytes:
    """Return the four bytes that go behind a frame's MACs."""
    return struct.pack(">HH", EtherType.VLAN, priority << 13 | vid)


def summed(source: bytes, target: bytes, protocol: IpProtocol, body: bytes) -> bytes:
    """Return a TCP or UDP packet, whose checksum is still 0, with its checksum."""
    at = _CHECKSUM_OFFSETS[protocol]
    total = checksum(pseudo_header(source, target, protocol, len(body)) + body) or 0xFFFF
    return body[:at] + total.to_bytes(2, "big") + body[at + 2 :]


def ipv4(
    source: bytes, target: bytes, protocol: int, body: bytes, *, identity: int = 0, flags: int = 0
) -> bytes:
    """Return a packet; ``flags`` is the word with flags and fragment offset."""
    head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(body), identity, flags, 64, protocol)
    total = checksum(head + b"\0\0" + source + target)
    return head + total.to_bytes(2, "big") + source + target + body
