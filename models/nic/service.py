"""What the device does for one virtqueue: sending and receiving (virtio 1.3, 5.1.6)."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from models.nic.dma import Parked, Refused, Stopped
from models.nic.function import Function
from models.nic.moderation import Moderation
from models.nic.offload import HEADER_BYTES, BadOffload, offload
from models.nic.packets import Packet
from models.nic.rings import Chain, Ring, Used
from models.nic.switch import Switch
from models.spec.iommu import PageResponse
from models.spec.nic import MERGED_BUFFERS, SEGMENTED_BYTES_MAX, QueueError, Stat
from models.spec.virtio import Feature, NetHeader, NetHeaderFlag

__all__ = ["RunningQueue", "Servant", "Service"]

_FRAME_BYTES_MIN = 14

#: A queue's service under way: yields where it parks.
Service = Generator[Parked, PageResponse, None]


@dataclass
class RunningQueue:
    """A virtqueue that runs.

    ``buffers`` are those that were taken for a frame which needs more of them; ``delivering``
    tells that one was taken which is not in its buffers yet.  ``other`` is a queue that has asked
    for the page for which this one is parked, and for what it has asked.
    """

    ring: Ring
    service: Service | None = None
    doorbell: bool = False
    parked: Parked | None = None
    deadline: int | None = None
    other: tuple["RunningQueue", Parked] | None = None
    buffers: list[Chain] = field(default_factory=list)
    delivering: bool = False


class Servant:
    """Serves the queues of one function.

    Parameters
    ----------
    function : Function
    switch : Switch
    batch : int
        Transmit chains that are given back together.
    moderation : Moderation
    """

    def __init__(
        self, function: Function, switch: Switch, batch: int, moderation: Moderation
    ) -> None:
        self._function, self._switch, self._batch = function, switch, batch
        self._moderation = moderation

    def _finish(self, index: int, ring: Ring, used: Sequence[Used]) -> Service:
        wanted = yield from ring.give_back(used)
        self._moderation.used(index, len(used), wanted=wanted)

    # Sending (5.1.6.2) -------------------------------------------------------------------------

    def transmit(self, index: int, queue: RunningQueue) -> Service:
        """Send the frames of some chains, or drop what is none, and return the chains.

        Chains before one that stops the queue are returned before it stops.
        """
        queue.doorbell = False
        used: list[Used] = []
        failure: Stopped | None = None
        while len(used) < self._batch:
            try:
                chain = yield from queue.ring.take()
                if chain is None:
                    break
                yield from self._send(index, queue.ring, chain)
            except Stopped as stopped:
                failure = stopped
                break
            used.append(Used(chain, 0))
        else:
            queue.doorbell = True  # there may be more
        if used:
            yield from self._finish(index, queue.ring, used)
        if failure is not None:
            raise failure

    def _send(self, index: int, ring: Ring, chain: Chain) -> Service:
        length = chain.read_bytes - HEADER_BYTES
        longest = self._switch.frame_bytes
        if self._segments:
            longest = SEGMENTED_BYTES_MAX
        dropped: Stat | None = Stat.TX_DROPPED_LENGTH
        try:
            content = yield from ring.gather(chain, HEADER_BYTES + longest)
        except Refused:
            dropped = Stat.TX_DROPPED_REFUSED
        else:
            if _FRAME_BYTES_MIN <= length <= longest:
                dropped = self._forward(index, content)
        if dropped is not None:
            self._function.count(Stat.TX_DROPPED, queue=index)
            self._function.count(dropped, queue=index)

    @property
    def _segments(self) -> bool:
        return any(
            self._function.accepted(feature)
            for feature in (Feature.NET_HOST_TSO4, Feature.NET_HOST_TSO6)
        )

    def _forward(self, index: int, content: bytes) -> Stat | None:
        """Hand a chain's frames to the switch; return the reason if they are dropped."""
        header = NetHeader.from_bits(int.from_bytes(content[:HEADER_BYTES], "little"))
        function, longest = self._function, self._switch.frame_bytes
        if not header.gso_type and len(content) > HEADER_BYTES + longest:
            return Stat.TX_DROPPED_LENGTH  # whatever else may be wrong
        try:
            frames = offload(content[HEADER_BYTES:], header, function.driver_features)
        except BadOffload:
            return Stat.TX_DROPPED_OFFLOAD
        if any(len(frame) > longest for frame in frames):
            return Stat.TX_DROPPED_OFFLOAD
        if header.gso_type:
            function.count(Stat.TX_SEGMENTED, queue=index)
        elif header.flags & NetHeaderFlag.NEEDS_CSUM:
            function.count(Stat.TX_CHECKSUMS)
        for frame in frames:
            dropped = self._switch.from_function(function.number, frame, index)
            if dropped is not None:
                function.count(Stat.TX_DROPPED, queue=index)
                function.count(dropped, queue=index)
                continue
            function.count(Stat.TX_PACKETS, queue=index)
            function.count_group(frame, Stat.TX_MULTICAST, Stat.TX_BROADCAST)
            function.count(Stat.TX_BYTES, len(frame), queue=index)
        return None

    # Receiving (5.1.6.4) -----------------------------------------------------------------------

    def receive(self, index: int, queue: RunningQueue) -> Service:
        """Deliver the oldest frame that waits for the queue, once there are buffers for it."""
        function = self._function
        queue.doorbell = False
        frame = yield from self._collect(index // 2, queue)
        if frame is None:
            return
        count = self._needed(queue.buffers, HEADER_BYTES + len(frame))
        chains, queue.buffers = queue.buffers[:count], queue.buffers[count:]
        queue.delivering = True
        content = self._header(index, frame, len(chains)) + frame
        used = yield from self._scatter(queue.ring, chains, content)
        queue.delivering = False
        if isinstance(used, Stat):
            function.count(used, queue=index)
            used = [Used(chain, 0) for chain in chains]
        else:
            function.count(Stat.RX_PACKETS, queue=index)
            function.count(Stat.RX_BYTES, len(frame), queue=index)
            function.count(Stat.RX_MERGED, len(chains) - 1, queue=index)
        yield from self._finish(index, queue.ring, used)
        queue.doorbell = True  # there may be more

    @staticmethod
    def _scatter(
        ring: Ring, chains: Sequence[Chain], content: bytes
    ) -> Generator[Parked, PageResponse, list[Used] | Stat]:
        """Write to chains; why not if they have no room, or one of their pages was refused."""
        if sum(chain.write_bytes for chain in chains) < len(content):
            return Stat.RX_DROPPED_BUFFER
        used = []
        try:
            for chain in chains:
                rest = yield from ring.scatter(chain, content)
                used.append(Used(chain, len(content) - len(rest)))
                content = rest
        except Refused:
            return Stat.RX_DROPPED_REFUSED
        return used

    @staticmethod
    def _needed(buffers: Sequence[Chain], needed: int) -> int:
        """How many of the buffers a frame takes; all, if they are too few."""
        for count, chain in enumerate(buffers, 1):
            needed -= chain.write_bytes
            if needed <= 0:
                return count
        return len(buffers)

    def _collect(
        self, pair: int, queue: RunningQueue
    ) -> Generator[Parked, PageResponse, bytes | None]:
        """Take buffers for the oldest frame, and then that; ``None`` if there are not enough.

        Without mergeable buffers one is enough, be it too short.  What waits may be dropped while
        pages are fetched.
        """
        number, mergeable = self._function.number, self._function.accepted(Feature.NET_MRG_RXBUF)
        while self._switch.waiting(number, pair):
            needed = HEADER_BYTES + len(self._switch.oldest(number, pair))
            room = sum(chain.write_bytes for chain in queue.buffers)
            if room >= needed or (queue.buffers and not mergeable):
                return self._switch.take(number, pair)
            whole_ring = sum(chain.slots for chain in queue.buffers) >= queue.ring.setup.size
            if whole_ring or len(queue.buffers) == MERGED_BUFFERS:
                raise Stopped(QueueError.BAD_LENGTH)
            chain = yield from queue.ring.take()
            if chain is None:
                return None
            if chain.write_bytes < HEADER_BYTES:
                raise Stopped(QueueError.BAD_LENGTH)
            queue.buffers.append(chain)
        queue.doorbell = True  # there may be buffers for the next one
        return None

    def _header(self, index: int, frame: bytes, buffers: int) -> bytes:
        """The header of a received frame (5.1.6.4.1)."""
        flags = NetHeaderFlag(0)
        if self._function.accepted(Feature.NET_GUEST_CSUM):
            packet = Packet.of(frame, bare=self._function.untagged)
            good = None if packet is None else packet.checksum_good()
            if good is not None:
                found = Stat.RX_CHECKSUM_GOOD if good else Stat.RX_CHECKSUM_BAD
                self._function.count(found, queue=index)
            if good:
                flags = NetHeaderFlag.DATA_VALID
        bits = NetHeader.const({"flags": flags, "num_buffers": buffers}).as_bits()
        return bits.to_bytes(HEADER_BYTES, "little")
