"""Where the time of a DMA page fault goes, from what the DMA engine's ports carried."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from cosim.bench.ports import Tap
from cosim.hypervisor.hypervisor import Service
from models.spec.iommu import PageRequestPayload
from models.spec.translation import PageRequest
from rtl.nic.seams import DmaDone, DmaRequest
from rtl.nic.segments import TAG_BITS

__all__ = ["PARTS", "STREAMS", "FaultTimes", "fault_taps", "split"]

_BEGIN, _COMPLETE, _PARKING = (f"nic.dma.{name}" for name in ("begin", "complete", "parking"))
REQUEST, DONE = f"{_BEGIN}.request", f"{_COMPLETE}.done"
ASKED, PARK, RETRY, FAILED = (
    f"{_PARKING}.{name}" for name in ("page_request", "park", "retry", "done")
)
#: Streams of the taps, as the bench names them.
STREAMS = (REQUEST, DONE, FAILED, ASKED, PARK, RETRY)


def fault_taps() -> tuple[Tap, ...]:
    """Return taps on the DMA engine: requests and their ends, parking, page requests."""
    return (
        Tap(instance=_BEGIN, name="request", shape=DmaRequest),
        Tap(instance=_COMPLETE, name="done", shape=DmaDone),
        Tap(instance=_PARKING, name="done", shape=DmaDone),
        Tap(instance=_PARKING, name="page_request", shape=PageRequest),
        Tap(instance=_PARKING, name="park", shape=TAG_BITS),
        Tap(instance=_PARKING, name="retry", shape=TAG_BITS),
    )


@dataclass(frozen=True, kw_only=True)
class FaultTimes:
    """Cycles of one fault.

    ``detect``: from the DMA's beginning, or its latest retry, to the answer without rights.
    ``request``: from there until software has the page request.  ``software``: until it has put its
    answer into the command queue.  ``retry``: until the DMA has ended, or has met the next page
    that is not there.
    """

    detect: int
    request: int
    software: int
    retry: int

    @property
    def total(self) -> int:
        return sum(getattr(self, part) for part in PARTS)


#: Parts of a fault's time, in order.
PARTS = tuple(field.name for field in fields(FaultTimes))


class _Cycles:
    """When something happened to each tag."""

    def __init__(self, cycles: Iterable[int], tags: Iterable[int]) -> None:
        self._of: dict[int, list[int]] = {}
        for cycle, tag in sorted(zip(map(int, cycles), map(int, tags), strict=True)):
            self._of.setdefault(tag, []).append(cycle)

    def last(self, tag: int, until: int) -> int | None:
        """The latest up to a cycle."""
        cycles = self._of.get(tag, [])
        place = bisect_right(cycles, until)
        return cycles[place - 1] if place else None

    def next(self, tag: int, since: int) -> int | None:
        """The first from a cycle on."""
        cycles = self._of.get(tag, [])
        place = bisect_left(cycles, since)
        return cycles[place] if place < len(cycles) else None


def split(
    log: Mapping[str, Mapping[str, np.ndarray]], services: Sequence[Service]
) -> list[FaultTimes]:
    """Return the times of all faults whose DMA has ended.

    Parameters
    ----------
    log : mapping
        What the taps have carried, a column per field.
    services : sequence of Service
        What the hypervisor has served.
    """
    requests = _Cycles(log[REQUEST]["cycle"], log[REQUEST]["tag"])
    dones = _Cycles(
        *(np.concatenate([log[name][column] for name in (DONE, FAILED)])
          for column in ("cycle", "tag"))
    )  # fmt: skip
    parks = _Cycles(log[PARK]["cycle"], log[PARK]["value"])
    retries = _Cycles(log[RETRY]["cycle"], log[RETRY]["value"])
    served: dict[tuple[int, int], list[Service]] = {}
    for service in sorted(services, key=lambda service: service.since):
        served.setdefault((service.device_id, service.index), []).append(service)
    asked, times = log[ASKED], []
    for cycle, device, payload in zip(
        *(map(int, asked[name]) for name in ("cycle", "device_id", "payload")), strict=True
    ):
        index = PageRequestPayload.from_bits(payload).index
        tag = index & ((1 << TAG_BITS) - 1)
        parked = parks.last(tag, cycle)
        own = served.get((device, index), [])
        place = bisect_left(own, cycle, key=lambda service: service.since)
        if parked is None or place == len(own):
            continue
        service = own[place]
        answered = service.since + service.cycles
        begins = (requests.last(tag, parked), retries.last(tag, parked))
        ends = (dones.next(tag, answered), parks.next(tag, answered))
        begins = [cycle for cycle in begins if cycle is not None]
        ends = [cycle for cycle in ends if cycle is not None]
        if begins and ends:
            times.append(
                FaultTimes(
                    detect=parked - max(begins),
                    request=service.since - parked,
                    software=service.cycles,
                    retry=min(ends) - answered,
                )
            )
    return times
