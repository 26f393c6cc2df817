"""Makes the capture that ships with the project: real stacks, real traffic, nobody's data.

Two network namespaces of Linux, joined by a veth pair without offloads, so that every frame is as
it would be on a wire.  One serves HTTP and answers datagrams; the other fetches over IPv4 and IPv6,
several at a time, asks short questions over UDP, and pings.  ARP, neighbour discovery and TCP are
the kernel's own.  Needs root and ``ip``; run as ``python tools/make_capture.py FILE``.
"""

import fcntl
import http.client
import http.server
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from scapy.utils import PcapNgWriter

SERVER, CLIENT = "iovirt-server", "iovirt-client"
V4, V6 = "192.0.2.1", "2001:db8::1"
HTTP, ASK = 8080, 5353
#: Features to turn off (linux/ethtool.h): checksums, segmentation, and their receiving side.
ETHTOOL = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
SIOCETHTOOL, ETH_P_ALL = 0x8946, 3
SIZES = (400, 1_200, 9_000, 30_000, 48_000)


def ip(*words: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True)


def lay_out() -> None:
    """Make the namespaces and what joins them."""
    for name, device, four, six in (
        (SERVER, "veth-s", V4, V6),
        (CLIENT, "veth-c", "192.0.2.2", "2001:db8::2"),
    ):
        ip("netns", "add", name)
        if name == SERVER:
            ip("link", "add", "veth-s", "type", "veth", "peer", "name", "veth-c")
        ip("link", "set", device, "netns", name)
        ip("-n", name, "addr", "add", f"{four}/24", "dev", device)
        ip("-n", name, "addr", "add", f"{six}/64", "dev", device, "nodad")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", device, "up")


def clear() -> None:
    """Remove everything again."""
    for name in (SERVER, CLIENT):
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def plain(device: str) -> None:
    """Turn offloads of a device off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in ETHTOOL:
            value = bytearray(struct.pack("II", command, 0))
            address = (struct.unpack("Q", struct.pack("P", _address(value)))[0],)
            request = struct.pack("16sQ16x", device.encode(), *address)
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request)
            except OSError as error:
                print(f"{device}: feature {command:#x}: {error}", file=sys.stderr)


def _address(value: bytearray) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(value))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ``/N`` with N bytes of text."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve one."""
        size = int(self.path.strip("/"))
        words = random.Random(size)
        body = " ".join(f"{words.randrange(1 << 20):x}" for _ in range(size // 4)).encode()[:size]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """HTTP over IPv4 and IPv6."""

    address_family = socket.AF_INET6
    daemon_threads = True


def serve() -> None:
    """Be the server, until killed."""
    plain("veth-s")
    answers = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    answers.bind(("::", ASK))

    def answer() -> None:
        while True:
            question, who = answers.recvfrom(2048)
            answers.sendto(question[::-1] + bytes(len(question) % 97), who)

    threading.Thread(target=answer, daemon=True).start()
    Server(("::", HTTP), Handler).serve_forever()


def fetch(host: str, sizes: tuple[int, ...]) -> None:
    """Fetch some over one connection."""
    connection = http.client.HTTPConnection(host, HTTP)
    for size in sizes:
        connection.request("GET", f"/{size}", headers={"User-Agent": "iovirt"})
        assert len(connection.getresponse().read()) == size
    connection.close()


def ask(host: str, seed: int) -> None:
    """Ask and be answered, some times."""
    rng = random.Random(seed)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as questions:
        for _ in range(12):
            questions.sendto(rng.randbytes(rng.choice((18, 64, 201, 512, 1200))), (host, ASK))
            questions.recv(2048)


def ping(count: int) -> None:
    """Send ICMP echo requests; the kernel answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        for number in range(count):
            body = struct.pack(">HH", 0x1234, number) + bytes(range(56))
            total = sum(struct.unpack(">30H", body)) + 0x0800
            total = (total & 0xFFFF) + (total >> 16)
            raw.sendto(struct.pack(">BBH", 8, 0, ~total & 0xFFFF) + body, (V4, 0))
            time.sleep(0.005)


def use() -> None:
    """Be the client."""
    plain("veth-c")
    time.sleep(0.5)
    work = [
        threading.Thread(target=fetch, args=(V4, SIZES[:3])),
        threading.Thread(target=fetch, args=(V6, SIZES[2:4])),
        threading.Thread(target=fetch, args=(V4, SIZES[3:])),
        threading.Thread(target=ask, args=(V4, 1)),
        threading.Thread(target=ask, args=(V6, 2)),
        threading.Thread(target=ping, args=(8,)),
    ]
    for thread in work:
        thread.start()
        time.sleep(0.01)
    for thread in work:
        thread.join()


def main(path: Path) -> None:
    """Make the namespaces, capture, and write the file."""
    clear()
    lay_out()
    again = [sys.executable, __file__, "--role"]
    inside = ["ip", "netns", "exec"]
    try:
        server = subprocess.Popen([*inside, SERVER, *again, "server"])
        sniffer = subprocess.Popen([*inside, SERVER, *again, "sniff", str(path)])
        time.sleep(1)
        subprocess.run([*inside, CLIENT, *again, "client"], check=True, timeout=60)
        time.sleep(1)
        server.kill()
        assert sniffer.wait(30) == 0
    finally:
        clear()


def sniff(path: Path) -> None:
    """Write what crosses the server's end of the wire, until it has been quiet for a while."""
    writer = PcapNgWriter(str(path))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind(("veth-s", ETH_P_ALL))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        wire.settimeout(4)
        count = longest = 0
        while True:
            try:
                frame = wire.recv(1 << 16)
            except TimeoutError:
                break
            writer.write(frame)
            count, longest = count + 1, max(longest, len(frame))
    writer.close()
    print(f"{count} frames, longest {longest}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "--role":
        roles = {"server": serve, "client": use, "sniff": lambda: sniff(Path(sys.argv[3]))}
        roles[sys.argv[2]]()
    elif os.geteuid():
        sys.exit("tools/make_capture.py needs root")
    else:
        main(Path(sys.argv[1]).resolve())
