"""Filters, VLANs, steering, link: by control queue and by the PF's management."""

import asyncio
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
from scapy.layers.l2 import Dot1Q, Ether

from cosim.guest.control import CommandFailed, rss_command
from cosim.guest.features import KNOWN_FEATURES
from cosim.hypervisor.coalescing import CoalescingControl
from cosim.hypervisor.costs import Costs
from models.nic.packets import Packet
from models.nic.steering import toeplitz
from models.spec.nic import QueueCoalescing, Stat
from models.spec.virtio import Feature
from models.spec.virtio_net import (
    ControlAck,
    ControlClass,
    ControlCoalescing,
    ControlMq,
    HashType,
)
from tests.cosim.platform import COMPLETE, run

OUTSIDE = "02:fe:00:00:00:01"
#: Example hash key and results of Microsoft's RSS specification ("Verifying the RSS Hash").
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)


def mac(function):
    return f"02:10:00:00:00:{function:02x}"


def raw(target, source=OUTSIDE, *, vlan=None, priority=0, mark=0):
    ether = Ether(dst=target, src=source)
    if vlan is not None:
        ether = ether / Dot1Q(vlan=vlan, prio=priority, type=0x88B5)
        return bytes(ether / bytes((mark,) * 46))
    ether.type = 0x88B5
    return bytes(ether / bytes((mark,) * 46))


def scenario(
    steps, *, features=KNOWN_FEATURES, assign=None, functions=(1, 2), costs=None, **options
):
    """Run steps with guests by function, and frames on the wire."""

    async def main(platform):
        wire = []
        platform.machine.on_frame(lambda content, _: wire.append(content))
        guests = {
            f: await platform.guest(f, features=features, assign=(assign or {}).get(f), **options)
            for f in functions
        }
        await settle(platform)
        await steps(platform, guests, wire)

    run(main, nic=COMPLETE, costs=costs)


async def settle(platform):
    await platform.machine.sleep(30_000)


async def arrive(platform, guests, frames):
    """Put frames on the wire; return what each guest received of them."""
    for guest in guests.values():
        guest.received.clear()
    for content in frames:
        await platform.machine.send_frame(content)
    await settle(platform)
    return {f: list(guest.received) for f, guest in guests.items()}


def test_mac_filters_and_promiscuous_modes():
    multicast, other = "01:00:5e:00:00:01", "01:00:5e:00:00:02"
    frames = [raw(target) for target in (mac(1), "02:99:00:00:00:01", multicast, other)]
    one, extra, group, stranger = frames
    broadcast = raw("ff:ff:ff:ff:ff:ff")
    frames.append(broadcast)

    async def steps(platform, guests, wire):
        control = guests[1].driver.control
        unfiltered = [one, group, stranger, broadcast]
        assert (await arrive(platform, guests, frames))[1] == unfiltered
        await control.set_macs([bytes.fromhex("029900000001")], [bytes.fromhex("01005e000001")])
        assert (await arrive(platform, guests, frames))[1] == [one, extra, group, broadcast]
        await control.set_all_multicast(True)
        assert (await arrive(platform, guests, frames))[1] == frames
        await control.set_all_multicast(False)
        await control.set_macs([], [])
        assert (await arrive(platform, guests, frames))[1] == [one, broadcast]
        await control.set_promiscuous(True)
        assert (await arrive(platform, guests, frames))[1] == frames
        many = [b"\x01\x00\x5e\x01\x00" + bytes((n,)) for n in range(9)]
        await control.set_promiscuous(False)
        await control.set_macs([], many)  # more than there are filters: all multicast
        assert (await arrive(platform, guests, frames))[1] == unfiltered
        assert (await arrive(platform, guests, frames))[2] == unfiltered[1:]
        assert platform.stat(1, Stat.RX_BROADCAST) == 7

    scenario(steps)


def test_mac_is_changed_by_the_driver():
    async def steps(platform, guests, wire):
        new = bytes.fromhex("027700000001")
        await guests[1].driver.control.set_mac(new)
        content = raw("02:77:00:00:00:01")
        assert (await arrive(platform, guests, [content, raw(mac(1))]))[1] == [content]
        with pytest.raises(CommandFailed):
            await guests[1].driver.control.set_mac(b"\x01" + new[1:])

    scenario(steps)


def test_vlan_filter():
    frames = [raw(mac(1), vlan=vlan) for vlan in (5, 6, 0)] + [raw(mac(1))]

    async def steps(platform, guests, wire):
        control = guests[1].driver.control
        assert (await arrive(platform, guests, frames))[1] == frames[2:]
        await control.add_vlan(6)
        assert (await arrive(platform, guests, frames))[1] == frames[1:]
        await control.remove_vlan(6)
        assert (await arrive(platform, guests, frames))[1] == frames[2:]

    scenario(steps)


def test_a_reset_device_has_no_filters():
    async def steps(platform, guests, wire):
        driver = guests[1].driver
        await driver.control.set_promiscuous(True)
        await driver.control.add_vlan(9)
        await driver.stop()
        await driver.start()
        await settle(platform)
        frames = [raw("02:99:00:00:00:01"), raw(mac(1), vlan=9), raw(mac(1))]
        assert (await arrive(platform, guests, frames))[1] == frames[2:]

    scenario(steps)


def test_functions_with_a_vlan_are_tagged_and_untagged():
    """Guests 1 and 2 are in VLAN 7, 3 in VLAN 8, 4 in none and unfiltered, 5 mirrors."""
    assign = {1: {"vlan": 7}, 2: {"vlan": 7}, 3: {"vlan": 8}, 5: {"mirror": True}}
    features = KNOWN_FEATURES & ~(1 << Feature.NET_CTRL_VLAN)
    all_of = "ff:ff:ff:ff:ff:ff"

    async def steps(platform, guests, wire):
        content = raw(all_of, mac(1), mark=1)
        tagged = raw(all_of, mac(1), vlan=7, mark=1)
        await guests[1].driver.send(content)
        await settle(platform)
        assert {f: guest.received for f, guest in guests.items()} == {
            1: [], 2: [content], 3: [], 4: [tagged], 5: [tagged],
        }  # fmt: skip
        assert wire == [tagged]
        assert Ether(wire[0])[Dot1Q].vlan == 7
        plain = raw(all_of, mark=2)
        found = await arrive(platform, guests, [plain, raw(all_of, vlan=8, mark=3)])
        assert found[1] == found[2] == []
        assert found[3] == [raw(all_of, mark=3)]
        assert found[4] == found[5] == [plain, raw(all_of, vlan=8, mark=3)]
        # Between VLANs there is nothing but the port.
        wire.clear()
        await guests[1].driver.send(raw(mac(3), mac(1)))
        await guests[1].driver.send(raw(mac(2), mac(1)))
        await settle(platform)
        assert wire == [raw(mac(3), mac(1), vlan=7)]
        assert guests[2].received[-1:] == [raw(mac(2), mac(1))]
        assert guests[5].received[-2:] == [wire[0], raw(mac(2), mac(1), vlan=7)]
        # A tag of its own is not for a function that has a VLAN.
        await guests[1].driver.send(raw(all_of, mac(1), vlan=8))
        await settle(platform)
        assert platform.stat(1, Stat.TX_DROPPED_VLAN) == platform.stat(1, Stat.TX_DROPPED) == 1

    scenario(steps, features=features, assign=assign, functions=(1, 2, 3, 4, 5))


@pytest.mark.parametrize("control", [True, False])
def test_spoofed_frames_are_dropped(control):
    """With and without VLAN filters of the driver's own, of which one is allowed."""
    features = KNOWN_FEATURES & ~(0 if control else 1 << Feature.NET_CTRL_VLAN)

    async def steps(platform, guests, wire):
        driver = guests[1].driver
        await driver.send(raw(mac(2), mac(1), mark=1))
        await driver.send(raw(mac(2), mac(3), mark=2))
        await driver.send(raw(OUTSIDE, mac(1), vlan=6, mark=3))
        if control:
            await driver.control.add_vlan(5)
            with pytest.raises(CommandFailed):
                await driver.control.add_vlan(6)
        await driver.send(raw(OUTSIDE, mac(1), vlan=5, mark=4))
        with pytest.raises(CommandFailed):
            await driver.control.set_mac(bytes.fromhex("021000000003"))
        await settle(platform)
        assert guests[2].received == [raw(mac(2), mac(1), mark=1)]
        assert wire == [raw(OUTSIDE, mac(1), vlan=5, mark=4)]
        counted = [platform.stat(1, s) for s in (Stat.TX_DROPPED_MAC, Stat.TX_DROPPED_VLAN)]
        assert counted == [1, 1]
        assert (platform.stat(1, Stat.TX_DROPPED), platform.stat(1, Stat.TX_PACKETS)) == (2, 2)

    assign = {1: {"spoof_check": True, "vlans": frozenset((5,))}}
    scenario(steps, features=features, assign=assign)


def test_link_goes_down_and_up():
    async def steps(platform, guests, wire):
        driver = guests[1].driver
        await platform.hypervisor.set_link(1, False)
        await settle(platform)
        assert not driver.link_up
        await driver.send(raw(mac(2), mac(1)))
        assert (await arrive(platform, guests, [raw(mac(1))]))[1] == []
        assert guests[2].received == []
        assert platform.stat(1, Stat.TX_DROPPED) == 1
        await platform.hypervisor.set_link(1, True)
        await settle(platform)
        assert driver.link_up
        assert (await arrive(platform, guests, [raw(mac(1))]))[1] == [raw(mac(1))]

    scenario(steps)


def test_frames_longer_than_the_mtu_do_not_reach_drivers():
    async def steps(platform, guests, wire):
        frames = [raw(mac(1)).ljust(size, b"x") for size in (1514, 1515)]
        frames += [raw(mac(1), vlan=5).ljust(size, b"x") for size in (1518, 1519)]
        await guests[1].driver.control.add_vlan(5)
        assert (await arrive(platform, guests, frames))[1] == [frames[0], frames[2]]
        assert platform.stat(1, Stat.RX_DROPPED_FILTER) == 2

    scenario(steps)


# Steering ----------------------------------------------------------------------------------------

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


# Interrupt moderation ----------------------------------------------------------------------------


def test_notifications_are_coalesced_by_count_and_by_time():
    frames = [raw(mac(1), mark=n) for n in range(8)]

    async def steps(platform, guests, wire):
        control, cycles = guests[1].driver.control, platform.hypervisor.costs.clock_mhz

        async def interrupts():
            before = platform.stat(1, Stat.INTERRUPTS)
            guests[1].received.clear()
            for content in frames:
                await platform.machine.send_frame(content)
                await platform.machine.sleep(1500)
            await settle(platform)
            assert guests[1].received == frames
            return platform.stat(1, Stat.INTERRUPTS) - before

        alone = await interrupts()
        assert alone > 2
        await control.set_coalescing(packets=8, usecs=200)
        assert await interrupts() == 1
        assert await control.coalescing(0) == (8, 200)
        assert await control.coalescing(1) == (0, 0)
        await control.set_coalescing(packets=9, usecs=100, queue=0)
        since = platform.machine.now()
        guests[1].received.clear()
        await platform.machine.send_frame(frames[0])
        await platform.until(lambda: guests[1].received)
        assert 100 * cycles <= platform.machine.now() - since <= 100 * cycles + 2000
        # If one of the two is 0, every packet is told of.
        for packets, usecs in ((0, 100), (8, 0)):
            await control.set_coalescing(packets=packets, usecs=usecs, queue=0)
            assert await control.coalescing(0) == (packets, usecs)
            assert await interrupts() == alone
        await control.set_coalescing(packets=0, usecs=0)
        assert await interrupts() == alone
        await control.set_coalescing(packets=5, usecs=1000, transmit=True)
        assert await control.coalescing(1) == (5, 1000)
        with pytest.raises(CommandFailed):
            await control.set_coalescing(packets=1, usecs=1, queue=9)
        with pytest.raises(CommandFailed):
            await control.coalescing(9)
        # A new driver begins without.
        await guests[1].driver.stop()
        await guests[1].driver.start()
        await settle(platform)
        assert await guests[1].driver.control.coalescing(1) == (0, 0)
        assert platform.machine.nic.functions[1].coalescing[1] == 0

    scenario(steps)


def test_coalescing_of_a_queue_that_is_not_enabled_is_refused():
    async def steps(platform, guests, wire):
        control = guests[1].driver.control
        for queue in (2, 3):
            with pytest.raises(CommandFailed):
                await control.set_coalescing(packets=8, usecs=200, queue=queue)
            with pytest.raises(CommandFailed):
                await control.coalescing(queue)
        await control.set_coalescing(packets=8, usecs=200, queue=1)

    scenario(steps)


def test_a_queue_that_is_reset_has_the_coalescing_of_its_direction():
    async def steps(platform, guests, wire):
        driver = guests[1].driver
        control = driver.control
        await control.set_coalescing(packets=4, usecs=50)
        for queue in range(2):
            await control.set_coalescing(packets=8, usecs=200, queue=queue)
        await driver.reset_queues(0)
        assert [await control.coalescing(queue) for queue in range(2)] == [(4, 50), (0, 0)]
        # What comes at once behind a reset stays.
        await driver.reset_queues(0)
        await control.set_coalescing(packets=7, usecs=70, queue=0)
        await settle(platform)
        assert await control.coalescing(0) == (7, 70)
        setting = QueueCoalescing.from_bits(platform.machine.nic.functions[1].coalescing[0])
        assert (setting.packets, setting.cycles) == (7, 7000)

    scenario(steps)


def test_coalescing_of_a_queue_that_is_enabled_again_before_software_looks():
    async def steps(platform, guests, wire):
        driver, function = guests[1].driver, platform.machine.nic.functions[1]
        await driver.control.set_coalescing(packets=4, usecs=50)
        await driver.control.set_coalescing(packets=8, usecs=200, queue=0)
        await driver.reset_queues(0)
        setting = QueueCoalescing.from_bits(function.coalescing[0])
        assert function.queues[0].queue_enable
        assert (setting.packets, setting.cycles) == (8, 20_000)  # nobody has looked
        await settle(platform)
        setting = QueueCoalescing.from_bits(function.coalescing[0])
        assert (setting.packets, setting.cycles) == (4, 5000)

    scenario(steps, costs=Costs(interrupt_ns=20_000))


def test_coalescing_follows_queues_that_are_enabled_and_reset():
    """Without a machine, as hardware that tells of them lets it."""
    features = 1 << Feature.NET_NOTF_COAL | 1 << Feature.NET_VQ_NOTF_COAL
    registers, enabled = {}, 0b0111

    async def steps():
        async def write(name, value):
            registers[name] = value

        async def which():
            return enabled

        def data(packets, usecs, queue=None):
            head = b"" if queue is None else queue.to_bytes(4, "little")
            return head + packets.to_bytes(4, "little") + usecs.to_bytes(4, "little")

        async def get(queue):
            told, ack = await control.answer(ControlCoalescing.VQ_GET, queue.to_bytes(4, "little"))
            return told if ack == ControlAck.OK else None

        async def put(command, content):
            return (await control.answer(command, content))[1]

        control = CoalescingControl(write, 2, 100, which)
        # With neither MQ nor RSS number 2 is the control queue, which has none.
        await control.reset(features)
        for queue in range(3):
            expected = ControlAck.OK if queue < 2 else ControlAck.ERR
            assert await put(ControlCoalescing.VQ_SET, data(8, 200, queue)) == expected
        await control.reset(features | 1 << Feature.NET_MQ)
        assert await put(ControlCoalescing.RX_SET, data(4, 50)) == ControlAck.OK
        for queue in range(4):
            expected = ControlAck.OK if queue < 3 else ControlAck.ERR
            assert await put(ControlCoalescing.VQ_SET, data(8, 200, queue)) == expected
        assert [await get(queue) for queue in range(4)] == [data(8, 200)] * 3 + [None]
        await control.restore([0, 1])
        assert [await get(queue) for queue in range(3)] == [data(4, 50), data(0, 0), data(8, 200)]
        assert [registers[f"coalescing{n}"] & 0x3FF for n in range(4)] == [4, 0, 8, 0]
        await control.reset(features | 1 << Feature.NET_MQ)
        assert [await get(queue) for queue in range(3)] == [data(0, 0)] * 3

    asyncio.run(steps())
