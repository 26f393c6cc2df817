"""When used buffers are notified (virtio 1.3, 5.1.6.5.8)."""

from collections.abc import Callable
from dataclasses import dataclass

from models.spec.nic import QueueCoalescing
from models.spec.virtio import MSI_NO_VECTOR

__all__ = ["Moderation"]


@dataclass
class _Waiting:
    """Used buffers that the driver has not been told of."""

    packets: int
    since: int


class Moderation:
    """Notifications of one function's queues that wait for others.

    An interrupt tells of all queues that have its vector, whether they are due or not; no vector
    is none that they share.

    Parameters
    ----------
    coalescing : callable
        ``coalescing(queue)`` returns QueueCoalescing as it is set now.
    vector : callable
        ``vector(queue)`` returns the vector it has now.
    notify : callable
        ``notify(queue)`` tells the driver.
    now : callable
        The current cycle.
    """

    def __init__(
        self,
        coalescing: Callable[[int], int],
        vector: Callable[[int], int],
        notify: Callable[[int], None],
        now: Callable[[], int],
    ) -> None:
        self._coalescing, self._notify, self._now = coalescing, notify, now
        self._vector = vector
        self._waiting: dict[int, _Waiting] = {}

    def used(self, queue: int, packets: int, *, wanted: bool) -> None:
        """Take note of used buffers; they wait from the first that the driver wants to hear of."""
        if not wanted and queue not in self._waiting:
            return
        waiting = self._waiting.setdefault(queue, _Waiting(0, self._now()))
        waiting.packets += packets
        self.serve()

    def forget(self, queue: int) -> None:
        """A queue was reset."""
        self._waiting.pop(queue, None)

    def serve(self) -> bool:
        """Tell the driver of what has waited enough; return whether there was any."""
        due = {self._vector(queue): queue for queue in self._waiting if self._due(queue)}
        for vector, queue in due.items():
            for told in [other for other in self._waiting if self._vector(other) == vector]:
                if told == queue or vector != MSI_NO_VECTOR:
                    del self._waiting[told]
            self._notify(queue)
        return bool(due)

    def _due(self, queue: int) -> bool:
        setting, waiting = QueueCoalescing.from_bits(self._coalescing(queue)), self._waiting[queue]
        enough = setting.packets and waiting.packets >= setting.packets
        return bool(enough or self._now() - waiting.since >= setting.cycles)

    @property
    def deadline(self) -> int | None:
        """Cycle at which :meth:`serve` has something to do, if any."""
        return min(
            (
                waiting.since + QueueCoalescing.from_bits(self._coalescing(queue)).cycles
                for queue, waiting in self._waiting.items()
            ),
            default=None,
        )
