"""A driver takes receive queue pairs out of use and into use again, under more than it can take."""

from typing import Any

from cosim.hypervisor.costs import Costs
from models.spec.virtio import Feature
from tests.cosim.features_world import flow
from tests.cosim.platform import Guest, Platform

__all__ = ["COSTS", "closing"]

#: Pages are served so late that a command could be answered long before.
COSTS = Costs(service_cycles=12_000)
_FLOWS, _LAPS = 16, 3
_WITHOUT = (Feature.NET_RSS, Feature.RING_PACKED)
#: Cycles between frames; in which a queue would show that it still receives.
_PACE, _LONG = 150, 40_000


def _used(guest: Guest, queue: int) -> int:
    """Used index of a split ring."""
    *_, device = guest.driver.queue(queue).addresses
    return int.from_bytes(guest.vm.memory.read(device + 2, 2), "little")


async def _evict(platform: Platform, guest: Guest) -> None:
    """Take all pages away, among them those that are about to be filled."""
    for gpa in sorted(guest.vm.pages.resident_addresses):
        if guest.vm.pages.resident(gpa):
            await platform.hypervisor.evict(guest.vm, gpa)


async def closing(platform: Platform, features: int) -> dict[str, Any]:
    """With one pair in use the other's ring stays as it is, whatever waited for it (virtio 1.3,
    5.1.6.5.5), and what it has under way ends before the driver hears that it is so.  Returns what
    was received by either.
    """
    port, over = platform.machine, False
    for feature in _WITHOUT:
        features &= ~(1 << feature)
    guest = await platform.guest(1, features=features, pairs=2, buffers=8, queue_size=16)
    counts = [0, 0]

    def note(_: bytes, __: object, pair: int) -> None:
        counts[pair] += 1

    guest.driver.on_packet = note

    async def traffic() -> None:
        while not over:
            for number in range(_FLOWS):
                await port.send_frame(flow(guest.mac, number, 8))
                await port.sleep(_PACE)

    sending = port.spawn(traffic(), "traffic")
    for lap in range(_LAPS):
        before = counts[1]
        await platform.until(lambda before=before: counts[1] > before + 20)
        await _evict(platform, guest)
        await guest.driver.control.set_pairs(1)
        used, others = _used(guest, 2), counts[0]
        await port.sleep(_LONG)
        assert _used(guest, 2) == used, f"lap {lap}: it still receives"
        assert counts[0] > others + 10
        await guest.driver.control.set_pairs(2)
    over = True
    await sending.join()
    return {"counts": counts}
