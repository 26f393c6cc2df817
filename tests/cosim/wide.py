"""All functions of ``wide``, on any machine: found, told apart, used at both ends."""

from contextlib import suppress
from random import Random
from typing import Any

from cosim.guest.pci import PciDevice
from cosim.guest.virtio_net import QueueStopped
from models.spec.nic import MANAGEMENT, Stat, bar_base, function_block, initial_mac
from models.spec.pci_capabilities import CapabilityId, ExtendedId
from tests.cosim.drivers import exchange, offloading
from tests.cosim.platform import Guest, Platform, frame

__all__ = ["SCENARIOS", "USED"]

#: Virtual functions that guests have: the lowest, the middle with its neighbour, the highest.
LOW, BESIDE, MIDDLE, HIGH = USED = (1, 32, 33, 64)
OUTSIDE, BROADCAST = bytes.fromhex("02fe00000001"), b"\xff" * 6
#: Places in configuration spaces and in a VF's BAR.
_VENDOR, _COMMAND, _MASTER, _NUM_VFS = 0, 4, 4, 0x10
_DEVICE_CONFIG = 0x200
_ABSENT = 0xFFFF_FFFF
#: Cycles between frames.
_PACE = 1_500
#: Counters that move when a function does anything.
_BUSY = (Stat.DMA_READ_BYTES, Stat.DMA_WRITE_BYTES, Stat.TRANSLATIONS, Stat.INTERRUPTS)


async def _enumerated(platform: Platform) -> None:
    """Every VF has its routing ID, its capabilities, its BAR and bits of its own."""
    hypervisor, machine = platform.hypervisor, platform.machine
    nic, bus = hypervisor.config.nic, hypervisor.bus
    sriov = bus.pf.find_extended(ExtendedId.SR_IOV)
    assert [await bus.pf.read(sriov + at, 2) for at in (0xC, 0xE, _NUM_VFS)] == [nic.vfs] * 3
    devices: list[PciDevice] = []
    for function in range(1, 1 + nic.vfs):
        device = await bus.virtual(function)
        assert device.function == nic.device_id + function
        assert await device.read(_VENDOR, 4) == _ABSENT
        table = await device.read(device.find(CapabilityId.MSIX) + 2, 2)
        assert (table & 0x7FF) + 1 == nic.msix_vectors
        assert device.find_extended(ExtendedId.ATS)
        block = function_block(function)
        number = await machine.mmio_read("nic", block + MANAGEMENT["device_id"].offset)
        assert number == device.function
        place = bar_base(function) + _DEVICE_CONFIG
        mac = [await machine.mmio_read("nic", place + n, 1) for n in range(6)]
        assert bytes(mac) == initial_mac(function)
        devices.append(device)
    # Those whose number has two bits set: no two functions a power of two apart are alike.
    chosen = {d.function for d in devices if d.function.bit_count() == 2}
    for device in devices:
        await device.switch(_COMMAND, 2, _MASTER, device.function in chosen)
    for device in devices:
        assert bool(await device.read(_COMMAND, 2) & _MASTER) == (device.function in chosen)
        await device.change(_COMMAND, 2, off=_MASTER)


async def _fewer(platform: Platform) -> None:
    """Of the VFs only so many are there as NumVFs says."""
    bus = platform.hypervisor.bus
    sriov = bus.pf.find_extended(ExtendedId.SR_IOV)
    for count in (MIDDLE, platform.hypervisor.config.nic.vfs):
        await bus.set_vfs(False)
        await bus.pf.write(sriov + _NUM_VFS, 2, count)
        await bus.set_vfs(True)
        for function in range(1, 1 + platform.hypervisor.config.nic.vfs):
            there = await bus.config_read(bus.routing_id(function), _COMMAND, 4) != _ABSENT
            assert there == (function <= count), function


async def _everybody(platform: Platform, guests: list[Guest]) -> None:
    """A frame for all from the wire, and one from the highest function."""
    wire: list[bytes] = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    for source in (OUTSIDE, guests[-1].mac):
        content = frame(BROADCAST, source, Random(source), 128)
        for guest in guests:
            guest.received.clear()
        if source == OUTSIDE:
            others = guests
            await platform.machine.send_frame(content)
        else:
            others = guests[:-1]
            await guests[-1].driver.send(content)
        await platform.until(lambda all=others: all_have(all, 1))
        await platform.machine.sleep(5_000)
        assert all(guest.received == [content] for guest in others)
        assert guests[-1] in others or not guests[-1].received
    assert wire == [content]


def all_have(guests: list[Guest], count: int) -> bool:
    """Whether each has received so many frames."""
    return all(len(guest.received) >= count for guest in guests)


def _by_source(frames: list[bytes]) -> list[bytes]:
    """Frames of each source in their order."""
    return sorted(frames, key=lambda content: content[6:12])


async def _bystanders(platform: Platform, guests: list[Guest], count: int) -> int:
    """Frames both ways, from one to the wire and from there to the other: none is lost.

    Returns how many frames for others came to the wire.
    """
    rng, wire = Random(9), []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    ways = ((0, guests[1].mac), (1, guests[0].mac), (0, OUTSIDE), (None, guests[1].mac))
    sent: dict[bytes, list[bytes]] = {mac: [] for _, mac in ways}
    for guest in guests:
        guest.received.clear()
    for _ in range(count):
        for source, target in ways:
            origin = OUTSIDE if source is None else guests[source].mac
            content = frame(target, origin, rng)
            sent[target].append(content)
            if source is None:
                await platform.machine.send_frame(content)
            else:
                await guests[source].driver.send(content)
        await platform.machine.sleep(_PACE)
    await platform.until(lambda: all(len(g.received) == len(sent[g.mac]) for g in guests))
    await platform.until(lambda: sum(content[:6] == OUTSIDE for content in wire) == count)
    for guest in guests:
        # Of each source in order; between them they may overtake.
        assert _by_source(guest.received) == _by_source(sent[guest.mac])
    assert [content for content in wire if content[:6] == OUTSIDE] == sent[OUTSIDE]
    return len(wire) - count


async def _flood(platform: Platform, source: Guest, target: Guest, sent: list[bytes]) -> None:
    """Send until cancelled; ``sent`` has what the driver may have given to its device."""
    rng = Random(source.function)
    while True:
        with suppress(QueueStopped):
            sent.append(frame(target.mac, source.mac, rng, 200))
            await source.driver.send(sent[-1])
        await platform.machine.sleep(600)


def _in_order(found: list[bytes], sent: list[bytes]) -> bool:
    """Whether what was found is of what was sent, each frame once at most, in order."""
    rest = iter(sent)
    return all(content in rest for content in found)


async def _reset(platform: Platform, guests: dict[int, Guest]) -> dict[str, int]:
    """The middle function is reset while it and its neighbour flood each other; the others go on.

    Of what is sent to it after that nothing comes to the wire.
    """
    machine, middle, beside = platform.machine, guests[MIDDLE], guests[BESIDE]
    sent: dict[int, list[bytes]] = {MIDDLE: [], BESIDE: []}
    middle.received.clear()
    beside.received.clear()
    others = machine.spawn(_bystanders(platform, [guests[LOW], guests[HIGH]], 24))
    floods = [
        machine.spawn(_flood(platform, middle, beside, sent[MIDDLE])),
        machine.spawn(_flood(platform, beside, middle, sent[BESIDE])),
    ]
    await machine.sleep(12_000)
    before = len(beside.received)
    assert before > 4
    assert len(middle.received) > 4
    assert not others.done
    await platform.hypervisor.reset(MIDDLE)
    floods[0].cancel()
    await machine.sleep(3_000)
    assert not others.done
    assert await others.join() == 0
    floods[1].cancel()
    await machine.sleep(20_000)
    assert _in_order(beside.received, sent[MIDDLE])
    assert _in_order(middle.received, sent[BESIDE])
    found = {
        "sent": len(sent[MIDDLE]),
        "received": len(beside.received),
        "lost": len(sent[BESIDE]) - len(middle.received),
    }
    await middle.driver.stop()
    await middle.driver.start()
    return found


async def some(platform: Platform) -> dict[str, Any]:
    """Returns counts of frames round the reset, and how many functions there are."""
    hypervisor = platform.hypervisor
    functions = range(hypervisor.config.nic.functions)
    await _enumerated(platform)
    await _fewer(platform)
    guests = {f: await platform.guest(f, assign={"count": False}, pairs=2) for f in USED}
    for pair in ((LOW, MIDDLE), (MIDDLE, HIGH), (HIGH, LOW), (BESIDE, HIGH)):
        await exchange(platform, [guests[f] for f in pair], pause=_PACE)
    await _everybody(platform, list(guests.values()))
    found = await _reset(platform, guests)
    await exchange(platform, [guests[MIDDLE], guests[HIGH]], pause=_PACE)
    await exchange(platform, [guests[BESIDE], guests[MIDDLE]], pause=_PACE)
    await offloading(platform, [guests[LOW], guests[HIGH]])
    for function in functions:
        busy = [bool(await hypervisor.stat(function, stat)) for stat in _BUSY]
        if function == 0:  # its vector tells software of control queues
            busy[_BUSY.index(Stat.INTERRUPTS)] = False
        assert busy == [function in USED] * len(_BUSY), function
    for function, guest in guests.items():
        assert guest.vm.interrupts.total(), function
    return found | {"functions": len(functions)}


async def crowd(platform: Platform) -> dict[str, Any]:
    """Every VF has a guest, which sends to the next and to the wire, and receives from there."""
    nic, machine, rng = platform.hypervisor.config.nic, platform.machine, Random(3)
    wire: list[bytes] = []
    machine.on_frame(lambda content, _: wire.append(content))
    options = {"assign": {"count": False}, "queue_size": 16, "buffers": 8}
    guests = [await platform.guest(function, **options) for function in range(1, 1 + nic.vfs)]
    expected: dict[bytes, list[bytes]] = {guest.mac: [] for guest in guests}
    outward = []
    for _ in range(2):
        for guest, following in zip(guests, [*guests[1:], guests[0]], strict=True):
            inward, inside = (
                frame(following.mac, source, rng, 300) for source in (OUTSIDE, guest.mac)
            )
            expected[following.mac] += [inward, inside]
            outward.append(frame(OUTSIDE, guest.mac, rng, 300))
            await machine.send_frame(inward)
            await guest.driver.send(inside)
            await guest.driver.send(outward[-1])
    await platform.until(lambda: all_have(guests, 4))
    await platform.until(lambda: len(wire) == len(outward))
    await machine.sleep(5_000)
    for guest in guests:
        assert _by_source(guest.received) == _by_source(expected[guest.mac]), guest.function
        assert guest.vm.interrupts.total(), guest.function
    assert _by_source(wire) == _by_source(outward)
    return {"functions": nic.functions, "frames": len(wire) + 4 * len(guests)}


#: By name.
SCENARIOS = {one.__name__: one for one in (some, crowd)}
