"""What is run: guests, their functions, what they test."""

from dataclasses import dataclass, field, replace
from typing import Any

from models.spec.config import SystemConfig, config

__all__ = ["CASES", "Case"]

_BASIC = ("probe", "ping", "ping_large", "flood", "udp", "tcp")
_LIFE = ("rebind", "rebind_pci", "reset", "updown", "mtu", "tcp", "log")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case.

    Parameters
    ----------
    name, what : str
        What users call it, and what it shows.
    architecture : str
        Of the guests: Debian's name.
    tests : tuple of str
        Of ``guest.sh``, in order.
    paged : bool
        Pages are not present at first, and are taken away again; else all are there.
    ats : bool
        The function translates by ATS.
    nic : dict
        Members of :class:`~models.spec.config.NicConfig` that differ from the configuration's.
    flood : int
        Pings of the test ``flood``.
    payload : int
        Bytes of the file that is moved by UDP and TCP.
    memory_mb : int
        RAM of a guest.
    """

    name: str
    what: str
    architecture: str = "amd64"
    tests: tuple[str, ...] = _BASIC + _LIFE
    paged: bool = False
    ats: bool = False
    nic: dict[str, Any] = field(default_factory=dict)
    flood: int = 100
    payload: int = 60_000
    memory_mb: int = 128

    def system(self, name: str) -> SystemConfig:
        """Return the hardware: a named configuration with this case's changes."""
        base = config(name)
        return replace(base, nic=replace(base.nic, **self.nic))


CASES = {
    case.name: case
    for case in (
        Case(name="amd64-vf", what="a VF, all memory present behind a second stage"),
        Case(
            name="amd64-paged",
            what="no page present at first, and pages taken away under traffic: ATS, PRI, retry",
            paged=True,
            ats=True,
        ),
    )
}
