"""What a planted bug is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """One bug: what to replace, and the tests that must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    select: str = ""
    slow: bool = False  # builds a simulation
    often: bool = False  # one of the fast tests
