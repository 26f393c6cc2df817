"""Figures of the translation port: hits, walks, misses."""

import numpy as np

from cosim.benchmarks.measurement import DEVICE, IOVA, KIB_4, ONE_STAGE_DEVICE, Measurement

__all__ = ["TranslationFigures"]


class TranslationFigures:
    """Measures at the translation port."""

    def __init__(self, run: Measurement) -> None:
        self.run = run

    async def hits(self) -> dict:
        """Throughput and latency of hits, alone and behind a miss."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        begun, given = await run.ask_all([IOVA + 8 * (n % 512) for n in range(2000)])
        latencies = set((given - begun).tolist())
        assert len(latencies) == 1, f"hits take {sorted(latencies)} cycles"
        throughput = (len(given) - 1) / int(given[-1] - given[0])
        await run.tables.forget()
        await run.walk(DEVICE, IOVA)
        cycles = await run.ask_all([IOVA + 5 * KIB_4] + [IOVA] * 8)
        under = cycles[1] - cycles[0]
        assert under[0] > under[1:].max(), "the walk was no walk"
        return {
            "hit_throughput": throughput,
            "hit_latency": latencies.pop(),
            "hit_under_miss_latency": int(under[1:].max()),
        }

    async def walks(self) -> dict:
        """Cold and warm walks of one and two stages; the context is warm."""
        run, found = self.run, {}
        for name, device in (("two_stage", DEVICE), ("one_stage", ONE_STAGE_DEVICE)):
            await run.walk(device, IOVA)
            await run.tables.forget()
            cold = await run.walk(device, IOVA)
            warm = await run.walk(device, IOVA + KIB_4)
            for kind, (reads, cycles) in (("cold", cold), ("warm", warm)):
                found[f"{name}_{kind}_reads"] = reads
                found[f"{name}_{kind}_cycles"] = cycles
        return found

    async def outstanding(self) -> int:
        """Walks under way at once while memory is silent."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        await run.tables.forget()
        run.latency("tables", 3000)
        run.clear()
        # As many pages as are mapped; requests for one page would share a walk.
        count = min(run.asked["pages"], 200)
        for tag in range(count):
            run.ask(tag % 64, IOVA + tag * KIB_4)
        await run.machine.sleep(2000)
        reads = len(run.cycles(run.TABLE_READ))
        run.latency("tables", run.asked["latency"])
        await run.answered(count)
        return reads

    async def all_miss(self, pages: int) -> float:
        """Translations per 1000 cycles when every request walks; walk caches go on."""
        run = self.run
        await run.walk(DEVICE, IOVA)
        await run.tables.forget()
        run.clear()
        for number in range(pages):
            run.ask(number % 64, IOVA + number * KIB_4)
        given = np.sort((await run.answered(pages))["cycle"])
        quarter = pages // 4
        return 1000 * (pages - quarter - 1) / int(given[-1] - given[quarter])
