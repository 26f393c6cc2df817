"""Guests of the golden machine with everything built in, whose drivers give commands."""

from scapy.layers.l2 import Dot1Q, Ether

from cosim.guest.features import KNOWN_FEATURES
from tests.cosim.platform import COMPLETE, run

__all__ = ["OUTSIDE", "arrive", "mac", "raw", "scenario", "scene", "settle"]

OUTSIDE = "02:fe:00:00:00:01"


def mac(function):
    return f"02:10:00:00:00:{function:02x}"


def raw(target, source=OUTSIDE, *, vlan=None, priority=0, mark=0):
    ether = Ether(dst=target, src=source)
    if vlan is not None:
        ether = ether / Dot1Q(vlan=vlan, prio=priority, type=0x88B5)
        return bytes(ether / bytes((mark,) * 46))
    ether.type = 0x88B5
    return bytes(ether / bytes((mark,) * 46))


async def scene(platform, *, features=KNOWN_FEATURES, assign=None, functions=(1, 2), **options):
    """Bring up guests; returns them by function, and what comes out of the port from now on."""
    wire = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    guests = {
        f: await platform.guest(f, features=features, assign=(assign or {}).get(f), **options)
        for f in functions
    }
    await settle(platform)
    return guests, wire


def scenario(steps, *, costs=None, **options):
    """Run steps with guests by function, and frames on the wire."""

    async def main(platform):
        await steps(platform, *await scene(platform, **options))

    run(main, nic=COMPLETE, costs=costs)


async def settle(platform):
    await platform.machine.sleep(30_000)


async def arrive(platform, guests, frames):
    """Put frames on the wire; return what each guest received of them."""
    for guest in guests.values():
        guest.received.clear()
    for content in frames:
        await platform.machine.send_frame(content)
        await platform.machine.sleep(1000)  # so that there is room for all of them
    await settle(platform)
    return {f: list(guest.received) for f, guest in guests.items()}
