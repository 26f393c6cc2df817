"""What drivers do, on any machine: refuse features, have rings of any size, come, go and die."""

from contextlib import suppress
from functools import partial
from random import Random

from cosim.guest.features import KNOWN_FEATURES
from cosim.guest.stack import large
from cosim.guest.virtio_net import QueueStopped
from cosim.packets import ipv4
from models.spec.ethernet import IpProtocol
from models.spec.nic import (
    BASE_FEATURES,
    FEATURE_FLAGS,
    MANAGEMENT,
    FunctionControl,
    RxQueueStat,
    Stat,
    TxQueueStat,
    function_block,
    queue_error_offset,
)
from models.spec.virtio import Feature
from tests.cosim.captures_world import samples, send_group
from tests.cosim.platform import frame

__all__ = ["REFUSABLE", "RINGS", "SCENARIOS", "bits", "exchange"]

#: Cycles between frames, so that hardware has room for all of them.
_PACE = 1_500
RINGS = (
    Feature.RING_PACKED,
    Feature.RING_INDIRECT_DESC,
    Feature.RING_EVENT_IDX,
    Feature.IN_ORDER,
)
REFUSABLE = [
    feature
    for feature in (*Feature,)
    if (KNOWN_FEATURES & (BASE_FEATURES | sum(1 << f for fs in FEATURE_FLAGS.values() for f in fs)))
    >> feature
    & 1
    and feature not in (Feature.VERSION_1, Feature.ACCESS_PLATFORM)
]


def bits(features):
    return sum(1 << feature for feature in features)


async def exchange(platform, guests, count=6, seed=1, size=None, pause=0):
    """Frames both ways between two guests, and from one to the wire and back."""
    rng, outside = Random(seed), bytes.fromhex("02fe00000001")
    wire: list[bytes] = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    sent = [
        [frame(guests[1 - n].mac, guests[n].mac, rng, size) for _ in range(count)] for n in (0, 1)
    ]
    out = [frame(outside, guests[0].mac, rng, size) for _ in range(count)]
    inwards = [frame(guests[1].mac, outside, rng, size) for _ in range(count)]
    for guest in guests:
        guest.received.clear()
    for a, b, c, d in zip(*sent, out, inwards, strict=True):
        await guests[0].driver.send(a)
        await guests[1].driver.send(b)
        await guests[0].driver.send(c)
        await platform.machine.send_frame(d)
        await platform.machine.sleep(pause)
    await platform.until(
        lambda: len(guests[0].received) == count and len(guests[1].received) == 2 * count
    )
    await platform.until(lambda: len(wire) == count)
    for guest in guests:
        await guest.driver.drained()
    assert wire == out
    assert guests[0].received == sent[1]
    assert [f for f in guests[1].received if f[6:12] == outside] == inwards
    assert [f for f in guests[1].received if f[6:12] != outside] == sent[0]
    for guest in guests:
        for queue in range(platform.hypervisor.config.nic.queues_per_function):
            register = function_block(guest.function) + queue_error_offset(queue)
            assert not await platform.machine.mmio_read("nic", register)


async def jumbo(platform, *, mergeable):
    """Frames of 9,014 bytes both ways, in one buffer or in several."""
    features = KNOWN_FEATURES & ~((not mergeable) << Feature.NET_MRG_RXBUF)
    options = {"features": features, "frame_bytes": 9014, "merge_bytes": 2048, "pairs": 2}
    guests = [await platform.guest(function, **options) for function in (1, 2)]
    assert {guest.driver.mtu for guest in guests} == {9000}
    await exchange(platform, guests, size=9014, pause=5_000)


async def sizes(platform, *, packed, size, direct):
    """Rings of a size, with or without indirect descriptors."""
    refused = 0 if packed else 1 << Feature.RING_PACKED
    refused |= 1 << Feature.RING_INDIRECT_DESC if direct else 0
    mergeable = 1 << Feature.NET_MRG_RXBUF  # 1514 bytes need more buffers than small queues have
    options = {"queue_size": size, "fragments": min(size, 4) if size > 4 else 1}
    features = KNOWN_FEATURES & ~refused & ~mergeable
    guests = [await platform.guest(f, features=features, **options) for f in (1, 2)]
    assert {guest.driver.queue(0).size for guest in guests} == {size}
    await exchange(platform, guests, pause=_PACE)


async def refusing(platform, *, place):
    """Two guests refuse a feature each."""
    refused, guests = REFUSABLE[place : place + 2], []
    for function in (1, 2):
        features = KNOWN_FEATURES & ~(1 << refused[(function - 1) % len(refused)])
        guests.append(await platform.guest(function, features=features, pairs=2))
    await exchange(platform, guests, pause=_PACE)
    for guest in guests:
        assert not guest.driver.accepted(refused[(guest.function - 1) % len(refused)])
    await offloading(platform, guests)


async def bare(platform):
    """Two guests refuse all that they can; but for the MAC, without which and the control queue
    nobody knows how to reach the driver.
    """
    features = bits((Feature.VERSION_1, Feature.ACCESS_PLATFORM, Feature.NET_MAC))
    guests = [await platform.guest(f, features=features, pairs=2) for f in (1, 2)]
    await exchange(platform, guests, pause=_PACE)
    assert all(guest.driver.features == features for guest in guests)
    await offloading(platform, guests)


async def offloading(platform, guests):
    """Packets both ways from all queue pairs; of each the guests leave to the device what it
    takes, and all arrive as they would have without.
    """
    await platform.machine.sleep(20_000)  # control queues' commands are carried out
    expected = [[], []]
    for guest in guests:
        guest.received.clear()
    for way in (0, 1):
        driver = guests[way].driver
        for number, group in enumerate(samples(guests[1 - way].mac, guests[way].mac)):
            expected[1 - way] += await send_group(driver, group, number % driver.pairs)
            await platform.machine.sleep(_PACE * len(group))
    await platform.until(
        lambda: all(len(g.received) >= len(e) for g, e in zip(guests, expected, strict=True))
    )
    await platform.machine.sleep(10_000)
    for guest, frames in zip(guests, expected, strict=True):
        driver, stat = guest.driver, partial(platform.hypervisor.stat, guest.function)
        assert sorted(guest.received) == sorted(frames)
        cuts = (Feature.NET_HOST_TSO4, Feature.NET_HOST_TSO6)
        assert bool(await stat(Stat.TX_CHECKSUMS)) == driver.accepted(Feature.NET_CSUM)
        assert bool(await stat(Stat.TX_SEGMENTED)) == any(map(driver.accepted, cuts))
        assert bool(driver.validated) == driver.accepted(Feature.NET_GUEST_CSUM)
        many = driver.accepted(Feature.NET_MQ) or driver.accepted(Feature.NET_RSS)
        assert driver.pairs == 1 + many
        for pair in range(driver.pairs):
            queue = partial(platform.hypervisor.queue_stat, guest.function)
            assert await queue(2 * pair, RxQueueStat.RX_PACKETS)
            assert await queue(2 * pair + 1, TxQueueStat.TX_PACKETS)


async def flood(platform, guest, target, stop):
    """Send until told to stop; the driver may be stopped meanwhile."""
    rng = Random(guest.function)
    while not stop:
        if guest.driver.running:
            with suppress(QueueStopped):
                await guest.driver.send(frame(target.mac, guest.mac, rng, 200))
        await platform.machine.sleep(800)


async def unbinding(platform, *, packed):
    """Drivers come and go, and queues, while all send; then everybody reaches everybody."""
    features = KNOWN_FEATURES if packed else KNOWN_FEATURES & ~(1 << Feature.RING_PACKED)
    guests = [await platform.guest(f, features=features) for f in (1, 2, 3)]
    stop = []
    for guest in guests[:2]:
        platform.machine.spawn(flood(platform, guest, guests[2], stop))
        platform.machine.spawn(flood(platform, guest, guests[guest.function % 2], stop))
    rng = Random(1)
    for _ in range(4):
        await platform.machine.sleep(rng.randrange(3_000, 9_000))
        await guests[1].driver.stop()
        await platform.machine.sleep(rng.randrange(1, 3_000))
        await guests[1].driver.start()
        await guests[0].driver.reset_queues(0)
    stop.append(True)
    await platform.machine.sleep(50_000)
    assert guests[2].driver.received > 20
    await exchange(platform, guests[:2], pause=_PACE)
    await exchange(platform, guests[1:], pause=_PACE)


async def dying(platform):
    """A driver dies without a word; its function goes to another guest, and its memory is safe."""
    guests = [await platform.guest(function) for function in (1, 2)]
    dying = await platform.guest(3)
    for guest in guests:
        await dying.driver.send(frame(guest.mac, dying.mac, Random(1)))
    dying.driver.die()
    await platform.machine.sleep(20_000)  # what it has sent may arrive
    for _ in range(20):  # frames for the dead fill its buffers, and then its share
        await guests[0].driver.send(frame(dying.mac, guests[0].mac, Random(2), 100))
    await exchange(platform, guests, pause=_PACE)
    await platform.hypervisor.revoke(dying.vm, 3)
    content = bytes(dying.vm.memory.read(dying.allocator._next - 4096, 4096))
    await guests[0].driver.send(frame(dying.mac, guests[0].mac, Random(2), 100))
    heir = await platform.guest(3)
    await exchange(platform, [heir, guests[1]], pause=_PACE)
    assert dying.vm.memory.read(dying.allocator._next - 4096, 4096) == content
    register = function_block(3) + MANAGEMENT["control"].offset
    control = FunctionControl.from_bits(await platform.machine.mmio_read("nic", register))
    assert control.enable
    assert not control.promiscuous


async def forsaken(platform):
    """What is sent to a function that was reset, until its driver comes again, is dropped and
    counted: none of it leaves by the port, and who mirrors has it without a difference.
    """
    guests = [await platform.guest(function) for function in (1, 2)]
    guests.append(await platform.guest(3, assign={"mirror": True}))
    wire: list[bytes] = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    await platform.hypervisor.reset(2)
    for _ in range(3):
        await guests[0].driver.send(frame(guests[1].mac, guests[0].mac, Random(1), 200))
        await platform.machine.sleep(_PACE)
    await guests[0].driver.drained()
    await platform.machine.sleep(5_000)
    assert not wire
    assert await platform.hypervisor.stat(2, Stat.RX_DROPPED_FILTER) == 3
    assert len(guests[2].received) == 3


async def cut_off(platform):
    """A function that is reset while a frame of its is being cut sends none of the segments that
    are left (PCIe 6.6.2), and nobody waits for them; nor does one that its driver resets.
    """
    guest = await platform.guest(1)
    wire: list[bytes] = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    segment, length = 1, 50_000
    addresses = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    packet = ipv4(*addresses, IpProtocol.TCP, bytes(12) + b"\x50\x10" + bytes(6 + length))
    whole = bytes.fromhex("02fe00000001") + guest.mac + b"\x08\x00" + packet
    await guest.driver.submit(large(whole, segment))
    await platform.until(lambda: len(wire) > 3)
    begin = platform.machine.now()
    await platform.hypervisor.reset(1)
    assert platform.machine.now() - begin < 10_000
    await platform.machine.sleep(300)
    sent = len(wire)
    await platform.machine.sleep(30_000)
    assert len(wire) == sent < length // segment
    await guest.driver.start()  # what cuts is free again
    await guest.driver.submit(large(whole[:2000], 1000))
    await platform.until(lambda: len(wire) == sent + 2)
    await guest.driver.submit(large(whole, segment))
    await platform.until(lambda: len(wire) > sent + 5)
    await guest.driver.stop()
    await guest.driver.start()
    await platform.machine.sleep(1000)  # segments that were in their slots
    begin = len(wire)
    content = frame(bytes.fromhex("02fe00000001"), guest.mac, Random(1))
    await guest.driver.send(content)
    await platform.until(lambda: content in wire, 5_000)
    await platform.machine.sleep(10_000)
    assert wire[begin:] == [content]


async def sharing(platform):
    """All queues of a function have one vector: it is told no oftener than their timers say, but
    of everything; queues with vectors of their own are told of apart.
    """
    usecs, frames, outside = 20, 60, bytes.fromhex("02fe00000001")
    timer = usecs * platform.hypervisor.costs.clock_mhz
    wire: list[bytes] = []
    platform.machine.on_frame(lambda content, _: wire.append(content))
    guests = [
        await platform.guest(1, pairs=2, vectors=1),
        await platform.guest(2, pairs=2),
    ]
    interrupts = []
    for guest in guests:
        await guest.driver.control.set_coalescing(packets=100, usecs=usecs)
        await guest.driver.control.set_coalescing(packets=100, usecs=usecs, transmit=True)
        await platform.machine.sleep(30_000)
        wire.clear()
        rng, begin = Random(3), platform.machine.now()
        before = await platform.hypervisor.stat(guest.function, Stat.INTERRUPTS)
        for number in range(frames):
            await guest.driver.send(frame(outside, guest.mac, rng, 100), pair=number % 2)
            await platform.machine.send_frame(frame(guest.mac, outside, rng, 100))
            await platform.machine.sleep(500)
        await guest.driver.drained()
        await platform.until(lambda guest=guest: len(guest.received) == frames)
        spent = platform.machine.now() - begin
        await platform.machine.sleep(2 * timer)
        after = await platform.hypervisor.stat(guest.function, Stat.INTERRUPTS)
        interrupts.append(after - before)
        assert len(wire) == frames
        most = spent // timer + 2
        assert (interrupts[-1] <= most) == (guest is guests[0]), (interrupts, most)
    assert interrupts[1] > 2 * interrupts[0] > 20


#: By name.
SCENARIOS = {
    one.__name__: one
    for one in (jumbo, sizes, refusing, bare, unbinding, dying, forsaken, cut_off, sharing)
}
