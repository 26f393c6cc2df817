"""A TFTP server of one file, which it also takes back (RFC 1350, 2347, 2348)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

__all__ = ["TftpServer"]

_FIRST_PORT = 3000
#: Repetitions of an acknowledgement after which a block is sent again.
_PATIENCE = 4


class _Operation(IntEnum):
    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


@dataclass
class _Transfer:
    """One file on its way; ``block`` is the last that was sent or taken."""

    port: int
    writes: bool
    size: int = 512
    block: int = 0
    data: bytearray = field(default_factory=bytearray)
    repeats: int = 0
    begun: bool = False
    done: bool = False


class TftpServer:
    """Sends a file to whoever asks, and compares what is put with it.

    Parameters
    ----------
    content : bytes
        At most 65535 blocks.
    send : callable
        ``send(address, port, own_port, data)``.
    """

    def __init__(self, content: bytes, send: Callable[[bytes, int, int, bytes], None]) -> None:
        self._content, self._send_to = content, send
        self._transfers: dict[tuple[bytes, int], _Transfer] = {}
        self._next = _FIRST_PORT
        #: Files that came back whole and equal, and others.
        self.equal = self.different = 0

    @property
    def ports(self) -> set[int]:
        """Own ports of transfers."""
        return {transfer.port for transfer in self._transfers.values()}

    def receive(self, address: bytes, port: int, own_port: int, data: bytes) -> None:
        """Take a datagram."""
        if len(data) < 4:
            return
        operation, key = int.from_bytes(data[:2], "big"), (address, port)
        if operation in (_Operation.RRQ, _Operation.WRQ):
            self._begin(key, operation == _Operation.WRQ, data[2:])
            return
        transfer, number = self._transfers.get(key), int.from_bytes(data[2:4], "big")
        if transfer is None or transfer.port != own_port:
            return
        transfer.begun = True
        if operation == _Operation.ACK and not transfer.writes:
            self._acknowledged(key, transfer, number)
        elif operation == _Operation.DATA and transfer.writes:
            self._take_block(key, transfer, number, data[4:])

    def _send(self, key: tuple[bytes, int], transfer: _Transfer, head: bytes, data: bytes) -> None:
        self._send_to(key[0], key[1], transfer.port, head + data)

    def _begin(self, key: tuple[bytes, int], writes: bool, request: bytes) -> None:
        _, _, *options = request.rstrip(b"\0").split(b"\0")
        pairs = dict(zip(options[::2], options[1::2], strict=False))
        transfer = self._transfers.get(key)
        if transfer is None or transfer.begun or transfer.writes != writes:
            transfer = _Transfer(self._next, writes)
            self._next += 1
            self._transfers[key] = transfer  # else the request is repeated
        wanted = pairs.get(b"blksize", b"")
        if wanted.isdigit() and 8 <= int(wanted) <= 1428:
            transfer.size = int(wanted)
            option = b"blksize\0" + wanted + b"\0"
            self._send(key, transfer, struct.pack(">H", _Operation.OACK), option)
        elif writes:
            self._send(key, transfer, struct.pack(">HH", _Operation.ACK, 0), b"")
        else:
            transfer.block = transfer.repeats = 1
            self._send_block(key, transfer, 1)

    def _acknowledged(self, key: tuple[bytes, int], transfer: _Transfer, block: int) -> None:
        """Send the next block, and again for every fourth repetition.

        If each were answered, one delay would double everything that follows (RFC 1123, 4.2.3.1).
        """
        if block + 1 > transfer.block:
            transfer.block, transfer.repeats = block + 1, 1
        elif block + 1 == transfer.block:
            transfer.repeats += 1
        else:
            return
        if transfer.repeats % _PATIENCE == 1:
            self._send_block(key, transfer, block + 1)

    def _send_block(self, key: tuple[bytes, int], transfer: _Transfer, block: int) -> None:
        start = (block - 1) * transfer.size
        if start <= len(self._content):  # else the last one has been acknowledged
            data = self._content[start : start + transfer.size]
            self._send(key, transfer, struct.pack(">HH", _Operation.DATA, block), data)

    def _take_block(
        self, key: tuple[bytes, int], transfer: _Transfer, block: int, data: bytes
    ) -> None:
        if block == transfer.block + 1 and not transfer.done:
            transfer.block = block
            transfer.data += data
            transfer.done = len(data) < transfer.size
            if transfer.done and bytes(transfer.data) != self._content:
                self.different += 1
                head = struct.pack(">HH", _Operation.ERROR, 0)
                self._send(key, transfer, head, b"not what was sent\0")
                return
            self.equal += transfer.done
        if block <= transfer.block:
            self._send(key, transfer, struct.pack(">HH", _Operation.ACK, block), b"")
