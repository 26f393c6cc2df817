"""The table of what can go wrong with a page fault cannot rot."""

import re

import pytest

from models.manual.checklist import Reference, exists
from models.manual.files import ROOT
from models.spec import iommu_registers
from models.spec.config import config
from models.spec.nic import QueueError, Stat
from models.spec.pci import pf_space

TEXT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if re.match(r"\| \d+ \|", line)
]


def names(cell):
    """What a cell names."""
    return re.findall(r"`([^`]+)`", cell)


def counts(name):
    """Whether there is a counter or field of that name."""
    kind, _, member = name.partition(".")
    kinds = {"Stat": Stat, "QueueError": QueueError}
    if kind in kinds:
        return member in kinds[kind].__members__
    registers = {register.name: register for register in iommu_registers.REGISTERS}
    if kind in registers:
        return member in registers[kind].fields
    try:
        return member in pf_space(config("tiny").nic)[kind].fields
    except KeyError:
        return False


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_event_is_defined_counted_and_tested(row):
    assert len(row) == 5, "a stray bar"
    _, event, outcome, counters, tests = row
    assert event
    assert outcome
    assert counters == "nothing" or names(counters)
    for name in names(counters):
        assert counts(name), f"there is no {name}"
    assert names(tests)
    for name in names(tests):
        assert "::" in name
        assert exists(Reference("tests", name)), f"there is no {name}"


def test_rows_are_numbered():
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) > 30


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("Stat.PAGE_REQUESTS", True),
        ("Stat.PAGE_REQUEST", False),
        ("pqcsr.pqof", True),
        ("pqcsr.fqof", False),
        ("pri_status.stopped", True),
        ("pri_state.stopped", False),
    ],
)
def test_counters_are_looked_up(name, there):
    assert counts(name) == there
