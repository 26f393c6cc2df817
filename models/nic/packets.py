"""What a frame holds: VLAN tag, IP and transport headers, checksums (RFC 791, 8200, 9293, 768)."""

from dataclasses import dataclass

from models.spec.ethernet import (
    IPV6_AUTHENTICATION,
    IPV6_EXTENSIONS,
    IPV6_FRAGMENT,
    IPV6_FRAGMENT_MASK,
    MACS_BYTES,
    STEERING_REACH,
    VLAN_TAG_BYTES,
    EtherType,
    IpProtocol,
)
from models.spec.virtio_net import HashType

__all__ = [
    "Packet",
    "checksum",
    "pseudo_header",
    "vlan_of",
]

_VLAN, _IPV4, _IPV6 = (
    kind.to_bytes(2, "big") for kind in (EtherType.VLAN, EtherType.IPV4, EtherType.IPV6)
)


#: Bytes of the shortest header of a protocol.
_LEAST = {int(IpProtocol.TCP): 20, int(IpProtocol.UDP): 8}


def checksum(data: bytes) -> int:
    """Internet checksum: complement of the ones' complement sum of 16-bit words (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[n : n + 2], "big") for n in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def vlan_of(frame: bytes) -> int | None:
    """VLAN of a frame's tag (IEEE 802.1Q), ``None`` without one."""
    if frame[MACS_BYTES : MACS_BYTES + 2] != _VLAN or len(frame) < MACS_BYTES + VLAN_TAG_BYTES:
        return None
    return int.from_bytes(frame[14:16], "big") & 0xFFF


def pseudo_header(source: bytes, target: bytes, protocol: int, length: int) -> bytes:
    """Pseudo header of TCP and UDP (RFC 9293, 3.1; RFC 8200, 8.1)."""
    if len(source) == 4:
        return source + target + bytes((0, protocol)) + length.to_bytes(2, "big")
    return source + target + length.to_bytes(4, "big") + bytes((0, 0, 0, protocol))


@dataclass(frozen=True)
class Packet:
    """An IP packet in a frame behind at most one VLAN tag.

    Parameters
    ----------
    frame : bytes
    version : int
        Of IP, 4 or 6.
    network, transport, end : int
        Offsets of the IP header, of what follows it, and of the packet's end.
    protocol : int
        What follows the IP header.
    whole : bool
        It is no fragment, and its lengths are those of a packet that lies in the frame.
    """

    frame: bytes
    version: int
    network: int
    transport: int
    end: int
    protocol: int
    whole: bool

    @classmethod
    def of(cls, frame: bytes, *, bare: bool = False) -> "Packet | None":
        """Find the packet; ``None`` if there is none with a complete IP header.

        ``bare``: a tag has been taken away, and behind another one nobody looks.
        """
        tagged = vlan_of(frame) is not None and not bare
        at = MACS_BYTES + (VLAN_TAG_BYTES if tagged else 0)
        kind, network = frame[at : at + 2], at + 2
        ip = frame[network:]
        if kind == _IPV4 and len(ip) >= 20 and ip[0] >> 4 == 4:
            header, total = 4 * (ip[0] & 15), int.from_bytes(ip[2:4], "big")
            fragment = int.from_bytes(ip[6:8], "big") & 0x3FFF
            whole = not fragment and 20 <= header <= total <= len(ip)
            return cls(frame, 4, network, network + header, network + total, ip[9], whole)
        if kind == _IPV6 and len(ip) >= 40 and ip[0] >> 4 == 6:
            total = 40 + int.from_bytes(ip[4:6], "big")
            whole = total <= len(ip)
            return cls(frame, 6, network, network + 40, network + total, ip[6], whole)
        return None

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """Source and destination address."""
        first, size = (12, 4) if self.version == 4 else (8, 16)
        at = self.network + first
        return self.frame[at : at + size], self.frame[at + size : at + 2 * size]

    @property
    def payload(self) -> bytes:
        """Transport header and what follows."""
        return self.frame[self.transport : self.end]

    @property
    def checksum_offset(self) -> int | None:
        """Offset of the transport checksum from the transport header; ``None`` if there is none.

        Packets that are not whole, or have IPv6 extension headers, are looked at no further.
        """
        if not self.whole or self.protocol not in (IpProtocol.TCP, IpProtocol.UDP):
            return None
        return (
            {IpProtocol.TCP: 16, IpProtocol.UDP: 6}[self.protocol]
            if len(self.payload) >= _LEAST[self.protocol]
            else None
        )

    def _behind_extensions(self) -> tuple[int, int]:
        """What is behind IPv6 extension headers, and its offset: nothing, 0, of a fragment, or if
        they end behind the packet or beyond the reach.
        """
        protocol, at = self.protocol, self.transport
        while self.version == 6 and protocol in IPV6_EXTENSIONS:
            head = self.frame[at : at + 4].ljust(4, b"\0")
            size = 8 * (head[1] + 1)
            if protocol == IPV6_AUTHENTICATION:
                size = 4 * (head[1] + 2)
            elif protocol == IPV6_FRAGMENT:
                size = 8
                if int.from_bytes(head[2:], "big") & IPV6_FRAGMENT_MASK:
                    return 0, 0
            if at + size > self.end or at + size >= STEERING_REACH:
                return 0, 0
            protocol, at = head[0], at + size
        return protocol, at

    def checksum_good(self) -> bool | None:
        """Whether TCP's or UDP's checksum is right; ``None`` if there is none to look at.

        UDP over IPv4 may go without one, and a UDP length that is not the packet's leaves open
        what was summed.
        """
        offset = self.checksum_offset
        if offset is None:
            return None
        stored = int.from_bytes(self.payload[offset : offset + 2], "big")
        if self.protocol == IpProtocol.UDP:
            if int.from_bytes(self.payload[4:6], "big") != len(self.payload):
                return None
            if not stored:
                return None if self.version == 4 else False
        header = pseudo_header(*self.addresses, self.protocol, len(self.payload))
        return checksum(header + self.payload) == 0

    def hash_input(self, types: int) -> bytes | None:
        """Bytes that receive steering hashes (virtio 1.3, 5.1.6.4.3); ``None``: not hashed."""
        protocol, transport = self._behind_extensions()
        payload = self.frame[transport : self.end]
        four = self.version == 4
        by_address = HashType.IPV4 if four else HashType.IPV6
        by_ports: HashType = {
            int(IpProtocol.TCP): HashType.TCPV4 if four else HashType.TCPV6,
            int(IpProtocol.UDP): HashType.UDPV4 if four else HashType.UDPV6,
        }.get(protocol, HashType(0))
        addresses = b"".join(self.addresses)
        if types & by_ports and self.whole and len(payload) >= _LEAST[protocol]:
            return addresses + payload[:4]
        return addresses if types & by_address else None
