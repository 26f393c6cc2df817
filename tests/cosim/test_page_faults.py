"""A queue of page requests that overflows: devices ask again, and nothing is lost."""

import pytest

from cosim.bench.run import run as simulate
from cosim.golden_machine import GoldenMachine
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.spec.config import config
from tests.cosim.page_faults import BASE, BYTES, overflow

TINY = config("tiny")


def check(found, frames):
    """Requests that found no room were answered by the IOMMU, and came again."""
    counts = found["counts"]
    assert found["exact"]
    assert found["overflows"] > 0
    assert counts["TX_PACKETS"] == 3 * frames
    assert counts["PAGE_REQUESTS"] > counts["served"] >= 3 * frames
    assert counts["PAGE_REQUESTS"] + counts["PAGE_WAITS"] == counts["PAGE_RETRIES"]
    assert counts["DMA_FAULTS"] == 0


def test_golden_machine():
    machine = GoldenMachine(TINY, memory_base=BASE, memory_bytes=BYTES)
    check(machine.run(overflow(machine, TINY, frames=6, entries_log2=1), limit=50_000_000), 6)


@pytest.mark.full
def test_rtl():
    options = {"frames": 6, "entries_log2": 1}
    built = build_system(Settings(config="tiny"))
    check(simulate(built, "tests.cosim.tb_page_faults", options=options), 6)
