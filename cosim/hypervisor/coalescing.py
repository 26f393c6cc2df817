"""Notification coalescing as a guest sets it (virtio 1.3, 5.1.6.5.8)."""

from collections.abc import Awaitable, Callable, Iterable

from models.spec.nic import QueueCoalescing
from models.spec.virtio import Feature
from models.spec.virtio_net import (
    Coalescing,
    CoalescingQueue,
    ControlAck,
    ControlCoalescing,
    control_queue,
)

__all__ = ["CoalescingControl"]

_PARAMETERS = Coalescing.as_shape().size // 8
_QUEUE = CoalescingQueue.as_shape().size // 8
_MOST = QueueCoalescing.from_bits(-1 & (1 << QueueCoalescing.as_shape().size) - 1)
_REFUSED = b"", ControlAck.ERR


def _setting(parameters: bytes, clock_mhz: int) -> int:
    """QueueCoalescing of a Coalescing; what is too much for the hardware is as much as it can.

    If either parameter is 0, every packet is notified.
    """
    given = Coalescing.from_bits(int.from_bytes(parameters, "little"))
    if not given.max_packets or not given.max_usecs:
        return 0
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
    enabled : callable
        ``await enabled()`` has a bit for each queue that is enabled, when what was reset has been
        told to :meth:`restore`.
    """

    def __init__(
        self,
        write: Callable[[str, int], Awaitable[None]],
        pairs: int,
        clock_mhz: int,
        enabled: Callable[[], Awaitable[int]],
    ) -> None:
        self._write, self._queues, self._clock_mhz = write, 2 * pairs, clock_mhz
        self._enabled = enabled
        self._forget(0)

    def _forget(self, features: int) -> None:
        self._features = features
        #: Of the receive queues and of the transmit queues, as they were last set together.
        self._directions = [bytes(_PARAMETERS)] * 2
        self._parameters = [bytes(_PARAMETERS)] * self._queues

    async def reset(self, features: int) -> None:
        """Begin anew, for a driver with these features."""
        self._forget(features)
        await self.restore(range(self._queues))

    async def restore(self, queues: Iterable[int]) -> None:
        """Queues that were reset begin with what is set for their direction."""
        for queue in queues:
            await self._set(queue, self._directions[queue & 1])

    def _accepted(self, feature: Feature) -> bool:
        return bool(self._features >> feature & 1)

    async def _set(self, queue: int, parameters: bytes) -> None:
        self._parameters[queue] = parameters
        await self._write(f"coalescing{queue}", _setting(parameters, self._clock_mhz))

    async def answer(self, command: int, data: bytes) -> tuple[bytes, ControlAck]:
        """Carry out a command; returns what the driver is told before the answer."""
        if command in (ControlCoalescing.TX_SET, ControlCoalescing.RX_SET):
            if not self._accepted(Feature.NET_NOTF_COAL) or len(data) != _PARAMETERS:
                return _REFUSED
            first = int(command == ControlCoalescing.TX_SET)
            self._directions[first] = data
            await self.restore(range(first, self._queues, 2))
            return b"", ControlAck.OK
        if not self._accepted(Feature.NET_VQ_NOTF_COAL) or len(data) < _QUEUE:
            return _REFUSED
        head, parameters = data[:_QUEUE], data[_QUEUE:]
        queue = CoalescingQueue.from_bits(int.from_bytes(head, "little")).vq_index
        several = self._accepted(Feature.NET_MQ) or self._accepted(Feature.NET_RSS)
        known = queue < (self._queues if several else control_queue(1)) and bool(
            await self._enabled() >> queue & 1
        )
        if command == ControlCoalescing.VQ_SET and known and len(parameters) == _PARAMETERS:
            await self._set(queue, parameters)
            return b"", ControlAck.OK
        if command == ControlCoalescing.VQ_GET:
            if known and not parameters:
                return self._parameters[queue], ControlAck.OK
            return bytes(_PARAMETERS), ControlAck.ERR
        return _REFUSED
