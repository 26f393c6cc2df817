"""A session: what a hostile driver does, step by step.  Plain data, so that it can be kept.

Steps, by their first member:

=================================================  ===============================================
``["post", queue, fresh, [chain...], [size...],    chains for an idle queue, reset before if
wish]``                                            ``fresh``; then frames from the wire
``["way", name, wish]``                            one of :data:`cosim.guest.malformed.WAYS`
``["control_way", name, area]``                    one of ``OF_CONTROL_QUEUES`` there, or
                                                   ``ring-address``, to the control queue
``["memory_way", name, queue, area]``              one of ``memory_ways.MEMORY_WAYS``
``["control", [chain...], wish]``                  commands for the control queue
``["registers", [[name, value]...], [queue...]]``  stores to a device that was reset; doorbells
``["chaos", queue, area, offset, hex, [chain...]]``  chains, and at once bytes over a ring
``["poke", queue, [chain...],                      chains, and meanwhile stores, and where ``value``
[[offset, size, value]...]]``                      is ``None`` loads, anywhere in the BAR
``["reset", kind, delay, queue, [chain...]]``      chains, and ``delay`` cycles later a reset:
                                                   ``function``, ``device`` or ``queue``
``["evict", function, [page...]]``                 pages of a guest's RAM are taken away
``["rebind", function, delay, queue, [chain...]]``  a correct driver shuts down after ``delay``
                                                   cycles of traffic and starts again, and so does
                                                   the hostile one with chains under way
``["setup", driver]``                              the hostile driver starts again otherwise
=================================================  ===============================================

What comes of ``post``, ``control``, ``registers`` and the ways is determined, and compared; of the
others only that nobody else notices, and that the function works afterwards.  A ``wish`` is what
the driver asks for of interrupts (``interrupts.py``).

A chain is ``{"table", "odd", "flags", "pieces", "head", "seed"}``: whether it is in an indirect
table, bytes by which the table's length is wrong, more flags of the descriptor that refers to it,
the first bytes of what a transmitter sends, and the seed of the others.  A piece is
``[flags, length, gap, next, address]``: ``gap`` bytes lie before it, ``next`` is ``None`` for the
one that follows, ``address`` is ``None`` for memory of the guest's own.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DETERMINED", "Session", "SessionError"]

_FORMAT = "iovirt-nic-fuzz/1"
#: Steps of which everything is compared.
DETERMINED = ("post", "way", "control_way", "memory_way", "control", "registers")


class SessionError(Exception):
    """A file that is no session; the message is one line."""


@dataclass
class Session:
    """One session.

    Parameters
    ----------
    name : str
        Also its seed.
    ats : bool
        Whether the hostile function waits for pages.
    driver : dict
        ``features`` that it accepts, ``size`` and number of ``pairs`` of its queues.
    paging : dict
        Empty: all memory of guests is the host's own.  Else a pager has it that evicts at random,
        some pages every ``pause`` cycles; it has so many ``frames``, may have ``compression`` and
        ``sharing``, and the ``hostile`` guest's memory too.
    trusted : bool
        Whether the hypervisor lets the hostile function send and receive what is others'.
    vlan : dict
        Empty: no function has a VLAN of its own.  Else the correct drivers' have ``vid``, and send
        with ``priority``; the hostile one's has ``hostile``, 0 for none.
    steps : list
    """

    name: str = ""
    ats: bool = True
    trusted: bool = True
    driver: dict[str, int] = field(default_factory=dict)
    paging: dict[str, int] = field(default_factory=dict)
    vlan: dict[str, int] = field(default_factory=dict)
    steps: list[list[Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write a file."""
        content = asdict(self) | {"format": _FORMAT}
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Session":
        """Read a file."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format", None) != _FORMAT:
                raise SessionError(f"{path}: not of format {_FORMAT}")
            return cls(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SessionError(f"{path}: {error}") from None
