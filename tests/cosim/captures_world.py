"""Captures between two guests, on golden machine and RTL: what is sent, and what is to arrive."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from cosim.capture import read_capture, shipped_capture
from cosim.guest.features import KNOWN_FEATURES
from models.spec.config import SystemConfig, config
from models.spec.nic import DROPS, Stat
from models.spec.virtio import Feature
from tests.cosim.platform import COMPLETE, Platform
from tests.cosim.test_offload import judged

__all__ = [
    "OFFLOADS",
    "RINGS",
    "as_segments",
    "capture_system",
    "exchange",
    "samples",
    "send_group",
    "wholes",
]

RINGS = (
    Feature.RING_PACKED,
    Feature.RING_INDIRECT_DESC,
    Feature.RING_EVENT_IDX,
    Feature.IN_ORDER,
)
#: Features without which an offload is not used.
OFFLOADS = {
    "none": (Feature.NET_CSUM, Feature.NET_GUEST_CSUM),
    "checksum": (Feature.NET_HOST_TSO4, Feature.NET_HOST_TSO6),
    "segments": (),
}
#: Room for all segments of a frame that are there at once.
_ROOM = {"tx_slots": 64, "rx_slots": 64}
_STATS = (Stat.TX_PACKETS, Stat.TX_CHECKSUMS, Stat.TX_SEGMENTED, *DROPS)


def capture_system() -> SystemConfig:
    """``tiny`` with everything that a NIC can have."""
    tiny = config("tiny")
    return replace(tiny, nic=replace(tiny.nic, **COMPLETE, **_ROOM))


def key(packet):
    """What segments of one whole have in common, ``None`` for what is none."""
    if TCP not in packet or (IP not in packet and IPv6 not in packet):
        return None
    ip, tcp = packet[IP] if IP in packet else packet[IPv6], packet[TCP]
    if (IP in packet and (ip.flags.MF or ip.frag)) or tcp.flags & 0x27 or not len(tcp.payload):
        return None
    if (
        ip.underlayer is not packet
        or tcp.underlayer is not ip
        or judged(bytes(packet)) != bytes(packet)
    ):
        return None
    fixed = (ip.tos, ip.ttl, ip.flags) if IP in packet else (ip.tc, ip.fl, ip.hlim)
    ends = (ip.src, ip.dst, tcp.sport, tcp.dport, tcp.ack, tcp.window, tcp.dataofs)
    return (ip.version, *fixed, *ends, bytes(tcp)[20 : 4 * tcp.dataofs])


def as_segments(group):
    """What a whole made of these frames is to become."""
    first = Ether(group[0])
    found = []
    for number, content in enumerate(group):
        packet = Ether(content)
        if IP in packet:
            packet[IP].id = first[IP].id + number & 0xFFFF
        last = Ether(group[-1])[TCP].flags & 8
        packet[TCP].flags = (int(packet[TCP].flags) & ~8) | (
            last if number == len(group) - 1 else 0
        )
        found.append(judged(bytes(packet)))
    return found


def wholes(frames):
    """Join what a stack would have sent at once: groups of frames, most of them of one."""
    groups: list[list[bytes]] = []
    known = following = size = None
    for content in frames:
        packet = Ether(content)
        found = key(packet)
        length = len(packet[TCP].payload) if found else 0
        fits = found and found == known and packet[TCP].seq == following and length <= size
        if not fits:
            groups.append([])
            size = length
        groups[-1].append(content)
        following = packet[TCP].seq + length & 0xFFFF_FFFF if found else None
        known = found if length == size else None
    return groups


def prepare(path, limit, target, source):
    """Frames between two MACs, in groups, and what is to arrive."""
    frames = read_capture(path).frames[: limit or None]
    addressed = [
        (content[:6] if content[0] & 1 else target) + source + content[12:] for content in frames
    ]
    return wholes(addressed)


def samples(target, source):
    """Of the shipped capture: TCP and UDP in IPv4 and IPv6, some of them groups of two."""
    found: dict[tuple, list] = {}
    for group in prepare(shipped_capture(), 0, target, source):
        packet = Ether(group[0])
        kind = (IP in packet, TCP in packet, UDP in packet, len(group) > 1)
        if (TCP in packet or UDP in packet) and len(found.setdefault(kind, [])) < 3:
            found[kind].append(group[:2])
    assert len(found) == 6
    return [group for groups in zip(*found.values(), strict=True) for group in groups]


def first_flags(packet):
    """Offset of the TCP flags."""
    return len(packet) - len(packet[TCP]) + 13


async def exchange(
    platform: Platform, path: Path, combination: tuple, limit: int
) -> dict[str, list[int]]:
    """Replay a capture both ways; fail unless all that is to arrive does, in order and no more.

    ``combination`` is of rings, offload and whether buffers are merged.  Returns counters of both
    guests.
    """
    rings, offload, mergeable = combination
    refused = [f for f, on in zip(RINGS, rings, strict=True) if not on]
    refused += [*OFFLOADS[offload], Feature.NET_CTRL_VLAN]
    refused += [] if mergeable else [Feature.NET_MRG_RXBUF]
    features = KNOWN_FEATURES & ~sum(1 << feature for feature in refused)
    guests = [
        await platform.guest(f, features=features, frame_bytes=1518, buffers=48) for f in (1, 2)
    ]
    expected: list[list[bytes]] = [[], []]
    for way in (0, 1):
        for group in prepare(path, limit, guests[1 - way].mac, guests[way].mac):
            expected[1 - way] += await send_group(guests[way].driver, group)
            await platform.machine.sleep(600 * len(group))  # the receiver has to keep up
    await platform.until(
        lambda: all(len(g.received) >= len(e) for g, e in zip(guests, expected, strict=True)),
        cycles=3_000_000,
    )
    await platform.machine.sleep(10_000)
    assert [guest.received for guest in guests] == expected
    hypervisor = platform.hypervisor
    return {stat.name: [await hypervisor.stat(f, stat) for f in (1, 2)] for stat in _STATS}


async def send_group(driver: Any, group: list[bytes], pair: int = 0) -> list[bytes]:
    """Send frames, at once if the driver may; returns what is to arrive."""
    first = Ether(group[0])
    cuts = Feature.NET_HOST_TSO4 if IP in first else Feature.NET_HOST_TSO6
    if len(group) == 1 or not driver.accepted(cuts):
        for content in group:
            await driver.send(content, pair=pair)
        return group
    data = b"".join(bytes(Ether(content)[TCP].payload) for content in group)
    head = group[0][: len(group[0]) - len(first[TCP].payload)]
    at = first_flags(first)  # PSH is the last one's
    flags = head[at] & ~8 | int(Ether(group[-1])[TCP].flags) & 8
    whole = head[:at] + bytes((flags,)) + head[at + 1 :] + data
    await driver.send_large(whole, len(first[TCP].payload), pair=pair)
    return as_segments(group)
