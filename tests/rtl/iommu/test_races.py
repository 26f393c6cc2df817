"""Invalidations against walks, fills and hits, at every phase, on the whole IOMMU.

``test_invalidated_walks.py`` does the same for the translator alone; here commands come through the
command queue and the fence's data say when it is over.
"""

from dataclasses import asdict, replace

import pytest

from cosim.bench.build import Design, build
from cosim.bench.run import run as simulate
from models.spec.config import config

BENCH = "cosim.fuzz.races_bench"
#: In the fast suite: one design, memory that answers in order and not.
FAST = ((8, 0, 3), (5, 7, 3))


@pytest.mark.parametrize(
    ("latency", "jitter", "misses"),
    [
        pytest.param(*timing, misses, marks=() if (*timing, misses) in FAST else pytest.mark.full)
        for timing in ((3, 0), (8, 0), (5, 7))
        for misses in (1, 3)
    ],
)
def test_no_phase_of_a_request_survives_a_fence(latency, jitter, misses):
    rtl = replace(config("tiny").iommu, misses=misses)
    phases = latency * 16 + 60
    options = {"config": asdict(rtl), "latency": latency, "jitter": jitter, "phases": phases}
    built = build(Design("rtl.iommu.iommu:Iommu", (rtl, 1)), quick=True)
    assert simulate(built, BENCH, options=options)["tried"] == 4 * phases
