"""Makes a failing scenario small: drops steps, requests, commands and stores while it still fails.

Delta debugging (Zeller): blocks of halving size are left out, greedily, in parts that are coarse
first.  Every trial is a whole play from reset; one that fails in another way does not count.

The 16 equal entries of a NAPOT page go together: what fewer of them mean is not defined.  What
software stored to tables stays together with the invalidations that came after it, and with the
registers that let them be done: without them caches may go on with what was there before, and
another failure, of nobody, would be found.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from models.spec.iommu import CommandOpcode

from .failure import Failure
from .scenario import Scenario

__all__ = ["shrink", "without"]

#: Members of steps that are lists which can be shortened, by kind of step.
_LISTS = {"g": (1, 2), "c": (1,), "m": (1,)}


async def without(items: list, keep: Callable[[list], Awaitable[bool]]) -> list:
    """Leave out of a list what is not needed for ``keep``; returns what is left."""
    size = max(len(items) // 2, 1)
    while items:
        start, shorter = 0, False
        while start < len(items):
            fewer = items[:start] + items[start + size :]
            if await keep(fewer):
                items, shorter = fewer, True
            else:
                start += size
        if size == 1 and not shorter:
            break
        size = max(size // 2, 1)
    return items


async def shrink(
    scenario: Scenario,
    play: Callable[[Scenario], Awaitable[Failure | None]],
    *,
    seconds: float = 600.0,
    say: Callable[[str], None] = lambda text: None,
) -> Scenario:
    """Return a smaller scenario that fails in the same way; after ``seconds`` the smallest so far.

    One that does not fail when it is played alone is returned as it is.
    """
    end, best = time.monotonic() + seconds, scenario
    first = await play(scenario)
    if first is None:
        return scenario
    kind = first.kind

    async def attempt(**changes: Any) -> bool:
        nonlocal best
        if time.monotonic() > end:
            return False
        smaller = replace(best, **changes)
        if not _sound(best.steps, smaller.steps):
            return False
        failure = await play(smaller)
        if failure is None or failure.kind != kind:
            return False
        best = smaller
        return True

    def size() -> tuple[int, int]:
        inner = sum(len(s[i]) for s in best.steps for i in _LISTS.get(s[0], ()))
        return len(best.steps) + inner, len(best.memory)

    before = None
    while before != size() and time.monotonic() < end:
        before = size()
        await without(best.steps, lambda steps: attempt(steps=steps))
        for number in reversed(range(len(best.steps))):
            for member in _LISTS.get(best.steps[number][0], ()):

                async def shorter(groups: list, n: int = number, m: int = member) -> bool:
                    return await attempt(steps=_with(best.steps, n, m, _joined(groups)))

                items = best.steps[number][member]
                stores = best.steps[number][0] == "m"
                await without(_groups(items) if stores else [[i] for i in items], shorter)
        await without(_groups(best.memory), lambda groups: attempt(memory=_joined(groups)))
        say(f"{len(best.steps)} steps, {best.translations} requests, {len(best.memory)} stores")
    return best


def _groups(stores: list[list[int]]) -> list[list[list[int]]]:
    """Stores in groups: equal values, one after the other in memory, are entries of one page."""
    groups: list[list[list[int]]] = []
    for store in stores:
        address, size, value = groups[-1][-1] if groups else (-1, 0, 0)
        if store == [address + size, size, value]:
            groups[-1].append(store)
        else:
            groups.append([store])
    return groups


def _joined(groups: list[list]) -> list:
    return [item for group in groups for item in group]


def _invalidations(steps: list[list[Any]]) -> list[int]:
    lists = [s[i] for s in steps for i in {"g": (2,), "c": (1,)}.get(s[0], ())]
    kinds = (CommandOpcode.IOTINVAL, CommandOpcode.IODIR)
    return [command for commands in lists for command in commands if command & 0x7F in kinds]


def _sound(steps: list[list[Any]], fewer: list[list[Any]]) -> bool:
    """Whether no invalidation is gone that comes after a store to tables that is still there."""
    first = next((n for n, step in enumerate(fewer) if step[0] == "m"), None)
    if first is None:
        return True
    if [step for step in steps if step[0] == "w"] != [step for step in fewer if step[0] == "w"]:
        return False
    before = first  # of the same number of steps, one is shorter
    if len(steps) != len(fewer):
        before = next(n for n, step in enumerate(steps) if step is fewer[first])
    return _invalidations(steps[before:]) == _invalidations(fewer[first:])


def _with(steps: list[list[Any]], number: int, member: int, items: list) -> list[list[Any]]:
    step = [*steps[number][:member], items, *steps[number][member + 1 :]]
    return [*steps[:number], step, *steps[number + 1 :]]
