"""The device's side of a guest's control queue, in the hypervisor's software (as in vDPA)."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any

from models.nic.dma import Stopped, Transfer
from models.nic.packed_ring import PackedRing
from models.nic.rings import Chain, Direction, RingSetup, Used
from models.nic.split_ring import SplitRing
from models.spec.nic import QueueError
from models.spec.virtio import Feature
from models.spec.virtio_net import ControlAck, ControlHeader

__all__ = ["ControlQueue", "GuestAccess"]

_HEADER_BYTES = ControlHeader.as_shape().size // 8
#: Longest command that is looked at: none that is known comes near it.
_COMMAND_BYTES_MAX = 1 << 16


class GuestAccess:
    """A guest's memory by the addresses that its device uses.

    Parameters
    ----------
    read, write : callable
        ``read(iova, size)`` and ``write(iova, data)``; ``None`` and ``False`` if that is not to be.
    """

    def __init__(
        self, read: Callable[[int, int], bytes | None], write: Callable[[int, bytes], bool]
    ) -> None:
        self._read, self._write = read, write

    def read(self, iova: int, size: int, refused: QueueError) -> Transfer:
        """Return bytes, or stop the queue with ``refused``."""
        found = self._read(iova, size)
        if found is None:
            raise Stopped(refused)
        return found
        yield

    def write(self, iova: int, data: bytes, refused: QueueError) -> Transfer:
        """Store bytes, or stop the queue with ``refused``."""
        if not self._write(iova, data):
            raise Stopped(refused)
        return b""
        yield


def _result(steps: Generator[Any, Any, Any]) -> Any:
    """What a transfer that never waits returns."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("Software does not wait for pages")


class ControlQueue:
    """Takes commands and answers them.

    Parameters
    ----------
    access : GuestAccess
    features : int
        What the driver has accepted.
    size, desc, driver, device : int
        The queue, as the driver has set it up.
    """

    def __init__(
        self,
        access: GuestAccess,
        features: int,
        *,
        size: int,
        desc: int,
        driver: int,
        device: int,
    ) -> None:
        def accepted(feature: Feature) -> bool:
            return bool(features >> feature & 1)

        setup = RingSetup(
            size=size,
            desc=desc,
            driver=driver,
            device=device,
            direction=Direction.BOTH,
            indirect=accepted(Feature.RING_INDIRECT_DESC),
            event_idx=accepted(Feature.RING_EVENT_IDX),
            in_order=accepted(Feature.IN_ORDER),
        )
        kind = PackedRing if accepted(Feature.RING_PACKED) else SplitRing
        self._ring = kind(access, setup)
        #: A command that has been carried out, and its answer, which is not to be seen yet.
        self._held: tuple[Chain, bytes] | None = None
        #: Why it has stopped.
        self.error = QueueError.NONE

    @property
    def holds(self) -> bool:
        """Whether the answer of a command waits until it may be seen."""
        return self._held is not None

    async def serve(
        self,
        answer: Callable[[int, int, bytes], Awaitable[tuple[bytes, ControlAck]]],
        settled: Callable[[], Awaitable[bool]],
        most: int,
    ) -> tuple[bool, bool]:
        """Answer what there is, at most so many chains.

        ``answer`` is given class, command and data, and says what to tell, and ``settled`` whether
        it may be told yet.  Returns whether the driver wants an interrupt, and whether there may be
        more that can be answered now.
        """
        wanted = False
        for _ in range(most):
            if self.error:
                break
            try:
                if self._held is None:
                    chain = _result(self._ring.take())
                    if chain is None:
                        return wanted, False
                    self._held = chain, await self._answer(chain, answer)
                if not await settled():
                    return wanted, False
                held, self._held = self._held, None
                wanted = self._give_back(*held) or wanted
            except Stopped as stopped:
                self.error = stopped.error
        return wanted, not self.error

    async def _answer(
        self,
        chain: Chain,
        answer: Callable[[int, int, bytes], Awaitable[tuple[bytes, ControlAck]]],
    ) -> bytes:
        """What a chain is answered with; without room for that, or a header, it is no command."""
        refused = bytes((ControlAck.ERR,))
        if not _HEADER_BYTES <= chain.read_bytes <= _COMMAND_BYTES_MAX or not chain.write_bytes:
            return refused
        content = _result(self._ring.gather(chain))
        told, ack = await answer(content[0], content[1], content[_HEADER_BYTES:])
        found = told + bytes((ack,))
        return found if len(found) <= chain.write_bytes else refused

    def _give_back(self, chain: Chain, answer: bytes) -> bool:
        """Return a chain with its answer, if it has room for one."""
        written = min(chain.write_bytes, len(answer))
        if written:
            _result(self._ring.scatter(chain, answer[:written]))
        return _result(self._ring.give_back([Used(chain, written)]))
