"""Figures of invalidations: cycles per command while hits go on."""

import numpy as np

from cosim.benchmarks.measurement import DEVICE, IOVA, ONE_STAGE_DEVICE, Measurement
from cosim.benchmarks.tables import fence, iotinval
from models.spec.iommu import CommandFunc

__all__ = ["InvalidationFigures"]

#: Operands of each form of IOTINVAL; GSCID and PSCID 1 are of ``DEVICE``.
_SPACE, _PROCESS = {"gv": 1, "gscid": DEVICE}, {"pscv": 1, "pscid": DEVICE}
FORMS: dict[str, dict[str, int]] = {
    "vma_gv_av_pscv": {**_SPACE, **_PROCESS, "av": 1},
    "vma_gv_av": {**_SPACE, "av": 1},
    "vma_gv_pscv": {**_SPACE, **_PROCESS},
    "vma_gv": _SPACE,
    "vma_av_pscv": {**_PROCESS, "av": 1},
    "vma": {},
    "gvma_gv_av": {**_SPACE, "av": 1},
    "gvma_gv": _SPACE,
    "gvma": {},
}
#: With capabilities.S and capabilities.NL.
RANGE_FORMS = {
    "vma_gv_av_pscv_s": {**FORMS["vma_gv_av_pscv"], "s": 1},
    "gvma_gv_av_s": {**FORMS["gvma_gv_av"], "s": 1},
}
NON_LEAF_FORMS = {"vma_gv_av_pscv_nl": {**FORMS["vma_gv_av_pscv"], "nl": 1}}


class InvalidationFigures:
    """Measures queues of one form of IOTINVAL, ended by a fence that writes memory.

    Two lengths of queue, so that what the fence and the first fetch take is none of it.
    """

    def __init__(self, run: Measurement) -> None:
        self.run = run

    async def measure(self, *, quick: bool) -> dict:
        """Cycles per command by form; slowest hits meanwhile."""
        config = self.run.config
        forms = FORMS | (RANGE_FORMS if config.s else {}) | (NON_LEAF_FORMS if config.nl else {})
        run_longest = min(256, self.run.tables.queue_entries - 1) & ~1
        found, worst = {}, 0
        for name, operands in forms.items():
            func = CommandFunc.GVMA if name.startswith("gvma") else CommandFunc.VMA
            longest = 64 if quick or name != "vma_gv_av_pscv" else run_longest
            times = []
            for count in (longest // 2, longest):
                cycles, latency = await self._queue(count, func, operands)
                times.append(cycles)
                worst = max(worst, latency)
            found[name] = (times[1] - times[0]) / (longest // 2)
        return {
            "iotinval_cycles": found.pop("vma_gv_av_pscv"),
            "iotinval_other_cycles": found,
            "iotinval_hit_latency": worst,
        }

    async def _queue(self, count: int, func: CommandFunc, operands: dict) -> tuple[int, int]:
        """Cycles of a queue of that many entries, and of the slowest hit of another space."""
        run = self.run
        kept = ONE_STAGE_DEVICE if func is CommandFunc.GVMA or "gv" in operands else DEVICE
        if not operands and func is CommandFunc.VMA:
            kept = DEVICE
        # A page that is not the hits', in another set than theirs or not.
        pages = [(IOVA >> 12) + 64 + number % 32 for number in range(count - 1)]
        if operands.get("s"):
            pages = [page & ~3 | 1 for page in pages]  # ranges of four pages
        commands = [iotinval(func, **operands, addr=p if "av" in operands else 0) for p in pages]
        await run.walk(kept, IOVA)
        run.clear()
        per_command = 40 if {"av", "pscv"} <= set(operands) else run.config.iotlb_sets + 40
        hits = per_command * count
        for number in range(hits):
            run.ask(number % 64, IOVA, kept)
        await run.tables.command(*commands, fence(run.tables.mark))
        fetched, written = run.cycles(run.TABLE_READ), run.cycles(run.TABLE_WRITE)
        given = await run.answered(hits)
        asked = run.cycles(run.REQUEST)
        latency = int(np.max(given["cycle"] - asked))
        assert len(written) == 1, "the fence writes once"
        return int(written[0] - fetched[0]), latency
