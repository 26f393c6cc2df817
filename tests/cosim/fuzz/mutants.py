"""Golden IOMMUs with one defect each, and one with a cache that can forget to forget."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from cosim.fuzz.golden import GoldenImplementation
from cosim.fuzz.scenario import parse_row
from models.iommu import Request, commands, directory, hpm, iommu, msi, pri, translate, walk
from models.iommu.records import Access
from models.spec.iommu import Cause, Ttyp
from models.spec.translation import AddressType, TranslationStatus

__all__ = ["MUTANTS", "Caching", "Mutant"]


@dataclass(frozen=True)
class Plant:
    """Replaces an attribute while the implementation works, by what ``make`` makes of it."""

    owner: Any
    name: str
    make: Callable[[Any], Any]


class Mutant(GoldenImplementation):
    """An implementation with one plant."""

    def __init__(self, parameters, plant: Plant | None = None):
        self._plant = plant
        super().__init__(parameters)

    def _planted(self):
        assert self._plant is not None
        plant = self._plant
        return patch.object(plant.owner, plant.name, plant.make(getattr(plant.owner, plant.name)))

    async def together(self, rows, store):
        with self._planted():
            return await super().together(rows, store)

    async def write_register(self, offset, size, value):
        with self._planted():
            await super().write_register(offset, size, value)

    async def page_request(self, message):
        with self._planted():
            await super().page_request(message)


def _always(value):
    return lambda old: lambda *args, **how: value


def _without(**changes):
    """Change what a function returns."""
    return lambda old: lambda *args, **how: replace(old(*args, **how), **changes)


def _no_update(old):
    def accessed(self, stage, access, slot, pte, w):
        return old(self, replace(stage, store=lambda *args: None), access, slot, pte, w)

    return accessed


def _no_sum(old):
    return classmethod(lambda cls, request, *, sum: old(request, sum=False))


def _no_implicit(old):
    def fault(self, gpa, *, implicit, implicit_write):
        return old(self, gpa, implicit=False, implicit_write=implicit_write)

    return fault


def _no_implicit_write(old):
    def fault(self, gpa, *, implicit, implicit_write):
        return old(self, gpa, implicit=implicit, implicit_write=False)

    return fault


def _read_instead(old):
    def ttyp(self):
        kind = old.fget(self)
        return Ttyp.UNTRANSLATED_READ if kind is Ttyp.UNTRANSLATED_EXECUTE else kind

    return property(ttyp)


def _abort_instead(old):
    def failure(fault):
        answer = old(fault)
        if answer.status is TranslationStatus.UNSUPPORTED_REQUEST:
            return replace(answer, status=TranslationStatus.COMPLETER_ABORT)
        return answer

    return failure


def _second_pbmt(old):
    def combine(first, second, address, **how):
        return replace(old(first, second, address, **how), pbmt=second.pbmt or first.pbmt)

    return combine


def _second_size(old):
    def combine(first, second, address, **how):
        return replace(old(first, second, address, **how), size_log2=second.size_log2)

    return combine


def _first_rights(old):
    def combine(first, second, address, **how):
        return replace(old(first, second, address, **how), w=first.w)

    return combine


def _no_flip(old):
    return lambda self, selector, wide, narrow: old(self, selector & ~(1 << 15), wide, narrow)


MUTANTS = {
    "PBMT 3 is taken": Plant(walk, "_PBMT_RESERVED", lambda old: 4),
    "NAPOT of another size is taken": Plant(walk, "_NAPOT_64K", lambda old: 0b1001),
    "SXL limits nothing": Plant(walk, "_SXL_GPA_BITS", lambda old: 41),
    "reserved bits of PTEs are taken": Plant(walk.Walker, "_reserved", _always(False)),
    "A and D are not written": Plant(walk.Walker, "_accessed", _no_update),
    "SUM is not seen": Plant(Access, "of", _no_sum),
    "implicit accesses are not marked": Plant(Access, "guest_page_fault", _no_implicit),
    "implicit writes are not marked": Plant(Access, "guest_page_fault", _no_implicit_write),
    "fetches are recorded as reads": Plant(Request, "ttyp", _read_instead),
    "privilege counts without PASID": Plant(
        Request, "supervisor", lambda old: property(lambda self: self.privileged)
    ),
    "interrupt files are pages": Plant(translate, "is_interrupt_file", _always(False)),
    "interrupt files by masked bits": Plant(
        msi, "extract", lambda old: lambda value, mask: value & mask & 0xF
    ),
    "ranges with interrupt files": Plant(
        translate, "range_without_files", lambda old: lambda context, gpa, size_log2: size_log2
    ),
    "misconfigured contexts are taken": Plant(directory, "_misconfigured", _always(False)),
    "reserved bits of contexts are taken": Plant(directory, "_reserved_bits", _always(False)),
    "types are not checked": Plant(translate.Translator, "_check_type", _always(None)),
    "device index of other width": Plant(directory, "_DDI_EXTENDED", lambda old: (6, 8, 9)),
    "process index of other width": Plant(directory, "_PDI", lambda old: (8, 8, 3)),
    "SBE is not seen": Plant(directory, "_SBE", _always(0)),
    "ENS is not seen": Plant(directory, "_PC_ENS", _always(1)),
    "second memory type first": Plant(translate, "_combine", _second_pbmt),
    "size of the second stage": Plant(translate, "_combine", _second_size),
    "writing as the first stage says": Plant(translate, "_combine", _first_rights),
    "completions are never global": Plant(iommu, "completion", _without(glob=False)),
    "completions are never privileged": Plant(iommu, "completion", _without(priv=False)),
    "MRIF is not said to ATS": Plant(iommu, "completion", _without(u=False)),
    "unsupported is abort": Plant(iommu, "failure", _abort_instead),
    "DTF hides nothing": Plant(iommu, "_RECORDED_WITH_DTF", lambda old: set(Cause)),
    "fences write nothing": Plant(commands, "_FENCE", lambda old: old | {"av": lambda bits: 0}),
    "GVMA with PSCV is legal": Plant(
        commands, "_INVAL", lambda old: old | {"pscv": lambda bits: 0}
    ),
    "page requests get no answer": Plant(pri.PageRequestHandler, "_respond", _always(None)),
    "DMASK is not seen": Plant(hpm.PerformanceMonitor, "_selected", _no_flip),
}


class Caching(GoldenImplementation):
    """Keeps answers until a command makes it forget all; ``deaf`` names commands it ignores."""

    def __init__(self, parameters, deaf: str = ""):
        self._deaf, self.hits = deaf, 0
        super().__init__(parameters)

    def _build(self, parameters):
        super()._build(parameters)
        self._cache = {}
        queue = self.iommu._commands
        for opcode, do in list(queue._do.items()):
            queue._do[opcode] = lambda command, do=do: self._command(command, do)

    def _command(self, command, do):
        from cosim.fuzz.commands import name

        do(command)
        if name(command) not in (self._deaf, "IOFENCE.C", "ATS.PRGR", "ATS.INVAL"):
            self._cache.clear()

    async def together(self, rows, store):
        responses = []
        for row in rows:
            request = parse_row(row)
            page = replace(request, iova=request.iova >> 12)
            if page not in self._cache:
                response = self.iommu.translate(request)
                on = self.iommu.registers["ddtp"] & 0xF > 1
                denied = request.at is AddressType.ATS_REQUEST and not response.w
                keeps = not (response.cause or denied or request.at is AddressType.TRANSLATED)
                if on and keeps:
                    self._cache[page] = response
            else:
                self.hits += 1
                response = self._cache[page]
                if response.mrif is None:
                    spa = response.spa & ~0xFFF | request.iova & 0xFFF
                    response = replace(response, spa=spa)
                self.iommu.monitor.count(
                    iommu._REQUEST_EVENTS[request.at],
                    device_id=request.device_id,
                    process_id=request.process_id,
                )
            responses.append(response)
        if store:
            await self.write_register(*store)
        return responses
