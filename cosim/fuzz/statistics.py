"""What a run has seen: counts, shares that it must reach, and coverage."""

from collections import Counter
from dataclasses import dataclass, field

from models.iommu import Response
from models.spec.config import IommuConfig
from models.spec.iommu import HpmEvent
from models.spec.translation import AddressType, TranslationStatus

from .commands import name, row
from .oracle import Judged

__all__ = ["FAULTS_MIN", "MISSES_MIN", "Statistics"]

#: Shares of requests that a run must reach.
MISSES_MIN, FAULTS_MIN = 0.30, 0.10


@dataclass
class Statistics:
    """Counts; those of several runs can be added up."""

    scenarios: int = 0
    translations: int = 0
    faulted: int = 0
    lookups: int = 0
    misses: int = 0
    page_requests: int = 0
    debug: int = 0
    cycles: int = 0
    seconds: float = 0.0
    commands: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    ats: Counter[str] = field(default_factory=Counter)

    def command(self, command: int) -> None:
        """Count a command."""
        self.commands[name(command)] += 1
        self.rows[row(command)] += 1

    def record(self, cause: int) -> None:
        """Count a fault record."""
        self.causes[str(cause)] += 1

    def event(self, event: int, count: int, before: int) -> None:
        """Take over a counter of the implementation."""
        if event == HpmEvent.LOOKUP:
            self.lookups += count - before
        elif event == HpmEvent.TLB_MISS:
            self.misses += count - before

    def request(self, judged: Judged) -> None:
        """Count a request and its answer."""
        request, response, facts = judged.request, judged.response, judged.facts
        self.translations += 1
        self.types[request.at.name.lower()] += 1
        self.faulted += bool(response.cause)
        if request.at is AddressType.ATS_REQUEST:
            self.ats[ats_outcome(response)] += 1
            if response.cause:
                self.causes[str(response.cause)] += 1
        if not response.cause and (facts.first >= 0 or facts.second >= 0):
            second = "MSI" if facts.second < 0 else size_name(facts.second)
            self.pages[f"{size_name(facts.first)} x {second}"] += 1

    def add(self, other: "Statistics") -> None:
        """Add another run."""
        for key, value in vars(other).items():
            mine = getattr(self, key)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, key, mine + value)

    def as_dict(self) -> dict:
        """Plain data."""
        return {
            key: dict(value) if isinstance(value, Counter) else value
            for key, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, content: dict) -> "Statistics":
        """Make one from :meth:`as_dict`."""
        made = cls()
        for key, value in content.items():
            setattr(made, key, Counter(value) if isinstance(value, dict) else value)
        return made

    @property
    def miss_share(self) -> float:
        """Share of the lookups that missed in the IOTLB."""
        return self.misses / self.lookups if self.lookups else 0.0

    @property
    def fault_share(self) -> float:
        """Share of the requests that met a fault."""
        return self.faulted / self.translations if self.translations else 0.0

    def shortcomings(self, configs: list[IommuConfig], *, counted: bool) -> list[str]:
        """Say what a run has not seen enough of; ``counted``: there were event counters."""
        found = []
        if self.fault_share < FAULTS_MIN:
            found.append(f"only {self.fault_share:.1%} of the requests faulted")
        if counted and self.lookups and self.miss_share < MISSES_MIN:
            found.append(f"only {self.miss_share:.1%} of the lookups missed")
        needed = {"IOTINVAL.VMA", "IOTINVAL.GVMA", "IOFENCE.C", "IODIR.INVAL_DDT"}
        if any(config.pd8 for config in configs):
            needed.add("IODIR.INVAL_PDT")
        if any(config.ats for config in configs):
            needed |= {"ATS.INVAL", "ATS.PRGR"}
        missing = sorted(needed - set(self.commands))
        if missing:
            found.append(f"no {', '.join(missing)}")
        return found


def size_name(size_log2: int) -> str:
    """Name of a page size; Bare has none."""
    if size_log2 < 0:
        return "none"
    if size_log2 >= 60:
        return "Bare"
    unit, shift = next(
        (unit, shift)
        for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10))
        if size_log2 >= shift
    )
    return f"{1 << size_log2 - shift}{unit}"


def ats_outcome(response: Response) -> str:
    """What an ATS request came to."""
    if response.status != TranslationStatus.SUCCESS:
        return TranslationStatus(response.status).name
    rights = "".join(name for name in "rwx" if getattr(response, name))
    marks = [name for name in ("priv", "glob") if getattr(response, name) and rights]
    if response.u:
        marks.append("MRIF")
    return " ".join(["SUCCESS", rights or "none", *marks])
