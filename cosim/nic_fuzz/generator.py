"""Makes sessions."""

from random import Random
from typing import Any

from cosim.guest.features import KNOWN_FEATURES, NEEDED_FEATURES, consistent
from cosim.guest.malformed import OF_CONTROL_QUEUES, WAYS, Way
from cosim.nic_fuzz.commands import draw_command
from cosim.nic_fuzz.interrupts import draw_wish
from cosim.nic_fuzz.memory_ways import MEMORY_WAYS, RING_ADDRESS
from cosim.nic_fuzz.session import Session
from cosim.nic_fuzz.world import CORRECT, HOSTILE, HOSTILE_TYPE
from cosim.packets import vlan_tag
from cosim.scenarios.traffic import OUTSIDE, guest_mac
from models.spec.ethernet import EtherType, IpProtocol
from models.spec.nic import (
    COMMON_OFFSET,
    DEVICE_OFFSET,
    ISR_OFFSET,
    MSIX_TABLE_OFFSET,
    NOTIFY_OFFSET,
)
from models.spec.virtio import DescriptorFlag, Feature, GsoType, NetHeader, NetHeaderFlag

__all__ = ["STORED", "generate"]

#: Registers that a driver sets a queue up with.
STORED = (
    *("queue_select", "queue_size", "queue_desc", "queue_driver", "queue_device", "queue_enable"),
    *("queue_reset", "queue_msix_vector", "device_status", "driver_feature"),
    *("driver_feature_select", "config_msix_vector"),
)
_NEXT, _WRITE, _INDIRECT = DescriptorFlag.NEXT, DescriptorFlag.WRITE, DescriptorFlag.INDIRECT
_HEADER_BYTES = NetHeader.as_shape().size // 8
_LENGTHS = (0, 1, 2, 11, 12, 13, 16, 26, 60, 64, 100, 590, 1024, 1500, 1526, 2047)
_SIZES = (60, 61, 64, 200, 1024, 1513, 1514)
#: Used elements of an IN_ORDER queue stand for as many chains as the device likes.
_NEVER = 1 << Feature.IN_ORDER
#: Most ways to be malformed, and most chains, need these.
_REFUSED = {Feature.RING_INDIRECT_DESC: 0.12, Feature.RING_RESET: 0.1}
_ODD = 0.06
#: What of a BAR a guest reaches: the hypervisor keeps MSI-X tables to itself.
_BAR = MSIX_TABLE_OFFSET


def _maybe(rng: Random, usual: Any, odd: Any, chance: float = _ODD) -> Any:
    return odd if rng.random() < chance else usual


def _accepted(driver: dict, feature: Feature) -> bool:
    """Whether a driver accepts a feature."""
    return bool(driver["features"] >> feature & 1)


def _has_tables(driver: dict) -> bool:
    """Whether a driver has accepted indirect descriptors."""
    return _accepted(driver, Feature.RING_INDIRECT_DESC)


def _fits(way: Way, driver: dict) -> bool:
    """Whether a driver is set up for a way."""
    packed, merged = (_accepted(driver, f) for f in (Feature.RING_PACKED, Feature.NET_MRG_RXBUF))
    formats = (way.packed, way.indirect) == (packed, _has_tables(driver))
    return formats and driver["size"] in way.sizes and merged >= way.merged


class _Maker:
    """Draws the parts of one session."""

    def __init__(
        self, rng: Random, sizes: tuple[int, ...], vlan: dict[str, int], apart: Random
    ) -> None:
        self.rng, self._sizes, self._vlan, self._apart = rng, sizes, vlan, apart
        self.ats = rng.random() < 0.75

    def driver(self) -> dict[str, int]:
        rng = self.rng
        refused = sum(
            1 << feature
            for feature in Feature
            if not NEEDED_FEATURES >> feature & 1 and rng.random() < _REFUSED.get(feature, 0.3)
        )
        features = consistent(KNOWN_FEATURES & ~_NEVER & ~refused)
        size = rng.choice(self._sizes)
        if features >> Feature.RING_PACKED & 1:
            size = _maybe(rng, size, max(2, size - rng.randint(1, 5)), 0.5)
        return {"features": features, "size": size, "pairs": rng.choice((1, 1, 2))}

    def _head(self) -> str:
        """Header and first bytes of a frame that is sent."""
        rng = self.rng
        fields = {}
        if rng.random() < 0.4:
            fields = {
                "flags": _maybe(rng, int(NetHeaderFlag.NEEDS_CSUM), rng.getrandbits(8), 0.2),
                "csum_start": _maybe(rng, rng.choice((14, 34, 54)), rng.getrandbits(16), 0.2),
                "csum_offset": _maybe(rng, rng.choice((6, 16)), rng.getrandbits(16), 0.2),
                "gso_type": _maybe(rng, 0, rng.getrandbits(8)),
                "hdr_len": rng.getrandbits(16),
                "gso_size": rng.getrandbits(16),
            }
        header = NetHeader.const(fields).as_bits().to_bytes(_HEADER_BYTES, "little")
        target = rng.choice(
            (*map(guest_mac, CORRECT), guest_mac(OUTSIDE), b"\xff" * 6, rng.randbytes(6))
        )
        kind = HOSTILE_TYPE
        if self._vlan and rng.random() < 0.3:  # tagged for others
            kind = vlan_tag(self._vlan["vid"], rng.randrange(8)) + kind
        return (header + target + self._source() + kind).hex()

    def _source(self) -> bytes:
        """Its own MAC, mostly; who is not trusted may not send others."""
        usual = guest_mac(HOSTILE)
        if self._apart.random() < 0.9:
            return usual
        return self._apart.choice((*map(guest_mac, CORRECT), guest_mac(OUTSIDE), b"\2\1\0\0\0\3"))

    def tcp(self) -> tuple[str, list[int]]:
        """Header and headers of a TCP packet to be cut into segments, and lengths of its pieces."""
        rng, v4 = self.rng, self.rng.random() < 0.5
        payload = rng.choice((0, 1, 100, 1460, 2100, 2961, 9000, rng.randrange(30_000)))
        start = 34 if v4 else 54
        fields = {
            "flags": _maybe(rng, int(NetHeaderFlag.NEEDS_CSUM), 0),
            "gso_type": _maybe(rng, int(GsoType.TCPV4 if v4 else GsoType.TCPV6), 3),
            "hdr_len": rng.getrandbits(16),
            # Not more segments than all have room for.
            "gso_size": _maybe(rng, max(1448, payload // 4 + 1), rng.choice((0, 0xFFFF))),
            "csum_start": _maybe(rng, start, start + 4),
            "csum_offset": _maybe(rng, 16, 6),
        }
        header = NetHeader.const(fields).as_bits().to_bytes(_HEADER_BYTES, "little")
        length = 20 + payload + (20 if v4 else 0)
        if v4:
            kind, network = EtherType.IPV4, b"\x45\0" + length.to_bytes(2, "big")
            network += rng.randbytes(2) + bytes((0x40, 0, 64, IpProtocol.TCP)) + rng.randbytes(10)
        else:
            kind, network = EtherType.IPV6, b"\x60\0\0\0" + length.to_bytes(2, "big")
            network += bytes((IpProtocol.TCP, 64)) + rng.randbytes(32)
        transport = rng.randbytes(12) + bytes((0x50, rng.getrandbits(8))) + rng.randbytes(6)
        target, source = guest_mac(OUTSIDE), self._source()
        head = header + target + source + kind.to_bytes(2, "big") + network + transport
        left, lengths = len(head) + payload, []
        while left:
            size = min(
                left, rng.choice((12, 66, 500, 1500, 2047, 2048, 2048)) if left < 9000 else 2048
            )
            lengths.append(size)
            left -= size
        return head.hex(), lengths

    def chain(self, *, receive: bool, tables: bool) -> dict[str, Any]:
        """A chain, now and then wrong in some way."""
        rng = self.rng
        count = _maybe(rng, rng.choice((1, 1, 2, 3, 6)), rng.choice((20, 70)), 0.02)
        flags = int(_WRITE) if receive else 0
        pieces = []
        for number in range(count):
            links = int(_NEXT) if number + 1 < count else 0
            usual = 1600 if receive and number == 0 else rng.choice(_LENGTHS)
            length = _maybe(rng, usual, rng.choice((0x10, 0x4000, 0xFFFF, 0x1_0000, 1 << 31)), 0.03)
            pieces.append(
                [
                    _maybe(rng, flags | links, rng.getrandbits(16), _ODD / 3),
                    length if rng.random() < 0.9 else rng.randrange(2048),
                    rng.choice((0, 1, 3, 16, 61)),
                    _maybe(rng, None, rng.choice((0, 1, 2, 63, 64, 0xFFFF)), _ODD / 3),
                    _maybe(rng, None, rng.choice((0x4000_0000, (1 << 64) - 64)), _ODD / 3),
                ]
            )
        head = self._head()
        if not receive and rng.random() < 0.25:
            head, lengths = self.tcp()
            last = len(lengths) - 1
            pieces = [
                [int(_NEXT) if number < last else 0, length, rng.choice((0, 1, 16)), None, None]
                for number, length in enumerate(lengths)
            ]
        return {
            "table": int(rng.random() < (0.4 if tables else _ODD)),
            "odd": _maybe(rng, 0, rng.choice((8, -16, 1, -8)), _ODD / 2),
            "flags": _maybe(rng, 0, rng.choice((int(_NEXT), int(_WRITE), 0x8000)), _ODD / 2),
            "pieces": pieces,
            "head": head,
            "seed": rng.getrandbits(32),
        }

    def chains(self, queue: int, driver: dict[str, int]) -> list[dict[str, Any]]:
        tables = _has_tables(driver)
        return [
            self.chain(receive=queue % 2 == 0, tables=tables) for _ in range(self.rng.randint(1, 5))
        ]

    def queue(self, driver: dict[str, int]) -> int:
        return self.rng.randrange(2 * driver["pairs"])

    def post(self, driver: dict[str, int]) -> list[Any]:
        queue, rng = self.queue(driver), self.rng
        # Only the first pair receives while a driver has asked for no other.
        queue = queue if queue % 2 else 0
        chains = self.chains(queue, driver)
        frames = []
        if queue == 0:
            frames = [rng.choice(_SIZES) for _ in range(rng.randint(1, 3))]
        return ["post", queue, int(rng.random() < 0.3), chains, frames, draw_wish(rng)]

    def way(self, driver: dict[str, int]) -> list[Any]:
        fit = [way.name for way in WAYS if _fits(way, driver)]
        return ["way", self.rng.choice(fit), draw_wish(self.rng)]

    def control_way(self, driver: dict[str, int]) -> list[Any]:
        if not _accepted(driver, Feature.NET_CTRL_VQ):
            return self.way(driver)
        fit = [way.name for way in OF_CONTROL_QUEUES if _fits(way, driver)]
        return ["control_way", self.rng.choice([*fit, RING_ADDRESS]), self.rng.randrange(3)]

    def memory_way(self, driver: dict[str, int]) -> list[Any]:
        fit = [way.name for way in MEMORY_WAYS if way.ats in (None, self.ats)]
        return ["memory_way", self.rng.choice(fit), self.rng.randrange(2), self.rng.randrange(3)]

    def control(self, driver: dict[str, int]) -> list[Any]:
        tables = _has_tables(driver)
        count = self.rng.choice((1, 2, 4, 12))  # more than one turn of who answers
        commands = [draw_command(self.rng, tables=tables) for _ in range(count)]
        return ["control", commands, draw_wish(self.rng)]

    def registers(self, driver: dict[str, int]) -> list[Any]:
        rng = self.rng
        stores = []
        for _ in range(rng.randint(1, 20)):
            value = rng.choice((rng.randrange(17), rng.getrandbits(64), 1 << rng.randrange(64)))
            stores.append([rng.choice(STORED), value])
        return ["registers", stores, [rng.randrange(5) for _ in range(rng.randrange(3))]]

    def chaos(self, driver: dict[str, int]) -> list[Any]:
        rng, queue = self.rng, self.queue(driver)
        garbage = rng.randbytes(rng.randint(1, 40)).hex()
        where = rng.randrange(3), rng.randrange(1024)
        return ["chaos", queue, *where, garbage, self.chains(queue, driver)]

    def poke(self, driver: dict[str, int]) -> list[Any]:
        rng, queue, accesses = self.rng, self.queue(driver), []
        pages = (COMMON_OFFSET, COMMON_OFFSET, ISR_OFFSET, DEVICE_OFFSET, NOTIFY_OFFSET)
        for _ in range(rng.randint(1, 30)):
            size = rng.choice((1, 2, 4))
            offset = _maybe(rng, rng.choice(pages) + rng.randrange(64), rng.randrange(_BAR), 0.2)
            value = rng.choice((None, rng.randrange(17), rng.getrandbits(8 * size)))
            value = value if value is None else value & (1 << 8 * size) - 1
            accesses.append([offset & -size, size, value])
        return ["poke", queue, self.chains(queue, driver), accesses]

    def reset(self, driver: dict[str, int]) -> list[Any]:
        rng, queue = self.rng, self.queue(driver)
        kind = rng.choice(("function", "device", "queue"))
        return ["reset", kind, rng.randrange(2000), queue, self.chains(queue, driver)]

    def evict(self, driver: dict[str, int]) -> list[Any]:
        rng = self.rng
        pages = [rng.getrandbits(16) for _ in range(rng.randint(1, 12))]
        return ["evict", rng.choice((*CORRECT, HOSTILE)), pages]

    def rebind(self, driver: dict[str, int]) -> list[Any]:
        rng, queue = self.rng, self.queue(driver)
        return [
            "rebind",
            rng.choice(CORRECT),
            rng.randrange(2000),
            queue,
            self.chains(queue, driver),
        ]

    def setup(self, driver: dict[str, int]) -> list[Any]:
        return ["setup", self.driver()]


def _paging(name: str, ats: bool) -> dict[str, int]:
    """A pager, drawn apart from what a session does.

    Who shares pages holds doorbells back now and then, which the hostile driver does not bear.
    """
    rng = Random(f"{name}/paging")
    hostile = int(ats and rng.random() < 0.6)
    return {
        "frames": rng.choice((64, 96, 160)) if hostile else rng.choice((32, 48, 96)),
        "compression": rng.randrange(2),
        "sharing": 0 if hostile else rng.randrange(2),
        "hostile": hostile,
        "pause": rng.choice((1000, 3000, 8000)),
    }


def _vlan(name: str) -> dict[str, int]:
    """VLANs of functions, in every other session, drawn apart as well."""
    rng = Random(f"{name}/vlan")
    if rng.random() < 0.5:
        return {}
    vid, other = rng.sample((1, 7, 0x80, 0xFFF), 2)
    return {
        "vid": vid,
        "priority": rng.randrange(8),
        "hostile": rng.choice((0, vid, other, other)),
    }


def generate(
    name: str, *, steps: int, sizes: tuple[int, ...], paged: bool | None = None
) -> Session:
    """Make the session of a name, always the same.

    Parameters
    ----------
    name : str
    steps : int
    sizes : tuple of int
        Queue sizes that the driver may have.
    paged : bool or None
        Whether there is a pager; ``None``: in one of three sessions.
    """
    vlan = _vlan(name)
    maker = _Maker(Random(name), sizes, vlan, Random(f"{name}/apart"))
    poker = _Maker(Random(f"{name}/poke"), sizes, vlan, Random(f"{name}/apart from it"))
    session = Session(name, ats=maker.ats, driver=maker.driver(), vlan=vlan)
    session.trusted = Random(f"{name}/trusted").random() < 0.5
    driver = session.driver
    drawn = Random(f"{name}/paged").random() < 1 / 3
    if drawn if paged is None else paged:
        session.paging = _paging(name, session.ats)
    kinds = {"post": 36, "way": 18, "control_way": 8, "memory_way": 8, "registers": 7, "chaos": 7,
             "reset": 7, "evict": 5, "rebind": 3, "setup": 6, "control": 8}  # fmt: skip
    if session.trusted:  # its commands might take others' frames
        del kinds["control"]
    for kind in maker.rng.choices(list(kinds), list(kinds.values()), k=steps):
        session.steps.append(getattr(maker, kind)(driver))
        if session.steps[-1][0] == "setup":
            driver = session.steps[-1][1]
        if poker.rng.random() < 0.07:
            session.steps.append(poker.poke(driver))
    return session
