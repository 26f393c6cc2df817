"""Function level resets and the end of VFs, at any moment of a DMA."""

import pytest

from cosim.bench.run import run as simulate
from cosim.golden_machine import GoldenMachine
from cosim.hypervisor.costs import Costs
from cosim.hypervisor.hypervisor import Hypervisor
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.spec.config import config
from tests.cosim.resets import Resets

TINY = config("tiny")
_BASE, _BYTES = 0x8000_0000, 1 << 26


@pytest.mark.parametrize("evict", [False, True])
def test_golden_machine(evict):
    machine = GoldenMachine(TINY, memory_base=_BASE, memory_bytes=_BYTES)
    costs = Costs(service_cycles=400)
    hypervisor = Hypervisor(machine, TINY, base=_BASE, size=_BYTES, costs=costs)
    scenario = Resets(machine, hypervisor, TINY.nic.frame_bytes)
    delays = list(range(0, 600, 40))
    found = machine.run(scenario.run(delays, evict=evict), limit=50_000_000)
    assert found["resets"] == len(delays)
    assert 0 < found["page_requests"] < len(delays)
    assert not found["faults"]


def on_rtl(delays, *, latency, evict=False, service_cycles=2000, silent=""):
    options = {
        "config": "tiny",
        "latency": latency,
        "jitter": latency // 2,
        "service_cycles": service_cycles,
        "delays": delays,
        "evict": evict,
        "silent": silent,
    }
    return simulate(build_system(Settings(config="tiny")), "tests.cosim.tb_resets", options=options)


def reset_on_rtl(delays, **settings):
    found = on_rtl(delays, **settings)
    assert found["resets"] == len(delays)
    assert found["page_requests"] > 0
    assert (found["invalidations"] > 0) == settings.get("evict", False)


@pytest.mark.parametrize("evict", [pytest.param(False, marks=pytest.mark.full), True])
def test_rtl(evict):
    reset_on_rtl([0, 500, *range(1400, 2200, 200)], evict=evict, latency=20, service_cycles=2000)


@pytest.mark.full
@pytest.mark.parametrize("evict", [False, True])
@pytest.mark.parametrize(("latency", "service_cycles"), [(5, 2000), (20, 2000), (60, 4000)])
def test_rtl_at_every_phase(latency, service_cycles, evict):
    delays = list(range(0, 40 * latency + service_cycles, 61))
    reset_on_rtl(delays, evict=evict, latency=latency, service_cycles=service_cycles)


@pytest.mark.parametrize("how", ["reset", "mask", "mask function", "vector"])
def test_no_message_follows(how):
    found = on_rtl(list(range(0, 300, 20)), latency=200, silent=how)
    assert found["interrupted"] > 3
