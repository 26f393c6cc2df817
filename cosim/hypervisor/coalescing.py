"""Notification coalescing as a guest sets it (virtio 1.3, 5.1.6.5.8)."""

from collections.abc import Awaitable, Callable

from models.spec.nic import QueueCoalescing
from models.spec.virtio import Feature
from models.spec.virtio_net import Coalescing, CoalescingQueue, ControlAck, ControlCoalescing

__all__ = ["CoalescingControl"]

_PARAMETERS = Coalescing.as_shape().size // 8
_QUEUE = CoalescingQueue.as_shape().size // 8
_MOST = QueueCoalescing.from_bits(-1 & (1 << QueueCoalescing.as_shape().size) - 1)
_REFUSED = b"", ControlAck.ERR


def _setting(parameters: bytes, clock_mhz: int) -> int:
    """QueueCoalescing of a Coalescing; what is too much for the hardware is as much as it can."""
    given = Coalescing.from_bits(int.from_bytes(parameters, "little"))
    fields = {
        "packets": min(given.max_packets, _MOST.packets),
        "cycles": min(given.max_usecs * clock_mhz, _MOST.cycles),
    }
    return QueueCoalescing.const(fields).as_bits()


class CoalescingControl:
    """Coalescing of one function's queues.

    Parameters
    ----------
    write : callable
        ``await write(register, value)`` stores to the function's management block.
    pairs : int
        Queue pairs of the function.
    clock_mhz : int
        Clock of the hardware.
    """

    def __init__(
        self, write: Callable[[str, int], Awaitable[None]], pairs: int, clock_mhz: int
    ) -> None:
        self._write, self._queues, self._clock_mhz = write, 2 * pairs, clock_mhz
        self._forget(0)

    def _forget(self, features: int) -> None:
        self._features = features
        self._parameters = [bytes(_PARAMETERS)] * self._queues

    async def reset(self, features: int) -> None:
        """Begin anew, for a driver with these features."""
        self._forget(features)
        await self._set(range(self._queues), bytes(_PARAMETERS))

    def _accepted(self, feature: Feature) -> bool:
        return bool(self._features >> feature & 1)

    async def _set(self, queues: range, parameters: bytes) -> tuple[bytes, ControlAck]:
        for queue in queues:
            self._parameters[queue] = parameters
            await self._write(f"coalescing{queue}", _setting(parameters, self._clock_mhz))
        return b"", ControlAck.OK

    async def answer(self, command: int, data: bytes) -> tuple[bytes, ControlAck]:
        """Carry out a command; returns what the driver is told before the answer."""
        if command in (ControlCoalescing.TX_SET, ControlCoalescing.RX_SET):
            if not self._accepted(Feature.NET_NOTF_COAL) or len(data) != _PARAMETERS:
                return _REFUSED
            first = int(command == ControlCoalescing.TX_SET)
            return await self._set(range(first, self._queues, 2), data)
        if not self._accepted(Feature.NET_VQ_NOTF_COAL) or len(data) < _QUEUE:
            return _REFUSED
        head, parameters = data[:_QUEUE], data[_QUEUE:]
        queue = CoalescingQueue.from_bits(int.from_bytes(head, "little")).vq_index
        known = queue < self._queues
        if command == ControlCoalescing.VQ_SET and known and len(parameters) == _PARAMETERS:
            return await self._set(range(queue, queue + 1), parameters)
        if command == ControlCoalescing.VQ_GET:
            if known and not parameters:
                return self._parameters[queue], ControlAck.OK
            return bytes(_PARAMETERS), ControlAck.ERR
        return _REFUSED
