"""Eviction against DMA write: unmap, IOTINVAL, ATS.INVAL, and the page is used by someone else."""

import pytest

from cosim.bench.run import SimulationError
from cosim.bench.run import run as simulate
from cosim.golden_machine import GoldenMachine
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.spec.config import config
from tests.cosim.evictions import BASE, BYTES, Evictions

TINY = config("tiny")
PAGES = ["buffer", "ring"]


def check(found, delays, sizes):
    """What holds of every machine; both orders have been met."""
    assert found["tried"] == len(delays) * len(PAGES) * len(sizes)
    counts = found["counts"]
    assert counts["received"] == counts["RX_PACKETS"] == 2 * found["tried"]
    assert counts["PAGE_REQUESTS"] == counts["served"]
    assert counts["PAGE_REQUESTS"] + counts["PAGE_WAITS"] == counts["PAGE_RETRIES"]
    assert (counts["DMA_FAULTS"], counts["faults"]) == (0, 0)
    if len(delays) > 8:
        assert set(found["found"]) == {f"{p} {o}" for p in PAGES for o in ("asked", "written")}


@pytest.mark.parametrize("plant", ["", "device"])
def test_golden_machine(plant):
    machine = GoldenMachine(TINY, memory_base=BASE, memory_bytes=BYTES)
    delays, sizes = list(range(-120, 40, 10)), [60, 1514]
    scenario = Evictions(machine, TINY, plant)
    if plant:
        with pytest.raises(AssertionError, match=r"written after|does not come"):
            machine.run(scenario.run(delays, PAGES, sizes), limit=50_000_000)
        return
    check(machine.run(scenario.run(delays, PAGES, sizes), limit=50_000_000), delays, sizes)


def on_rtl(delays, sizes, *, latency=20, plant=""):
    options = {"latency": latency, "plant": plant, "delays": delays, "sizes": sizes, "pages": PAGES}
    return simulate(
        build_system(Settings(config="tiny")), "tests.cosim.tb_evictions", options=options
    )


def test_rtl():
    delays, sizes = list(range(0, 420, 45)), [1514]
    check(on_rtl(delays, sizes), delays, sizes)


@pytest.mark.full
@pytest.mark.parametrize("latency", [5, 20])
def test_rtl_at_every_cycle(latency):
    delays, sizes = list(range(-100, 420)), [60, 1514]
    check(on_rtl(delays, sizes, latency=latency), delays, sizes)


@pytest.mark.full
@pytest.mark.parametrize("plant", ["device", "iommu"])
def test_what_is_not_forgotten_is_found(plant):
    with pytest.raises(SimulationError, match="written after it was taken away"):
        on_rtl(list(range(0, 400, 50)), [1514], plant=plant)
