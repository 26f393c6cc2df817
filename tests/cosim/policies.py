"""What functions may receive and send: filters, modes, MACs, VLANs and the link; on any machine."""

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from cosim.guest.control import CommandFailed
from cosim.guest.features import KNOWN_FEATURES
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.control_world import OUTSIDE, arrive, mac, raw, scene, settle

__all__ = ["POLICIES"]


async def filters(platform):
    """A driver sets MAC filters and modes; another function has none of that."""
    multicast, other = "01:00:5e:00:00:01", "01:00:5e:00:00:02"
    frames = [raw(target) for target in (mac(1), "02:99:00:00:00:01", multicast, other)]
    one, extra, group, stranger = frames
    broadcast = raw("ff:ff:ff:ff:ff:ff")
    frames.append(broadcast)
    guests, _ = await scene(platform)
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
    assert await platform.hypervisor.stat(1, Stat.RX_BROADCAST) == 7


async def address(platform):
    """A driver changes its MAC; that it has it already is no change."""
    guests, _ = await scene(platform)
    new, transport = bytes.fromhex("027700000001"), guests[1].driver.transport
    seen = [await transport.load("config_generation")]
    for value in (guests[1].mac, new):
        await guests[1].driver.control.set_mac(value)
        await settle(platform)
        seen.append(await transport.load("config_generation"))
    assert seen[0] == seen[1] != seen[2]
    content = raw("02:77:00:00:00:01")
    assert (await arrive(platform, guests, [content, raw(mac(1))]))[1] == [content]
    with pytest.raises(CommandFailed):
        await guests[1].driver.control.set_mac(b"\x01" + new[1:])


async def vlan_filter(platform):
    """A driver adds a VLAN, and removes it."""
    frames = [raw(mac(1), vlan=vlan) for vlan in (5, 6, 0)] + [raw(mac(1))]
    guests, _ = await scene(platform)
    control = guests[1].driver.control
    assert (await arrive(platform, guests, frames))[1] == frames[2:]
    await control.add_vlan(6)
    assert (await arrive(platform, guests, frames))[1] == frames[1:]
    await control.remove_vlan(6)
    assert (await arrive(platform, guests, frames))[1] == frames[2:]


async def forgotten(platform):
    """A device that is reset has no filters."""
    guests, _ = await scene(platform)
    driver = guests[1].driver
    await driver.control.set_promiscuous(True)
    await driver.control.add_vlan(9)
    await driver.stop()
    await driver.start()
    await settle(platform)
    frames = [raw("02:99:00:00:00:01"), raw(mac(1), vlan=9), raw(mac(1))]
    assert (await arrive(platform, guests, frames))[1] == frames[2:]


async def spoofing(platform, *, control):
    """Frames with another's MAC, or of a VLAN that is not allowed, are dropped; with and without
    VLAN filters of the driver's own, of which one is allowed.
    """
    features = KNOWN_FEATURES & ~(0 if control else 1 << Feature.NET_CTRL_VLAN)
    assign = {1: {"spoof_check": True, "vlans": frozenset((5,))}}
    guests, wire = await scene(platform, features=features, assign=assign)
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
    whole = Ether(dst=OUTSIDE, src=mac(3)) / IP() / TCP() / bytes(2500)
    await driver.send_large(bytes(whole), 1000)  # each of its segments is dropped
    await settle(platform)
    assert guests[2].received == [raw(mac(2), mac(1), mark=1)]
    assert wire == [raw(OUTSIDE, mac(1), vlan=5, mark=4)]
    stats = (Stat.TX_DROPPED_MAC, Stat.TX_DROPPED_VLAN, Stat.TX_DROPPED, Stat.TX_PACKETS)
    assert [await platform.hypervisor.stat(1, stat) for stat in stats] == [4, 1, 5, 2]


async def link(platform):
    """A VF's link goes down and up: its driver sees it, and nothing passes meanwhile."""
    guests, _ = await scene(platform)
    driver = guests[1].driver
    await platform.hypervisor.set_link(1, False)
    await settle(platform)
    assert not driver.link_up
    await driver.send(raw(mac(2), mac(1)))
    assert (await arrive(platform, guests, [raw(mac(1))]))[1] == []
    assert guests[2].received == []
    for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_LINK):
        assert await platform.hypervisor.stat(1, stat) == 1
    await platform.hypervisor.set_link(1, True)
    await settle(platform)
    assert driver.link_up
    assert (await arrive(platform, guests, [raw(mac(1))]))[1] == [raw(mac(1))]


async def too_long(platform):
    """Frames longer than the MTU do not reach drivers."""
    guests, _ = await scene(platform)
    frames = [raw(mac(1)).ljust(size, b"x") for size in (1514, 1515)]
    frames += [raw(mac(1), vlan=5).ljust(size, b"x") for size in (1518, 1519)]
    await guests[1].driver.control.add_vlan(5)
    assert (await arrive(platform, guests, frames))[1] == [frames[0], frames[2]]
    assert await platform.hypervisor.stat(1, Stat.RX_DROPPED_LONG) == 2


#: By name, with arguments.
POLICIES = {
    **{one.__name__: (one, {}) for one in (filters, address, vlan_filter, forgotten, link)},
    "too_long": (too_long, {}),
    "spoofing": (spoofing, {"control": True}),
    "spoofing without filters": (spoofing, {"control": False}),
}
