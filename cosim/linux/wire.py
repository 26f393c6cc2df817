"""The host at the other end of the Ethernet cable: answers ARP, ping, TFTP and TCP echo.

It is a server only: who talks to it repeats what is lost, but for the end of a TCP connection
(:meth:`WireHost.repeat`).  Every checksum and length of what comes is checked; what is wrong is
noted in ``problems``.
"""

import struct
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from cosim.linux.pump import Pump
from cosim.linux.tcp import EchoServer
from cosim.linux.tftp import TftpServer
from cosim.packets import ipv4, summed
from models.nic.packets import checksum, pseudo_header
from models.spec.ethernet import EtherType, IpProtocol

__all__ = ["Cable", "Recorder", "WireHost"]

_ECHO_PORT, _TFTP_PORT = 7, 69
_BROADCAST = b"\xff" * 6
_DO_NOT_FRAGMENT = 0x4000


class Cable:
    """Carries frames to the hardware no faster than Ethernet does.

    Parameters
    ----------
    pump : Pump
        Lets time pass while a frame is on its way.
    send : callable
        Gives a frame to the hardware's port.
    bits_per_cycle : int
        10: 1 Gb/s at a clock of 100 MHz.
    """

    #: Bytes of preamble, checksum and gap (IEEE 802.3).
    OVERHEAD = 24

    def __init__(
        self, pump: Pump, send: Callable[[bytes], None], *, bits_per_cycle: int = 10
    ) -> None:
        self._pump, self._send, self._rate = pump, send, bits_per_cycle
        self._frames: deque[bytes] = deque()

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._pump.pending += 1
            self._pump.port.spawn(self._carry(), "cable")

    async def _carry(self) -> None:
        while self._frames:
            frame = self._frames[0]
            await self._pump.port.sleep(8 * (len(frame) + self.OVERHEAD) // self._rate)
            self._send(frame)
            self._frames.popleft()
        self._pump.pending -= 1


class Recorder:
    """Writes frames to a capture file (pcap, nanoseconds), with the time at 100 MHz.

    Parameters
    ----------
    path : Path
    """

    _HEAD = struct.Struct("<IHHiIII")
    _RECORD = struct.Struct("<IIII")

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(self._HEAD.pack(0xA1B2_3C4D, 2, 4, 0, 0, 65535, 1))

    def record(self, frame: bytes, cycle: int) -> None:
        """Write one frame."""
        seconds, rest = divmod(cycle, 100_000_000)
        self._file.write(self._RECORD.pack(seconds, 10 * rest, len(frame), len(frame)) + frame)
        self._file.flush()


class WireHost:
    """One host.

    Parameters
    ----------
    send : callable
        Puts a frame on the wire.
    mac, ip : bytes
    content : bytes
        The file that TFTP gives, and expects back.
    """

    def __init__(
        self, send: Callable[[bytes], None], *, mac: bytes, ip: bytes, content: bytes
    ) -> None:
        self._send, self.mac, self.ip = send, mac, ip
        self._hosts: dict[bytes, bytes] = {}
        self._echo = EchoServer(lambda to, segment: self._transmit(to, IpProtocol.TCP, segment))
        self.tftp = TftpServer(content, self._datagram)
        self._number = 0
        #: Frames that came for this host, by what they were.
        self.received: Counter[str] = Counter()
        self.problems: list[str] = []

    @property
    def echoed(self) -> int:
        """Bytes that came by TCP, and went back."""
        return self._echo.bytes

    def repeat(self) -> None:
        """Send once more what was sent by TCP and not acknowledged."""
        self._echo.repeat()

    def receive(self, frame: bytes) -> None:
        """Take a frame."""
        if len(frame) < 14 or frame[:6] not in (self.mac, _BROADCAST):
            self.received["not for it"] += 1
            return
        kind = int.from_bytes(frame[12:14], "big")
        if kind == EtherType.ARP:
            self._arp(frame)
        elif kind == EtherType.IPV4:
            self._ipv4(frame)
        else:
            self.received["other"] += 1

    def _wrong(self, what: str, frame: bytes) -> None:
        self.received["wrong"] += 1
        if len(self.problems) < 10:
            self.problems.append(f"{what}: {frame[:64].hex()}")

    def _arp(self, frame: bytes) -> None:
        """Answer who asks for this host (RFC 826)."""
        operation = int.from_bytes(frame[20:22], "big")
        sender_mac, sender_ip, target = frame[22:28], frame[28:32], frame[38:42]
        self.received["arp"] += 1
        if operation != 1 or target != self.ip:
            return
        self._hosts[sender_ip] = sender_mac
        body = frame[14:20] + b"\0\2" + self.mac + self.ip + sender_mac + sender_ip
        self._send((sender_mac + self.mac + frame[12:14] + body).ljust(60, b"\0"))

    def _ipv4(self, frame: bytes) -> None:
        packet = frame[14:]
        header = (packet[0] & 15) * 4 if packet else 0
        total = int.from_bytes(packet[2:4], "big")
        if header < 20 or not header <= total <= len(packet) or checksum(packet[:header]):
            self._wrong("IPv4 header", frame)
            return
        if packet[16:20] != self.ip:
            self.received["other"] += 1
            return
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            self._wrong("a fragment", frame)
            return
        source, body, protocol = packet[12:16], packet[header:total], packet[9]
        self._hosts[source] = frame[6:12]
        head = (
            b""
            if protocol == IpProtocol.ICMP
            else pseudo_header(packet[12:16], packet[16:20], protocol, len(body))
        )
        summed = head + body
        if protocol == IpProtocol.UDP and body[6:8] == b"\0\0":
            summed = b"\xff\xff"  # without a checksum (RFC 768)
        if checksum(summed):
            self._wrong(f"checksum of protocol {protocol}", frame)
        elif protocol == IpProtocol.ICMP and body[:1] == b"\x08":
            self.received["ping"] += 1
            self._ping(source, body)
        elif (
            protocol == IpProtocol.TCP
            and len(body) >= 20
            and body[2:4] == _ECHO_PORT.to_bytes(2, "big")
        ):
            self.received["tcp"] += 1
            self._echo.receive(source, body)
        elif protocol == IpProtocol.UDP and len(body) >= 8:
            self.received["udp"] += 1
            source_port, port, length, _ = struct.unpack(">HHHH", body[:8])
            if not 8 <= length <= len(body):
                self._wrong("UDP length", frame)
            elif port == _TFTP_PORT or port in self.tftp.ports:
                self.tftp.receive(source, source_port, port, body[8:length])
        else:
            self.received["other"] += 1

    def _ping(self, source: bytes, body: bytes) -> None:
        """Answer an echo request (RFC 792)."""
        answer = b"\0\0\0\0" + body[4:]
        self._transmit(
            source, IpProtocol.ICMP, answer[:2] + checksum(answer).to_bytes(2, "big") + body[4:]
        )

    def _datagram(self, to: bytes, port: int, from_port: int, data: bytes) -> None:
        self._transmit(
            to, IpProtocol.UDP, struct.pack(">HHHH", from_port, port, 8 + len(data), 0) + data
        )

    def _transmit(self, to: bytes, protocol: IpProtocol, body: bytes) -> None:
        """Send an IPv4 packet; TCP and UDP get their checksum."""
        if protocol in (IpProtocol.TCP, IpProtocol.UDP):
            body = summed(self.ip, to, protocol, body)
        self._number = self._number + 1 & 0xFFFF
        packet = ipv4(self.ip, to, protocol, body, identity=self._number, flags=_DO_NOT_FRAGMENT)
        frame = self._hosts[to] + self.mac + EtherType.IPV4.to_bytes(2, "big") + packet
        self._send(frame.ljust(60, b"\0"))
