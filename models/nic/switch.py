"""The switch between functions and Ethernet port: by destination MAC, flooding groups."""

from collections import deque
from collections.abc import Callable, Sequence

from models.nic.function import Function
from models.spec.config import NicConfig
from models.spec.nic import PORT_SOURCE, FunctionControl, Stat

__all__ = ["Switch"]

_FRAME_BYTES_MIN = 14


class Switch:
    """Forwards whole frames, in order, into one FIFO per function.

    A frame to a function's MAC goes to that function alone, one to a group address to all but its
    sender and to the port, any other to the port (from the port: to nobody).  Promiscuous functions
    get a copy of everything but their own (virtio 1.3, 5.1.6.5.1).

    Parameters
    ----------
    functions : sequence of Function
    config : NicConfig
    transmit : callable
        Sends a frame out of the port.
    """

    def __init__(
        self, functions: Sequence[Function], config: NicConfig, transmit: Callable[[bytes], None]
    ) -> None:
        self._functions, self._config, self._transmit = functions, config, transmit
        self._fifos: list[deque[bytes]] = [deque() for _ in functions]
        self._depth = config.tx_slots + config.rx_slots

    def waiting(self, number: int) -> bool:
        """Whether a function has a frame to receive."""
        return bool(self._fifos[number])

    def take(self, number: int) -> bytes:
        """Remove and return a function's oldest frame."""
        return self._fifos[number].popleft()

    def flush(self, number: int) -> None:
        """Drop what waits for a function."""
        self._fifos[number].clear()

    def from_port(self, frame: bytes) -> None:
        """Forward a frame from the wire; too short or too long ones are dropped and counted."""
        if not _FRAME_BYTES_MIN <= len(frame) <= self._config.frame_bytes:
            self._functions[0].count(Stat.RX_DROPPED_FILTER)
            return
        self._forward(frame, PORT_SOURCE)

    def from_function(self, number: int, frame: bytes) -> None:
        """Forward a frame of a function."""
        self._forward(frame, number)

    def _forward(self, frame: bytes, source: int) -> None:
        target, group = frame[:6], bool(frame[0] & 1)
        owned = False
        for number, function in enumerate(self._functions):
            mine = function.mac == target and function.enabled
            owned = owned or mine
            control = FunctionControl.from_bits(function.control)
            if number == source or not function.enabled:
                continue
            if mine or group or control.promiscuous:
                self._deliver(number, frame)
        if source != PORT_SOURCE and (group or not owned):
            self._transmit(frame)

    def _deliver(self, number: int, frame: bytes) -> None:
        function, fifo = self._functions[number], self._fifos[number]
        if not function.live:
            function.count(Stat.RX_DROPPED_FILTER)
        elif len(fifo) >= self._depth:
            function.count(Stat.RX_DROPPED_FULL)
        else:
            fifo.append(frame)
