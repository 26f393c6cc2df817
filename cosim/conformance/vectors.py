"""Files of vectors: gzipped JSON lines, a header and then one scenario a line."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.directory import directory_levels
from models.iommu import Capabilities, Parameters
from models.spec.iommu_registers import FCTL

__all__ = ["FORMAT", "SUFFIX", "Header", "Scenario", "VectorError", "VectorFile", "find"]

FORMAT = "iovirt-iommu-vectors/1"
SUFFIX = ".jsonl.gz"
#: What the vectors leave open: invalidation requests outstanding, and the largest LOG2SZ.
_ITAGS, _QUEUE_ENTRIES_LOG2_MAX = 2, 16


class VectorError(Exception):
    """A file that is missing, broken, or of another format; the message is one line."""


@dataclass(frozen=True)
class Header:
    """First line of a file."""

    topic: str
    profile: str
    parameters: Parameters


@dataclass(frozen=True)
class Scenario:
    """One test: memory at its start, and steps."""

    name: str
    memory: list[list[str]]
    steps: list[list[Any]]


def _header(line: dict[str, Any]) -> Header:
    config = line["config"]
    capabilities = Capabilities.from_bits(int(line["capabilities"], 16))
    writable = sum(FCTL[name.lower()].mask for name in config["fctl_writable"])
    parameters = Parameters(
        capabilities=capabilities,
        fctl=int(line["fctl"], 16),
        fctl_writable=writable,
        ddt_levels=directory_levels(
            int(config["max_devid_mask"], 16), extended=bool(capabilities.msi_flat)
        ),
        hpm_counters=config["hpm_counters"],
        hpm_bits=config["hpm_bits"],
        vector_bits=config["vector_bits"],
        queue_entries_log2_max=_QUEUE_ENTRIES_LOG2_MAX,
        itags=_ITAGS,
    )
    return Header(line["topic"], line["profile"], parameters)


class VectorFile:
    """One file, read whole so that a broken one is found before anything runs.

    Raises
    ------
    VectorError
        If it cannot be read to its end or its header is not of this format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                first, *self._lines = file.read().splitlines()
        except FileNotFoundError:
            raise VectorError(f"{path}: no such file") from None
        except EOFError:
            raise VectorError(f"{path}: truncated") from None
        except (OSError, zlib.error, UnicodeDecodeError) as error:
            raise VectorError(f"{path}: cannot be read ({error})") from None
        except ValueError:
            raise VectorError(f"{path}: empty") from None
        line = self._parse(first, 1)
        if line.get("format") != FORMAT:
            raise VectorError(f"{path}: format {line.get('format')!r}, not {FORMAT!r}")
        try:
            self.header = _header(line)
        except (KeyError, TypeError, ValueError) as error:
            raise VectorError(f"{path}: bad header ({error!r})") from None

    def _parse(self, line: str, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            raise VectorError(f"{self.path}: line {number} is not JSON") from None
        if not isinstance(value, dict):
            raise VectorError(f"{self.path}: line {number} is not an object")
        return value

    @property
    def name(self) -> str:
        """Name without folder and suffix."""
        return self.path.name.removesuffix(SUFFIX)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Scenario]:
        for number, text in enumerate(self._lines, 2):
            line = self._parse(text, number)
            try:
                yield Scenario(line["name"], line["memory"], line["steps"])
            except KeyError as error:
                raise VectorError(f"{self.path}: line {number} has no {error}") from None


def find(paths: list[Path]) -> list[VectorFile]:
    """Open files, and all files of vectors in folders."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob(f"*{SUFFIX}"))
            if not inside:
                raise VectorError(f"{path}: no *{SUFFIX} in this folder")
            files += inside
        else:
            files.append(path)
    if not files:
        raise VectorError("no files of vectors given")
    return [VectorFile(path) for path in files]
