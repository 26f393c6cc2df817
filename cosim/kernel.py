"""A deterministic discrete-event scheduler, counted in cycles, for software without a simulator.

It offers the tasks, events and sleeping of :class:`cosim.port.Port`, so that guest and hypervisor
code runs unchanged on a golden machine.  Within a cycle, things happen in the order in which they
were scheduled; two runs of the same program are the same.
"""

import heapq
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from typing import Any

__all__ = ["Event", "Kernel", "Stuck", "Task"]


class Stuck(RuntimeError):
    """Nothing is scheduled, yet the main task has not ended."""


class _Suspend:
    """What a coroutine yields to the kernel: whom to tell that the task waits."""

    def __init__(self, register: Callable[["Task", int], None]):
        self._register = register

    def __await__(self) -> Generator["_Suspend", None, None]:
        yield self

    def register(self, task: "Task", turn: int) -> None:
        self._register(task, turn)


class Event:
    """A flag that tasks wait for; a :class:`cosim.port.Event`."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self._set = False
        self._waiting: list[tuple[Task, int]] = []

    @property
    def is_set(self) -> bool:
        """Whether :meth:`set` was called since the last :meth:`clear`."""
        return self._set

    def set(self) -> None:
        """Set the flag and wake who waits, in the order of their waiting."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for task, turn in waiting:
            self._kernel._wake(task, turn, 0)

    def clear(self) -> None:
        """Clear the flag."""
        self._set = False

    async def wait(self) -> None:
        """Return when the flag is set, at once if it is."""
        if not self._set:
            await _Suspend(lambda task, turn: self._waiting.append((task, turn)))


class Task:
    """A coroutine that runs on its own; a :class:`cosim.port.Task`."""

    def __init__(self, kernel: "Kernel", coroutine: Coroutine[Any, Any, Any], name: str):
        self.name = name or getattr(coroutine, "__qualname__", "task")
        self._kernel, self._coroutine = kernel, coroutine
        self._ended = Event(kernel)
        self._joined = False
        self._turn = 0
        self._started = self._cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, also by an exception."""
        return self._ended.is_set

    async def join(self) -> Any:
        """Wait for its end; return its result or raise its exception."""
        self._joined = True
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> None:
        """End it where it waits: ``CancelledError`` is raised there, and by :meth:`join`."""
        if not self.done:
            self._cancelled = True
            self._turn += 1
            self._kernel._wake(self, self._turn, 0)

    def _step(self) -> None:
        self._turn += 1
        try:
            if not self._cancelled:
                request = self._coroutine.send(None)
            elif not self._started:
                self._coroutine.close()
                raise CancelledError
            else:
                self._cancelled = False
                request = self._coroutine.throw(CancelledError())
        except StopIteration as end:
            self._result = end.value
        except BaseException as error:
            self._error = error
            if not self._joined and not isinstance(error, CancelledError):
                self._kernel._failed = self._kernel._failed or self
        else:
            self._started = True
            if not isinstance(request, _Suspend):
                raise TypeError(f"{self.name} awaits {request!r}, which is not of this kernel")
            request.register(self, self._turn)
            return
        self._ended.set()


class Kernel:
    """Time, tasks and events.

    :meth:`now`, :meth:`sleep`, :meth:`spawn` and :meth:`event` are those of
    :class:`cosim.port.Port`.
    """

    def __init__(self) -> None:
        self._now = 0
        self._order = count()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._failed: Task | None = None

    def now(self) -> int:
        """Return the current cycle."""
        return self._now

    async def sleep(self, cycles: int) -> None:
        """Let ``cycles`` pass; none or fewer gives way to what is scheduled in this cycle."""
        await _Suspend(lambda task, turn: self._wake(task, turn, max(0, cycles)))

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> Task:
        """Start a task, in this cycle.  An exception that nobody joins ends the run."""
        task = Task(self, coroutine, name)
        self._wake(task, 0, 0)
        return task

    def event(self) -> Event:
        """Make a new event."""
        return Event(self)

    def call_later(self, cycles: int, function: Callable[[], None]) -> None:
        """Call a plain function ``cycles`` from now."""
        heapq.heappush(self._queue, (self._now + cycles, next(self._order), function))

    def run(self, main: Coroutine[Any, Any, Any], *, limit: int | None = None) -> Any:
        """Run until ``main`` ends and return its result; other tasks stay where they are.

        Raises what a task raised that nobody joins, ``TimeoutError`` when ``limit`` cycles have
        passed, and :class:`Stuck` when nothing is left that could wake anybody.
        """
        task = self.spawn(main)
        task._joined = True
        end = None if limit is None else self._now + limit
        while not task.done:
            if not self._queue:
                raise Stuck(f"cycle {self._now}: {task.name} waits for what cannot happen")
            cycle, _, function = heapq.heappop(self._queue)
            if end is not None and cycle > end:
                raise TimeoutError(f"{task.name} has not ended after {limit} cycles")
            self._now = cycle
            function()
            if self._failed is not None:
                failed, self._failed = self._failed, None
                assert failed._error is not None
                raise failed._error
        if task._error is not None:
            raise task._error
        return task._result

    def _wake(self, task: Task, turn: int, cycles: int) -> None:
        """Resume ``task`` after ``cycles``, unless something else has resumed it before."""

        def resume() -> None:
            if task._turn == turn and not task.done:
                task._step()

        self.call_later(cycles, resume)
