"""The RTL and the golden IOMMU agree at random; a seed that fails is to be replayed."""

import pytest

from cosim.cli import main

SEED = 1


def fuzz(config: str, translations: int) -> int:
    print(f"iovirt fuzz iommu --config {config} --seed {SEED} --translations {translations}")
    return main(["fuzz", "iommu", "--config", config, "--seed", str(SEED), "--shrink", "60",
                 "--translations", str(translations)])  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Leave the coverage and the failures of other runs alone."""
    monkeypatch.chdir(tmp_path)


def test_smallest_system_agrees():
    assert fuzz("tiny", 3000) == 0


@pytest.mark.full
def test_caches_of_every_kind_forget_what_they_are_told_to():
    assert fuzz("default", 20_000) == 0
