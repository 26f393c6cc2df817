"""The host on the wire: ARP, ping, TFTP, TCP echo, and what it refuses."""

import random
import struct

import pytest

from cosim.linux.wire import WireHost
from models.nic.packets import checksum

HOST_MAC, HOST_IP = bytes((2, 0, 0, 0, 1, 0)), bytes((10, 0, 0, 1))
MAC, IP = bytes((2, 0, 0, 0, 0, 1)), bytes((10, 0, 0, 2))
CONTENT = random.Random(1).randbytes(3000)


def ipv4(protocol, body):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, IP, HOST_IP)
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return HOST_MAC + MAC + b"\x08\0" + head + body


def with_checksum(protocol, body, at):
    pseudo = IP + HOST_IP + struct.pack(">HH", protocol, len(body))
    total = checksum(pseudo + body)
    return ipv4(protocol, body[:at] + total.to_bytes(2, "big") + body[at + 2 :])


class Talk:
    """A guest's side, by hand."""

    def __init__(self):
        self.frames: list[bytes] = []
        self.host = WireHost(self.frames.append, mac=HOST_MAC, ip=HOST_IP, content=CONTENT)

    def bodies(self, protocol):
        """Take what the host has sent; every checksum is right."""
        found = []
        for frame in self.frames:
            assert (frame[:6], frame[6:12]) == (MAC, HOST_MAC)
            assert len(frame) >= 60
            packet = frame[14:]
            assert not checksum(packet[:20])
            body = packet[20 : int.from_bytes(packet[2:4], "big")]
            assert packet[9] == protocol
            pseudo = packet[12:20] + struct.pack(">HH", protocol, len(body))
            assert not checksum((b"" if protocol == 1 else pseudo) + body)
            found.append(body)
        del self.frames[:]
        return found

    def udp(self, port, data, source=1000):
        body = struct.pack(">HHHH", source, port, 8 + len(data), 0) + data
        self.host.receive(with_checksum(17, body, 6))
        answers = self.bodies(17)
        return [(int.from_bytes(body[:2], "big"), body[8:]) for body in answers]

    def tcp(self, sequence, acknowledged, flags, data=b"", window=60000):
        head = struct.pack(">HHIIBBHHH", 999, 7, sequence, acknowledged, 0x50, flags, window, 0, 0)
        self.host.receive(with_checksum(6, head + data, 16))
        found = []
        for body in self.bodies(6):
            _, _, seq, ack, offset, flag, _ = struct.unpack(">HHIIBBH", body[:16])
            found.append((seq, ack, flag, body[(offset >> 4) * 4 :]))
        return found


def test_arp_and_ping():
    talk = Talk()
    ask = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + MAC + IP + bytes(6) + HOST_IP
    talk.host.receive(b"\xff" * 6 + MAC + b"\x08\x06" + ask)
    (answer,) = talk.frames
    assert answer[:14] == MAC + HOST_MAC + b"\x08\x06"
    assert answer[20:42] == b"\0\2" + HOST_MAC + HOST_IP + MAC + IP
    del talk.frames[:]
    ping = b"\x08\0\0\0\x12\x34\0\1" + CONTENT[:1001]
    ping = ping[:2] + checksum(ping).to_bytes(2, "big") + ping[4:]
    talk.host.receive(ipv4(1, ping))
    (body,) = talk.bodies(1)
    assert body[:2] + body[4:] == b"\0\0" + ping[4:]
    talk.host.receive(b"\x02" * 6 + MAC + b"\x08\x06" + ask)
    assert not talk.frames
    assert talk.host.received == {"arp": 1, "ping": 1, "not for it": 1}


@pytest.mark.parametrize("at", [15, 25, 40, 61])
def test_what_was_damaged_is_a_problem(at):
    talk = Talk()
    good = with_checksum(17, struct.pack(">HHHH", 5, 69, 40, 0) + bytes(32), 6)
    talk.host.receive(good)
    assert not talk.host.problems
    talk.host.receive(good[:at] + bytes((good[at] ^ 4,)) + good[at + 1 :])
    assert len(talk.host.problems) == 1
    talk.host.receive(good[:30])
    assert len(talk.host.problems) == 2


@pytest.mark.parametrize("size", [None, 1400, 1000])
def test_tftp_gives_the_file_and_takes_it_back(size):
    talk = Talk()
    option = b"" if size is None else b"blksize\0%d\0" % size
    request = b"\0\1payload\0octet\0" + option
    ((port, answer),) = talk.udp(69, request)
    assert talk.udp(69, request) == [(port, answer)], "repeated, it is no other request"
    got, block, length = b"", 0, size or 512
    if size:
        assert answer == b"\0\6" + option
        ((_, answer),) = talk.udp(port, b"\0\4\0\0")
    while True:
        block += 1
        assert answer[:4] == struct.pack(">HH", 3, block)
        got += answer[4:]
        again = [talk.udp(port, struct.pack(">HH", 4, block - 1)) for _ in range(4)]
        assert [[data for _, data in one] for one in again] == [[], [], [], [answer]]
        if len(answer) - 4 < length:
            break
        ((_, answer),) = talk.udp(port, struct.pack(">HH", 4, block))
    assert got == CONTENT
    for changed in (False, True):
        sent = CONTENT[:-1] + b"?" if changed else CONTENT
        source = 2000 + changed
        ((port, answer),) = talk.udp(69, b"\0\2payload\0octet\0" + option, source)
        assert answer == (b"\0\6" + option if size else b"\0\4\0\0")
        for number in range(len(sent) // length + 1):
            part = struct.pack(">HH", 3, number + 1) + sent[number * length :][:length]
            for _ in range(2):  # the second time as if the answer had been lost
                answers = [data for _, data in talk.udp(port, part, source)]
        assert answers == [struct.pack(">HH", 4, len(sent) // length + 1)]
    assert (talk.host.tftp.equal, talk.host.tftp.different) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_tcp_echo_with_losses_both_ways(seed):
    """A small client that repeats what is lost gets back what it sent, in order."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    talk = Talk()
    ((start, ack, flags, _),) = talk.tcp(5000, 0, 2)
    assert (ack, flags) == (5001, 0x12)
    assert [answer[0] for answer in talk.tcp(5000, 0, 2)] == [start], "the same, repeated"
    assert talk.tcp(5001, start + 1, 0x10) == []
    sent, got, base = 0, b"", start + 1
    closed, rounds = False, 0
    while not closed:
        rounds += 1
        assert rounds < 500, "no end"
        part = CONTENT[sent : sent + rng.randint(1, 900)]
        last = sent + len(part) == len(CONTENT)
        answers = []
        if rng.randrange(5):  # else lost
            answers = talk.tcp(5001 + sent, base + len(got), 0x11 if last else 0x10, part)
        for _ in range(3):
            answers += talk.tcp(5001 + sent, base + len(got), 0x10)
        for seq, ack, flag, data in answers:
            if not rng.randrange(5):
                continue  # lost
            sent = max(sent, min(ack - 5001, len(CONTENT)))
            if seq == base + len(got):
                got += data
                closed |= bool(flag & 1)
    assert got == CONTENT
    assert talk.tcp(5002 + len(CONTENT), base + len(got) + 1, 0x10) == []
    assert [flag for _, _, flag, _ in talk.tcp(5002 + len(CONTENT), 1, 0x10)] == [4]
    assert talk.host.echoed == len(CONTENT)


def test_tcp_end_that_was_lost_comes_again():
    """The client has sent all and is silent; it lost everything that came back."""
    talk = Talk()
    ((start, *_),) = talk.tcp(5000, 0, 2)
    first = talk.tcp(5001, start + 1, 0x11, CONTENT[:1000])
    assert [data for *_, data in first] == [CONTENT[:1000]]
    for _ in range(2):
        talk.host.repeat()
        (again,) = talk.bodies(6)
        assert again[20:] == CONTENT[:1000]
        assert again[13] & 1, "with the end"
    assert talk.tcp(6002, start + 1 + 1000 + 1, 0x10) == []
    talk.host.repeat()
    assert talk.bodies(6) == [], "nothing is left to send"


def test_tcp_client_that_is_gone_is_given_up():
    talk = Talk()
    ((start, *_),) = talk.tcp(5000, 0, 2)
    assert talk.tcp(5001, start + 1, 0x10, CONTENT[:500])
    repetitions = 0
    while True:
        talk.host.repeat()
        if not talk.bodies(6):
            break
        repetitions += 1
        assert repetitions < 100
    assert repetitions > 10
    assert [flag for _, _, flag, _ in talk.tcp(5501, start + 1, 0x10)] == [4]
