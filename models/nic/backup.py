"""Backup rings of the golden NIC: frames whose receive queue waits for a page."""

from collections import deque
from collections.abc import Callable, Sequence

from models.nic.dma import Dma, Stopped, Transfer
from models.nic.function import Function
from models.nic.packets import Packet
from models.spec.config import NicConfig
from models.spec.nic import (
    BACKUP_ENTRIES_LOG2_MAX,
    BACKUP_FRAME_OFFSET,
    BackupEntry,
    BackupRing,
    QueueError,
    Stat,
)

__all__ = ["Backup"]


class Backup:
    """One ring per queue pair of each function, in memory that the PF's DMA reaches.

    A write that does not succeed at once breaks the function's rings: what is in them is dropped
    and counted.  A read that does not costs its frame.

    Parameters
    ----------
    config : NicConfig
    functions : sequence of Function
    dma : Dma
        The PF's.
    waits : callable
        ``waits(function, pair)`` tells whether a receive queue waits for a page.
    """

    def __init__(
        self,
        config: NicConfig,
        functions: Sequence[Function],
        dma: Dma,
        waits: Callable[[int, int], bool],
    ) -> None:
        self._config, self._functions, self._dma, self._waits = config, functions, dma, waits
        #: Numbers of the entries in use, per function and queue pair.
        self._rings: dict[tuple[int, int], deque[int]] = {
            (function.number, pair): deque()
            for function in functions
            for pair in range(config.queue_pairs)
        }
        self._next = dict.fromkeys(self._rings, 0)

    def takes(self, number: int, pair: int, *, full: bool) -> bool:
        """Whether a frame for a queue goes here; ``full``: its FIFO has no room."""
        if not self._config.backup:
            return False
        return bool(self._rings[number, pair]) or (
            self._enabled(number) and (full or self._waits(number, pair))
        )

    def put(self, number: int, pair: int, frame: bytes) -> None:
        """Keep a frame; without room it is dropped and counted."""
        function, ring = self._functions[number], self._rings[number, pair]
        if not self._enabled(number) or len(ring) >= 1 << self._log2(number):
            function.count(Stat.RX_DROPPED_FULL, queue=2 * pair)
            return
        entry = self._next[number, pair]
        packet = Packet.of(frame, bare=function.untagged)
        good = None if packet is None else packet.checksum_good()
        known = 0 if good is None else 1 if good else 2
        first = BackupEntry.const({"length": len(frame), "checksum": known}).as_bits()
        address = self._address(number, pair, entry)
        ring.append(entry)
        self._next[number, pair] = (entry + 1) % (1 << self._log2(number))
        for offset, content in ((0, first.to_bytes(2, "little")), (BACKUP_FRAME_OFFSET, frame)):
            if self._run(self._dma.write(address + offset, content, QueueError.BUS)) is None:
                self.flush(number)
                return
        function.count(Stat.RX_BACKUP, queue=2 * pair)

    def back(self, room: Callable[[int], bool]) -> tuple[int, int, bytes] | None:
        """Return the function, the queue pair and the frame of one that may go to its queue.

        ``room(function)`` tells whether its FIFOs have room.
        """
        for (number, pair), ring in self._rings.items():
            if not ring or self._waits(number, pair) or not room(number):
                continue
            if not self._enabled(number):
                self.flush(number)
                continue
            address = self._address(number, pair, ring.popleft())
            first = self._run(self._dma.read(address, 2, QueueError.BUS))
            if first is not None:
                length = BackupEntry.from_bits(int.from_bytes(first, "little")).length
                start = address + BACKUP_FRAME_OFFSET
                frame = self._run(self._dma.read(start, length, QueueError.BUS))
                if frame is not None:
                    return number, pair, frame
            self._functions[number].count(Stat.RX_DROPPED_FULL, queue=2 * pair)
        return None

    def flush(self, number: int) -> None:
        """Drop and count what a function had to receive."""
        for pair in range(self._config.queue_pairs):
            ring = self._rings[number, pair]
            self._functions[number].count(Stat.RX_DROPPED_FULL, len(ring), queue=2 * pair)
            ring.clear()

    def _run(self, transfer: Transfer) -> bytes | None:
        """What a transfer of the PF's reads; ``None`` if it fails or would have to wait."""
        if not self._functions[0].enabled:
            return None
        try:
            next(transfer)
        except StopIteration as ended:
            return ended.value
        except Stopped:
            return None
        transfer.close()
        return None

    def _ring(self, number: int):
        return BackupRing.from_bits(self._functions[number].backup)

    def _enabled(self, number: int) -> bool:
        return bool(self._ring(number).enable)

    def _log2(self, number: int) -> int:
        return min(int(self._ring(number).entries_log2), BACKUP_ENTRIES_LOG2_MAX)

    def _address(self, number: int, pair: int, entry: int) -> int:
        place = (pair << self._log2(number)) + entry
        return self._functions[number].backup_base + place * self._config.backup_stride
