"""Functions in VLANs of their own, a trunk and a mirror exchange frames; of either machine."""

from dataclasses import dataclass
from random import Random
from typing import Any

from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from cosim.packets import ipv4, summed, vlan_tag
from models.spec.ethernet import IpProtocol
from models.spec.nic import Stat
from tests.cosim.platform import Guest, Platform

__all__ = ["PHASES", "WIRE", "Member", "Phase", "expected", "vlans"]

#: The place beyond the port.
WIRE = 0
OUTSIDE = "02:fe:00:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
#: Bytes behind the Ethernet header: each remainder that a beat leaves, and the longest.
_PAYLOADS = (*range(46, 64), 500, 1487, 1488, 1499, 1500)
_TYPE = 0x88B5
_COUNTED = (
    *(Stat.TX_PACKETS, Stat.TX_BYTES, Stat.TX_DROPPED, Stat.TX_DROPPED_VLAN),
    *(Stat.RX_PACKETS, Stat.RX_BYTES, Stat.RX_DROPPED_FILTER, Stat.RX_BROADCAST),
)


@dataclass(frozen=True)
class Member:
    """What a function is: in a VLAN, or a trunk; it may mirror."""

    vlan: int | None = None
    priority: int = 0
    mirror: bool = False


#: What functions 1, 2 and 3 are, one after the other.
Phase = dict[int, Member]
PHASES: tuple[Phase, ...] = (
    {1: Member(7, 5), 2: Member(8), 3: Member()},
    {1: Member(7, 5), 2: Member(7, 1), 3: Member()},
    {1: Member(7, 5), 2: Member(), 3: Member(7, 2, mirror=True)},
)


def mac(place: int) -> str:
    """MAC of a place."""
    return f"02:10:00:00:00:{place:02x}" if place else OUTSIDE


def draw(phase: Phase, number: int) -> list[tuple[int, bytes]]:
    """Frames of a phase, and from where: to everybody, tagged and not, of all lengths."""
    rng = Random(f"vlans/{number}")
    sizes = list(_PAYLOADS)
    rng.shuffle(sizes)
    places, found = (*phase, WIRE), []
    for source in places:
        others = [place for place in places if place != source]
        targets = [*map(mac, others), BROADCAST, "02:99:00:00:00:01"]
        for target in targets:
            for tag in (None, 7, 8):
                size = sizes[len(found) % len(sizes)]
                # Who is in a VLAN sends no tags; that one tries is enough.
                if tag is not None and source and phase[source].vlan and rng.random() < 0.8:
                    continue
                found.append((source, content(target, source, tag, size, rng)))
        if source == WIRE or phase[source].vlan is None:
            # A tag behind the tag is nobody's but the receiver's.
            for target in targets:
                frame = content(target, source, 9, 100, rng)
                found.append((source, frame[:12] + vlan_tag(7) + frame[12:]))
    return found


def content(target: str, source: int, tag: int | None, size: int, rng: Random) -> bytes:
    """A frame; some hold a UDP packet with its checksum."""
    ether = Ether(dst=target, src=mac(source))
    kind, body = _TYPE, rng.randbytes(size)
    if rng.random() < 0.5:
        ends = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
        udp = b"\x10\x00\x20\x00" + (size - 20).to_bytes(2, "big") + bytes(2) + body[28:]
        kind, body = 0x0800, ipv4(*ends, IpProtocol.UDP, summed(*ends, IpProtocol.UDP, udp))
    if tag is None:
        ether.type = kind
        return bytes(ether / Raw(body))
    return bytes(ether / Dot1Q(vlan=tag, prio=3, type=kind) / Raw(body))


def expected(phase: Phase, source: int, frame: bytes) -> dict[int, bytes]:
    """Who is to have a frame, and as what: scapy's tags, and rules of VLANs alone."""
    ether, own = Ether(frame), phase.get(source, Member())
    if own.vlan is not None:
        if Dot1Q in ether:
            return {}  # refused
        tag = Dot1Q(vlan=own.vlan, prio=own.priority, type=ether.type)
        ether = Ether(dst=ether.dst, src=ether.src) / tag / ether.payload
    vlan = ether[Dot1Q].vlan if Dot1Q in ether else None
    members = [
        place for place, member in phase.items() if member.vlan is None or member.vlan == vlan
    ]
    owners = [place for place in members if mac(place) == ether.dst]
    wanted = members if ether.dst == BROADCAST else owners
    found = {}
    for place, member in phase.items():
        if place == source or not (place in wanted or member.mirror):
            continue
        bare = member.vlan is not None and not member.mirror
        found[place] = _bare(ether) if bare else bytes(ether)
    if source != WIRE and (ether.dst == BROADCAST or not owners):
        found[WIRE] = bytes(ether)
    return found


def _bare(ether: Ether) -> bytes:
    """A tagged frame without the tag."""
    head = Ether(dst=ether.dst, src=ether.src, type=ether[Dot1Q].type)
    return bytes(head / ether[Dot1Q].payload)


class _Places:
    """Guests and wire, and what has come to each."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.came: dict[int, list[list[Any]]] = {}
        self.guests: dict[int, Guest] = {}
        platform.machine.on_frame(lambda frame, _: self._note(WIRE, frame))

    def _note(self, place: int, frame: bytes, flags: int = 0) -> None:
        self.came.setdefault(place, []).append([frame.hex(), flags])

    async def become(self, phase: Phase, **options: Any) -> None:
        """Give every function what it is to be; who begins to mirror is another guest."""
        hypervisor = self.platform.hypervisor
        for function, member in phase.items():
            guest = self.guests.get(function)
            if guest is not None and not member.mirror:
                await hypervisor.set_vlan(function, member.vlan, member.priority)
                continue
            if guest is not None:
                await guest.driver.stop()
                await hypervisor.revoke(guest.vm, function)
            fields = {"vlan": member.vlan, "priority": member.priority, "mirror": member.mirror}
            guest = await self.platform.guest(function, assign=fields, **options)
            self.guests[function] = guest
            guest.driver.on_packet = self._noted(function)

    def _noted(self, function: int):
        return lambda frame, header, _: self._note(function, frame, int(header.flags))

    async def send(self, source: int, frame: bytes) -> None:
        if source == WIRE:
            await self.platform.machine.send_frame(frame)
        else:
            await self.guests[source].driver.send(frame)


async def vlans(platform: Platform, pause: int = 2500, **options: Any) -> list[dict[str, Any]]:
    """Go through the phases; returns of each what came to whom, and what was counted."""
    places, found = _Places(platform), []
    for number, phase in enumerate(PHASES):
        await places.become(phase, **options)
        await platform.machine.sleep(20_000)
        places.came.clear()
        for source, frame in draw(phase, number):
            await places.send(source, frame)
            await platform.machine.sleep(pause)
        await platform.machine.sleep(30_000)
        for guest in places.guests.values():
            await guest.driver.drained()
        counts = {
            f"{function} {stat.name}": await platform.hypervisor.stat(function, stat)
            for function in phase
            for stat in _COUNTED
        }
        came = {str(place): list(frames) for place, frames in places.came.items()}
        found.append({"came": came, "counts": counts})
    return found
