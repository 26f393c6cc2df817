"""Frames on their way between hosts: windows, and checks of all that arrives."""

from collections import deque

from cosim.port import Port
from cosim.scenarios.traffic import OUTSIDE, Frame, guest_mac

__all__ = ["Exchange", "Window"]


class Window:
    """Frames that may be on their way to a host at once.

    Parameters
    ----------
    port : Port
    size : int
    """

    def __init__(self, port: Port, size: int) -> None:
        self._free, self._event = size, port.event()

    async def take(self) -> None:
        """Wait for room for a frame."""
        while not self._free:
            self._event.clear()
            await self._event.wait()
        self._free -= 1

    def give(self) -> None:
        """Note that a frame has arrived."""
        self._free += 1
        self._event.set()


class Exchange:
    """What is on its way from whom to whom.

    Every frame is expected at each of its targets, byte for byte and in order for each source and
    target.  Windows keep the device's receive FIFOs from overflowing: one per target for frames
    of guests and one for frames of the outside host, which lie in different memories.

    Parameters
    ----------
    port : Port
    windows : tuple of int
        For frames of guests and for frames of the outside host, per receiving guest.
    outside_window : int
        For frames that leave.
    guests : int
        Hosts beside the outside one.
    """

    def __init__(
        self, port: Port, windows: tuple[int, int], outside_window: int, *, guests: int = 3
    ) -> None:
        self._port = port
        self._windows = {
            (target, outside): Window(port, windows[outside])
            for target in range(1, 1 + guests)
            for outside in (False, True)
        }
        self._windows[OUTSIDE, False] = Window(port, outside_window)
        self._expected: dict[tuple[int, int], deque[bytes]] = {
            (source, target): deque()
            for source in range(1 + guests)
            for target in range(1 + guests)
            if source != target
        }
        self._hosts = {guest_mac(host): host for host in range(1 + guests)}
        self.delivered = self.mismatches = 0
        self.problems: list[str] = []
        self.last_cycle = 0

    async def depart(self, frame: Frame) -> None:
        """Wait until all targets have room, and expect the frame there."""
        for target in frame.targets:
            await self._windows[target, frame.source == OUTSIDE].take()
        for target in frame.targets:
            self._expected[frame.source, target].append(frame.content)

    def arrive(self, target: int, content: bytes) -> None:
        """Check a frame that has arrived."""
        self.last_cycle = self._port.now()
        source = self._hosts.get(content[6:12])
        queue = self._expected.get((source, target)) if source is not None else None
        if not queue:
            self._wrong(f"host {target} received a frame that nobody sent: {content[:18].hex()}")
            return
        expected = queue.popleft()
        self._windows[target, source == OUTSIDE].give()
        self.delivered += 1
        if content != expected:
            at = next(
                (n for n, (a, b) in enumerate(zip(content, expected, strict=False)) if a != b),
                min(len(content), len(expected)),
            )
            self._wrong(
                f"frame {source} to {target}: {len(content)} bytes for {len(expected)}, "
                f"first difference at byte {at}"
            )

    def _wrong(self, what: str) -> None:
        self.mismatches += 1
        if len(self.problems) < 10:
            self.problems.append(f"cycle {self._port.now()}: {what}")

    @property
    def on_the_way(self) -> int:
        """Frames expected somewhere."""
        return sum(map(len, self._expected.values()))

    def missing(self) -> dict[tuple[int, int], int]:
        """Frames expected, by source and target."""
        return {pair: len(queue) for pair, queue in self._expected.items() if queue}
