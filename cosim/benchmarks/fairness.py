"""A device that always misses beside one that hits, or misses in its turn."""

import numpy as np

from cosim.bench.initiator import Initiator, Transfer
from cosim.benchmarks.measurement import DEVICE, IOVA, KIB_4, OTHER_DEVICE, Measurement, paired
from models.spec.iotlb import iotlb_set
from models.spec.translation import DmaUser
from rtl.iommu.backlog import device_entries

__all__ = ["Fairness", "miss_bound"]

#: Requests of the victim.
_PROBES = 24
#: Cycles for each answer on the one port, with the gap that it asks for.
_ANSWER = 4
#: Cycles that an offered request waits at most: one of another client, one that comes again from
#: the backlog, and a gap for an answer.
PORT_WAIT = 3
#: From a translation to the end of a read of one beat: issue, memory, answer.
_BURST = 16


def miss_bound(*, alone: int, reads: int, ahead: int, walkers: int, walk: int) -> int:
    """Most cycles that a miss takes beside a device that misses on every access.

    Walks begin in the order of their misses, on ``walkers`` walk contexts.  At most ``ahead`` of
    the other's are in the miss table, the others' wait outside, so a context is free after so many
    of them have ended; each takes at most ``walk`` cycles.  Then a read of the own walk waits at
    most for a step of every other context, and its answer for those before.
    """
    waits = max(0, ahead + 1 - walkers)
    return alone + -(-waits // walkers) * walk + reads * walkers + (ahead + 1) * _ANSWER


class Fairness:
    """Measures a victim beside an aggressor."""

    def __init__(self, run: Measurement, initiator: Initiator, slots: int) -> None:
        self.run, self.initiator, self.slots = run, initiator, slots

    async def measure(self) -> dict:
        """Latencies of hits and misses, alone and beside the aggressor, and their bounds.

        ``beside``: the aggressor keeps one entry less under way than the miss table has.
        ``flooded``: it asks whenever it may.  ``shared``: both go through the bridge, the aggressor
        with all slots but one.
        """
        run, config = self.run, self.run.config
        await run.walk(DEVICE, IOVA)
        bridge_alone = await self._bridge_hits(flood=False)
        found = {
            "hit_latency_alone": await self._hits_beside(0),
            "hit_latency_beside_worst": await self._hits_beside(config.misses - 1),
            "hit_latency_flooded_worst": await self._hits_flooded(),
            "bridge_hit_latency_alone": bridge_alone,
            "bridge_hit_latency_flooded_worst": await self._bridge_hits(flood=True),
            "bridge_hit_latency_shared_worst": await self._bridge_hits_shared(),
            "bridge_hit_latency_bound": bridge_alone + PORT_WAIT,
        }
        walk = await self._walk()
        found |= {
            "bridge_address_wait_worst": await self._bridge_address_wait(),
            "bridge_address_wait_bound": walk + _BURST,
        }
        await run.tables.forget()
        reads, alone = await run.walk(OTHER_DEVICE, IOVA)
        flooded = await self._flooded_misses()
        return found | {
            "miss_latency_alone": alone,
            "miss_latency_flooded_worst": max(flooded),
            "miss_latency_flooded_mean": float(np.mean(flooded)),
            "miss_latency_bound": miss_bound(
                alone=alone,
                reads=reads,
                ahead=device_entries(config),
                walkers=config.walkers,
                walk=walk,
            ),
        }

    async def _walk(self) -> int:
        """Most cycles of a walk: a cold one, each of whose steps waits for all other contexts."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        await run.tables.forget()
        reads, cold = await run.walk(DEVICE, IOVA)
        return cold + reads * run.config.walkers

    def _flood(self) -> list[int]:
        """Pages of the aggressor, each but once, none in the set of the victim's page."""
        sets = self.run.config.iotlb_sets
        victim = iotlb_set(IOVA // KIB_4, OTHER_DEVICE, sets)
        pages = range(IOVA // KIB_4 + sets + 1, IOVA // KIB_4 + self.run.asked["pages"])
        return [page * KIB_4 for page in pages if iotlb_set(page, DEVICE, sets) != victim]

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
        """Slowest hit while the aggressor asks for 20 pages of its own before each."""
        await self._warm()
        cycles = await self._mixed([IOVA] * _PROBES, 20)
        return int((cycles[1] - cycles[0]).max())

    async def _bridge_hits(self, *, flood: bool) -> int:
        """Slowest hit through the bridge while the aggressor keeps its own port full."""
        run = self.run
        await self._warm()
        run.clear()
        pages = self._flood()[: 20 * _PROBES] if flood else []
        for number, iova in enumerate(pages):
            run.ask(number % 64, iova)
        await run.machine.sleep(100)
        for _ in range(_PROBES):
            await self._read(IOVA, OTHER_DEVICE, 0).wait()
        latencies = run.cycles(run.BRIDGE_OUT) - run.cycles(run.BRIDGE_IN)
        if flood:
            await run.answered(len(pages))
        return int(latencies.max())

    async def _bridge_hits_shared(self) -> int:
        """Slowest hit while the aggressor has all slots of the bridge but one."""
        run, pages, worst = self.run, iter(self._flood()), 0
        await self._warm()
        own = self.slots - 1
        for _ in range(6):
            run.clear()
            others = [self._read(next(pages), DEVICE, number) for number in range(own)]
            for _ in range(3):
                await self._read(IOVA, OTHER_DEVICE, own).wait()
            latencies = self._latencies(own)
            worst = max(worst, int(latencies.max()))
            for other in others:
                await other.wait()
        return worst

    async def _bridge_address_wait(self) -> int:
        """Longest wait of the first address in line while all slots are the aggressor's."""
        run = self.run
        await self._warm()
        run.clear()
        reads = [
            self._read(iova, DEVICE, n % self.slots) for n, iova in enumerate(self._flood()[:200])
        ]
        for read in reads:
            await read.wait()
        return int(np.diff(run.cycles(run.BRIDGE_IN)).max())

    def _read(self, iova: int, device: int, id: int) -> Transfer:
        user = DmaUser.const({"device_id": device}).as_bits()
        return self.initiator.start_read(iova, 8, id=id, user=user)

    def _latencies(self, id: int) -> np.ndarray:
        """Cycles from address in to address out of the reads of an ID."""
        run = self.run
        came, went = (run.bench.take_fields(name) for name in (run.BRIDGE_IN, run.BRIDGE_OUT))
        return went["cycle"][went["id"] == id] - came["cycle"][came["id"] == id]

    async def _flooded_misses(self) -> list[int]:
        """Latency of each of the victim's misses, one at a time, 40 of the aggressor's before."""
        run = self.run
        await run.tables.forget()
        pages, found = iter(self._flood()), []
        for number in range(_PROBES // 2):
            run.clear()
            for other in range(40):
                run.ask(other, next(pages))
            run.ask(40, IOVA + number * KIB_4, OTHER_DEVICE)
            given = await run.answered(41)
            cycles = paired(run.bench.take_fields(run.REQUEST), given)
            found.append(int(cycles[1, 40] - cycles[0, 40]))
        return found
