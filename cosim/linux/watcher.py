"""Compares every DMA burst with where the guest's pages were at that moment."""

from collections.abc import Iterable

import numpy as np

from cosim.bench.bench import Bench
from cosim.bench.dma_taps import DMA_READS, DMA_WRITES
from cosim.linux.guest_ram import FIRST_FILE, GuestRam

__all__ = ["Watcher"]

_PAGE = np.uint64(-4096 & (1 << 64) - 1)


class Watcher:
    """Finds bursts to pages that are no longer a guest's.

    A burst to a page of a guest's memory must be accepted while the page is mapped there, or after
    that until software has been told that its invalidations are complete.  A page that comes back
    lies at another address, so that every cache that a translation can have stayed in is judged:
    IOTLB, walk caches, the NIC's own.

    Parameters
    ----------
    bench : Bench
        With the taps of :func:`~cosim.bench.dma_taps.dma_taps`.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        #: Bursts looked at, and those that used an old translation or none.
        self.bursts = self.stale = 0
        self.problems: list[str] = []
        for name in (DMA_READS, DMA_WRITES):
            bench.stream(name).log()

    def look(self, memories: Iterable[GuestRam]) -> None:
        """Judge all bursts since the last look."""
        rams = list(memories)
        for name in (DMA_READS, DMA_WRITES):
            columns = self._bench.take_fields(name)
            kept = columns["addr"] >= FIRST_FILE
            pages, cycles = columns["addr"][kept] & _PAGE, columns["cycle"][kept]
            self.bursts += len(pages)
            order = np.argsort(pages, kind="stable")
            pages, cycles = pages[order], cycles[order]
            starts = np.flatnonzero(np.diff(pages, prepend=np.uint64(0)))
            for part in np.split(np.arange(len(pages)), starts)[1:]:
                self._judge(rams, int(pages[part[0]]), cycles[part])

    def _judge(self, rams: list[GuestRam], page: int, cycles: np.ndarray) -> None:
        covered = np.zeros(len(cycles), bool)
        for ram in rams:
            for stay in ram.history.get(page, ()):
                inside = cycles >= stay.begin
                if stay.end is not None:
                    inside &= cycles <= stay.end
                covered |= inside
        for cycle in cycles[~covered].tolist():
            self.stale += 1
            if len(self.problems) < 10:
                self.problems.append(f"cycle {cycle}: {page:#x} is no page of a guest")
