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
    slow: bool = False  # builds a simulation
    often: bool = False  # one of the fast tests


_FUZZED = "tests/cosim/fuzz/test_rtl.py"
_FORGET = "caches_of_every_kind"

PLANTS = [
    Plant(
        "buffers that are used in the cycle in which the ISR status is read interrupt nobody",
        "rtl/nic/interrupt_pin.py",
        "with m.If(self.used & self.by_pin)",
        "with m.Elif(self.used & self.by_pin)",
        "tests/rtl/nic/test_interrupt_pin.py",
        "pin_follows",
        often=True,
    ),
    Plant(
        "an event adds to a counter that is being added to, as it was before",
        "rtl/nic/stats.py",
        "& ~(adding & (where == address))",
        "",
        "tests/rtl/nic/test_stats.py",
        "lost",
        often=True,
    ),
    Plant(
        "segments are counted for the first queue pair",
        "rtl/nic/offload/segmentation.py",
        "self.segment.payload.pair.eq(job.sent.pair)",
        "self.segment.payload.pair.eq(0)",
        "tests/rtl/nic/test_segmentation.py",
        "every_length",
    ),
    Plant(
        "what a backup ring loses is no queue's",
        "rtl/nic/backup/restore.py",
        "stat.payload.queued.eq(1)",
        "stat.payload.queued.eq(0)",
        "tests/rtl/nic/test_backup.py",
        "given_back",
    ),
    Plant(
        "a walk fills after an invalidation that is younger",
        "rtl/iommu/resolver.py",
        "& ~found.mrif & ~stale",
        "& ~found.mrif",
        "tests/rtl/iommu/test_translator.py",
        "walk_survives_an_invalidation",
        often=True,
    ),
    Plant(
        "a walk that ends in the cycle of an invalidation is dropped, and nobody answered",
        "rtl/iommu/resolver.py",
        "current_then.eq(take_walk | refused",
        "current_then.eq((take_walk & ~self.stale_all) | refused",
        "tests/rtl/iommu/test_translator.py",
        "walk_survives_an_invalidation",
        often=True,
    ),
    Plant(
        "the second stage's page size is taken for the translation's",
        "rtl/iommu/walk_decide.py",
        "out.size.eq(Mux(smaller, judged.size, state.size))",
        "out.size.eq(judged.size)",
        "tests/rtl/iommu/test_translator.py",
        "mixed_page_sizes",
        often=True,
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
        "joins[i] & ~self.closes[i]",
        "joins[i]",
        "tests/rtl/iommu/test_translator.py",
        "join_at_every_phase",
    ),
    Plant(
        "a request joins the walk of another kind of access",
        "rtl/iommu/misses.py",
        "same_walk = ~contexts[i] & equal[2]",
        "same_walk = ~contexts[i] & equal[1]",
        "tests/rtl/iommu/test_translator.py",
        "being_walked_join",
        often=True,
    ),
    Plant(
        "what is being swept out of the IOTLB is still answered",
        "rtl/iommu/iotlb.py",
        "self.sweeping & covers_space(op, key",
        "Const(0, 1) & covers_space(op, key",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "pieces of a larger first-stage page outlive an invalidation of that page",
        "rtl/iommu/iotlb_entry.py",
        "op.gvma | piece | same",
        "op.gvma | same",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "only one set is searched for pieces of a larger first-stage page",
        "rtl/iommu/iotlb.py",
        "~ranges & ~self.pieces",
        "~ranges",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "the walker never says that it found a piece of a larger page",
        "rtl/iommu/resolver.py",
        "fill.piece.eq(found.piece | is_cut(self.config, found.size)),",
        "fill.piece.eq(is_cut(self.config, found.size)),",
        "tests/rtl/iommu/test_translator.py",
        "all_pieces",
    ),
    Plant(
        "overlapping entries of the IOTLB are mixed",
        "rtl/iommu/iotlb.py",
        "first.eq(Cat(hit & ~hits[:i].any() for i, hit in enumerate(hits)))",
        "first.eq(hits)",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "a lookup of a set that was written as it was read misses what was written",
        "rtl/iommu/iotlb_ways.py",
        "late.eq(here | beside)",
        "late.eq(here)",
        "tests/rtl/iommu/test_iotlb.py",
    ),
    Plant(
        "the head passes a fence before its data are in memory",
        "rtl/iommu/command_queue.py",
        "with m.If(self.write.b.valid):\n                    m.next",
        "with m.If(self.write.w.valid):\n                    m.next",
        "tests/rtl/iommu/test_fences.py",
        "fence_data",
        often=True,
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
        often=True,
    ),
    Plant(
        "a device takes all entries of the miss table",
        "rtl/iommu/backlog.py",
        "own.eq(limited & same & (held.lane != Lane.OWN))",
        "own.eq(0)",
        "tests/rtl/iommu/test_backlog.py",
        "lanes",
        often=True,
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
        "rtl/nic/dma_parking.py",
        "own = (record.wait == Wait.ANSWER) & (record.generation == generation)",
        "own = record.wait == Wait.ANSWER",
        "tests/rtl/nic/test_dma.py",
        "time_out",
    ),
    Plant(
        "another function's answer wakes the tag",
        "rtl/nic/dma_parking.py",
        "& (self.device == self._device(owed.function))",
        "",
        "tests/rtl/nic/test_dma.py",
        "time_out",
        often=True,
    ),
    Plant(
        "an answer wakes a request that has ended",
        "rtl/nic/dma_parking.py",
        "with m.If(record.parked & (own | (record.wait == Wait.INDEX))):",
        "with m.If(own | (record.wait == Wait.INDEX)):",
        "tests/rtl/nic/test_races.py",
        "response_against and cancel",
        often=True,
    ),
    Plant(
        "an invalidation is answered before older uses have ended",
        "rtl/nic/invalidator.py",
        "(Mux(self.colour, *counts) == 0)",
        "1",
        "tests/rtl/nic/test_dma_edges.py",
        "invalidations",
        often=True,
    ),
    Plant(
        "an answer that is older than an invalidation is used",
        "rtl/nic/atc.py",
        "self.answer.stale.eq(asking.asked & asking.stale)",
        "self.answer.stale.eq(0)",
        "tests/rtl/nic/test_atc_dma.py",
        "moment_of_a_transfer and False-0",
    ),
    Plant(
        "an answer that is older than an invalidation is kept",
        "rtl/nic/atc.py",
        "self.answer.fills & asking.asked & ~asking.stale & ~filling",
        "self.answer.fills & asking.asked & ~filling",
        "tests/rtl/nic/test_atc.py",
        "neither_kept and 20",
        often=True,
    ),
    Plant(
        "a lookup that waits hits what has been forgotten",
        "rtl/nic/atc.py",
        "look.hit.eq(hits.any() & ~late & ~now)",
        "look.hit.eq(hits.any() & ~now)",
        "tests/rtl/nic/test_atc.py",
        "that_waits",
        often=True,
    ),
    Plant(
        "a source's MAC is compared with its filters too",
        "rtl/nic/filters.py",
        "self.change.ready & ~change.vlan & (change.entry == 0))",
        "self.change.ready & ~change.vlan)",
        "tests/rtl/nic/test_forwarding.py",
        "golden",
    ),
    Plant(
        "a notification that finds no room is lost",
        "rtl/nic/moderation.py",
        "with m.Elif(sending.i.ready):",
        "with m.Elif(sending.i.ready | ~fresh):",
        "tests/rtl/nic/test_moderation.py",
        "lost",
    ),
    Plant(
        "a retry begins one byte too far",
        "rtl/nic/dma_read.py",
        "place.data.base.eq(first.offset - low)",
        "place.data.base.eq(first.offset - low[:3])",
        "tests/rtl/nic/test_dma.py",
        "right_bytes",
        often=True,
    ),
    Plant(
        "the next request of a slot has the last one's error",
        "rtl/nic/dma_read.py",
        "update.data.bad.eq(~last & error)",
        "update.data.bad.eq(error)",
        "tests/rtl/nic/test_dma_edges.py",
        "error_of_one_beat",
    ),
    Plant(
        "a chain may loop for ever",
        "rtl/nic/engine/chains.py",
        "with m.Elif(s.linked & (s.count >= size)):",
        "with m.Elif(s.linked & (s.count > 0xFFFF)):",
        "tests/rtl/nic/test_virtqueue.py",
        "loop",
    ),
    Plant(
        "a stopped queue keeps its slot",
        "rtl/nic/engine/commit.py",
        "m.d.comb += self.releases.i.valid.eq(record.has_slot)",
        "m.d.comb += self.releases.i.valid.eq(record.has_slot & record.drop)",
        "tests/rtl/nic/test_virtqueue.py",
        "leaks_nothing and 140",
        often=True,
    ),
    Plant(
        "the driver is told of a frame's first buffers before the others",
        "rtl/nic/engine/commit.py",
        "self.move_en.eq(self.last)",
        "self.move_en.eq(1)",
        "tests/rtl/nic/test_mergeable.py",
        "as_many",
    ),
    Plant(
        "a fragment's ports are hashed",
        "rtl/nic/steering.py",
        "(~fragment & (header >= _IPV4_BYTES)",
        "((header >= _IPV4_BYTES)",
        "tests/rtl/nic/test_steering.py",
        "golden",
    ),
    Plant(
        "a word that cannot be written shows another word's bits",
        "rtl/pci/store.py",
        "(load.data & look.data.writable)",
        "load.data",
        "tests/rtl/nic/test_pci_config.py",
        "level_reset",
    ),
    Plant(
        "one page request more than is allocated",
        "rtl/nic/page_request_limit.py",
        "(count < self.pri.allocation)",
        "(count <= self.pri.allocation)",
        "tests/rtl/nic/test_page_request_limit.py",
        "allocated",
    ),
    Plant(
        "a function is back before its queues have stopped",
        "rtl/nic/pci_state.py",
        "stopped.eq(stopping & ~self.flr & ~self.resetting),",
        "stopped.eq(stopping & ~self.flr),",
        "tests/rtl/nic/test_function_reset.py",
        "stop_before",
        often=True,
    ),
    Plant(
        "the sum of a slot's earlier frame counts",
        "rtl/nic/offload/slot_sums.py",
        "Mux(before.data.turn == now.data, before.data.sum, 0)",
        "before.data.sum",
        "tests/rtl/nic/test_checksums.py",
        "put_in",
    ),
    Plant(
        "fragments are said to have a good checksum",
        "rtl/nic/offload/checker.py",
        "packet.v4 & ~packet.fragment & (packet.header >= 5)",
        "packet.v4 & (packet.header >= 5)",
        "tests/rtl/nic/test_checksums.py",
        "back_to_back",
    ),
    Plant(
        "IOTINVAL.GVMA does not reach the IOTLB",
        "rtl/iommu/translator.py",
        "pages = (op.kind == InvalidateKind.VMA) | (op.kind == InvalidateKind.GVMA)",
        "pages = op.kind == InvalidateKind.VMA",
        _FUZZED,
        _FORGET,
        slow=True,
    ),
    Plant(
        "IODIR.INVAL_DDT leaves device contexts in their cache",
        "rtl/iommu/translator.py",
        "self.cache.clear_en.eq(devices),",
        "self.cache.clear_en.eq(0),",
        _FUZZED,
        _FORGET,
        slow=True,
    ),
    Plant(
        "IODIR.INVAL_PDT leaves process contexts in their cache",
        "rtl/iommu/translator.py",
        "processes.clear_en.eq(devices | (self.transfer & one))",
        "processes.clear_en.eq(devices)",
        _FUZZED,
        _FORGET,
        slow=True,
    ),
    Plant(
        "what comes while a backup ring empties overtakes it",
        "rtl/nic/backup/backup.py",
        "keeps.eq(self.transit | known | (waits & enabled))",
        "keeps.eq(self.transit | (waits & enabled))",
        "tests/rtl/nic/test_backup.py",
    ),
    Plant(
        "what comes back goes behind what came later",
        "rtl/nic/backup/backup.py",
        "out.payload.eq(Mux(back.valid, back.payload, given.payload)),\n"
        "            back.ready.eq(out.ready),\n"
        "            given.ready.eq(Mux(keeps, queue.i.ready, out.ready & ~back.valid)),",
        "out.payload.eq(Mux(given.valid & ~keeps, given.payload, back.payload)),\n"
        "            back.ready.eq(out.ready & (~given.valid | keeps)),\n"
        "            given.ready.eq(Mux(keeps, queue.i.ready, out.ready)),",
        "tests/rtl/nic/test_backup.py",
    ),
    Plant(
        "what goes behind a tag is lost while the wire waits",
        "rtl/nic/port.py",
        "with m.If(coming):\n            m.d.sync += behind",
        "with m.If(1):\n            m.d.sync += behind",
        "tests/rtl/nic/test_port.py",
        "tags_are_put",
    ),
    Plant(
        "a tag is the source's VLAN of when the frame is told of, not of when it was looked up",
        "rtl/nic/forwarding.py",
        "filters.busy.eq(1),",
        "filters.busy.eq(0),",
        "tests/rtl/nic/test_forwarding.py",
        "changes_its_vlan",
    ),
    Plant(
        "a part of a tag is taken from its begin",
        "rtl/nic/engine/build_receive.py",
        "self.place.eq(low[: exact_log2(VLAN_TAG_BYTES)])",
        "self.place.eq(0)",
        "tests/rtl/nic/test_tagged_frames.py",
        "descriptors_end_anywhere",
    ),
    Plant(
        "a tag that is added goes into a backup ring in place of what follows it",
        "rtl/nic/backup/spill.py",
        "shift.eq(-VLAN_TAG_BYTES)",
        "shift.eq(0)",
        "tests/rtl/nic/test_backup.py",
    ),
    Plant(
        "what is prefetched for a frame that is received may only be read",
        "rtl/nic/engine/prefetch.py",
        "job.write.eq(wanted.write)",
        "job.write.eq(0)",
        "tests/rtl/nic/test_prefetch.py",
        "before_frames_come",
    ),
    Plant(
        "a function may have all that is prefetched at once",
        "rtl/nic/engine/prefetch.py",
        "(sum(mine) >= self.config.prefetch_share)",
        "0",
        "tests/rtl/nic/test_prefetch.py",
        "its_share",
    ),
]


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
