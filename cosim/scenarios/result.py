"""What a run of the demonstration found."""

from dataclasses import asdict, dataclass, field
from typing import Any

from models.cache import HitCounts
from models.spec.nic import QueueError

__all__ = ["FunctionResult", "HitRates", "Hostile", "Result"]


@dataclass
class HitRates:
    """Share of IOTLB lookups that hit, three ways; ``None`` where there is nothing to count."""

    counter: float | None = None
    model: float | None = None
    waves: float | None = None


@dataclass
class FunctionResult:
    """One function's figures; ``vm_exits`` by cause, ``fault_service_cycles`` on average."""

    name: str
    device_id: int
    tx_packets: int = 0
    rx_packets: int = 0
    tx_bytes: int = 0
    rx_bytes: int = 0
    page_faults: int = 0
    fault_service_cycles: float = 0.0
    vm_exits: dict[str, int] = field(default_factory=dict)
    interrupts: int = 0
    lookups: int = 0
    misses: int = 0
    iotlb_hit_rate: HitRates = field(default_factory=HitRates)

    def counted_elsewhere(self, found: HitCounts | None, where: str) -> list[str]:
        """Compare lookups and misses with those that were found ``where``; returns problems.

        Nothing found is zero lookups: a figure that is missing never passes for equal.
        """
        counts = found or HitCounts()
        lookups = counts.hits + counts.misses
        if (lookups, counts.misses) == (self.lookups, self.misses):
            return []
        return [
            f"{self.name}: {self.lookups} lookups and {self.misses} misses counted, "
            f"{lookups} and {counts.misses} {where}"
        ]


@dataclass
class Hostile:
    """What became of a guest that meant harm."""

    name: str
    kind: str
    queue_error: str
    fault_records: int
    requests_denied: int
    withheld: int

    @property
    def problems(self) -> list[str]:
        """What should have become of it and did not."""
        found = []
        if self.queue_error == QueueError.NONE.name:
            found.append(f"{self.name} did harm ({self.kind}), and its queue has not stopped")
        if self.kind == "address" and not self.fault_records:
            found.append(f"{self.name} did harm ({self.kind}), and no fault record says so")
        return found


@dataclass
class Result:
    """A run."""

    cycles: int = 0
    cycles_per_s: float = 0.0
    python_share: float = 0.0
    mismatches: int = 0
    lost: int = 0
    packets: int = 0
    functions: list[FunctionResult] = field(default_factory=list)
    capture: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    hostile: Hostile | None = None

    @property
    def good(self) -> bool:
        """Whether everything arrived as it was sent."""
        return not (self.mismatches or self.lost or self.problems)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Result":
        """The reverse of :meth:`as_dict`."""
        functions = [
            FunctionResult(**{**f, "iotlb_hit_rate": HitRates(**f["iotlb_hit_rate"])})
            for f in values["functions"]
        ]
        hostile = Hostile(**values["hostile"]) if values["hostile"] else None
        return cls(**{**values, "functions": functions, "hostile": hostile})
