"""What runs on the RTL have hit: causes, rows of commands, pairs of page sizes, ATS outcomes.

Runs without a failure add to a file.  What a request came to is known from the golden IOMMU, with
which the RTL has just agreed.
"""

import json
import os
from pathlib import Path
from typing import Any

from cosim.conformance.replayer import replay
from cosim.conformance.sync import finish
from cosim.conformance.vectors import VectorFile
from models.iommu import Parameters, Request, Response
from models.spec.config import IommuConfig, config
from models.spec.iommu import Cause

from .commands import rows
from .oracle import Facts, Judged, Oracle
from .statistics import Statistics, size_name

__all__ = ["COVERAGE_FILE", "CoverageError", "add", "cover", "holes", "main", "required"]

COVERAGE_FILE = Path("build/coverage.json")
_TOPICS = ("causes", "rows", "pages", "ats")
#: Never reported: DMA is cut at the bus, so nothing is misaligned; 272 has no occasion; 264 and
#: 271 are the bridge's, which has tests of its own.
_NO_OCCASION = {
    Cause.READ_ADDRESS_MISALIGNED,
    Cause.WRITE_ADDRESS_MISALIGNED,
    Cause.INTERNAL_ERROR,
    Cause.MRIF_ACCESS_FAULT,
    Cause.MRIF_CORRUPTION,
}


class CoverageError(Exception):
    """No coverage to report; the message is one line."""


class _Observer(Oracle):
    """A target for replays that counts."""

    def __init__(self, parameters: Parameters, statistics: Statistics) -> None:
        self._statistics = statistics
        super().__init__(parameters)

    def _listen(self) -> None:
        super()._listen()
        queue = self.iommu._commands

        def counted(do: Any) -> Any:
            def command(bits: int) -> None:
                do(bits)
                self._statistics.command(bits)

            return command

        for opcode, do in list(queue._do.items()):
            queue._do[opcode] = counted(do)

    async def translate(self, requests: list[Request]) -> list[Response]:
        """Answer requests and count what they came to."""
        responses = []
        for request in requests:
            self._facts = Facts()
            responses.append(self.iommu.translate(request))
            self._statistics.request(Judged(request, responses[-1], None, self._facts))
        return responses

    def records_seen(self) -> None:
        """Count causes of the fault records."""
        for record in self.take_records():
            self._statistics.record(int.from_bytes(record[:8], "little") & 0xFFF)


def cover(file: VectorFile, numbers: set[int], parameters: Parameters) -> None:
    """Add what scenarios of a file hit, which the RTL has passed."""
    statistics = Statistics()
    observer = _Observer(parameters, statistics)
    for number, scenario in enumerate(file):
        if number in numbers:
            finish(replay(scenario, observer, file.header.parameters))
            observer.records_seen()
    add(statistics)


def add(statistics: Statistics, path: Path = COVERAGE_FILE) -> None:
    """Add a run to the file."""
    total = Statistics()
    if path.exists():
        total = Statistics.from_dict(_load(path))
    total.add(statistics)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(total.as_dict(), indent=1), encoding="utf-8")
    os.replace(temporary, path)


def _load(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CoverageError(f"{path}: not there; run conformance or fuzz on the RTL") from None
    except (OSError, ValueError) as error:
        raise CoverageError(f"{path}: cannot be read ({error})") from None


def _pairs() -> list[str]:
    wide = [size_name(size) for size in (64, 12, 16, 21, 30, 39, 48)]
    found = [f"{first} x {second}" for first in wide for second in [*wide, "MSI"]]
    narrow = ["4M", "4K"]
    found += [f"{first} x {second}" for first in narrow for second in narrow]
    found += ["4M x Bare", "Bare x 4M", "4M x 2M", "4M x 1G", "4M x 64K", "4M x MSI"]
    return list(dict.fromkeys(found))


def required(full: IommuConfig | None = None) -> dict[str, list[str]]:
    """Everything that must have been hit, by topic."""
    full = full or config("full").iommu
    return {
        "causes": [str(int(cause)) for cause in Cause if cause not in _NO_OCCASION],
        "rows": [*rows(full), "illegal"],
        "pages": _pairs(),
        "ats": [
            *("UNSUPPORTED_REQUEST", "COMPLETER_ABORT", "SUCCESS none", "SUCCESS r"),
            *("SUCCESS rw", "SUCCESS rx", "SUCCESS rwx", "SUCCESS rw priv", "SUCCESS rw glob"),
            "SUCCESS rw MRIF",
        ],
    }


def holes(statistics: Statistics) -> dict[str, list[str]]:
    """What has not been hit."""
    return {
        topic: [item for item in wanted if not getattr(statistics, topic)[item]]
        for topic, wanted in required().items()
    }


def main(path: Path = COVERAGE_FILE) -> int:
    """Print the table; returns 1 if there is a hole."""
    statistics = Statistics.from_dict(_load(path))
    missing = holes(statistics)
    for topic, wanted in required().items():
        print(f"{topic}: {len(wanted) - len(missing[topic])} of {len(wanted)}")
        for item in wanted:
            count = getattr(statistics, topic)[item]
            print(f"  {item:<34} {count if count else 'HOLE'}")
    return int(any(missing.values()))
