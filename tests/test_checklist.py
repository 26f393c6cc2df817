"""The table from the specification to files, functions and tests cannot rot."""

from pathlib import Path

import pytest

from models.manual.checklist import PATH, Reference, exists, read, settle, topics

TEXT = PATH.read_text(encoding="utf-8")
ROWS = read(TEXT)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_every_name_is_there(row):
    for column in ("rtl", "golden", "tests"):
        assert row.of(column), f"nothing in column {column}"
    for reference in row.references:
        if reference.todo:
            assert not exists(reference), f"{reference.name} is there: take the TODO away"
        else:
            assert exists(reference), f"there is no {reference.name}"


def test_rows_are_numbered():
    numbers = [row.number for row in ROWS]
    assert len(set(numbers)) == len(numbers) > 100
    keys = [tuple(map(int, number.split("."))) for number in numbers]
    assert keys == sorted(keys)


def test_every_topic_of_the_vectors_is_used():
    used = {r.name for row in ROWS for r in row.of("tests") if r.name.startswith("vectors:")}
    assert used == {f"vectors:{topic}" for topic in topics()}


def test_every_test_file_of_the_iommu_is_used():
    used = {r.name.partition("::")[0] for row in ROWS for r in row.of("tests")}
    folder = Path(__file__).parent / "rtl" / "iommu"
    names = {f"rtl/iommu/{path.name}" for path in folder.glob("test_*.py")}
    assert names - used <= {"rtl/iommu/test_client_mux.py"}


def test_nothing_is_missing():
    assert not [r.name for row in ROWS for r in row.references if r.todo]


@pytest.mark.parametrize(
    ("column", "name", "there"),
    [
        ("rtl", "walker.py", True),
        ("rtl", "wanderer.py", False),
        ("rtl", "rtl/bus/registers.py", True),
        ("golden", "walk.py::Walker.first_stage", True),
        ("golden", "walk.py::first_stage", False),
        ("golden", "walk.py::Walker.third_stage", False),
        ("tests", "test_checklist.py::test_rows_are_numbered", True),
        ("tests", "test_checklist.py::test_rows", False),
        ("tests", "vectors:pdt", True),
        ("tests", "vectors:pdp", False),
        ("rtl", "vectors:pdt", False),
        ("golden", "TODO:walk.py", True),
    ],
)
def test_names_are_looked_up(column, name, there):
    assert exists(Reference(column, name)) == there


def test_marks_go_when_things_come():
    line = "| 1.1 | x | `TODO:walker.py` | `TODO:none.py` | `vectors:pdt` |"
    assert settle(line) == "| 1.1 | x | `walker.py` | `TODO:none.py` | `vectors:pdt` |"


def test_a_row_with_a_stray_bar_is_refused():
    with pytest.raises(ValueError, match=r"Row 1\.1 has 6 cells"):
        read("| 1.1 | a | b | `c` | `d` | `e` |")
