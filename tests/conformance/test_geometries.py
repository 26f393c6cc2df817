"""The vectors on the RTL with the smallest and with odd caches and tables.

Memory answers in random order there (jitter of :mod:`cosim.conformance.rtl_runs`).
"""

from pathlib import Path

import pytest

from cosim.conformance.rtl_runs import run
from cosim.conformance.rtl_target import config_for
from cosim.conformance.vectors import find
from models.iommu import Parameters

FILES = find([Path(__file__).parent])
SMALLEST = {
    "context_entries": 1,
    "process_entries": 1,
    "iotlb_ways": 1,
    "iotlb_sets": 2,
    "iotlb_superpages": 1,
    "misses": 1,
    "walkers": 1,
    "walk_cache": 0,
}
ODD = {
    "context_entries": 5,
    "process_entries": 3,
    "iotlb_ways": 3,
    "iotlb_sets": 8,
    "iotlb_superpages": 3,
    "misses": 3,
    "walkers": 3,
    "walk_cache": 8,
}
GEOMETRIES = {
    "smallest": SMALLEST,
    "smallest-with-walk-cache": SMALLEST | {"walk_cache": 2},
    "odd": ODD,
    "fewer-walkers-than-misses": ODD | {"misses": 5, "walkers": 2, "iotlb_ways": 5},
    "one-way-many-misses": SMALLEST | {"misses": 16, "walkers": 16, "walk_cache": 64},
}


def replay(geometry: str, profile: str) -> None:
    files = [file for file in FILES if file.header.profile == profile]
    parameters = files[0].header.parameters
    # Sizes are no capabilities: nothing may be skipped.
    assert Parameters.from_config(config_for(parameters, GEOMETRIES[geometry])) == parameters
    results = run(files, lambda result: None, jobs=1, geometry=GEOMETRIES[geometry])
    assert [text for result in results for text in result.failures] == []
    assert not any(result.skipped for result in results)
    assert sum(result.passed for result in results) == sum(len(file) for file in files)


@pytest.mark.full
@pytest.mark.parametrize("profile", ["base", "full"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_all_vectors_pass(geometry, profile):
    replay(geometry, profile)
