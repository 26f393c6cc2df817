"""The RTL judged by an independent implementation's vectors."""

from pathlib import Path

from cosim.conformance.rtl_target import run
from cosim.conformance.vectors import find

HERE = Path(__file__).parent


def test_rtl_passes_all_that_its_configuration_covers():
    seen = []
    results = run(find([HERE]), seen.append)
    assert [text for result in results for text in result.failures] == []
    assert sum(result.passed for result in results) >= 20
    assert len(seen) == len(results) == 31
    reasons = {reason for result in results for reason in result.skipped}
    assert all(reason.startswith(("table form", "capability")) for reason in reasons), reasons
