"""``docs/conformance.md``: the table from the specification to files, functions and tests.

It is written by hand; what it names is looked up here.  ``python -m models.manual.checklist`` takes
the mark TODO from names that have come to be, and lists the others.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from models.manual.files import ROOT

__all__ = ["PATH", "Reference", "Row", "exists", "read", "settle", "topics"]

PATH = ROOT / "docs" / "conformance.md"
#: Folders in which the names of each column are.
_FOLDERS = {"rtl": "rtl/iommu", "golden": "models/iommu", "tests": "tests"}
_TODO, _VECTORS = "TODO:", "vectors:"
_VECTOR_FILES = ROOT / "tests" / "conformance"
_REFERENCE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Reference:
    """A name in one of the columns: a file, and perhaps something in it."""

    column: str
    text: str

    @property
    def todo(self) -> bool:
        """Whether it is yet to be."""
        return self.text.startswith(_TODO)

    @property
    def name(self) -> str:
        """The name without its mark."""
        return self.text.removeprefix(_TODO)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    number: str
    item: str
    references: tuple[Reference, ...]

    def of(self, column: str) -> list[Reference]:
        """References of one column."""
        return [reference for reference in self.references if reference.column == column]


def read(text: str) -> list[Row]:
    """Rows of the document."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or not re.fullmatch(r"\d+\.\d+", cells[0]):
            continue
        if len(cells) != 5:
            raise ValueError(f"Row {cells[0]} has {len(cells)} cells, not 5")
        references = [
            Reference(column, found)
            for column, cell in zip(_FOLDERS, cells[2:], strict=True)
            for found in _REFERENCE.findall(cell)
        ]
        rows.append(Row(cells[0], cells[1], tuple(references)))
    return rows


def topics() -> set[str]:
    """Topics of the conformance vectors."""
    return {path.name.partition(".")[0] for path in _VECTOR_FILES.glob("*.jsonl.gz")}


@cache
def _names(path: Path) -> frozenset[str]:
    """Classes and functions of a file; methods with the class before them."""

    def inside(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{node.name}.")

    return frozenset(inside(ast.parse(path.read_text(encoding="utf-8")).body))


def exists(reference: Reference) -> bool:
    """Whether what a name stands for is there."""
    name = reference.name
    if name.startswith(_VECTORS):
        return reference.column == "tests" and name.removeprefix(_VECTORS) in topics()
    file, _, inside = name.partition("::")
    # A path from the top, or one in the column's folder.
    path = ROOT / file if file.startswith("rtl/bus/") and reference.column == "rtl" else None
    path = path or ROOT / _FOLDERS[reference.column] / file
    return path.is_file() and (not inside or inside in _names(path))


def settle(text: str) -> str:
    """Take the mark from what has come to be."""
    for row in read(text):
        for reference in row.references:
            if reference.todo and exists(reference):
                text = text.replace(f"`{reference.text}`", f"`{reference.name}`")
    return text


def main() -> None:
    """Settle the document and list its holes."""
    before = PATH.read_text(encoding="utf-8")
    after = settle(before)
    if after != before:
        PATH.write_text(after, encoding="utf-8")
        print(f"wrote {PATH.relative_to(ROOT)}")
    rows = read(after)
    holes = [(row, reference) for row in rows for reference in row.references if reference.todo]
    for row, reference in holes:
        print(f"{row.number}: no {reference.name} ({reference.column}): {row.item}")
    print(f"{len(rows)} rows, {len(holes)} holes")


if __name__ == "__main__":
    main()
