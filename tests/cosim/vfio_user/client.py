"""A vfio-user client that does what QEMU does: a guest's bus with one function on it."""

import array
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from cosim.port import Port
from cosim.vfio_user.protocol import HEADER, Command, Message, pack_version

_SLOT, _SLOTS = 0x08, range(0, 0x40, 8)
_WINDOW = (0x6000_0000, 0x1000_0000)
_CONFIG = 7
_TABLE, _TABLE_END = 0x2000, 0x3000
_PIN = -1  # in place of a vector


class ClientMemory:
    """A guest's RAM in a memfd, by GPA."""

    def __init__(self, base: int, size: int):
        self.base, self.size = base, size
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, size)

    def read(self, address: int, size: int) -> bytes:
        return os.pread(self.fd, size, address - self.base)

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self.fd, data, address - self.base)


class ClientBus:
    """A :class:`cosim.guest.virtio_pci.GuestBus` over a vfio-user connection.

    It keeps BARs' addresses and the MSI-X table, as QEMU does, and hands out eventfds.
    """

    functions, window = _SLOTS, _WINDOW

    def __init__(self, port: Port, path: Path):
        self._port = port
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.connect(str(path))
        self._link.setblocking(False)
        self._number = 0
        self._free = True
        self._bars = [0, 0]
        self._handlers: dict[int, Callable[[], None]] = {}
        self._eventfds: dict[int, int] = {}
        self._asserted = False
        self._task = port.spawn(self._interrupts(), "eventfds")

    async def ask(self, command: Command, payload: bytes = b"", fds=()) -> bytes:
        """Send a command and wait for its answer, one at a time."""
        while not self._free:
            await self._port.sleep(10)
        self._free = False
        self._number += 1
        raw = Message(self._number, command, 0, 0, payload).pack()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._link.sendmsg([raw], rights)
        while True:
            await self._port.sleep(50)
            if self._link.fileno() < 0:
                await self._port.event().wait()  # for ever: this client is dead
            try:
                found = self._link.recv(1 << 16)
            except BlockingIOError:
                continue
            number, _, size, flags, error = HEADER.unpack_from(found)
            assert (number, size) == (self._number, len(found))
            self._free = True
            if flags & 0x20:
                raise OSError(error, os.strerror(error))
            return found[HEADER.size :]

    async def start(self, memory: ClientMemory) -> None:
        """Say hello and share memory, in two windows."""
        await self.ask(Command.VERSION, pack_version({}))
        half = memory.size // 2
        for at in (0, half):
            window = struct.pack("<IIQQQ", 32, 3, at, memory.base + at, half)
            await self.ask(Command.DMA_MAP, window, [memory.fd])

    async def unmap(self, address: int, size: int) -> None:
        await self.ask(Command.DMA_UNMAP, struct.pack("<IIQQ", 24, 0, address, size))

    def hang_up(self) -> None:
        self._task.cancel()
        self._link.close()

    async def read(self, region: int, offset: int, size: int) -> int:
        raw = await self.ask(Command.REGION_READ, struct.pack("<QII", offset, region, size))
        return int.from_bytes(raw[16:], "little")

    async def write(self, region: int, offset: int, size: int, value: int) -> None:
        head = struct.pack("<QII", offset, region, size)
        await self.ask(Command.REGION_WRITE, head + value.to_bytes(size, "little"))

    # Bus -----------------------------------------------------------------------------------------

    async def config_read(self, function: int, offset: int, size: int) -> int:
        if function != _SLOT:
            return (1 << 8 * size) - 1
        return await self.read(_CONFIG, offset, size)

    async def config_write(self, function: int, offset: int, size: int, value: int) -> None:
        if function == _SLOT:
            await self.write(_CONFIG, offset, size, value)
            if offset in (0x10, 0x14):
                self._bars[(offset - 0x10) // 4] = value

    def _offset(self, address: int) -> int:
        offset = address - ((self._bars[1] << 32 | self._bars[0]) & -0x4000)
        assert 0 <= offset < 0x4000
        return offset

    async def memory_read(self, address: int, size: int) -> int:
        offset = self._offset(address)
        assert not _TABLE <= offset < _TABLE_END
        value = await self.read(0, offset, size)
        if self._asserted:  # an access to the device is the end of an interrupt, says QEMU
            self._asserted = False
            await self.ask(Command.DEVICE_SET_IRQS, struct.pack("<IIIII", 20, 0x11, 0, 0, 1))
        return value

    async def memory_write(self, address: int, size: int, value: int) -> None:
        offset = self._offset(address)
        if not _TABLE <= offset < _TABLE_END:
            await self.write(0, offset, size, value)
        elif offset % 16 == 12:
            await self.set_mask((offset - _TABLE) // 16, bool(value & 1))

    def memory_post(self, address: int, size: int, value: int) -> None:
        self._port.spawn(self.write(0, self._offset(address), size, value), "doorbell")

    def route(self, vector: int, handler: Callable[[], None]) -> tuple[int, int]:
        self._handlers[vector] = handler
        return 0xFEE0_0000, 0x4000 + vector

    def route_pin(self, handler: Callable[[], None]) -> None:
        self._handlers[_PIN] = handler
        self._eventfds[_PIN] = os.eventfd(0, os.EFD_NONBLOCK)
        head = struct.pack("<IIIII", 20, 0x24, 0, 0, 1)
        self._port.spawn(
            self.ask(Command.DEVICE_SET_IRQS, head, [self._eventfds[_PIN]]), "eventfd of the pin"
        )

    # Interrupts ----------------------------------------------------------------------------------

    async def set_mask(self, vector: int, masked: bool) -> None:
        head = struct.pack("<IIIII", 20, 0x24, 2, vector, 1)
        if not masked and vector not in self._eventfds:
            self._eventfds[vector] = os.eventfd(0, os.EFD_NONBLOCK)
            await self.ask(Command.DEVICE_SET_IRQS, head, [self._eventfds[vector]])
        elif masked and vector in self._eventfds:
            await self.ask(Command.DEVICE_SET_IRQS, head)
            os.close(self._eventfds.pop(vector))

    async def _interrupts(self) -> None:
        while True:
            await self._port.sleep(50)
            for vector, fd in list(self._eventfds.items()):
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    continue
                self._asserted = vector == _PIN
                if vector in self._handlers:
                    self._handlers[vector]()
