"""Which host sends which frame of a capture to whom."""

import struct
from collections import Counter
from dataclasses import dataclass

from models.spec.ethernet import EtherType, IpProtocol
from models.spec.nic import initial_mac

__all__ = ["OUTSIDE", "Frame", "Plan", "guest_mac", "plan"]

#: Number of the host outside of the Ethernet port; guests are 1, 2, 3.
OUTSIDE = 0


#: Pairs of hosts that conversations are given, in turn: a capture of four has all hosts talking.
_PAIRS = ((1, OUTSIDE), (2, 3), (3, OUTSIDE), (1, 2), (OUTSIDE, 2), (3, 1))
_GROUP = 1


@dataclass(frozen=True)
class Frame:
    """A frame to send."""

    source: int
    targets: tuple[int, ...]
    content: bytes


@dataclass(frozen=True)
class Plan:
    """All frames, in the order of the capture, and what was made of it."""

    frames: tuple[Frame, ...]
    conversations: int
    rounds: int
    broadcasts: int

    def of(self, host: int) -> list[Frame]:
        """Frames that a host sends."""
        return [frame for frame in self.frames if frame.source == host]

    def pairs(self) -> Counter[tuple[int, int]]:
        """Frames by source and target."""
        return Counter((f.source, target) for f in self.frames for target in f.targets)


def guest_mac(host: int) -> bytes:
    """MAC of a host; a guest's is its function's, the outside host's is nobody's else."""
    return bytes((0x02, 0xFE, 0, 0, 0, 1)) if host == OUTSIDE else initial_mac(host)


def _conversation(frame: bytes) -> tuple[tuple, bool]:
    """Key of the conversation that a frame belongs to, and whether it goes the other way.

    By addresses, protocol and ports; fragments after the first have no ports and so are a
    conversation of their own, and what is not IP goes by its MACs.
    """
    at, kind = 12, int.from_bytes(frame[12:14], "big")
    while kind in (EtherType.VLAN, EtherType.SERVICE_VLAN):
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    ip = frame[at + 2 :]
    source, target, protocol, ports = frame[6:12], frame[:6], kind, (0, 0)
    if kind == EtherType.IPV4 and len(ip) >= 20:
        source, target, protocol = ip[12:16], ip[16:20], ip[9]
        payload = ip[4 * (ip[0] & 15) :]
        if not int.from_bytes(ip[6:8], "big") & 0x1FFF:
            ports = _ports(protocol, payload)
    elif kind == EtherType.IPV6 and len(ip) >= 40:
        source, target, protocol = ip[8:24], ip[24:40], ip[6]
        ports = _ports(protocol, ip[40:])
    ends = (source, ports[0]), (target, ports[1])
    backwards = ends[0] > ends[1]
    return (protocol, *sorted(ends)), backwards


def _ports(protocol: int, payload: bytes) -> tuple[int, int]:
    if protocol in (IpProtocol.TCP, IpProtocol.UDP) and len(payload) >= 4:
        return struct.unpack_from(">HH", payload)
    return 0, 0


def plan(frames: tuple[bytes, ...], *, limit: int = 0) -> Plan:
    """Give each conversation of a capture a pair of hosts, in turn; the same for the same capture.

    MACs become those of the hosts; every byte behind them stays.  Frames to group addresses keep
    theirs and go to everyone; a capture without any gets one announcement (ARP) of each host.  A
    capture of fewer than four conversations is replayed, each time with the next pairs, until
    every host has taken part.  At most ``limit`` frames, 0 for all.
    """
    found: list[Frame] = []
    pairs: dict[tuple, tuple[tuple[int, int], bool]] = {}
    groups = rounds = 0
    while True:
        for content in frames:
            key, backwards = _conversation(content)
            if (rounds, key) not in pairs:
                pairs[rounds, key] = _PAIRS[len(pairs) % len(_PAIRS)], backwards
            (one, other), first = pairs[rounds, key]
            source, target = (one, other) if backwards == first else (other, one)
            if content[0] & _GROUP:
                groups += 1
                found.append(_broadcast(source, content))
            else:
                macs = guest_mac(target) + guest_mac(source)
                found.append(Frame(source, (target,), macs + content[12:]))
        rounds += 1
        if len(pairs) >= 4:
            break
    if not groups:
        found[len(found) // 2 : len(found) // 2] = [_announcement(host) for host in range(4)]
    kept = tuple(found[:limit] if limit else found)
    broadcasts = sum(len(frame.targets) > 1 for frame in kept)
    return Plan(kept, len(pairs), rounds, broadcasts)


def _broadcast(source: int, content: bytes) -> Frame:
    targets = tuple(host for host in range(4) if host != source)
    return Frame(source, targets, content[:6] + guest_mac(source) + content[12:])


def _announcement(host: int) -> Frame:
    """An ARP announcement (RFC 5227), padded to 60 bytes."""
    address = bytes((192, 0, 2, 10 + host))
    arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + guest_mac(host) + address + bytes(6) + address
    content = b"\xff" * 6 + guest_mac(host) + b"\x08\x06" + arp
    return _broadcast(host, content.ljust(60, b"\0"))
