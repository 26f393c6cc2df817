"""Bugs planted in a copy of the RTL, each of which a bench must catch.

A bench that passes with its bug in place is no bench.  Three of them stood in a published IOMMU:
the address of a superpage under a smaller page, a walk that fills after the invalidation that
covers it, and a fence that is passed before its data are in memory.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted import iommu_plants, nic_plants
from tests.planted.plant import Plant

ROOT = Path(__file__).parent.parent.parent
PLANTS = iommu_plants.PLANTS + nic_plants.PLANTS


def _parameter(plant: Plant):
    marks = [] if plant.often else [pytest.mark.full]
    return pytest.param(plant, id=plant.name.replace(" ", "-"), marks=marks)


def test_every_bug_has_its_place():
    for plant in PLANTS:
        text = (ROOT / plant.file).read_text(encoding="utf-8")
        assert text.count(plant.old) == 1, f"{plant.file} has changed; plant the bug anew: {plant}"


@pytest.mark.parametrize("plant", [_parameter(plant) for plant in PLANTS])
def test_planted_bug_is_caught(plant, tmp_path):
    for room in ("rtl", "models", "cosim", "tests"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / plant.file
    text = target.read_text(encoding="utf-8")
    assert text.count(plant.old) == 1, f"{plant.file} has changed; plant the bug anew"
    target.write_text(text.replace(plant.old, plant.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", plant.tests]
    command += ["-k", plant.select] if plant.select else []
    command += ["-m", "not full"] if plant.often else []
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=1200 if plant.slow else 600,
        check=False,
    )
    assert done.returncode == 1, f"not caught:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "AssertionError" in done.stdout or "assert" in done.stdout, done.stdout[-2000:]
    assert "ImportError" not in done.stdout
