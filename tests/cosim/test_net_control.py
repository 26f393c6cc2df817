"""Filters, VLANs, link: by control queue and by the PF's management."""

import pytest
from scapy.layers.l2 import Dot1Q, Ether

from cosim.guest.control import CommandFailed
from cosim.guest.features import KNOWN_FEATURES
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.control_world import OUTSIDE, arrive, mac, raw, scenario, settle


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
        for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_LINK):
            assert platform.stat(1, stat) == 1
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
        assert platform.stat(1, Stat.RX_DROPPED_LONG) == 2

    scenario(steps)
