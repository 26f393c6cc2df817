"""Captures through every combination of ring format and offload, byte for byte.

The folder that ``IOVIRT_CAPTURES`` names is run as well, if it is set.
"""

import os
from itertools import product
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from cosim.capture import read_capture, shipped_capture
from cosim.guest.virtio_net import KNOWN_FEATURES
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.platform import COMPLETE, run
from tests.cosim.test_offload import judged

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
ALL = list(product(product((0, 1), repeat=4), OFFLOADS, (0, 1)))
#: Each pair of choices once or more.
QUICK = [
    ((0, 0, 0, 0), "none", 0),
    ((1, 1, 1, 0), "segments", 1),
    ((0, 1, 0, 1), "checksum", 1),
    ((1, 0, 0, 1), "segments", 0),
]
MORE = os.environ.get("IOVIRT_CAPTURES")
CAPTURES = [shipped_capture(), *(sorted(Path(MORE).glob("*.pcap*")) if MORE else ())]


def name(combination):
    rings, offload, mergeable = combination
    words = [f.name.split("_")[1].lower() for f, on in zip(RINGS, rings, strict=True) if on]
    return "-".join([*(words or ["split"]), offload, *(["mergeable"] if mergeable else [])])


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


def replay(path, combination, limit):
    rings, offload, mergeable = combination
    refused = [f for f, on in zip(RINGS, rings, strict=True) if not on]
    refused += [*OFFLOADS[offload], Feature.NET_CTRL_VLAN]
    refused += [] if mergeable else [Feature.NET_MRG_RXBUF]
    features = KNOWN_FEATURES & ~sum(1 << feature for feature in refused)

    async def scenario(platform):
        guests = [
            await platform.guest(f, features=features, frame_bytes=1518, buffers=48) for f in (1, 2)
        ]
        expected = [[], []]
        for way in (0, 1):
            target, source = guests[1 - way].mac, guests[way].mac
            for group in prepare(path, limit, target, source):
                driver = guests[way].driver
                if len(group) > 1 and driver.accepted(Feature.NET_HOST_TSO4):
                    first = Ether(group[0])
                    data = b"".join(bytes(Ether(content)[TCP].payload) for content in group)
                    head = group[0][: len(group[0]) - len(first[TCP].payload)]
                    flags = head[first_flags(first)] | int(Ether(group[-1])[TCP].flags) & 8
                    at = first_flags(first)
                    whole = head[:at] + bytes((flags,)) + head[at + 1 :] + data
                    await driver.send_large(whole, len(first[TCP].payload))
                    expected[1 - way] += as_segments(group)
                else:
                    for content in group:
                        await driver.send(content)
                    expected[1 - way] += group
                await platform.machine.sleep(600)
        await platform.until(
            lambda: all(len(g.received) >= len(e) for g, e in zip(guests, expected, strict=True)),
            cycles=3_000_000,
        )
        await platform.machine.sleep(10_000)
        assert [guest.received for guest in guests] == expected
        return platform

    return run(scenario, nic=COMPLETE, batch=3)


def first_flags(packet):
    """Offset of the TCP flags."""
    return len(packet) - len(packet[TCP]) + 13


@pytest.mark.parametrize("combination", QUICK, ids=name)
def test_shipped_capture(combination):
    platform = replay(shipped_capture(), combination, 40)
    offload = combination[1]
    assert (platform.stat(1, Stat.TX_CHECKSUMS) > 0) == (offload != "none")
    cut = sum(platform.stat(function, Stat.TX_SEGMENTED) for function in (1, 2))
    assert (cut > 0) == (offload == "segments")
    assert platform.stat(2, Stat.RX_DROPPED_FULL) == 0


@pytest.mark.full
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("combination", ALL, ids=name)
def test_every_combination(combination, path):
    platform = replay(path, combination, 0 if path.stat().st_size < 100_000 else 250)
    assert platform.stat(1, Stat.TX_PACKETS) > 0


def test_groups_of_a_bulk_transfer_are_found():
    """Wholes are cut again into the frames that they were made of, but for identification."""
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    frames = [
        bytes(ether / IP(src="1.2.3.4", dst="1.2.3.5", id=n) /
              TCP(seq=1000 + 100 * n, flags="A" if n < 4 else "PA") / bytes(100 if n < 4 else 7))
        for n in range(5)
    ]  # fmt: skip
    assert wholes(frames) == [frames]
    assert as_segments(frames) == frames
    assert wholes([frames[0], frames[2]]) == [[frames[0]], [frames[2]]]
