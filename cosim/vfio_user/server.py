"""A vfio-user server: one client of one function, over a Unix socket.

Nothing here blocks.  Whoever runs the server asks :meth:`Connection.receive` for commands when the
socket is readable, and awaits :meth:`Connection.answer` for each, in order.
"""

import array
import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

from cosim.vfio_user import protocol
from cosim.vfio_user.device import DmaWindow, PciFunction
from cosim.vfio_user.protocol import (
    Command,
    DeviceFlag,
    DmaFlag,
    HeaderFlag,
    IrqFlag,
    IrqIndex,
    IrqSetFlag,
    Message,
    ProtocolError,
    RegionFlag,
    RegionIndex,
)

__all__ = ["Connection", "MessageReader", "listen"]

_CAPABILITIES: dict[str, object] = {
    "max_msg_fds": protocol.MAX_FDS,
    "max_data_xfer_size": protocol.MAX_DATA,
}
_IRQ_FLAGS = {
    IrqIndex.MSIX: IrqFlag.EVENTFD | IrqFlag.NORESIZE,
    IrqIndex.INTX: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED,
}
#: Whether the pin is masked by a command with these flags.
_PIN_MASKS = {
    IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_MASK: True,
    IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_UNMASK: False,
}
_ANCILLARY = socket.CMSG_SPACE(protocol.MAX_FDS * array.array("i").itemsize)


def listen(path: Path) -> socket.socket:
    """Return a socket, not blocking, that one client may connect to."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(1)
    server.setblocking(False)
    return server


class MessageReader:
    """Cuts what comes from a socket into messages, each with its descriptors."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._raw = bytearray()
        self._fds: list[int] = []
        self._message: Message | None = None
        self._size = protocol.HEADER.size

    def read(self) -> Message | None:
        """Return the next message that has come whole, or ``None``; ``EOFError`` at the end."""
        while True:
            missing = self._size - len(self._raw)
            if missing:
                try:
                    # No more than is missing, so that descriptors are those of this message.
                    data, ancillary, flags, _ = self._link.recvmsg(missing, _ANCILLARY)
                except BlockingIOError:
                    return None
                self._take_fds(ancillary)
                if flags & socket.MSG_CTRUNC:
                    raise ProtocolError("A message has too many descriptors")
                if not data:
                    raise EOFError
                self._raw += data
                continue
            raw = bytes(self._raw)
            self._raw.clear()
            if self._message is None:
                self._message, self._size = Message.unpack_header(raw)
                if self._size:
                    continue
                raw = b""
            message, self._message = self._message, None
            self._size = protocol.HEADER.size
            message.payload = raw
            message.fds, self._fds = self._fds, []
            return message

    def _take_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._fds += found

    def close(self) -> None:
        """Close descriptors of a message that did not come whole."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []


class Connection:
    """One client.

    Parameters
    ----------
    link : socket
        Connected; made not blocking.
    function : PciFunction
    """

    def __init__(self, link: socket.socket, function: PciFunction) -> None:
        link.setblocking(False)
        self._link, self.function = link, function
        self._reader = MessageReader(link)
        self._handlers = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._read,
            Command.REGION_WRITE: self._write,
            Command.DEVICE_RESET: self._reset,
        }
        self.open = True

    def fileno(self) -> int:
        """Descriptor to wait for."""
        return self._link.fileno()

    def receive(self) -> list[Message]:
        """Return commands that have come; afterwards ``open`` tells whether more can come."""
        found: list[Message] = []
        try:
            while (message := self._reader.read()) is not None:
                if message.flags & HeaderFlag.REPLY:
                    raise ProtocolError("An answer, and nothing was asked")
                found.append(message)
        except (EOFError, OSError, ProtocolError):
            self.open = False
        return found

    async def close(self) -> None:
        """Let the function know that its client is gone."""
        self.open = False
        self._reader.close()
        self._link.close()
        await self.function.disconnected()

    async def answer(self, message: Message) -> None:
        """Carry a command out and answer it, unless its client wants no answer."""
        reply = Message(message.id, message.command, HeaderFlag.REPLY)
        try:
            handler = self._handlers.get(Command(message.command))
            if handler is None:
                raise OSError(errno.ENOTSUP, f"No command {message.command}")
            reply.payload = await handler(message)
        except (ValueError, ProtocolError):
            reply.flags |= HeaderFlag.ERROR
            reply.error = errno.EINVAL
        except OSError as error:
            reply.flags |= HeaderFlag.ERROR
            reply.error = error.errno or errno.EIO
        finally:
            for fd in message.fds:
                os.close(fd)
        if not message.flags & HeaderFlag.NO_REPLY and self.open:
            self._send(reply.pack())

    def _send(self, data: bytes) -> None:
        """Send an answer; its client waits for it, so there is room or it is gone."""
        self._link.setblocking(True)
        try:
            self._link.sendall(data)
        except OSError:
            self.open = False
        finally:
            with suppress(OSError):
                self._link.setblocking(False)

    # Commands ------------------------------------------------------------------------------------

    async def _version(self, message: Message) -> bytes:
        protocol.unpack_version(message.payload)
        return protocol.pack_version(_CAPABILITIES)

    async def _dma_map(self, message: Message) -> bytes:
        _, flags, offset, address, size = message.fields(protocol.DMA_MAP)
        if not size or len(message.fds) > 1:
            raise ValueError("A window has bytes and at most one file")
        await self.function.map_memory(
            DmaWindow(
                address=address,
                size=size,
                fd=message.fds[0] if message.fds else None,
                offset=offset,
                readable=bool(flags & DmaFlag.READ),
                writable=bool(flags & DmaFlag.WRITE),
            )
        )
        return b""

    async def _dma_unmap(self, message: Message) -> bytes:
        _, _, address, size = message.fields(protocol.DMA_UNMAP)
        await self.function.unmap_memory(address, size)
        return message.payload[: protocol.DMA_UNMAP.size]

    async def _info(self, message: Message) -> bytes:
        message.fields(protocol.INFO)
        flags = DeviceFlag.PCI | DeviceFlag.RESET
        return protocol.INFO.pack(protocol.INFO.size, flags, len(RegionIndex), len(IrqIndex))

    async def _region_info(self, message: Message) -> bytes:
        index = message.fields(protocol.REGION_INFO)[2]
        size = self.function.regions.get(RegionIndex(index), 0)
        flags = RegionFlag.READ | RegionFlag.WRITE if size else 0
        return protocol.REGION_INFO.pack(protocol.REGION_INFO.size, flags, index, 0, size, 0)

    async def _irq_info(self, message: Message) -> bytes:
        index = message.fields(protocol.IRQ_INFO)[2]
        kind, flags = IrqIndex(index), IrqFlag(0)
        count = self._interrupts(kind)
        if count:
            flags = _IRQ_FLAGS[kind]
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, flags, index, count)

    def _interrupts(self, kind: IrqIndex) -> int:
        """Interrupts of a kind that there are."""
        counts = {IrqIndex.MSIX: self.function.vectors, IrqIndex.INTX: int(self.function.pin)}
        return counts.get(kind, 0)

    async def _set_irqs(self, message: Message) -> bytes:
        _, flags, index, first, count = message.fields(protocol.IRQ_SET)
        kind = IrqIndex(index)
        there = self._interrupts(kind)
        if not there or first + count > there:
            raise ValueError("There are no such interrupts")
        if flags & IrqSetFlag.DATA_NONE and flags & IrqSetFlag.ACTION_TRIGGER and not count:
            for number in range(there):
                await self._set_eventfd(kind, number, None)
        elif flags == IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER:
            if message.fds and len(message.fds) != count:
                raise ValueError(f"{len(message.fds)} descriptors for {count} interrupts")
            for number in range(count):
                eventfd = message.fds[number] if message.fds else None
                await self._set_eventfd(kind, first + number, eventfd)
        elif kind is IrqIndex.INTX and count and flags in _PIN_MASKS:
            self.function.mask_pin(_PIN_MASKS[IrqSetFlag(flags)])
        else:
            raise ValueError("Vectors are not masked or triggered here")
        return b""

    async def _set_eventfd(self, kind: IrqIndex, number: int, eventfd: int | None) -> None:
        if kind is IrqIndex.INTX:
            self.function.set_pin(eventfd)
        else:
            await self.function.set_vector(number, eventfd)

    def _extent(self, message: Message) -> tuple[int, int, int]:
        offset, region, count = message.fields(protocol.REGION_ACCESS)
        size = self.function.regions.get(region, 0)
        if not 0 < count <= protocol.MAX_DATA or offset + count > size:
            raise ValueError(f"{count} bytes at {offset:#x} are not in region {region}")
        return region, offset, count

    async def _read(self, message: Message) -> bytes:
        region, offset, count = self._extent(message)
        data = await self.function.read(region, offset, count)
        return protocol.REGION_ACCESS.pack(offset, region, count) + data

    async def _write(self, message: Message) -> bytes:
        region, offset, count = self._extent(message)
        data = message.payload[protocol.REGION_ACCESS.size :]
        if len(data) != count:
            raise ValueError(f"{len(data)} bytes for {count}")
        await self.function.write(region, offset, data)
        return protocol.REGION_ACCESS.pack(offset, region, count)

    async def _reset(self, message: Message) -> bytes:
        await self.function.reset()
        return b""
