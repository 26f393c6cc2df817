"""The vfio-user server against hand-made exchanges."""

import array
import errno
import gc
import os
import random
import socket
import struct

import pytest

from cosim.vfio_user.device import DmaWindow
from cosim.vfio_user.protocol import HEADER, Message, ProtocolError, pack_version, unpack_version
from cosim.vfio_user.server import Connection

CONFIG = 7


class Memory:
    """A function that is nothing but bytes and notes what it is told."""

    def __init__(self):
        self.store = {0: bytearray(0x4000), CONFIG: bytearray(0x1000)}
        self.regions = {index: len(data) for index, data in self.store.items()}
        self.vectors, self.pin = 4, False
        self.masks: list[bool] = []
        self.windows: list[DmaWindow] = []
        self.events: dict[int, int] = {}
        self.resets = 0
        self.gone = False

    async def read(self, region, offset, size):
        return bytes(self.store[region][offset : offset + size])

    async def write(self, region, offset, data):
        if offset == 0x3000:
            raise OSError(errno.EIO, "broken")
        self.store[region][offset : offset + len(data)] = data

    async def map_memory(self, window):
        if window.fd is not None:
            assert os.pread(window.fd, 4, window.offset) == b"abcd"
        self.windows.append(window)

    async def unmap_memory(self, address, size):
        self.windows = [w for w in self.windows if not address <= w.address < address + size]

    async def set_vector(self, vector, eventfd):
        old = self.events.pop(vector, None)
        if old is not None:
            os.close(old)
        if eventfd is not None:
            self.events[vector] = os.dup(eventfd)

    def set_pin(self, eventfd):
        finish(self.set_vector(-1, eventfd))

    def mask_pin(self, masked):
        self.masks.append(masked)

    async def reset(self):
        self.resets += 1

    async def disconnected(self):
        self.gone = True


def finish(coroutine):
    """Run a coroutine that never waits."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


class Client:
    """The other side, and the server's loop."""

    def __init__(self):
        self.link, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.function = Memory()
        self.server = Connection(far, self.function)
        self.number = 0

    def send(self, command, payload=b"", fds=(), flags=0):
        self.number += 1
        raw = Message(self.number, command, flags, 0, payload).pack()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.link.sendmsg([raw], rights)

    def serve(self):
        for message in self.server.receive():
            finish(self.server.answer(message))

    def take(self):
        raw = self.link.recv(1 << 21)
        number, command, size, flags, error = HEADER.unpack_from(raw)
        assert size == len(raw)
        assert number == self.number
        assert flags & 1
        assert bool(flags & 0x20) == bool(error)
        return command, error, raw[HEADER.size :]

    def ask(self, command, payload=b"", fds=()):
        self.send(command, payload, fds)
        self.serve()
        answered, error, data = self.take()
        assert answered == command
        return error, data


@pytest.fixture
def client():
    made = Client()
    yield made
    made.link.close()


def test_versions_are_exchanged(client):
    error, data = client.ask(1, pack_version({"max_msg_fds": 8, "migration": {}}))
    assert not error
    assert struct.unpack_from("<HH", data) == (0, 0)
    assert data.endswith(b"\0")
    assert unpack_version(data)["max_data_xfer_size"] == 1 << 20
    error, _ = client.ask(1, struct.pack("<HH", 1, 0))
    assert error == errno.EINVAL
    error, _ = client.ask(1, struct.pack("<HH", 0, 0) + b"{nonsense\0")
    assert error == errno.EINVAL


def test_device_regions_and_interrupts_are_described(client):
    error, data = client.ask(4, struct.pack("<IIII", 16, 0, 0, 0))
    assert not error
    assert struct.unpack("<IIII", data) == (16, 3, 9, 5)
    sizes = {}
    for index in range(9):
        error, data = client.ask(5, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        assert not error
        _, flags, back, _, size, _ = struct.unpack("<IIIIQQ", data)
        assert back == index
        assert flags == (3 if size else 0)
        sizes[index] = size
    assert {index: size for index, size in sizes.items() if size} == {0: 0x4000, CONFIG: 0x1000}
    assert client.ask(5, struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0))[0] == errno.EINVAL
    counts = []
    for index in range(5):
        error, data = client.ask(7, struct.pack("<IIII", 16, 0, index, 0))
        assert not error
        counts.append(struct.unpack("<IIII", data)[3])
    assert counts == [0, 0, 4, 0, 0]


def test_a_pin_is_described_set_and_masked(client):
    client.function.pin = True
    error, data = client.ask(7, struct.pack("<IIII", 16, 0, 0, 0))
    assert (error, data) == (0, struct.pack("<IIII", 16, 7, 0, 1))
    fd = os.eventfd(0)
    assert not client.ask(8, struct.pack("<IIIII", 20, 0x24, 0, 0, 1), [fd])[0]
    os.close(fd)
    os.eventfd_write(client.function.events[-1], 1)
    for flags, masked in ((0x9, True), (0x11, False)):
        assert not client.ask(8, struct.pack("<IIIII", 20, flags, 0, 0, 1))[0]
        assert client.function.masks.pop() == masked
    assert client.ask(8, struct.pack("<IIIII", 20, 0x11, 0, 0, 2))[0] == errno.EINVAL
    assert client.ask(8, struct.pack("<IIIII", 20, 0x9, 2, 0, 1))[0] == errno.EINVAL
    assert not client.ask(8, struct.pack("<IIIII", 20, 0x21, 0, 0, 0))[0]
    assert not client.function.events


def test_regions_are_read_and_written(client):
    error, data = client.ask(10, struct.pack("<QII", 0x10, 0, 4) + b"wxyz")
    assert (error, data) == (0, struct.pack("<QII", 0x10, 0, 4))
    error, data = client.ask(9, struct.pack("<QII", 0x0E, 0, 8))
    assert (error, data[16:]) == (0, b"\0\0wxyz\0\0")
    assert len(client.ask(9, struct.pack("<QII", 0, CONFIG, 0x1000))[1]) == 16 + 0x1000


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (9, struct.pack("<QII", 0x3FFD, 0, 4)),
        (9, struct.pack("<QII", 1 << 63, 0, 4)),
        (9, struct.pack("<QII", 0, 3, 4)),
        (9, struct.pack("<QII", 0, 77, 4)),
        (9, struct.pack("<QII", 0, 0, 0)),
        (9, b"short"),
        (10, struct.pack("<QII", 0, 0, 4) + b"abc"),
        (2, struct.pack("<IIQQQ", 32, 3, 0, 0, 0)),
        (8, struct.pack("<IIIII", 20, 0x24, 2, 3, 2)),
        (8, struct.pack("<IIIII", 20, 0x24, 0, 0, 1)),
        (8, struct.pack("<IIIII", 20, 0x0C, 2, 0, 1)),
        (99, b""),
    ],
)
def test_nonsense_is_refused_and_the_client_served_on(client, command, payload):
    error, data = client.ask(command, payload)
    assert (error, data) == (errno.EINVAL, b"")
    assert client.server.open
    assert not client.ask(9, struct.pack("<QII", 0, 0, 4))[0]


def test_what_a_function_raises_and_what_is_not_there_is_answered(client):
    assert client.ask(10, struct.pack("<QII", 0x3000, 0, 4) + b"abcd")[0] == errno.EIO
    assert client.ask(11, bytes(16))[0] == errno.ENOTSUP


def test_posted_writes_are_not_answered(client):
    client.send(10, struct.pack("<QII", 4, 0, 2) + b"hi", flags=0x10)
    client.serve()
    client.link.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.link.recv(1)
    assert client.function.store[0][4:6] == b"hi"


def test_memory_comes_with_its_file_and_goes(client):
    file = os.memfd_create("memory")
    os.write(file, b"...." + b"abcd")
    gc.collect()  # nothing of other tests is closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    assert not client.ask(2, struct.pack("<IIQQQ", 32, 3, 4, 0x1000, 0x2000), [file])[0]
    assert not client.ask(2, struct.pack("<IIQQQ", 32, 1, 0, 0x8000, 0x1000))[0]
    shared, private = client.function.windows
    assert (shared.address, shared.size, shared.offset) == (0x1000, 0x2000, 4)
    assert (shared.readable, shared.writable) == (True, True)
    assert (private.fd, private.readable, private.writable) == (None, True, False)
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was kept"
    error, data = client.ask(3, struct.pack("<IIQQ", 24, 0, 0x1000, 0x2000))
    assert not error
    assert struct.unpack("<IIQQ", data) == (24, 0, 0x1000, 0x2000)
    assert client.function.windows == [private]
    os.close(file)


def test_vectors_get_eventfds_one_message_or_several(client):
    made = [os.eventfd(0) for _ in range(4)]
    assert not client.ask(8, struct.pack("<IIIII", 20, 0x24, 2, 1, 3), made[1:])[0]
    assert sorted(client.function.events) == [1, 2, 3]
    os.eventfd_write(client.function.events[2], 5)
    assert os.eventfd_read(made[2]) == 5
    assert not client.ask(8, struct.pack("<IIIII", 20, 0x24, 2, 1, 1))[0]
    assert sorted(client.function.events) == [2, 3]
    error, _ = client.ask(8, struct.pack("<IIIII", 20, 0x24, 2, 0, 2), made[:1])
    assert error == errno.EINVAL
    assert not client.ask(8, struct.pack("<IIIII", 20, 0x21, 2, 0, 0))[0]
    assert not client.function.events
    for fd in made:
        os.close(fd)


def test_reset_and_the_end(client):
    assert client.ask(13) == (0, b"")
    assert client.function.resets == 1
    client.link.close()
    assert client.server.receive() == []
    assert not client.server.open
    finish(client.server.close())
    assert client.function.gone


@pytest.mark.parametrize("seed", range(4))
def test_messages_in_pieces_keep_their_descriptors(client, seed):
    """Several commands in one stream of bytes, cut anywhere, each with its own descriptor."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    made = [os.eventfd(0) for _ in range(4)]
    for vector, fd in enumerate(made):
        message = Message(vector, 8, 0, 0, struct.pack("<IIIII", 20, 0x24, 2, vector, 1)).pack()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        while message:
            cut = rng.randint(1, len(message))
            client.link.sendmsg([message[:cut]], rights)
            message, rights = message[cut:], []
            if rng.randrange(2):
                client.serve()
    client.serve()
    for vector, fd in enumerate(made):
        os.eventfd_write(client.function.events[vector], 1 + vector)
        assert os.eventfd_read(fd) == 1 + vector
        os.close(fd)


@pytest.mark.parametrize(
    "raw",
    [
        HEADER.pack(1, 9, 15, 0, 0),
        HEADER.pack(1, 9, 1 << 31, 0, 0),
        HEADER.pack(1, 9, 16, 1, 0),
    ],
)
def test_who_does_not_speak_the_protocol_is_left(client, raw):
    client.link.send(raw)
    assert client.server.receive() == []
    assert not client.server.open


def test_a_client_that_dies_within_a_message_leaves_no_descriptor(client):
    before = len(os.listdir("/proc/self/fd"))
    event = os.eventfd(0)
    message = Message(1, 8, 0, 0, struct.pack("<IIIII", 20, 0x24, 2, 0, 1)).pack()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [event]))]
    client.link.sendmsg([message[:20]], rights)
    client.link.close()
    os.close(event)
    client.server.receive()
    assert not client.server.open
    finish(client.server.close())
    assert len(os.listdir("/proc/self/fd")) == before - 2  # both ends of the link
    with pytest.raises(ProtocolError):
        Message.unpack_header(HEADER.pack(1, 9, 15, 0, 0))
