"""TCP as far as an echo server needs it (RFC 9293): no options but MSS, others' timer."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntFlag

__all__ = ["EchoServer"]

_MSS, _WINDOW, _SEGMENTS = 1400, 8192, 4
#: Repetitions without an answer after which a connection is given up.
_PATIENCE = 20
_HALF, _MASK = 1 << 31, (1 << 32) - 1


class _Flag(IntFlag):
    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


def _after(a: int, b: int) -> int:
    """How far sequence number ``a`` is after ``b``; negative if before."""
    return (a - b + _HALF & _MASK) - _HALF


@dataclass
class _Connection:
    """Numbers of one connection; ``unacknowledged`` are bytes from ``first`` on, sent or not."""

    receive_next: int
    first: int
    send_next: int
    window: int
    unacknowledged: bytearray = field(default_factory=bytearray)
    ending: bool = False  # the client has sent all
    fin_sent: bool = False
    repeats: int = 0
    unanswered: int = 0


class EchoServer:
    """Sends back what comes, and closes when its client does.

    Parameters
    ----------
    send : callable
        ``send(address, segment)``; fills the checksum in.
    """

    def __init__(self, send: Callable[[bytes, bytes], None]) -> None:
        self._send = send
        self._connections: dict[tuple[bytes, bytes], _Connection] = {}
        self._initial = 0x1000
        #: Bytes that came.
        self.bytes = 0

    def receive(self, address: bytes, segment: bytes) -> None:
        """Take a segment whose checksum is right."""
        key = address, segment[:4]
        sequence, acknowledged, head, flags, window = struct.unpack(">IIBBH", segment[4:16])
        data = segment[(head >> 4) * 4 :]
        if flags & _Flag.RST:
            self._connections.pop(key, None)
            return
        if flags & _Flag.SYN:
            first = sequence + 1 & _MASK
            made = self._connections.get(key)
            if made is None or made.receive_next != first:  # else it repeats itself
                self._initial = self._initial + 0x10000 & _MASK
                made = _Connection(first, self._initial + 1, self._initial + 1, window)
                self._connections[key] = made
            start = made.first - 1
            option = struct.pack(">BBH", 2, 4, _MSS)
            self._segment(key, made, start, _Flag.SYN | _Flag.ACK, option=option)
            return
        connection = self._connections.get(key)
        if connection is None:
            reset = _Connection(0, acknowledged, acknowledged, 0)
            self._segment(key, reset, acknowledged, _Flag.RST)
            return
        connection.window, connection.unanswered = window, 0
        if flags & _Flag.ACK and not self._acknowledged(key, connection, acknowledged, data):
            return
        news = bool(data) or bool(flags & _Flag.FIN)
        if news and _after(sequence, connection.receive_next) < 0:
            self._again(connection)  # what was sent for it the first time has been lost
        if sequence == connection.receive_next:
            connection.receive_next = sequence + len(data) & _MASK
            connection.unacknowledged += data
            self.bytes += len(data)
            if flags & _Flag.FIN:
                connection.receive_next = connection.receive_next + 1 & _MASK
                connection.ending = True
        if not self._send_more(key, connection) and news:
            self._segment(key, connection, connection.send_next, _Flag.ACK)

    def repeat(self) -> None:
        """Send what has not been acknowledged once more; for whoever knows that time has passed.

        A client that has sent all is silent: when the end of what came back has been lost, nothing
        else would tell.
        """
        for key, connection in list(self._connections.items()):
            if connection.unacknowledged or connection.fin_sent:
                connection.unanswered += 1
                self._again(connection)
                self._send_more(key, connection)
            if connection.unanswered > _PATIENCE:
                del self._connections[key]

    def _acknowledged(
        self, key: tuple[bytes, bytes], connection: _Connection, number: int, data: bytes
    ) -> bool:
        """Forget what has arrived; return whether the connection goes on."""
        arrived = _after(number, connection.first)
        if arrived > len(connection.unacknowledged):
            del self._connections[key]  # our FIN too, so all is done
            return False
        if arrived > 0:
            del connection.unacknowledged[:arrived]
            connection.first = number
            connection.repeats = 0
        elif not data and connection.first != connection.send_next:
            connection.repeats += 1
            if connection.repeats == 3:
                self._again(connection)
        if _after(connection.first, connection.send_next) > 0:
            connection.send_next = connection.first
        return True

    @staticmethod
    def _again(connection: _Connection) -> None:
        """Send everything that has not been acknowledged once more."""
        connection.send_next, connection.fin_sent = connection.first, False

    def _send_more(self, key: tuple[bytes, bytes], connection: _Connection) -> bool:
        """Send what the window allows; return whether anything was sent."""
        sent = False
        room = min(connection.window, _SEGMENTS * _MSS)
        while not connection.fin_sent:
            done = _after(connection.send_next, connection.first)
            part = bytes(connection.unacknowledged[done : min(done + _MSS, room)])
            last = connection.ending and done + len(part) == len(connection.unacknowledged)
            if not part and not last:
                break
            flags = _Flag.ACK | (_Flag.PSH if part else 0) | (_Flag.FIN if last else 0)
            self._segment(key, connection, connection.send_next, flags, data=part)
            connection.send_next = connection.send_next + len(part) & _MASK
            connection.fin_sent, sent = last, True
        return sent

    def _segment(
        self,
        key: tuple[bytes, bytes],
        connection: _Connection,
        sequence: int,
        flags: int,
        *,
        data: bytes = b"",
        option: bytes = b"",
    ) -> None:
        ports = key[1][2:4] + key[1][:2]
        words = 5 + len(option) // 4
        head = struct.pack(
            ">IIBBHHH",
            sequence & _MASK,
            connection.receive_next if flags & _Flag.ACK else 0,
            words << 4,
            int(flags),
            _WINDOW,
            0,
            0,
        )
        self._send(key[0], ports + head + option + data)
