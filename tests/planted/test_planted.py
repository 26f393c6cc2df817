"""Bugs planted in a copy of the RTL, each of which a bench must catch.

A bench that passes with its bug in place is no bench.  Three of them stood in a published IOMMU:
the address of a superpage under a smaller page, a walk that fills after the invalidation that
covers it, and a fence that is passed before its data are in memory.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Plant:
    """One bug: what to replace, and the tests that must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    select: str = ""


PLANTS = [
    Plant(
        "a walk fills after an invalidation that is younger",
        "rtl/iommu/resolver.py",
        "& ~found.mrif & ~stale",
        "& ~found.mrif",
        "tests/rtl/iommu/test_translator.py",
        "walk_survives_an_invalidation",
    ),
    Plant(
        "the second stage's page size is taken for the translation's",
        "rtl/iommu/walk_step.py",
        "out.size.eq(Mux(smaller, entry.size, state.size))",
        "out.size.eq(entry.size)",
        "tests/rtl/iommu/test_translator.py",
        "mixed_page_sizes",
    ),
    Plant(
        "a replayed request stays joined to its leader's entry",
        "rtl/iommu/translator.py",
        "misses.detach.eq(resolver.replay)",
        "misses.detach.eq(0)",
        "tests/rtl/iommu/test_translator.py",
        "replays",
    ),
    Plant(
        "a request joins a walk in the cycle in which it is taken",
        "rtl/iommu/misses.py",
        "open_[i] & ~closes & ~self.stale[i]",
        "open_[i] & ~self.stale[i]",
        "tests/rtl/iommu/test_translator.py",
        "join_at_every_phase",
    ),
    Plant(
        "a request joins the walk of another kind of access",
        "rtl/iommu/misses.py",
        "(new.for_context | (hows[i] == how))",
        "(new.for_context | (hows[i][9:] == how[9:]))",
        "tests/rtl/iommu/test_translator.py",
        "being_walked_join",
    ),
    Plant(
        "what is being swept out of the IOTLB is still answered",
        "rtl/iommu/iotlb.py",
        "            self.sweeping\n            & covers_space",
        "            Const(0, 1)\n            & covers_space",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "pieces of a larger first-stage page outlive an invalidation of that page",
        "rtl/iommu/iotlb_entry.py",
        "op.gvma | piece | (different == 0)",
        "op.gvma | (different == 0)",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "only one set is searched for pieces of a larger first-stage page",
        "rtl/iommu/iotlb.py",
        "(op.s if self.config.s else 0) & ~self.pieces",
        "(op.s if self.config.s else 0)",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "the walker never says that it found a piece of a larger page",
        "rtl/iommu/resolver.py",
        '"dirty", "pbmt", "piece")',
        '"dirty", "pbmt")',
        "tests/rtl/iommu/test_translator.py",
        "all_pieces",
    ),
    Plant(
        "overlapping entries of the IOTLB are mixed",
        "rtl/iommu/iotlb.py",
        "first.eq(hits & (~hits + 1))",
        "first.eq(hits)",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "the head passes a fence before its data are in memory",
        "rtl/iommu/command_queue.py",
        "with m.If(self.write.b.valid):\n                    m.next",
        "with m.If(self.write.w.valid):\n                    m.next",
        "tests/rtl/iommu/test_command_queue.py",
        "fence_data",
    ),
    Plant(
        "a store between reading and writing an interrupt file is lost",
        "rtl/iommu/mrif.py",
        "with m.Elif(resp == wanted):",
        "with m.Elif((resp == wanted) | (resp == Resp.OKAY)):",
        "tests/rtl/iommu/test_mrif.py",
        "somebody_else",
    ),
    Plant(
        "an MSI to an interrupt file passes earlier writes of its ID",
        "rtl/iommu/admission.py",
        "refused & self.ready & table.first",
        "refused & self.ready & table.live",
        "tests/rtl/iommu/test_bridge_mrif.py",
        "waits_for_earlier",
    ),
    Plant(
        "fctl changes under a queue that is on",
        "rtl/iommu/register_file.py",
        "Cat((port.enable, port.on) for port in ports).any()",
        "Cat((port.enable, port.on) for port in ports[1:]).any()",
        "tests/rtl/iommu/test_register_file.py",
        "in_use",
    ),
    Plant(
        "a late answer to an earlier page request wakes the tag",
        "rtl/nic/dma.py",
        "same = self.answer_generation == position.generation",
        "same = self.answer_generation.any() | ~self.answer_generation.any()",
        "tests/rtl/nic/test_dma.py",
        "time_out",
    ),
    Plant(
        "an invalidation is answered before older uses have ended",
        "rtl/nic/invalidator.py",
        "older.eq(self.busy),",
        "older.eq(0),",
        "tests/rtl/nic/test_dma.py",
        "invalidation",
    ),
    Plant(
        "a retry begins one byte too far",
        "rtl/nic/dma_read.py",
        "write.data.base.eq(first.offset - first.address[:4])",
        "write.data.base.eq(first.offset - first.address[:3])",
        "tests/rtl/nic/test_dma.py",
        "right_bytes",
    ),
    Plant(
        "a chain may loop for ever",
        "rtl/nic/virtqueue_steps.py",
        "with m.Elif(s.count >= s.size):",
        "with m.Elif(s.count > 0xFFFF):",
        "tests/rtl/nic/test_virtqueue.py",
        "loop",
    ),
    Plant(
        "a stopped queue keeps its slot",
        "rtl/nic/virtqueue.py",
        'with m.If(now.has_frame):\n            self._emit(m, "release"',
        'with m.If(now.has_frame & now.drop):\n            self._emit(m, "release"',
        "tests/rtl/nic/test_virtqueue.py",
        "leaks_nothing",
    ),
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
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
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, f"not caught:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "AssertionError" in done.stdout or "assert" in done.stdout, done.stdout[-2000:]
    assert "ImportError" not in done.stdout
