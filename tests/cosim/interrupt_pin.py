"""The PF's driver has MSI-X disabled, a VF's has not; on any machine."""

from random import Random
from typing import Any

from models.spec.nic import Stat
from tests.cosim.platform import Platform, frame

__all__ = ["by_pin"]

_FRAMES = 12


async def by_pin(platform: Platform) -> dict[str, Any]:
    """Frames between PF and VF, a change of the link, a reset of the PF; returns what happened.

    Raises ``AssertionError`` if a frame is missing or different.
    """
    rng, port, hypervisor = Random(5), platform.machine, platform.hypervisor
    levels: list[bool] = []
    port.on_pin(levels.append)
    physical = await platform.guest(0, messages=False)
    virtual = await platform.guest(1)
    guests = (physical, virtual)

    async def exchange() -> None:
        sent: list[list[bytes]] = [[], []]
        for guest in guests:
            guest.received.clear()
        for number in range(_FRAMES):
            for side, guest in enumerate(guests):
                content = frame(guests[1 - side].mac, guest.mac, rng)
                sent[side].append(content)
                await guest.driver.send(content)
            await port.sleep(1 + number * 100)
        await platform.until(lambda: [guest.received for guest in guests] == sent[::-1])

    await exchange()
    await hypervisor.set_link(0, False)
    await platform.until(lambda: not physical.driver.link_up)
    await hypervisor.set_link(0, True)
    await platform.until(lambda: physical.driver.link_up)
    assert not levels[-1], "the pin stays, though its status was read"
    first = len(levels)
    for guest in guests:
        guest.driver.die()
    await hypervisor.reset(0)
    for guest in guests:
        await hypervisor.bus.enable_ats(hypervisor.assignment(guest.function).device, True)
        await guest.driver.start()
    await exchange()
    assert levels == [number % 2 == 0 for number in range(len(levels))]
    counts = [await hypervisor.stat(guest.function, Stat.INTERRUPTS) for guest in guests]
    return {"levels": (first, len(levels)), "messages": counts}
