"""The judge of a guest's own IOMMU, by hand: tables in a memory, answers that fit or do not."""

from types import SimpleNamespace

import numpy as np
import pytest

from cosim.golden_machine import FlatMemory
from cosim.linux.translations import TranslationWatcher, translation_taps
from models.directory import Context, DirectoryBuilder
from models.pagetable import KIB_4, MIB_2, PageTable
from models.spec.iommu import DdtpMode
from models.spec.iommu_registers import DDTP
from models.spec.translation import AddressType, TranslationStatus

BASE, BYTES, DEVICE = 0x8000_0000, 1 << 22, 8
IOVA, HERE, THERE = 0xFFFF_E000, 0x1_2345_6000, 0x2_0000_7000


class FakeBench:
    """Logs of two streams."""

    def __init__(self):
        self.names = [f"{tap.instance}.{tap.name}" for tap in translation_taps()]
        self.logs = {name: [] for name in self.names}

    def stream(self, name):
        assert name in self.logs
        return SimpleNamespace(log=lambda: None)

    def take_fields(self, name):
        taken, self.logs[name] = self.logs[name], []
        fields = ("tag", "at", "device_id", "iova", "status", "spa")
        return {
            key: np.array([entry.get(key, 0) for entry in taken], np.uint64)
            for key in ("cycle", *fields)
        }


class World:
    """Tables, and a watcher of what is translated."""

    def __init__(self, *, levels=3, extended=False):
        self.memory, self.free = FlatMemory(BASE, BYTES), BASE
        self.table = PageTable(self.memory.read, self.memory.write, self.allocate, levels=levels)
        self.directory = DirectoryBuilder(
            self.memory.read, self.memory.write, self.allocate, levels=2, extended=extended
        )
        self.directory.set(DEVICE, Context(fsc=self.table.iosatp))
        self.bench = FakeBench()
        self.watcher = TranslationWatcher(self.bench, self.memory, DEVICE, extended=extended)
        self.watcher.ddtp = self.directory.ddtp
        self.cycle = 0

    def allocate(self, pages):
        size = pages * KIB_4
        self.free = -(-self.free // size) * size + size
        return self.free - size

    def translated(self, iova, spa, **other):
        """A request and its answer."""
        requests, answers = (self.bench.logs[name] for name in self.bench.names)
        entry = {"tag": 3, "at": AddressType.UNTRANSLATED, "device_id": DEVICE, "iova": iova}
        requests.append({"cycle": self.cycle, **entry, **other})
        self.cycle += 4
        status = other.get("status", TranslationStatus.SUCCESS)
        answers.append({"cycle": self.cycle, "tag": 3, "status": status, "spa": spa})

    def judged(self):
        self.watcher.look()
        return self.watcher.judged, self.watcher.stale


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_answers_are_what_the_tables_say(levels, extended):
    world = World(levels=levels, extended=extended)
    world.table.map(IOVA, HERE)
    world.table.map(4 * MIB_2, 7 * MIB_2, MIB_2)
    world.translated(IOVA + 0x123, HERE + 0x123)
    world.translated(4 * MIB_2 + 0x5008, 7 * MIB_2 + 0x5008)
    assert world.judged() == (2, 0)
    world.translated(IOVA, THERE)
    world.translated(4 * MIB_2 + 0x5008, 7 * MIB_2 + 0x6008)
    world.translated(IOVA - KIB_4, HERE)
    assert world.judged() == (5, 3)
    assert len(world.watcher.problems) == 3


def test_errors_and_requests_of_others_are_not_judged():
    world = World()
    world.translated(IOVA, HERE, status=TranslationStatus.UNSUPPORTED_REQUEST)
    world.translated(IOVA, HERE, device_id=DEVICE + 1)
    world.translated(IOVA, HERE, at=AddressType.TRANSLATED)
    assert world.judged() == (0, 0)


def test_an_old_translation_counts_until_its_invalidation_is_complete():
    world = World()
    world.table.map(IOVA, HERE)
    world.translated(IOVA, HERE)
    assert world.judged() == (1, 0)
    world.table.unmap_pages(IOVA, 1)
    world.table.map(IOVA, THERE)
    world.watcher.commanded()
    world.translated(IOVA, HERE)
    world.translated(IOVA, THERE)
    assert world.judged() == (3, 0)
    world.watcher.completed()
    world.translated(IOVA, THERE)
    assert world.judged() == (4, 0)
    world.translated(IOVA, HERE)
    assert world.judged() == (5, 1)


def test_what_changes_after_the_command_counts_too():
    """A page that is mapped while commands are carried out, and others that stay."""
    world = World()
    world.table.map(IOVA, HERE)
    world.translated(IOVA, HERE)
    world.judged()
    world.watcher.commanded()
    world.table.map(IOVA - KIB_4, THERE)
    world.translated(IOVA - KIB_4, THERE)
    world.judged()
    world.watcher.completed()
    world.translated(IOVA, HERE)
    world.translated(IOVA - KIB_4, THERE)
    assert world.judged() == (4, 0)


def test_without_tables_addresses_stay():
    world = World()
    world.directory.set(DEVICE, Context())
    world.translated(HERE, HERE)
    assert world.judged() == (1, 0)
    world.directory.remove(DEVICE)
    world.watcher.commanded()
    world.watcher.completed()
    world.translated(HERE, HERE)
    assert world.judged() == (2, 1)
    world.watcher.ddtp = DDTP["mode"].insert(DdtpMode.BARE)
    world.translated(THERE, THERE)
    assert world.judged() == (3, 1)
