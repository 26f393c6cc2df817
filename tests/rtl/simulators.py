"""Simulators that are compiled once, for all tests of one design in a process.

Compiling a block takes seconds, its test often less.  What a simulation leaves behind is cleared
by hand: Amaranth 0.5 offers no way to take a testbench out again.
"""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from amaranth.sim import Simulator
from amaranth.sim._async import AsyncProcess

__all__ = ["built", "simulator"]

_PERIOD = 1e-9
#: Designs that are kept.
_KEPT = 3


@lru_cache(maxsize=_KEPT)
def built(component: Callable[..., Any], *arguments: Hashable, **options: Hashable) -> Any:
    """Make a component, or return the one that was made of the same arguments before."""
    return component(*arguments, **options)


class _Compiled:
    """A simulator as it was before its first testbench."""

    def __init__(self, dut) -> None:
        self.simulator = Simulator(dut)
        self.simulator.add_clock(_PERIOD)
        self._engine: Any = self.simulator._engine
        self._wakers = [list(slot.wakers) for slot in self._engine.state.slots]

    def rewind(self) -> Simulator:
        """Return it without testbenches, and all state as after reset."""
        engine = self._engine
        engine._testbenches.clear()
        engine._active_triggers.clear()
        for process in [p for p in engine._processes if isinstance(p, AsyncProcess)]:
            engine._processes.remove(process)
        state = engine.state
        for number, slot in enumerate(state.slots):
            slot.wakers[:] = self._wakers[number] if number < len(self._wakers) else []
        engine._delta_cycles = 0
        self.simulator.reset()
        return self.simulator


@lru_cache(maxsize=_KEPT)
def _compiled(dut) -> _Compiled:
    return _Compiled(dut)


def simulator(dut) -> Simulator:
    """Return a simulator of ``dut`` with a clock, in its state after reset."""
    return _compiled(dut).rewind()
