"""Simulated time in cycles, and what share of the processor's time Python takes."""

import time
from dataclasses import dataclass
from types import TracebackType

import cocotb._gpi_triggers
from cocotb.simtime import get_sim_time
from cocotb.triggers import Timer

__all__ = ["PERIOD_NS", "PythonClock", "Usage", "between_edges", "sleep"]

#: Nanoseconds of simulated time a cycle takes; rising edges are at odd nanoseconds.
PERIOD_NS = 2


def _at_edge() -> int:
    return int(get_sim_time("ns")) & 1


async def between_edges() -> None:
    """Return at a moment when no clock edge is, so that every simulator sees the same order."""
    if _at_edge():
        await Timer(PERIOD_NS // 2, "ns")


async def sleep(cycles: int) -> None:
    """Let ``cycles`` rising edges pass; returns between two edges."""
    if cycles > 0:
        await Timer(cycles * PERIOD_NS + _at_edge(), "ns")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Processor time of a run.

    Parameters
    ----------
    cycles : int
        Cycles of the design's clock.
    total_ns : int
        Processor time of the process, all threads.
    python_ns : int
        The part between the simulator's calls into Python and their return.
    """

    cycles: int
    total_ns: int
    python_ns: int

    @property
    def python_share(self) -> float:
        """Share of the processor time spent outside the simulator's own code."""
        return self.python_ns / self.total_ns if self.total_ns else 0.0

    @property
    def cycles_per_second(self) -> float:
        """Cycles per second of processor time."""
        return 1e9 * self.cycles / self.total_ns if self.total_ns else 0.0


class PythonClock:
    """Adds up the processor time between each entry into Python and the return to the simulator.

    cocotb runs everything that a callback wakes inside of one context manager, meant for its own
    profiler.  This object takes that place; two readings of the process's clock per wake-up are
    what it costs.  Outside stays only the call itself through VPI, about a microsecond.
    """

    def __init__(self) -> None:
        self._spent, self._depth = 0, 1  # whoever makes the clock is in Python
        self._entered = time.process_time_ns()

    @classmethod
    def installed(cls) -> "PythonClock":
        """Return the clock of this process."""
        current = cocotb._gpi_triggers.profiling_context  # type: ignore[attr-defined]
        if not isinstance(current, cls):
            current = cls()
            cocotb._gpi_triggers.profiling_context = current  # type: ignore[assignment]
            current._depth = 0
        return current

    def __enter__(self) -> None:
        if not self._depth:
            self._entered = time.process_time_ns()
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._spent += time.process_time_ns() - self._entered

    def read(self) -> tuple[int, int]:
        """Return the nanoseconds spent in Python and in the process so far."""
        now = time.process_time_ns()
        return self._spent + (now - self._entered if self._depth else 0), now
