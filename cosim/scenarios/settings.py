"""How a demonstration is run, as one record that travels into the simulator and into its result."""

from dataclasses import dataclass, fields
from typing import Any

from cosim.scenarios.demo import HOSTILE
from models.spec.config import SystemConfig, config

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a run's cycles.

    Parameters
    ----------
    config : str
        Name of the system.
    sim : str
        ``"verilator"`` or ``"icarus"``.
    seed : int
        Of fragments, alignments and the memory's order.
    packets : int
        Frames at most, 0 for all.
    latency, jitter : int
        Of memory, in cycles; answers come ``latency`` to ``latency + jitter`` after acceptance.
    service_cycles : int or None
        Cycles of a page request's service; ``None`` leaves it to the cost table.
    resident : bool
        Make all memory resident beforehand: no page faults.
    offload : bool
        Guests leave checksums to their function.
    hostile : str
        Harm that the third guest does, one of ``HOSTILE``, or none.
    """

    config: str = "default"
    sim: str = "verilator"
    seed: int = 1
    packets: int = 0
    latency: int = 20
    jitter: int = 20
    service_cycles: int | None = None
    resident: bool = False
    offload: bool = False
    hostile: str = ""

    def __post_init__(self) -> None:
        system = self.system
        if system.nic.vfs < 3:
            raise ValueError(f"Configuration {self.config!r} has fewer than three VFs")
        for name, low, high in (
            ("seed", 0, 1 << 31),
            ("packets", 0, 1 << 31),
            ("latency", 1, 100_000),
            ("jitter", 0, 100_000),
            ("service_cycles", 0, 100_000_000),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be in {low} to {high}, not {value}")
        if self.hostile and self.hostile not in HOSTILE:
            raise ValueError(f"No harm {self.hostile!r}; there are {', '.join(HOSTILE)}")

    @property
    def system(self) -> SystemConfig:
        """The system of that name."""
        return config(self.config)

    @property
    def windows(self) -> tuple[int, int]:
        """Frames on their way to a guest: each function's share of the receive slots holds them."""
        share = min(3, self.system.nic.rx_quota)
        return (share, share)

    @property
    def outside_window(self) -> int:
        """Frames on their way out."""
        return min(8, self.system.nic.tx_slots // 2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """Take what :func:`dataclasses.asdict` gave, and leave what is not of it."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})
