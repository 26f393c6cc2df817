"""A device that always misses beside one that hits, or misses in its turn."""

import numpy as np

from cosim.bench.initiator import Initiator
from cosim.benchmarks.measurement import DEVICE, IOVA, KIB_4, OTHER_DEVICE, Measurement, paired
from models.spec.translation import DmaUser

__all__ = ["Fairness", "miss_bound"]

#: Requests of the victim.
_PROBES = 24


def miss_bound(*, alone: int, misses: int, walkers: int, walk: int, answers: int) -> int:
    """Most cycles that a miss takes behind a device that misses on every access.

    Misses begin their walks in the order in which they came, on ``walkers`` walk contexts.  The
    table holds ``misses`` entries and what the pipeline adds, so at most so many walks of others
    come before: rounds of ``walkers`` walks, each at most ``walk`` cycles when all of them are
    under way at once, and an answer of each, ``answers`` cycles, on one port.
    """
    before = misses
    rounds = -(-before // walkers)
    return alone + rounds * walk + before * answers


class Fairness:
    """Measures a victim beside an aggressor."""

    def __init__(self, run: Measurement, initiator: Initiator) -> None:
        self.run, self.initiator = run, initiator

    async def measure(self) -> dict:
        """Latencies of hits and misses, alone and beside the aggressor, and the bound.

        ``beside``: the aggressor keeps one entry less under way than the miss table has.
        ``flooded``: it asks whenever it may, so that the table is full and the port waits.
        """
        run, config = self.run, self.run.config
        await run.walk(DEVICE, IOVA)
        found = {
            "hit_latency_alone": await self._hits_beside(0),
            "hit_latency_beside_worst": await self._hits_beside(config.misses - 1),
            "hit_latency_flooded_worst": await self._hits_flooded(),
            "bridge_hit_latency_alone": await self._bridge_hits(flood=False),
            "bridge_hit_latency_flooded_worst": await self._bridge_hits(flood=True),
        }
        await run.tables.forget()
        _, alone = await run.walk(OTHER_DEVICE, IOVA)
        flooded = await self._flooded_misses()
        return found | {
            "miss_latency_alone": alone,
            "miss_latency_flooded_worst": max(flooded),
            "miss_latency_flooded_mean": float(np.mean(flooded)),
            "miss_latency_bound": await self._bound(alone),
        }

    async def _bound(self, alone: int) -> int:
        """The bound, with a cold walk's cycles as every walk's."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        await run.tables.forget()
        reads, cold = await run.walk(DEVICE, IOVA)
        config = run.config
        # One step a cycle: with all contexts at work a walk's steps wait for the others'.
        walk = cold + reads * config.walkers
        return miss_bound(
            alone=alone,
            misses=config.misses + 4,
            walkers=config.walkers,
            walk=walk,
            answers=4,
        )

    def _flood(self) -> list[int]:
        """Pages of the aggressor, each but once, none in the set of the victim's page."""
        sets = self.run.config.iotlb_sets
        return [
            IOVA + page * KIB_4
            for page in range(self.run.asked["pages"])
            if page % sets and page > sets
        ]

    async def _mixed(self, probes: list[int], every: int) -> np.ndarray:
        """Cycles of the probes' requests and answers; ``every`` requests of the flood between."""
        run = self.run
        run.clear()
        flood = iter(self._flood() if every else ())
        number = count = 0
        mine = []
        for probe in probes:
            for iova in [iova for _, iova in zip(range(every), flood, strict=False)]:
                run.ask(number % 60, iova)
                number, count = number + 1, count + 1
            mine.append(count)
            run.ask(60 + len(mine) % 4, probe, OTHER_DEVICE)
            count += 1
        given = await run.answered(count)
        asked = run.bench.take_fields(run.REQUEST)
        return paired(asked, given)[:, mine]

    async def _warm(self) -> None:
        await self.run.tables.forget()
        await self.run.walk(OTHER_DEVICE, IOVA)
        await self.run.walk(DEVICE, IOVA)

    async def _hits_beside(self, walks: int) -> int:
        """Slowest hit while that many walks of the aggressor are under way."""
        run = self.run
        await self._warm()
        pages, worst = iter(self._flood()), 0
        for _ in range(4):
            run.clear()
            for number in range(walks):
                run.ask(number, next(pages))
            for probe in range(200):
                run.ask(60 + probe % 4, IOVA, OTHER_DEVICE)
            given = await run.answered(walks + 200)
            cycles = paired(run.bench.take_fields(run.REQUEST), given)[:, walks:]
            worst = max(worst, int((cycles[1] - cycles[0]).max()))
        return worst

    async def _hits_flooded(self) -> int:
        """Slowest hit while the aggressor asks for a page of its own before each."""
        await self._warm()
        cycles = await self._mixed([IOVA] * _PROBES, 1)
        return int((cycles[1] - cycles[0]).max())

    async def _bridge_hits(self, *, flood: bool) -> int:
        """Slowest hit through the bridge while the aggressor keeps the translation port full."""
        run = self.run
        user = DmaUser.const({"device_id": OTHER_DEVICE}).as_bits()
        await run.tables.forget()
        await run.walk(DEVICE, IOVA)
        await self.initiator.read(IOVA, 8, user=user)
        run.clear()
        pages = self._flood()[: 20 * _PROBES] if flood else []
        for number, iova in enumerate(pages):
            run.ask(number % 64, iova)
        await run.machine.sleep(100)
        for _ in range(_PROBES):
            await self.initiator.read(IOVA, 8, user=user)
        latencies = run.cycles(run.BRIDGE_OUT) - run.cycles(run.BRIDGE_IN)
        if flood:
            await run.answered(len(pages))
        return int(latencies.max())

    async def _flooded_misses(self) -> list[int]:
        """Latency of each of the victim's misses, 20 of the aggressor's before each."""
        await self.run.tables.forget()
        cycles = await self._mixed([IOVA + number * KIB_4 for number in range(_PROBES)], 20)
        return (cycles[1] - cycles[0]).tolist()
