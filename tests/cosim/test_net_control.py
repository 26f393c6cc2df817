"""Filters, VLANs, link: by control queue and by the PF's management."""

from functools import partial

import pytest
from scapy.layers.l2 import Dot1Q, Ether

from cosim.guest.features import KNOWN_FEATURES
from models.spec.nic import Stat
from models.spec.virtio import Feature
from tests.cosim.control_world import arrive, mac, raw, scenario, settle
from tests.cosim.platform import COMPLETE, run
from tests.cosim.policies import POLICIES


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


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name):
    scenario, arguments = POLICIES[name]
    run(partial(scenario, **arguments), nic=COMPLETE)
