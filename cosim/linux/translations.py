"""Compares every translation of a guest's own IOMMU with a fresh walk of the guest's tables."""

import numpy as np

from cosim.bench.bench import Bench
from cosim.bench.ports import Tap
from cosim.hypervisor.memory import read_only_directory
from cosim.port import PhysicalMemory
from models.spec.iommu import DdtpMode, DeviceContextBase, IoatpMode, Pte
from models.spec.iommu_registers import DDTP
from models.spec.translation import (
    AddressType,
    TranslationRequest,
    TranslationResponse,
    TranslationStatus,
)

__all__ = ["TranslationWatcher", "translation_taps"]

_REQUESTS, _RESPONSES = "iommu.translate0__request", "iommu.translate0__response"
#: Pages of a leaf table, log2 of their number, and of a page's bytes.
_PAGES, _INDEX_BITS, _PAGE_BITS = 512, 9, 12
_NOWHERE = np.uint64((1 << 64) - 1)
_LEVELS = {IoatpMode.SV39: 3, IoatpMode.SV48: 4, IoatpMode.SV57: 5}
_PTE = Pte.as_shape()
_PPN_SHIFT, _PPN_MASK = _PTE["ppn"].offset, (1 << _PTE["ppn"].width) - 1
_VALID = 1 << _PTE["v"].offset
_LEAF = 1 << _PTE["r"].offset | 1 << _PTE["x"].offset
_MODES = {DdtpMode.LVL1: 1, DdtpMode.LVL2: 2, DdtpMode.LVL3: 3}


def translation_taps() -> tuple[Tap, ...]:
    """Return taps on what the bridge asks the IOMMU, and on the answers."""
    shapes = {_REQUESTS: TranslationRequest, _RESPONSES: TranslationResponse}
    return tuple(
        Tap(instance=instance, name=port, shape=shape)
        for name, shape in shapes.items()
        for instance, _, port in (name.rpartition("."),)
    )


class _Region:
    """Where 2 MiB of IOVAs were, as often as that changed: serial of the last look, and pages."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, np.ndarray]] = []

    def note(self, serial: int, pages: np.ndarray) -> None:
        """Note what a look has found."""
        if self.kept and np.array_equal(self.kept[-1][1], pages):
            self.kept.pop()
        self.kept.append((serial, pages))

    def forget(self, serial: int) -> None:
        """Forget what was not there any more in a look."""
        self.kept = [entry for entry in self.kept if entry[0] >= serial]

    def has(self, page: int, target: int) -> bool:
        """Whether a page was there at any time that counts."""
        return any(int(pages[page]) == target for _, pages in self.kept)


class TranslationWatcher:
    """Finds translations that the guest's tables do not have.

    An answer must be what the tables said at some time since the last invalidation whose fence
    software has seen complete.  Tables are looked at when commands are queued, which is after
    software has changed them, and otherwise as often as :meth:`look` is called: more often than
    the hardware takes from a doorbell to the buffer it is about.

    Parameters
    ----------
    bench : Bench
        With :func:`translation_taps`.
    memory : PhysicalMemory
        The guest's, by the addresses of its tables.
    device_id : int
        Whose translations are judged.
    extended : bool
        Contexts have 64 bytes (``capabilities.MSI_FLAT``).
    """

    def __init__(
        self, bench: Bench, memory: PhysicalMemory, device_id: int, *, extended: bool
    ) -> None:
        self._bench, self._memory, self._device_id = bench, memory, device_id
        self._extended = extended
        #: ``ddtp`` as software has left it.
        self.ddtp = 0
        self._asked: dict[int, int] = {}
        self._regions: dict[int, _Region] = {}
        self._serial = 0
        self._mark: int | None = None  # of looks; of the one that queued commands belong to
        #: Translations judged, and those that no table had.
        self.judged = self.stale = 0
        self.problems: list[str] = []
        for name in (_REQUESTS, _RESPONSES):
            bench.stream(name).log()

    # What happens --------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the tables, and judge what has been answered until now."""
        self._serial += 1
        for number, region in self._regions.items():
            region.note(self._serial, self._pages(number))
        self._answered()

    def commanded(self) -> None:
        """Note that invalidations are being queued; what they are about has been changed."""
        self.look()
        self._mark = self._serial

    def completed(self) -> None:
        """Note that software has seen the latest commands complete."""
        if self._mark is None:
            return
        self.look()
        for region in self._regions.values():
            region.forget(self._mark)
        self._mark = None

    # Translations --------------------------------------------------------------------------------

    def _answered(self) -> None:
        """Judge answers since the last look, in their order with requests."""
        asked, answers = (self._bench.take_fields(name) for name in (_REQUESTS, _RESPONSES))
        mine = (asked["device_id"] == self._device_id) & (asked["at"] == AddressType.UNTRANSLATED)
        good = answers["status"] == TranslationStatus.SUCCESS
        # A tag is free, and may be asked with again, from its answer on.
        events = [
            (cycle, order, tag, address, counts)
            for order, columns, name, counted in (
                (0, answers, "spa", good),
                (1, asked, "iova", mine),
            )
            for cycle, tag, address, counts in zip(
                *(columns[key].tolist() for key in ("cycle", "tag", name)),
                counted.tolist(),
                strict=True,
            )
        ]
        for cycle, order, tag, address, counts in sorted(events):
            if order and counts:
                self._asked[tag] = address
            elif not order and (iova := self._asked.pop(tag, None)) is not None and counts:
                self._judge(cycle, iova, address)

    def _judge(self, cycle: int, iova: int, spa: int) -> None:
        number, page = iova >> _PAGE_BITS + _INDEX_BITS, iova >> _PAGE_BITS & _PAGES - 1
        region = self._regions.get(number)
        if region is None:
            region = self._regions[number] = _Region()
            region.note(self._serial, self._pages(number))
        self.judged += 1
        if not region.has(page, spa >> _PAGE_BITS):
            self.stale += 1
            if len(self.problems) < 10:
                self.problems.append(f"cycle {cycle}: {iova:#x} is not at {spa:#x}")

    # Tables --------------------------------------------------------------------------------------

    def _load(self, address: int) -> int:
        return int.from_bytes(self._memory.read(address, 8), "little")

    def _context(self) -> DeviceContextBase | None:
        """The device's context, if it has one."""
        mode = DDTP["mode"].extract(self.ddtp)
        if mode not in _MODES:
            return None
        directory = read_only_directory(
            self._memory.read,
            DDTP["ppn"].extract(self.ddtp) << _PAGE_BITS,
            levels=_MODES[DdtpMode(mode)],
            extended=self._extended,
        )
        slot = directory.slot(self._device_id)
        if slot is None:
            return None
        layout = DeviceContextBase
        size = layout.as_shape().size // 8
        found = layout.from_bits(int.from_bytes(self._memory.read(slot, size), "little"))
        return found if found.tc.v else None

    def _pages(self, number: int) -> np.ndarray:
        """Page numbers that the 512 pages of a region are at."""
        bare = np.arange(_PAGES, dtype=np.uint64) + np.uint64(number << _INDEX_BITS)
        nowhere = np.full(_PAGES, _NOWHERE)
        if DDTP["mode"].extract(self.ddtp) == DdtpMode.BARE:
            return bare
        context = self._context()
        if context is None:
            return nowhere
        first = context.fsc
        if first.mode == IoatpMode.BARE:
            return bare
        table = first.ppn << _PAGE_BITS
        for level in range(_LEVELS[IoatpMode(first.mode)] - 1, 0, -1):
            index = number >> _INDEX_BITS * (level - 1) & _PAGES - 1
            entry = self._load(table + 8 * index)
            if not entry & _VALID:
                return nowhere
            base = entry >> _PPN_SHIFT & _PPN_MASK
            if entry & _LEAF:  # 2 MiB and more
                within = (1 << _INDEX_BITS * level) - 1
                return np.uint64(base) + (bare & np.uint64(within))
            table = base << _PAGE_BITS
        entries = np.frombuffer(self._memory.read(table, 8 * _PAGES), np.uint64)
        pages = entries >> np.uint64(_PPN_SHIFT) & np.uint64(_PPN_MASK)
        there = (entries & np.uint64(_VALID) != 0) & (entries & np.uint64(_LEAF) != 0)
        return np.where(there, pages, _NOWHERE)
