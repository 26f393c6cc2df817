"""Numbers in Ethernet frames and IP packets that the NIC, guests and hosts look at.

Types of IEEE 802.3 and 802.1Q; protocol numbers as IANA keeps them (RFC 791, 8200).
"""

import enum

__all__ = [
    "IPV6_AUTHENTICATION",
    "IPV6_EXTENSIONS",
    "IPV6_FRAGMENT",
    "IPV6_FRAGMENT_MASK",
    "MACS_BYTES",
    "STEERING_REACH",
    "VLAN_TAG_BYTES",
    "EtherType",
    "IpProtocol",
]

#: Bytes of both MACs, behind which a VLAN tag is (IEEE 802.1Q), and of that.
MACS_BYTES, VLAN_TAG_BYTES = 12, 4


class EtherType(enum.IntEnum):
    """What a frame, or what is behind a tag, holds."""

    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8

    @property
    def in_memory(self) -> int:
        """Its 16 bits with the first byte lowest."""
        return int.from_bytes(self.to_bytes(2, "big"), "little")


class IpProtocol(enum.IntEnum):
    """What an IP packet holds."""

    ICMP = 1
    TCP = 6
    UDP = 17


#: IPv6 extension headers: hop-by-hop, routing, fragment, AH, destination, mobility, HIP, shim6.
IPV6_EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)
IPV6_FRAGMENT, IPV6_AUTHENTICATION = 44, 51
#: Of the fragment header: offset, and whether there are more, as its third and fourth byte.
IPV6_FRAGMENT_MASK = 0xFFF9
#: Receive steering looks for ports in so many bytes of a frame, behind extension headers.
STEERING_REACH = 256
