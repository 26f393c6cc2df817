"""``iovirt bench overcommit``: nothing is lost with a half and a quarter of memory."""

from dataclasses import asdict, replace

import pytest

from cosim.bench.run import SimulationError
from cosim.bench.run import run as simulate
from cosim.benchmarks.overcommit import bench_overcommit, checked_sizes, loads
from cosim.benchmarks.overcommit_load import HOST_BASE, HOST_BYTES, run_load
from cosim.golden_machine import GoldenMachine
from cosim.scenarios.on_rtl import build_system
from cosim.scenarios.settings import Settings
from models.pagetable import KIB_4
from models.spec.config import config

KEYS = {
    "mechanisms", "resident_bytes", "guest_bytes", "faults", "evictions", "swapped_out",
    "compressed_bytes", "shared_pages", "throughput", "cycles", "lost", "mismatches",
}  # fmt: skip


def check(points):
    """What holds of every machine."""
    for point in points:
        assert point.keys() >= KEYS
        assert (point["lost"], point["mismatches"], point["dropped"]) == (0, 0, 0)
        assert point["fault_records"] == 0
        assert not point["problems"]
        assert point["resident_bytes"] <= point["memory_bytes"]
        on = point["mechanisms"]
        assert (point["evictions"] + point["boot_evictions"] > 0) == on["swap"]
        assert (point["compressed_bytes"] > 0) == on["compression"]
        # With few frames, equal pages may never be resident together.
        assert (point["shared_pages"] > 0) <= on["sharing"]
        if point["memory_bytes"] * 2 >= point["guest_bytes"]:
            assert (point["shared_pages"] > 0) == on["sharing"]
        assert (point["ballooned"] > 0) == on["balloon"]
    assert points[0]["faults"] == 0
    assert points[0]["throughput"] == max(point["throughput"] for point in points)


def on_golden_machine(load, name="tiny"):
    machine = GoldenMachine(config(name), memory_base=HOST_BASE, memory_bytes=HOST_BYTES)
    return machine.run(run_load(machine, config(name), load), limit=100_000_000)


def test_every_point_on_the_golden_machine():
    """The last one, with a quarter of memory, also with A and D bits kept by hardware."""
    every = list(loads(guests=2, pages=48, frames=12, seed=1))
    points = [on_golden_machine(load) for load in every]
    check([*points, on_golden_machine(every[-1], "default")])
    assert points[0]["guest_bytes"] == points[0]["memory_bytes"] == 2 * 48 * KIB_4
    assert [p["guest_bytes"] // p["memory_bytes"] for p in points] == [1, 2, 2, 2, 2, 2, 4, 4]
    assert on_golden_machine(every[-1]) == points[-1], "the same seed, the same figures"


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="guests must be in 2 to 3 with tiny, not 4"):
        checked_sizes(config("tiny"), guests=4, pages=64, frames=8)


@pytest.mark.full
def test_points_on_the_rtl():
    """Few pages and frames: everything resident, everything on, a quarter of memory."""
    found = bench_overcommit(name="tiny", guests=2, pages=48, frames=8, quick=True)
    assert len(found["points"]) == 3
    check(found["points"])
    assert found["points"][2]["faults"] > 0


def forgetful():
    load = list(loads(guests=2, pages=48, frames=24, seed=1))[1]
    return replace(load, plant="no-invalidation", patience=200_000)


def test_a_pager_that_forgets_no_translation_is_found_out():
    """The golden NIC keeps translations until they are invalidated."""
    point = on_golden_machine(forgetful())
    assert point["lost"] or point["mismatches"]


@pytest.mark.full
def test_a_pager_that_forgets_no_translation_is_found_out_on_the_rtl():
    """Frames or pages are wrong or missing, or a driver finds nonsense."""
    load = forgetful()
    built = build_system(Settings(config="tiny"))
    found = ""
    try:
        point = simulate(built, "cosim.benchmarks.overcommit_bench", options=asdict(load))
    except SimulationError as error:
        found = str(error)
    assert "BrokenDevice" in found if found else point["lost"] or point["mismatches"]


@pytest.mark.full
def test_every_point_on_the_rtl():
    found = bench_overcommit(name="tiny", pages=64, frames=40)
    assert len(found["points"]) == 8
    check(found["points"])
