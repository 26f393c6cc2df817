"""The golden IOMMU as the judge: answers, records and facts of every request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cosim.conformance.golden_target import GoldenTarget
from models.iommu import Parameters, Request, Response
from models.iommu.walk import Leaf
from models.spec.translation import AddressType

from .scenario import parse_row

__all__ = ["Facts", "Judged", "Oracle"]


@dataclass
class Facts:
    """How a translation came about: log2 of each stage's page, -1 if the stage was not walked."""

    first: int = -1
    second: int = -1
    msi: bool = False


@dataclass(frozen=True)
class Judged:
    """What may become of a request: its answer, and the bytes of its fault record, if any."""

    request: Request
    response: Response
    record: bytes | None
    facts: Facts = field(compare=False)


class Oracle(GoldenTarget):
    """A golden target that remembers why."""

    def _build(self, parameters: Parameters) -> None:
        super()._build(parameters)
        self._records: list[bytes] = []
        self._facts = Facts()
        #: Set by stores of the IOMMU itself, to tables or queues.
        self.stored = False
        self._stores: list[int] = []
        #: Words whose D is open: a cached entry without W may answer an ATS request for writing.
        self.open_dirty: set[int] = set()
        self._listen()

    def _listen(self) -> None:
        """Get between the parts of the golden IOMMU."""
        iommu = self.iommu
        queue, translator = iommu._faults, iommu._translator
        push, store = queue.push, iommu._memory.store_bytes
        first, second = translator.walker.first_stage, translator.walker.second_stage

        def noted_push(doublewords: list[int], *, big_endian: bool) -> bool:
            order = "big" if big_endian else "little"
            self._records.append(b"".join(word.to_bytes(8, order) for word in doublewords))
            return push(doublewords, big_endian=big_endian)

        def noted_store(address: int, raw: bytes, **how) -> None:
            self.stored = True
            self._stores.append(address & -8)
            store(address, raw, **how)

        def noted_first(context, mode, root, iova, access) -> Leaf:
            leaf = first(context, mode, root, iova, access)
            self._facts.first = leaf.size_log2 if mode else 64
            return leaf

        def noted_second(context, gpa, access, **how) -> Leaf:
            leaf = second(context, gpa, access, **how)
            if not how:
                self._facts.second = leaf.size_log2
            return leaf

        queue.push = noted_push
        iommu._memory.store_bytes = noted_store
        translator.walker.first_stage = noted_first
        translator.walker.second_stage = noted_second

    def judge(self, rows: list[list]) -> list[Judged]:
        """Translate rows one after the other."""
        found = []
        for row in rows:
            request = parse_row(row)
            self._facts, before = Facts(), len(self._records)
            self._stores.clear()
            response = self.iommu.translate(request)
            if request.at is AddressType.ATS_REQUEST and request.write and not response.w:
                self.open_dirty.update(self._stores)
            new = self._records[before:]
            found.append(Judged(request, response, new[0] if new else None, self._facts))
        return found

    def second_opinion(self, rows: list[list]) -> list[Judged]:
        """Translate again, leaving neither records nor counts."""
        with self._aside():
            return self.judge(rows)

    def reading(self, judged: Judged) -> Judged:
        """What the request would get if it did not ask to write; nothing is changed.

        A cached entry without W answers an ATS request for writing with what may be read, where a
        walk ends at the store to D that the second stage does not allow.
        """
        memory, store = self.iommu._memory, self.iommu._memory.store_bytes
        memory.store_bytes = lambda *args, **how: None
        request = replace(judged.request, write=False)
        try:
            with self._aside():
                return replace(judged, request=request, response=self.iommu.translate(request))
        finally:
            memory.store_bytes = store

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Let what is translated leave neither records nor counts."""
        iommu, values = self.iommu, dict(self.iommu.registers._values)
        queue = iommu._faults
        push, count = queue.push, iommu.monitor.count
        kept = list(self._records)

        def only_noted(doublewords: list[int], *, big_endian: bool) -> bool:
            order = "big" if big_endian else "little"
            self._records.append(b"".join(word.to_bytes(8, order) for word in doublewords))
            return True

        queue.push, iommu.monitor.count = only_noted, lambda *args, **how: None
        try:
            yield
        finally:
            queue.push, iommu.monitor.count = push, count
            iommu.registers._values.update(values)
            self._records = kept

    def take_records(self) -> list[bytes]:
        """Return the fault records made since the last call, dropped ones too."""
        records, self._records = self._records, []
        return records
