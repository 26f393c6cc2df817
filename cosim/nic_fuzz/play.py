"""Plays a session on golden machine and RTL, and compares."""

from collections import Counter
from collections.abc import Awaitable
from typing import Any

from cosim.fuzz.failure import Failure
from cosim.guest.virtqueue import BrokenDevice
from cosim.nic_fuzz.hostile import Hostile, Observed
from cosim.nic_fuzz.session import DETERMINED, Session
from cosim.nic_fuzz.world import World
from cosim.nic_fuzz.wrong import Wrong
from models.spec.nic import QueueError

__all__ = ["compared", "observe"]


async def _noticed(work: Awaitable[None]) -> Wrong | None:
    """Let the correct drivers do something; returns what they notice."""
    try:
        await work
    except Wrong as wrong:
        return wrong
    return None


async def observe(world: World, session: Session, counts: Counter | None = None) -> list[Observed]:
    """Play a session on one machine; returns what came of each step.

    Raises
    ------
    Wrong
        If a correct driver has noticed something, or the function does not work any more.
    """
    counts = Counter() if counts is None else counts
    hostile = Hostile(world, session)
    found: list[Observed] = []
    where = f"{session.name}: start"
    try:
        await hostile.start()
        for number, (kind, *operands) in enumerate(session.steps):
            where = f"{session.name}: step {number} ({kind})"
            work = world.rebind(*operands[:2]) if kind == "rebind" else world.exchange()
            task = world.port.spawn(_noticed(work), "correct drivers")
            observed = await hostile.act(kind, *operands)
            if noticed := await task.join():
                raise noticed
            await world.unharmed()
            if kind not in DETERMINED:
                world.take_hostile()
                observed = {}
            found.append(observed)
            counts[kind] += 1
            if "expected" in observed:
                counts[f"{kind} {operands[0]}"] += 1
            counts.update(f"code {name}" for name in hostile.codes(observed))
        await hostile.end()
        where = f"{session.name}: end"
        counts.update(await world.settle())
    except (Wrong, BrokenDevice) as error:
        kind = error.kind if isinstance(error, Wrong) else "broken device"
        raise Wrong(kind, f"{where}: {error}") from None
    return found


def compared(session: Session, golden: list[Observed], rtl: list[Observed]) -> Failure | None:
    """Compare what came of a session; returns the first difference."""
    for number, (step, want, got) in enumerate(zip(session.steps, golden, rtl, strict=True)):
        where = f"{session.name}: step {number} ({step[0]})"
        for name in want:
            if want[name] != got[name]:
                told = _difference(want[name], got[name])
                return Failure(f"{step[0]} {name}", f"{where}: {name}: {told}")
        expected = want.get("expected")
        codes = [QueueError(code).name for code in want.get("errors", ()) if code]
        if expected is not None and codes != expected:
            return Failure(f"{step[0]} code", f"{where}: {step[1]}: {codes}, not {expected}")
    return None


def _difference(want: Any, got: Any) -> str:
    """The first part in which two values differ."""
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted(want.keys() | got.keys()):
            if want.get(key) != got.get(key):
                return f"{key}: {_difference(want.get(key), got.get(key))}"
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for place, (one, other) in enumerate(zip(want, got, strict=True)):
            if one != other:
                return f"[{place}] {_difference(one, other)}"
    return f"{str(got)[:200]}, the golden machine has {str(want)[:200]}"
