"""Steering of flows over queue pairs, by control queue."""

from random import Random

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether

from cosim.guest.control import rss_command
from cosim.guest.features import KNOWN_FEATURES
from models.nic.packets import Packet
from models.nic.steering import toeplitz
from models.spec.nic import Stat
from models.spec.virtio import Feature
from models.spec.virtio_net import (
    ControlAck,
    ControlClass,
    ControlMq,
    HashType,
)
from tests.cosim.control_world import OUTSIDE, arrive, mac, raw, scenario, settle

#: Example hash key and results of Microsoft's RSS specification ("Verifying the RSS Hash").
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)

VERIFIED = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x51CCC178, 0x323E8FC2),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xC626B0EA, 0xD718262A),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x40207D3D, 0x2CC18CD5),
]


@pytest.mark.parametrize(("source", "sport", "target", "dport", "with_ports", "without"), VERIFIED)
def test_toeplitz_as_published(source, sport, target, dport, with_ports, without):
    layer = IPv6 if ":" in source else IP
    packet = layer(src=source, dst=target)
    at, size = (8, 32) if ":" in source else (12, 8)
    addresses = bytes(packet)[at : at + size]
    ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    assert toeplitz(KEY, addresses + ports) == with_ports
    assert toeplitz(KEY, addresses) == without


def test_ports_behind_extension_headers_are_hashed():
    """Headers by scapy (virtio 1.3, 5.1.6.4.3: extension headers are skipped)."""
    ip = IPv6(src="2001:db8::1", dst="2001:db8::2")
    addresses = bytes(ip)[8:40]
    pad = PadN(optdata=bytes(12))
    chains = (
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(options=[pad]),
        IPv6ExtHdrRouting(addresses=["2001:db8::9"]),
        IPv6ExtHdrHopByHop(options=[pad, pad]) / IPv6ExtHdrFragment(),
        AH(nh=59, payloadlen=4, icv=bytes(12), padding=b""),
    )

    def hashed(packet, types):
        return Packet.of(bytes(Ether() / packet)).hash_input(types)

    for chain in chains:
        for kind, of_ports in ((TCP, HashType.TCPV6), (UDP, HashType.UDPV6)):
            if AH in chain:
                chain[AH].nh = {TCP: 6, UDP: 17}[kind]
            packet = ip / chain / kind(sport=1000, dport=2000) / bytes(20)
            assert hashed(packet, of_ports | HashType.IPV6) == addresses + b"\3\xe8\7\xd0"
            assert hashed(packet, HashType.IPV6) == addresses
            assert hashed(packet, HashType.IPV4 | HashType.TCPV4) is None
    part = ip / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(m=1) / UDP(sport=1, dport=2) / bytes(40)
    assert hashed(part, HashType.UDPV6 | HashType.IPV6) == addresses
    assert hashed(part, HashType.UDPV6) is None
    far = ip / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(240))]) / UDP() / bytes(20)
    assert hashed(far, HashType.UDPV6 | HashType.IPV6) == addresses


def flow(number, kind=TCP, layer=IP):
    ip = {IP: IP(src="192.0.2.1", dst="192.0.2.2"), IPv6: IPv6(src="::1", dst="::2")}[layer]
    return bytes(
        Ether(dst=mac(1), src=OUTSIDE) / ip / kind(sport=1000 + number, dport=80) / bytes(20)
    )


def test_flows_go_where_the_table_says():
    table = [1, 0, 1, 1, 0, 0, 1, 0]
    rng = Random(3)
    frames = [flow(rng.randrange(99), rng.choice((TCP, UDP)), rng.choice((IP, IPv6)))
              for _ in range(40)]  # fmt: skip
    unhashed = raw(mac(1))

    async def steps(platform, guests, wire):
        driver, seen = guests[1].driver, []
        driver.on_packet = lambda frame, header, pair: seen.append((frame, pair))
        types = HashType.TCPV4 | HashType.IPV4 | HashType.TCPV6 | HashType.UDPV6
        await driver.control.set_rss(types, table, KEY, unclassified=1)
        for content in [*frames, unhashed]:
            await platform.machine.send_frame(content)
            await platform.machine.sleep(400)
        await platform.until(lambda: len(seen) == 41)
        for frame, pair in seen:
            if frame == unhashed:
                assert pair == 1
                continue
            at, size = (22, 32) if frame[12:14] == b"\x86\xdd" else (26, 8)
            addresses, ports = frame[at : at + size], frame[at + size : at + size + 4]
            by_ports = size == 32 or frame[23] == 6
            assert pair == table[toeplitz(KEY, addresses + ports * by_ports) & 7]
        for pair in (0, 1):  # in order within a queue
            mine = [frame for frame, found in seen if found == pair and frame != unhashed]
            order = iter(frames)
            assert all(frame in order for frame in mine)

    scenario(steps, pairs=2)


def test_multiqueue_without_rss_spreads_flows_and_keeps_each_together():
    features = KNOWN_FEATURES & ~(1 << Feature.NET_RSS)

    async def steps(platform, guests, wire):
        driver, pairs = guests[1].driver, {}
        driver.on_packet = lambda frame, _, pair: pairs.setdefault(frame, set()).add(pair)
        for number in list(range(16)) * 2:
            await platform.machine.send_frame(flow(number))
            await platform.machine.sleep(400)
        await platform.until(lambda: platform.stat(1, Stat.RX_PACKETS) == 32)
        await settle(platform)
        assert all(len(found) == 1 for found in pairs.values())
        assert {pair for found in pairs.values() for pair in found} == {0, 1}
        await driver.control.set_pairs(1)
        pairs.clear()
        await arrive(platform, guests, [flow(n) for n in range(8)])
        assert {pair for found in pairs.values() for pair in found} == {0}
        for pair in (0, 1):
            await driver.send(raw(mac(2), mac(1), mark=pair), pair=pair)
        await settle(platform)
        assert len(guests[2].received) == 2

    scenario(steps, features=features, pairs=2)


def test_commands_that_make_no_sense_are_refused():
    good = rss_command(HashType.TCPV4, [0, 1], KEY)

    async def steps(platform, guests, wire):
        control = guests[1].driver.control
        bad = [
            (ControlClass.RX, 0, b""),
            (ControlClass.RX, 2, b"\1"),
            (ControlClass.MAC, 0, bytes(7)),
            (ControlClass.MAC, 0, b"\2\0\0\0" + bytes(6)),
            (ControlClass.MAC, 1, bytes(5)),
            (ControlClass.VLAN, 0, b"\0\x10"),
            (ControlClass.VLAN, 2, b"\1\0"),
            (ControlClass.MQ, ControlMq.PAIRS_SET, bytes(2)),
            (ControlClass.MQ, ControlMq.PAIRS_SET, b"\3\0"),
            (ControlClass.MQ, ControlMq.RSS_CONFIG, good[:-1]),
            (ControlClass.MQ, ControlMq.RSS_CONFIG, rss_command(1 << 6, [0, 1], KEY)),
            (ControlClass.MQ, ControlMq.RSS_CONFIG, rss_command(1, [0, 1, 1], KEY)),
            (ControlClass.MQ, ControlMq.RSS_CONFIG, rss_command(1, [0, 2], KEY)),
            (ControlClass.MQ, ControlMq.RSS_CONFIG, rss_command(1, [0] * 256, KEY)),
            (ControlClass.ANNOUNCE, 0, b""),
        ]
        for command in bad:
            assert await control.command(*command) == ControlAck.ERR, command
        assert await control.command(ControlClass.MQ, ControlMq.RSS_CONFIG, good) == ControlAck.OK
        assert platform.hypervisor.mailbox.commands > len(bad)

    scenario(steps, pairs=2)
