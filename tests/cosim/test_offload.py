"""Checksums and segments, with scapy as the judge."""

from random import Random

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.stack import Outgoing, large, partial
from models.nic.packets import Packet
from models.spec.nic import Stat
from models.spec.virtio import Feature, GsoType, NetHeader, NetHeaderFlag
from tests.cosim.platform import COMPLETE, run

FLAGS = {"F": 0x01, "P": 0x08, "C": 0x80}


def judged(content):
    """Scapy's own bytes of a frame, all lengths and checksums computed anew."""
    packet = Ether(content)
    layer = packet
    while layer:
        for name in ("chksum", "len", "plen"):
            if name in layer.fields:
                layer.delfieldval(name)
        layer = layer.payload
    return bytes(packet)


def packet(version=4, payload=b"", kind="tcp", tagged=False, **fields):
    ip = (
        IP(src="192.0.2.1", dst="192.0.2.2", id=0xFFFE)
        if version == 4
        else IPv6(src="2001:db8::1", dst="2001:db8::2")
    )
    transport = (
        TCP(sport=1234, dport=80, seq=0xFFFF_FF00, **fields)
        if kind == "tcp"
        else UDP(sport=4000, dport=4001)
    )
    tag = Dot1Q(vlan=5, prio=3) if tagged else None
    ether = Ether(src="02:10:00:00:00:01", dst="02:10:00:00:00:02")
    return bytes((ether / tag if tag else ether) / ip / transport / payload)


#: Without VLAN filters: tagged frames arrive.
FEATURES = KNOWN_FEATURES & ~(1 << Feature.NET_CTRL_VLAN)


def deliver(outgoing, *, features=FEATURES, nic=None, **options):
    """Send something from guest 1 to guest 2; return frames, headers, platform."""
    found = []

    async def scenario(platform):
        guests = [
            await platform.guest(f, features=features, frame_bytes=9018, **options) for f in (1, 2)
        ]
        guests[1].driver.on_packet = lambda frame, header, _: found.append((frame, header))
        for one in outgoing:
            await guests[0].driver.submit(one)
        await guests[0].driver.drained()
        await platform.machine.sleep(100_000)
        return platform

    platform = run(scenario, nic=COMPLETE | (nic or {}))
    return [frame for frame, _ in found], [header for _, header in found], platform


@pytest.mark.parametrize("version", [4, 6])
def test_checksums_are_completed_and_checked(version):
    rng = Random(version)
    frames = [
        packet(version, rng.randbytes(size), kind, tagged)
        for kind in ("tcp", "udp")
        for size in (0, 1, 100, 1001)
        for tagged in (False, True)
    ]
    outgoing = [partial(frame) for frame in frames]
    assert all(one.content != frame for one, frame in zip(outgoing, frames, strict=True))
    received, headers, platform = deliver(outgoing)
    assert received == frames
    assert all(judged(frame) == frame for frame in received)
    assert all(header.flags == NetHeaderFlag.DATA_VALID for header in headers)
    assert platform.stat(1, Stat.TX_CHECKSUMS) == len(frames)
    assert platform.stat(2, Stat.RX_CHECKSUM_GOOD) == len(frames)


def test_what_is_not_right_is_delivered_without_a_word():
    good = packet(4, b"payload", "udp")
    wrong = good[:-1] + b"!"
    none = good[:40] + b"\0\0" + good[42:]
    fragment = good[:20] + b"\x20\0" + good[22:]
    received, headers, platform = deliver([Outgoing(f) for f in (wrong, none, fragment, good)])
    assert received == [wrong, none, fragment, good]
    assert [bool(header.flags) for header in headers] == [False, False, False, True]
    assert platform.stat(2, Stat.RX_CHECKSUM_BAD) == 1


def check_segments(whole, segments, size, version):
    """Compare segments with what scapy makes of the whole."""
    original = Ether(whole)
    payload = bytes(original[TCP].payload)
    assert b"".join(bytes(Ether(s)[TCP].payload) for s in segments) == payload
    for number, content in enumerate(segments):
        assert judged(content) == content
        found, last = Ether(content), number == len(segments) - 1
        part = bytes(found[TCP].payload)
        assert len(part) == size or (last and 0 < len(part) <= size)
        assert found[TCP].seq == original[TCP].seq + number * size & 0xFFFF_FFFF
        expected = int(original[TCP].flags)
        expected &= ~0 if last else ~(FLAGS["F"] | FLAGS["P"])
        expected &= ~FLAGS["C"] if number else ~0
        assert int(found[TCP].flags) == expected
        assert found[TCP].options == original[TCP].options
        if version == 4:
            assert found[IP].id == original[IP].id + number & 0xFFFF
        assert found.fields == original.fields


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("length", "size"),
    [
        *((1, 1428), (1429, 1428), (997, 100)),
        pytest.param(1428, 1428, marks=pytest.mark.full),
        pytest.param(60_000, 1400, marks=pytest.mark.full),
    ],
)
def test_segments(version, length, size, tagged):
    payload = Random(length).randbytes(length)
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    whole = packet(version, payload, "tcp", tagged, flags="FPACE", options=options)
    received, headers, platform = deliver([large(whole, size, ecn=True)], buffers=64)
    check_segments(whole, received, size, version)
    assert platform.stat(1, Stat.TX_SEGMENTED) == 1
    assert platform.stat(1, Stat.TX_PACKETS) == len(received) == -(-length // size)
    assert all(header.flags == NetHeaderFlag.DATA_VALID for header in headers)


def test_segments_of_jumbo_frames():
    whole = packet(4, Random(1).randbytes(30_000))
    nic = {"frame_bytes": 16384, "mtu": 9000}
    sizes = {"buffers": 64, "queue_size": 256, "merge_bytes": 1024}
    received, _, _ = deliver([large(whole, 8960)], nic=nic, **sizes)
    check_segments(whole, received, 8960, 4)
    assert max(map(len, received)) == 9014


def offered(**fields):
    return NetHeader.const(fields).as_bits().to_bytes(12, "little")


TCP4, TCP6 = packet(4, bytes(3000)), packet(6, bytes(3000))
SOUND = {"flags": 1, "gso_type": 1, "gso_size": 1000, "csum_start": 34, "csum_offset": 16}


@pytest.mark.parametrize(
    ("content", "change"),
    [
        (TCP4, {"flags": 0}),
        (TCP4, {"gso_size": 0}),
        (TCP4, {"gso_size": 2048}),
        (TCP4, {"csum_start": 35}),
        (TCP4, {"csum_offset": 6}),
        (TCP4, {"gso_type": GsoType.TCPV6}),
        (TCP6, {}),
        (TCP4, {"gso_type": 3}),
        (TCP4, {"gso_type": GsoType.ECN}),
        (TCP4[:50], {}),
        (TCP4[:46] + b"\xf0" + TCP4[47:80], {}),
        (packet(4, bytes(900), "udp"), {}),
        (packet(4, bytes(900), "udp"), {"gso_type": 0, "csum_start": 1000}),
    ],
)
def test_offloads_that_cannot_be_are_dropped(content, change):
    bad = Outgoing(content, offered(**SOUND | change))
    received, _, platform = deliver([bad, Outgoing(packet(4, b"next"))])
    assert received == [packet(4, b"next")]
    assert platform.stat(1, Stat.TX_DROPPED_OFFLOAD) == platform.stat(1, Stat.TX_DROPPED) == 1


@pytest.mark.parametrize("feature", ["NET_CSUM", "NET_HOST_TSO4", "NET_HOST_ECN"])
def test_offloads_that_were_not_negotiated_are_dropped(feature):
    features = FEATURES & ~(1 << Feature[feature])
    bad = Outgoing(TCP4, offered(**SOUND | {"gso_type": GsoType.TCPV4 | GsoType.ECN}))
    if feature == "NET_CSUM":
        bad = partial(packet(4, b"payload"))
    received, _, platform = deliver([bad, Outgoing(packet(4, b"next"))], features=features)
    assert received == [packet(4, b"next")]
    assert platform.stat(1, Stat.TX_DROPPED_OFFLOAD) == 1


def test_flags_that_nobody_knows_are_ignored():
    frame = packet(4, b"payload")
    received, _, _ = deliver([Outgoing(frame, offered(flags=0xFE))])
    assert received == [frame]


def test_checksum_of_zero_is_sent_as_ffff():
    """Two bytes of a UDP packet are chosen so that its sum is FFFFh."""
    base = packet(4, bytes(2), "udp")
    stored = int.from_bytes(base[40:42], "big")
    frame = base[:42] + stored.to_bytes(2, "big")
    found = Packet.of(frame)
    assert found is not None
    pseudo = partial(base)
    received, headers, _ = deliver([Outgoing(pseudo.content[:42] + frame[42:], pseudo.header)])
    assert received[0][40:42] == b"\xff\xff"
    assert headers[0].flags == NetHeaderFlag.DATA_VALID
