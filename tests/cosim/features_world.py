"""One workload for golden machine and RTL: what every driver and the wire received."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cosim.bench.build import Built, Design, build
from cosim.bench.dma_taps import dma_taps
from cosim.guest.stack import Outgoing
from models.spec.config import SystemConfig, config
from models.spec.nic import Stat
from models.spec.virtio import Feature, NetHeader
from tests.cosim.platform import Guest, Platform, frame

__all__ = ["RECEIVING", "receiving_rtl", "receiving_system", "traffic"]

#: All that the receive side has: rings of either kind, merged buffers, control queue, two pairs.
RECEIVING = {
    **dict.fromkeys(("packed", "indirect", "event_idx", "in_order", "mergeable"), True),
    **dict.fromkeys(("checksum", "segmentation"), True),
    **dict.fromkeys(("control_queue", "multiqueue", "rss"), True),
    "queue_pairs": 2,
}
OUTSIDE = bytes.fromhex("02fe00000001")
BROADCAST, MULTICAST = b"\xff" * 6, bytes.fromhex("01005e000001")
GROUPS = (Stat.TX_BROADCAST, Stat.TX_MULTICAST, Stat.RX_BROADCAST, Stat.RX_MULTICAST)
#: Bytes of payload of a segment.
SEGMENT = 1200
_FLOWS = 6
#: Counters of a function that are the sums of those of its queues.
_OF_ALL_QUEUES = (
    *("TX_PACKETS", "TX_BYTES", "TX_DROPPED", "TX_DROPPED_OFFLOAD", "TX_SEGMENTED"),
    *("RX_PACKETS", "RX_BYTES", "RX_MERGED"),
)


def receiving_system() -> SystemConfig:
    """``tiny`` with all of the receive side."""
    tiny = config("tiny")
    return replace(tiny, nic=replace(tiny.nic, **RECEIVING))


def receiving_rtl(**changes: Any) -> Built:
    """That system built, with changes to its NIC; with taps on its DMA, as benchmarks have it."""
    system = receiving_system()
    system = replace(system, nic=replace(system.nic, **changes))
    design = Design("rtl.system:System", (system,), dma_taps(system))
    return build(design, "verilator", quick=True)


def flow(target: bytes, number: int, size: int) -> bytes:
    """A UDP packet of a flow from outside."""
    payload = bytes((number,)) * size
    udp = (1000 + number).to_bytes(2, "big") + bytes((0, 80))
    udp += (8 + size).to_bytes(2, "big") + bytes(2) + payload
    ip = bytes((0x45, 0)) + (20 + len(udp)).to_bytes(2, "big") + bytes(4)
    ip += bytes((64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, number)) + udp
    return target + OUTSIDE + b"\x08\x00" + ip


def large(source: bytes, rng: Random) -> tuple[bytes, int]:
    """A TCP packet from a guest to the wire, and the segments of :data:`SEGMENT` bytes it has."""
    size = rng.choice((100, SEGMENT + 1, 2 * SEGMENT, 5000))
    packet = Ether(dst=OUTSIDE, src=source) / IP(src="192.0.2.1", dst="192.0.2.2", id=size)
    frame = bytes(packet / TCP(flags="PA", seq=0xFFFF_FF00) / Raw(rng.randbytes(size)))
    return frame, -(-size // SEGMENT)


async def _drops(guest: Guest, rng: Random) -> None:
    """From the last queue pair: a frame that asks for what cannot be, one that is too short."""
    last = guest.driver.pairs - 1
    header = NetHeader.const({"gso_type": 3}).as_bits().to_bytes(12, "little")
    for content in (frame(OUTSIDE, guest.mac, rng), bytes(13)):
        await guest.driver.submit(Outgoing(content, header), pair=last)


async def _of_queues(platform: Platform, function: int) -> dict[str, int]:
    """Counters of a function's queues, but for doorbells: how many there are is a matter of time.

    Of each that is kept for both, the function has the sum.
    """
    found: Counter[str] = Counter()
    hypervisor = platform.hypervisor
    for queue in range(2 * RECEIVING["queue_pairs"]):
        for name, count in (await hypervisor.queue_stats(function, queue)).items():
            if name != "NOTIFICATIONS" and count:
                found[f"{queue} {name}"] = count
    for name in _OF_ALL_QUEUES:
        of_queues = sum(count for key, count in found.items() if key.endswith(f" {name}"))
        assert await hypervisor.stat(function, Stat[name]) == of_queues, name
    return dict(found)


async def traffic(platform: Platform, features: int, **options: Any) -> dict[str, Any]:
    """Frames both ways between two guests, and from and to the wire.

    Returns what came to whom: per guest and source in order, with the queue pairs of the flows.
    """
    rng, port = Random(7), platform.machine
    wire: list[bytes] = []
    port.on_frame(lambda content, _: wire.append(content))
    guests = [await platform.guest(f, features=features, **options) for f in (1, 2)]
    pairs: dict[str, int] = {}
    packets: list[list[bytes]] = [[], []]

    def note(guest: int):
        def packet(content: bytes, header: Any, pair: int) -> None:
            packets[guest].append(content)
            if content[6:12] == OUTSIDE and content[12:14] == b"\x08\x00":
                pairs[content.hex()] = pair

        return packet

    for number, guest in enumerate(guests):
        guest.driver.on_packet = note(number)
    await port.sleep(20_000)  # control queues' commands are carried out
    expected, outside = [0, 0], 0
    cuts = guests[0].driver.accepted(Feature.NET_HOST_TSO4)
    for number in range(_FLOWS):
        pair = number % guests[0].driver.pairs  # of one round, so that order stays
        for source in (0, 1):
            content = frame(guests[1 - source].mac, guests[source].mac, rng)
            await guests[source].driver.send(content, pair=pair)
            expected[1 - source] += 1
        await guests[0].driver.send(frame(OUTSIDE, guests[0].mac, rng), pair=pair)
        content, segments = large(guests[0].mac, rng)
        if cuts:
            await guests[0].driver.send_large(content, SEGMENT, pair=pair)
        outside += 1 + cuts * segments
        await port.send_frame(flow(guests[1].mac, number, rng.choice((8, 600, 1472))))
        expected[1] += 1
        await port.sleep(2500)
    await guests[0].driver.send(frame(BROADCAST, guests[0].mac, rng))
    await port.send_frame(frame(MULTICAST, OUTSIDE, rng))
    expected, outside = [expected[0] + 1, expected[1] + 2], outside + 1
    await platform.until(lambda: [len(p) for p in packets] == expected, 400_000)
    await platform.until(lambda: len(wire) == outside, 400_000)
    await _drops(guests[1], rng)
    for guest in guests:
        await guest.driver.drained()
    by_source: dict[str, list[str]] = {}
    for number, found in enumerate(packets):
        for content in found:
            if content.hex() not in pairs and not content[0] & 1:
                by_source.setdefault(f"{number} {content[6:12].hex()}", []).append(content.hex())
    merged = [await platform.hypervisor.stat(f, Stat.RX_MERGED) for f in (1, 2)]
    return {
        "received": by_source,
        "pairs": dict(sorted(pairs.items())),
        "wire": [content.hex() for content in wire],
        "merged": merged,
        "queues": [await _of_queues(platform, f) for f in (1, 2)],
        "groups": [[await platform.hypervisor.stat(f, stat) for stat in GROUPS] for f in (1, 2)],
    }
