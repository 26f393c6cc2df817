"""One workload for golden machine and RTL: what every driver and the wire received."""

from dataclasses import replace
from random import Random
from typing import Any

from models.spec.config import SystemConfig, config
from models.spec.nic import Stat
from tests.cosim.platform import Platform, frame

__all__ = ["RECEIVING", "receiving_system", "traffic"]

#: All that the receive side has: rings of either kind, merged buffers, control queue, two pairs.
RECEIVING = {
    **dict.fromkeys(("packed", "indirect", "event_idx", "in_order", "mergeable"), True),
    **dict.fromkeys(("control_queue", "multiqueue", "rss"), True),
    "queue_pairs": 2,
}
OUTSIDE = bytes.fromhex("02fe00000001")
_FLOWS = 6


def receiving_system() -> SystemConfig:
    """``tiny`` with all of the receive side."""
    tiny = config("tiny")
    return replace(tiny, nic=replace(tiny.nic, **RECEIVING))


def flow(target: bytes, number: int, size: int) -> bytes:
    """A UDP packet of a flow from outside."""
    payload = bytes((number,)) * size
    udp = (1000 + number).to_bytes(2, "big") + bytes((0, 80))
    udp += (8 + size).to_bytes(2, "big") + bytes(2) + payload
    ip = bytes((0x45, 0)) + (20 + len(udp)).to_bytes(2, "big") + bytes(4)
    ip += bytes((64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, number)) + udp
    return target + OUTSIDE + b"\x08\x00" + ip


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
    expected = [0, 0]
    for number in range(_FLOWS):
        for source in (0, 1):
            await guests[source].driver.send(frame(guests[1 - source].mac, guests[source].mac, rng))
            expected[1 - source] += 1
        await guests[0].driver.send(frame(OUTSIDE, guests[0].mac, rng))
        await port.send_frame(flow(guests[1].mac, number, rng.choice((8, 600, 1472))))
        expected[1] += 1
        await port.sleep(1500)
    await platform.until(lambda: [len(p) for p in packets] == expected, 400_000)
    await platform.until(lambda: len(wire) == _FLOWS, 400_000)
    for guest in guests:
        await guest.driver.drained()
    by_source: dict[str, list[str]] = {}
    for number, found in enumerate(packets):
        for content in found:
            if content.hex() not in pairs:
                by_source.setdefault(f"{number} {content[6:12].hex()}", []).append(content.hex())
    merged = [await platform.hypervisor.stat(f, Stat.RX_MERGED) for f in (1, 2)]
    return {
        "received": by_source,
        "pairs": dict(sorted(pairs.items())),
        "wire": [content.hex() for content in wire],
        "merged": merged,
    }
