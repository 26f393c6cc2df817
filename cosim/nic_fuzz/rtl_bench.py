"""Plays sessions on golden machine and RTL; runs inside of the simulator.

Options: ``files`` to replay, or ``seed``, ``sessions`` and ``steps`` (of one) to generate from;
``sizes`` of queues; ``paged``, whether a pager is beneath; ``failure``, where to put what failed,
and ``shrinking``, seconds for that.
"""

import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import cocotb

from cosim.bench.machine import Bench, Machine, options, report
from cosim.fuzz.failure import Failure
from cosim.fuzz.shrink import without
from cosim.golden_machine import GoldenMachine
from cosim.guest.features import KNOWN_FEATURES
from cosim.nic_fuzz.generator import generate
from cosim.nic_fuzz.play import compared, observe
from cosim.nic_fuzz.session import Session
from cosim.nic_fuzz.world import HOST_BASE, HOST_BYTES, World
from cosim.nic_fuzz.wrong import Wrong
from models.spec.config import SystemConfig
from models.spec.virtio import Feature

__all__ = ["sessions"]


def _sessions(asked: dict[str, Any]) -> Iterator[Session]:
    for path in asked.get("files", []):
        yield Session.load(Path(path))
    if "files" not in asked:
        for number in range(asked["first"], asked["first"] + asked["sessions"]):
            name = f"{asked['seed']}/{number}"
            yield generate(
                name,
                steps=asked["steps"],
                sizes=tuple(asked["sizes"]),
                paged=asked.get("paged"),
            )


class _Rtl(Machine):
    """The RTL; software on it can be stopped."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._tasks: list[Any] = []

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> Any:
        """Start a task."""
        task = super().spawn(coroutine, name)
        self._tasks = [one for one in self._tasks if not one.done] + [task]
        return task

    def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        self.bench.stop()


class _Both:
    """Golden machine and RTL after reset, with a world on each."""

    def __init__(self, dut, session: Session) -> None:
        name, bench = session.name, Bench(dut)
        config = bench.built.design.arguments[0]
        assert isinstance(config, SystemConfig)
        bench.memory.map(HOST_BASE, HOST_BYTES)
        for number, manager in enumerate(("memory", "tables")):
            bench.timing(manager, latency=20, jitter=20, seed=number)
        self.rtl = _Rtl(bench)
        self.golden = GoldenMachine(config, memory_base=HOST_BASE, memory_bytes=HOST_BYTES)
        split = Random(name).random() < 0.5
        self._worlds = [
            World(
                port,
                config,
                features=KNOWN_FEATURES & ~(split << Feature.RING_PACKED),
                seed=name,
                paging=session.paging,
                vlan=session.vlan,
            )
            for port in (self.golden, self.rtl)
        ]

    async def start(self) -> None:
        await self.rtl.bench.start()
        self.golden.run(self._worlds[0].start())
        await self._worlds[1].start()

    async def play(self, session: Session, counts: Counter) -> Failure | None:
        """Play a session on both; returns what went wrong."""
        try:
            golden = self.golden.run(observe(self._worlds[0], session))
        except Wrong as error:
            return Failure(f"golden {error.kind}", f"on the golden machine: {error}")
        try:
            rtl = await observe(self._worlds[1], session, counts)
        except Wrong as error:
            return Failure(error.kind, str(error))
        return compared(session, golden, rtl)


async def _alone(dut, session: Session, counts: Counter):
    """Play a session after reset; returns what went wrong, and the cycles that it took."""
    both = _Both(dut, session)
    await both.start()
    failure = await both.play(session, counts)
    both.rtl.stop()
    return failure, both.rtl.now()


@cocotb.test()
async def sessions(dut) -> None:
    """Play until there are no more, or one failed."""
    asked = options()
    counts, told, cycles, played = Counter(), "", 0, 0
    began = time.monotonic()
    for session in _sessions(asked):
        failure, more = await _alone(dut, session, counts)
        cycles += more
        if failure:
            told = failure.what
            print(told, file=sys.stderr, flush=True)
            if asked.get("failure"):
                session = await _smaller(dut, asked, session, failure)
                session.save(Path(asked["failure"]))
            break
        played += 1
        if asked.get("progress"):
            print(f"{session.name}: {more} cycles", file=sys.stderr, flush=True)
    report(
        {
            "failure": told,
            "sessions": played,
            "counts": dict(counts),
            "cycles": cycles,
            "seconds": time.monotonic() - began,
        }
    )


async def _smaller(dut, asked: dict[str, Any], session: Session, first: Failure) -> Session:
    """Leave out steps while the session still fails in the same way."""
    end, best = time.monotonic() + asked["shrinking"], session

    async def fails(steps: list[list[Any]]) -> bool:
        nonlocal best
        if time.monotonic() > end:
            return False
        shorter = replace(session, steps=steps)
        failure, _ = await _alone(dut, shorter, Counter())
        if failure is None or failure.kind != first.kind:
            return False
        best = shorter
        return True

    await without(session.steps, fails)
    return best
