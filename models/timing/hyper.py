"""Share of a link that an IOMMU sustains for many tenants.

A device on the far side of a bus takes a packet at a time from its link and asks for its
translations; the packet leaves when all are there.  The constants are those published with
HyperTRIO's simulator; 1 cycle is 1 ns.

All accesses missing and one translation at a time, the share is ``packet / (3 (2 way + walk))``:
0.98 % with 24 reads of 50 ns; to fill the link 103 translations must be under way.
"""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush, heapreplace

from models.spec.config import IommuConfig, config
from models.spec.iotlb import iotlb_set

__all__ = ["LINK", "TENANTS", "VARIANTS", "Link", "Traffic", "closed_form", "share"]

TENANTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Serial: one walk, no walk caches, Sv48x4.  The others: ``hyper``, Sv39x4 with walk caches;
#: partitioned: the IOTLB's set is chosen by tenant alone; prefetching: in addition the next
#: packet's pages of a tenant are walked when one of its packets has been served.
VARIANTS = ("serial", "parallel", "partitioned", "prefetching")


@dataclass(frozen=True, kw_only=True)
class Link:
    """Constants of the link, the bus to the device and memory."""

    gbit_per_second: int = 200
    packet_bytes: int = 1542
    translations_per_packet: int = 3
    one_way_ns: int = 450
    memory_ns: int = 50
    serial_reads: int = 24

    @property
    def packet_ns(self) -> float:
        """Time between two packets of a full link."""
        return 8 * self.packet_bytes / self.gbit_per_second

    def as_dict(self) -> dict:
        """Values, and what follows from them."""
        return asdict(self) | {
            "packet_ns": self.packet_ns,
            "serial_share_closed_form": closed_form(self.serial_reads),
            "translations_to_fill_the_link": 1 / closed_form(self.serial_reads),
        }


LINK = Link()


def closed_form(reads: int, under_way: int = 1, extra: int = 0) -> float:
    """Share of the link if every translation walks, ``under_way`` of them at once."""
    walk = 2 * LINK.one_way_ns + reads * (LINK.memory_ns + extra)
    return min(1.0, under_way * LINK.packet_ns / (LINK.translations_per_packet * walk))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Packets of tenants in turn: of each a ring's page, a buffer's page, and a message's page.

    Parameters
    ----------
    tenants, packets : int
        ``packets`` 0: enough to see every tenant a few times.
    buffers : int
        Pages of 4 KiB that a tenant's buffers go round in.
    window : int
        Translations that the device has under way at most.
    seed : int
        Unused by traffic that goes in turn; kept beside the figures.
    """

    tenants: int
    packets: int = 0
    buffers: int = 32
    window: int = 120
    seed: int = 1

    def pages(self, packet: int) -> tuple[int, tuple[int, int, int]]:
        """Tenant and pages of a packet."""
        tenant, turn = packet % self.tenants, packet // self.tenants
        return tenant, (0, 2 + turn % self.buffers, 1)

    @property
    def count(self) -> int:
        """Packets to run."""
        return self.packets or max(3000, 6 * self.tenants)


class _Cache:
    """Sets of ways, replaced in the order of fills, as :mod:`models.spec.iotlb` says."""

    def __init__(self, sets: int, ways: int) -> None:
        self._sets: list[OrderedDict] = [OrderedDict() for _ in range(sets)]
        self._ways = ways

    def has(self, index: int, tag: object) -> bool:
        return tag in self._sets[index % len(self._sets)]

    def fill(self, index: int, tag: object) -> None:
        entries = self._sets[index % len(self._sets)]
        if tag not in entries:
            if len(entries) == self._ways:
                entries.popitem(last=False)
            entries[tag] = True


class _Iommu:
    """Caches and walk contexts of a variant; answers when a translation is done."""

    def __init__(self, variant: str, rtl: IommuConfig, traffic: Traffic) -> None:
        self._serial = variant == "serial"
        self._grouped = variant in ("partitioned", "prefetching")
        sets, ways = rtl.iotlb_sets, rtl.iotlb_ways
        # A partition is a set chosen by tenant, so that tenants evict none but their group's.
        self._leaves, self._sets = _Cache(sets, ways), sets
        self._upper = _Cache(max(1, rtl.walk_cache), 1)
        self._walkers = [0.0] * (1 if self._serial else min(rtl.walkers, rtl.misses))
        heapify(self._walkers)
        self._step = LINK.memory_ns + (5 if rtl.walk_cache and not self._serial else 3)
        self._pending: dict[tuple[int, int], float] = {}
        self._ending: list[tuple[float, int, int]] = []
        self._walk_caches = bool(rtl.walk_cache)

    def _index(self, tenant: int, page: int) -> int:
        return tenant if self._grouped else iotlb_set(page, tenant, self._sets)

    def reads(self, tenant: int) -> int:
        """Reads of a walk: with its tables cached the leaves of both stages alone."""
        if self._serial:
            return LINK.serial_reads
        if not self._walk_caches:
            return 15
        return 2 if self._upper.has(tenant, tenant) else 15

    def walk(self, tenant: int, page: int, now: float) -> float:
        """Begin a walk as soon as a context is free; returns when it ends."""
        begins = max(now, self._walkers[0])
        ends = begins + self.reads(tenant) * self._step
        heapreplace(self._walkers, ends)
        self._pending[tenant, page] = ends
        heappush(self._ending, (ends, tenant, page))
        return ends

    def _fill(self, now: float) -> None:
        """Let the walks that have ended fill the caches, in the order of their ends."""
        while self._ending and self._ending[0][0] <= now:
            _, tenant, page = heappop(self._ending)
            self._pending.pop((tenant, page), None)
            self._leaves.fill(self._index(tenant, page), (tenant, page))
            self._upper.fill(tenant, tenant)

    def translate(self, tenant: int, page: int, now: float) -> float:
        """Return when a request that comes at ``now`` is answered."""
        key = (tenant, page)
        self._fill(now)
        if key in self._pending:
            return self._pending[key]  # joins
        if self._leaves.has(self._index(tenant, page), key):
            return now + 4
        return self.walk(tenant, page, now)

    def prefetch(self, tenant: int, pages: tuple[int, ...], now: float) -> None:
        """Walk what is not there."""
        self._fill(now)
        for page in pages:
            key = (tenant, page)
            if key not in self._pending and not self._leaves.has(self._index(tenant, page), key):
                self.walk(tenant, page, now)


def share(variant: str, traffic: Traffic, *, like_rtl: IommuConfig | None = None) -> float:
    """Return the share of the link that a variant sustains.

    ``like_rtl`` takes that configuration's caches and walk contexts in place of the variant's, and
    the reads of its walks.
    """
    rtl = like_rtl or config("hyper").iommu
    iommu = _Iommu(variant if like_rtl is None else "parallel", rtl, traffic)
    window = 1 if variant == "serial" else traffic.window
    way = LINK.one_way_ns
    under_way: list[float] = []
    last = first = 0.0
    skipped = traffic.count // 4
    for number in range(traffic.count):
        tenant, pages = traffic.pages(number)
        arrives = number * LINK.packet_ns
        done = 0.0
        for page in pages:
            start = arrives
            if len(under_way) == window:
                start = max(start, heappop(under_way))
            ended = iommu.translate(tenant, page, start + way) + way
            heappush(under_way, ended)
            done = max(done, ended)
        if variant == "prefetching":
            _, following = traffic.pages(number + traffic.tenants)
            iommu.prefetch(tenant, following, done - way)
        last = max(last, done)
        if number == skipped:
            first = last
    return min(1.0, (traffic.count - 1 - skipped) * LINK.packet_ns / (last - first))
