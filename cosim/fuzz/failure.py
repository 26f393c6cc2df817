"""How a play failed: a kind, which shrinking keeps, and words for people."""

from dataclasses import dataclass

from cosim.conformance.rows import Mismatch

__all__ = ["Differs", "Failure"]


class Differs(Mismatch):
    """A mismatch with a kind: what differs, without numbers that other scenarios would change."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class Failure:
    """Why a play ended early.

    Parameters
    ----------
    kind : str
        Failures of one kind are taken for the same one.
    what : str
        One line.
    """

    kind: str
    what: str

    @classmethod
    def of(cls, mismatch: Mismatch) -> "Failure":
        """Failure that a mismatch is; those without a kind are breaches of a port's protocol."""
        return cls(getattr(mismatch, "kind", "protocol"), str(mismatch))

    def __str__(self) -> str:
        return self.what
