"""A scenario: memory at the start, then steps.  Plain data, so that it can be kept and shrunk.

Numbers are integers in Python and hexadecimal strings in files.  Steps, by their first member:

======================================  ==========================================================
``["w", offset, size, value]``          store to a register
``["m", [[address, size, value]...]]``  software stores to memory, little-endian
``["c", [command...]]``                 commands of 128 bits, waited for
``["g", [row...], [command...]]``       concurrent requests, and commands beside them
``["p", rid, segment, pid, priv, exec, payload]``  a page request
``["k"]``                               devices complete all invalidation requests
``["i", [[address, size, kind]...]]``   errors of memory from now on (replaces all)
``["d", device, pid, flags, iova]``     a debug translation
``["f"]``                               replace a command that stopped the queue, clear the error
``["q"]``                               compare queues, registers, messages, all memory
======================================  ==========================================================

A row is ``[type, access, priv, device, pid, iova]`` with type ``u``, ``t`` or ``a``, access ``r``,
``w`` or ``x`` (``a`` also ``y``: write and execute).
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.iommu import Request
from models.spec.config import IommuConfig
from models.spec.translation import AddressType

__all__ = ["Scenario", "ScenarioError", "parse_row"]

_FORMAT = "iovirt-iommu-fuzz/1"
_TYPES = {
    "u": AddressType.UNTRANSLATED,
    "t": AddressType.TRANSLATED,
    "a": AddressType.ATS_REQUEST,
}


class ScenarioError(Exception):
    """A file that is no scenario; the message is one line."""


@dataclass
class Scenario:
    """One scenario, for one configuration and one timing of memory."""

    config: IommuConfig
    name: str = ""
    timing: dict[str, int] = field(default_factory=dict)
    memory: list[list[int]] = field(default_factory=list)  # address, size, value
    steps: list[list[Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write a file."""
        content = asdict(self) | {"format": _FORMAT}
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Scenario":
        """Read a file."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format", None) != _FORMAT:
                raise ScenarioError(f"{path}: not of format {_FORMAT}")
            return cls.from_dict(content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ScenarioError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Scenario":
        """Make one from what :func:`dataclasses.asdict` gives."""
        made = cls(IommuConfig(**content["config"]))
        for key in ("name", "timing", "memory", "steps"):
            setattr(made, key, content[key])
        return made

    @property
    def translations(self) -> int:
        """Requests in it."""
        return sum(len(step[1]) for step in self.steps if step[0] == "g")


def parse_row(row: list[Any]) -> Request:
    """Return the request of a row."""
    kind, access, privileged, device_id, process_id, iova = row
    return Request(
        device_id=device_id,
        iova=iova,
        at=_TYPES[kind],
        process_id=process_id,
        write=access in "wy",
        execute=access in "xy",
        privileged=bool(privileged),
    )
