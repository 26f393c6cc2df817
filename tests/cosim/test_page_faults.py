"""A queue of page requests that overflows: devices ask again, and nothing is lost."""

from cosim.golden_machine import GoldenMachine
from models.spec.config import config
from tests.cosim.page_faults import BASE, BYTES, overflow

TINY = config("tiny")


def check(found, frames):
    """Requests that found no room were answered by the IOMMU, and came again."""
    counts = found["counts"]
    assert found["exact"]
    assert found["overflows"] > 0
    assert counts["TX_PACKETS"] == 3 * frames
    assert counts["PAGE_REQUESTS"] == counts["PAGE_RETRIES"] > counts["served"] >= 3 * frames
    assert counts["DMA_FAULTS"] == 0


def test_golden_machine():
    machine = GoldenMachine(TINY, memory_base=BASE, memory_bytes=BYTES)
    check(machine.run(overflow(machine, TINY, frames=6, entries_log2=1), limit=50_000_000), 6)
