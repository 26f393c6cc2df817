"""Counters of hardware and software that must come to the same when a session has ended."""

from collections import Counter
from collections.abc import Iterable

from cosim.hypervisor.hypervisor import Hypervisor
from cosim.nic_fuzz.wrong import Wrong
from models.spec.iommu import PageResponse
from models.spec.nic import QUEUE_STATS, Stat, queue_stat_of, queue_stats_of

__all__ = ["Books"]

_PATIENCE, _LOOK = 100_000, 500
#: Requests of a function that a reset may find parked: of each of its two queues.
_PARKED = 2
#: Counters of functions that also count what no queue is known of.
_OF_NO_QUEUE = "RX_DROPPED", "NOTIFICATIONS"


def _of_queues(stat: Stat) -> list:
    """What queues of either direction count it as."""
    return [queue_stat_of(stat, queue) for queue in (0, 1)]


class Books:
    """Accounts of the correct functions.

    Each page request that hardware counts comes to software, once; software answers each, once; a
    request that was parked, with a page request or without, is retried, fails, or is dropped by a
    reset, once.  What the queues of a function have counted comes to what it has.

    Parameters
    ----------
    hypervisor : Hypervisor
    functions : iterable of int
        Those of correct drivers.
    ahead : int
        Requests ahead of use that a reset may find parked beside.
    """

    def __init__(self, hypervisor: Hypervisor, functions: Iterable[int], ahead: int) -> None:
        self._hypervisor, self._functions = hypervisor, tuple(functions)
        self._resets: Counter[int] = Counter()
        self._dropped = _PARKED + ahead

    def rebound(self, function: int) -> None:
        """A driver has reset its function."""
        self._resets[function] += 1

    async def balance(self, received: dict[int, int]) -> Counter[str]:
        """Compare what was counted; return sums.

        Parameters
        ----------
        received : dict
            Frames that each driver has taken.

        Raises
        ------
        Wrong
            If there is a difference.
        """
        sums: Counter[str] = Counter()
        for function in self._functions:
            await self._settle(function)
            try:
                sums += await self._requests(function)
            except AssertionError as error:
                raise Wrong("books", f"function {function}: {error}") from None
            packets = await self._hypervisor.stat(function, Stat.RX_PACKETS)
            if packets != received[function] and not self._resets[function]:
                what = f"{packets} frames received by hardware, {received[function]} by the driver"
                raise Wrong("books", f"function {function}: {what}")
            await self._queues(function)
        self._no_faults()
        return sums

    async def _queues(self, function: int) -> None:
        """Sums over a function's queues against its own counters."""
        queues = range(2 * self._hypervisor.config.nic.queue_pairs)
        for name in {stat.name for queue in queues for stat in queue_stats_of(queue)}:
            of = [(queue, QUEUE_STATS[queue & 1].__members__.get(name)) for queue in queues]
            before = after = None
            counts: dict[int, int] = {}
            while before is None or before != after:
                before = await self._whole(function, name)
                for queue, stat in of:
                    if stat is not None:
                        counts[queue] = await self._hypervisor.queue_stat(function, queue, stat)
                after = await self._whole(function, name)
            total = sum(counts.values())
            if total > before or (total < before and name not in _OF_NO_QUEUE):
                what = f"{name} {before}, of queues {counts}"
                raise Wrong("books", f"function {function}: {what}")

    async def _whole(self, function: int, name: str) -> int:
        """What a function has counted of what its queues count under a name."""
        found = 0
        for stat in Stat:
            if any(of is not None and of.name == name for of in _of_queues(stat)):
                found += await self._hypervisor.stat(function, stat)
        return found

    async def _settle(self, function: int) -> None:
        """Wait until every page request has its answer, and who waited for it has gone on."""
        assignment = self._hypervisor.assignment(function)
        end = self._hypervisor.port.now() + _PATIENCE
        while True:
            asked, parked, retries = await self._parked(function)
            if asked == len(assignment.services) and parked - retries <= self._most(function):
                return
            if self._hypervisor.port.now() > end:
                what = f"{asked} page requests, {assignment.requests} came, "
                what += f"{parked} parked, {retries} retries, "
                what += f"{len(assignment.services)} answered"
                raise Wrong("books", f"function {function}: {what}")
            await self._hypervisor.port.sleep(_LOOK)

    async def _parked(self, function: int) -> tuple[int, int, int]:
        """Page requests; requests that have parked, with one or without; retries."""
        stats = Stat.PAGE_REQUESTS, Stat.PAGE_WAITS, Stat.PAGE_RETRIES
        asked, waits, retries = [await self._hypervisor.stat(function, stat) for stat in stats]
        return asked, asked + waits, retries

    def _most(self, function: int) -> int:
        """How many a function's resets may have dropped."""
        return self._dropped * self._resets[function]

    async def _requests(self, function: int) -> Counter[str]:
        """Page requests of a function against what came of them."""
        assignment = self._hypervisor.assignment(function)
        requests, parked, retries = await self._parked(function)
        faults = await self._hypervisor.stat(function, Stat.DMA_FAULTS)
        assert assignment.requests == requests, f"{assignment.requests} of {requests} came"
        refused = [s for s in assignment.services if s.code != PageResponse.SUCCESS]
        assert not refused, f"refused: {refused}"
        assert not faults, f"{faults} DMA faults"
        dropped, most, waits = parked - retries, self._most(function), parked - requests
        assert 0 <= dropped <= most, f"{parked} parked, {retries} retries, {most} dropped"
        return Counter(
            {"page requests": requests, "waits": waits, "retries": retries, "dropped": dropped}
        )

    def _no_faults(self) -> None:
        devices = {self._hypervisor.assignment(f).device_id for f in self._functions}
        found = [f for f in self._hypervisor.iommu.faults if f.device_id in devices]
        if found:
            raise Wrong("books", f"faults of correct drivers: {found}")
