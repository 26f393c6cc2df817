"""Register accesses over AXI4-Lite, queued in order, without a task of their own."""

from collections import deque
from typing import TYPE_CHECKING

from cocotb.triggers import Event

from cosim.bench.library import BenchEvent

if TYPE_CHECKING:
    from cosim.bench.bench import Bench

__all__ = ["Access", "Registers"]


class Access:
    """One 32-bit access under way."""

    __slots__ = ("_ended", "data", "done", "is_write", "offset", "resp", "since", "strobe")

    def __init__(self, offset: int, *, data: int = 0, strobe: int = 0):
        self.offset, self.data, self.strobe = offset, data, strobe
        self.is_write = strobe != 0
        self.done, self.resp, self.since = False, 0, 0
        self._ended: Event | None = None

    def end(self, resp: int, data: int) -> None:
        """Take the answer, and wake who waits."""
        self.done, self.resp = True, resp
        if not self.is_write:
            self.data = data
        if self._ended is not None:
            self._ended.set()
        elif resp and self.is_write:
            self.check()  # nobody will ask

    async def wait(self) -> int:
        """Wait for the answer; ``ValueError`` if it is an error.  Returns what was read."""
        if not self.done:
            self._ended = self._ended or Event()
            await self._ended.wait()
        self.check()
        return self.data

    def check(self) -> None:
        """Raise ``ValueError`` if the answer was an error."""
        if self.resp:
            kind = "write" if self.is_write else "read"
            raise ValueError(f"Register {kind} at {self.offset:#x} was answered {self.resp}")


class Registers:
    """The manager of one AXI4-Lite port.

    Accesses take effect in the order in which they were submitted: those of one direction follow
    each other without waiting for answers, a change of direction waits for all answers.
    """

    #: Cycles after which an unanswered access ends the run.
    PATIENCE = 80_000

    def __init__(self, bench: "Bench", name: str):
        self._bench, self._name = bench, name
        self._aw, self._w, self._ar = (
            bench.stream(f"{name}__{part}") for part in ("aw", "w", "ar")
        )
        answers = {part: bench.stream(f"{name}__{part}") for part in ("b", "r")}
        self._decode = {part: stream.unpack for part, stream in answers.items()}
        answers["b"].listen(self._written)
        answers["r"].listen(self._read)
        self._waiting: deque[Access] = deque()
        self._issued: deque[Access] = deque()

    def submit(self, access: Access) -> Access:
        """Queue an access behind all others."""
        self._waiting.append(access)
        self._issue()
        return access

    def overdue(self, cycle: int) -> str:
        """Describe the access that has waited too long at ``cycle``; empty if there is none."""
        if self._issued and cycle - self._issued[0].since > self.PATIENCE:
            return f"{self._name}: no answer to an access at {self._issued[0].offset:#x}"
        return ""

    @property
    def busy(self) -> bool:
        """Whether answers are awaited."""
        return bool(self._issued)

    def _issue(self) -> None:
        while self._waiting and (
            not self._issued or self._issued[-1].is_write == self._waiting[0].is_write
        ):
            access = self._waiting.popleft()
            access.since = self._bench.library.cycle
            self._issued.append(access)
            if access.is_write:
                self._aw.put({"addr": access.offset})
                self._w.put({"data": access.data, "strb": access.strobe})
            else:
                self._ar.put({"addr": access.offset})

    def _written(self, event: BenchEvent) -> None:
        self._answered(True, self._decode["b"](event.value))

    def _read(self, event: BenchEvent) -> None:
        self._answered(False, self._decode["r"](event.value))

    def _answered(self, is_write: bool, answer: dict[str, int]) -> None:
        if not self._issued or self._issued[0].is_write != is_write:
            raise AssertionError(f"{self._name}: an answer to nothing")
        access = self._issued.popleft()
        self._issue()
        access.end(answer["resp"], answer.get("data", 0))
