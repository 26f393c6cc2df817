"""What counts as a problem of a run."""

import pytest

from cosim.scenarios.result import FunctionResult, Hostile
from models.cache import HitCounts


def test_figures_that_are_missing_do_not_pass_for_equal():
    function = FunctionResult("guest1", 9, lookups=5, misses=2)
    assert function.counted_elsewhere(HitCounts(3, 2), "here") == []
    assert function.counted_elsewhere(HitCounts(2, 3), "here") == [
        "guest1: 5 lookups and 2 misses counted, 5 and 3 here"
    ]
    assert function.counted_elsewhere(None, "here") == [
        "guest1: 5 lookups and 2 misses counted, 0 and 0 here"
    ]


@pytest.mark.parametrize(
    ("kind", "error", "records", "problems"),
    [
        ("address", "BUFFER_ADDRESS", 1, 0),
        ("address", "BUFFER_ADDRESS", 0, 1),
        ("descriptor", "BAD_HEAD", 0, 0),
        ("descriptor", "NONE", 0, 1),
    ],
)
def test_harm_without_consequences_is_a_problem(kind, error, records, problems):
    hostile = Hostile("guest3", kind, error, records, requests_denied=0, withheld=4)
    assert len(hostile.problems) == problems
