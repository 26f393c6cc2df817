"""The watcher's judgement of bursts, by hand."""

from types import SimpleNamespace

import numpy as np

from cosim.bench.dma_taps import DMA_READS, DMA_WRITES
from cosim.linux.guest_ram import FIRST_FILE, Stay
from cosim.linux.watcher import Watcher


class FakeBench:
    """Logs of two streams."""

    def __init__(self):
        self.logs = {DMA_READS: [], DMA_WRITES: []}

    def stream(self, name):
        assert name in self.logs
        return SimpleNamespace(log=lambda: None)

    def take_fields(self, name):
        taken, self.logs[name] = self.logs[name], []
        columns = np.array(taken, np.uint64).reshape(-1, 2)
        return {"addr": columns[:, 0], "cycle": columns[:, 1]}


PAGE, OTHER = FIRST_FILE, FIRST_FILE + 0x5000
RAM = SimpleNamespace(
    history={PAGE: [Stay(0, 100, 200), Stay(0, 300)], OTHER: [Stay(0x1000, 0, 50)]}
)


def judged(reads, writes=()):
    bench = FakeBench()
    watcher = Watcher(bench)
    bench.logs = {DMA_READS: list(reads), DMA_WRITES: list(writes)}
    watcher.look([RAM])
    return watcher.bursts, watcher.stale


def test_nothing_is_judged_when_nothing_happened():
    assert judged([]) == (0, 0)
    assert judged([(0x8000_0000, 5)]) == (0, 0), "the hypervisor's memory is not a guest's"


def test_bursts_are_good_while_their_page_is_there():
    assert judged([(PAGE + 8, 100), (PAGE, 200), (OTHER, 50)], [(PAGE + 4095, 1000)]) == (4, 0)


def test_bursts_before_between_and_after_are_stale():
    assert judged([(PAGE, 99), (OTHER + 1, 51), (PAGE, 150)], [(PAGE, 201), (PAGE, 299)]) == (5, 4)


def test_a_page_that_was_never_a_guests_is_stale():
    assert judged([(FIRST_FILE + 0x9000, 10)]) == (1, 1)
