"""Messages of the vfio-user protocol: header, commands and what they carry.

All numbers are little endian.  Sections are those of QEMU's ``docs/interop/vfio-user.rst``; numbers
that it takes from ``linux/vfio.h`` have the names that they have there.
"""

import json
import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

__all__ = [
    "DMA_MAP",
    "DMA_UNMAP",
    "HEADER",
    "INFO",
    "IRQ_INFO",
    "IRQ_SET",
    "MAX_DATA",
    "MAX_FDS",
    "REGION_ACCESS",
    "REGION_INFO",
    "Command",
    "DeviceFlag",
    "DmaFlag",
    "HeaderFlag",
    "IrqFlag",
    "IrqIndex",
    "IrqSetFlag",
    "Message",
    "ProtocolError",
    "RegionFlag",
    "RegionIndex",
    "pack_version",
    "unpack_version",
]

#: "Header": message ID, command, bytes with the header, flags, error.
HEADER = struct.Struct("<HHIII")
#: "VFIO_USER_DMA_MAP": argsz, flags, offset in the file, address, bytes.
DMA_MAP = struct.Struct("<IIQQQ")
#: "VFIO_USER_DMA_UNMAP": argsz, flags, address, bytes.
DMA_UNMAP = struct.Struct("<IIQQ")
#: "VFIO_USER_DEVICE_GET_INFO": argsz, flags, regions, interrupt kinds.
INFO = struct.Struct("<IIII")
#: "VFIO_USER_DEVICE_GET_REGION_INFO": argsz, flags, index, capabilities at, bytes, offset.
REGION_INFO = struct.Struct("<IIIIQQ")
#: "VFIO_USER_DEVICE_GET_IRQ_INFO": argsz, flags, index, count.
IRQ_INFO = struct.Struct("<IIII")
#: "VFIO_USER_DEVICE_SET_IRQS": argsz, flags, index, first, count.
IRQ_SET = struct.Struct("<IIIII")
#: "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE": offset, region, bytes.
REGION_ACCESS = struct.Struct("<QII")

#: Descriptors that a message may have, and bytes that an access may move.
MAX_FDS, MAX_DATA = 8, 1 << 20
#: Longest message: an access with its data.
_LONGEST = HEADER.size + REGION_ACCESS.size + MAX_DATA
#: Version of the protocol that is spoken.
_VERSION = (0, 0)


class ProtocolError(RuntimeError):
    """The other side does not speak this protocol; nothing more can be read from it."""


class Command(IntEnum):
    """Commands of a client, and those of a server."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13


class HeaderFlag(IntFlag):
    """``flags`` of a header; without REPLY it is a command."""

    REPLY = 1
    NO_REPLY = 0x10
    ERROR = 0x20


class DeviceFlag(IntFlag):
    """``VFIO_DEVICE_FLAGS_*``."""

    RESET = 1
    PCI = 2


class RegionFlag(IntFlag):
    """``VFIO_REGION_INFO_FLAG_*``."""

    READ = 1
    WRITE = 2


class RegionIndex(IntEnum):
    """``VFIO_PCI_*_REGION_INDEX``."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


class IrqIndex(IntEnum):
    """``VFIO_PCI_*_IRQ_INDEX``."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class IrqFlag(IntFlag):
    """``VFIO_IRQ_INFO_*``."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class IrqSetFlag(IntFlag):
    """``VFIO_IRQ_SET_*``: one DATA and one ACTION."""

    DATA_NONE = 1
    DATA_BOOL = 2
    DATA_EVENTFD = 4
    ACTION_MASK = 8
    ACTION_UNMASK = 0x10
    ACTION_TRIGGER = 0x20


class DmaFlag(IntFlag):
    """``flags`` of DMA_MAP: what a device may do there."""

    READ = 1
    WRITE = 2


@dataclass
class Message:
    """One message.

    Parameters
    ----------
    id, command, flags, error : int
        Of the header; ``error`` is an errno of an answer with HeaderFlag.ERROR.
    payload : bytes
        What follows the header.
    fds : list of int
        Descriptors that came with it; whoever handles the message closes them.
    """

    id: int
    command: int
    flags: int = 0
    error: int = 0
    payload: bytes = b""
    fds: list[int] = field(default_factory=list)

    def pack(self) -> bytes:
        """Return the bytes of header and payload."""
        size = HEADER.size + len(self.payload)
        return HEADER.pack(self.id, self.command, size, self.flags, self.error) + self.payload

    @staticmethod
    def unpack_header(raw: bytes) -> "tuple[Message, int]":
        """Return a message without its payload, and how many bytes that has."""
        number, command, size, flags, error = HEADER.unpack(raw)
        if not HEADER.size <= size <= _LONGEST:
            raise ProtocolError(f"A message cannot have {size} bytes")
        return Message(number, command, flags, error), size - HEADER.size

    def fields(self, layout: struct.Struct) -> tuple[int, ...]:
        """Return the numbers that the payload begins with; :class:`ProtocolError` if too short."""
        if len(self.payload) < layout.size:
            raise ProtocolError(f"Command {self.command} has {len(self.payload)} bytes")
        return layout.unpack_from(self.payload)


def pack_version(capabilities: dict[str, object]) -> bytes:
    """Return the payload of VERSION ("Version and capabilities")."""
    text = json.dumps({"capabilities": capabilities}).encode()
    return struct.pack("<HH", *_VERSION) + text + b"\0"


def unpack_version(payload: bytes) -> dict[str, object]:
    """Return the other side's capabilities; :class:`ProtocolError` if it is too different."""
    if len(payload) < 4:
        raise ProtocolError("VERSION without a version")
    major, _ = struct.unpack_from("<HH", payload)
    if major != _VERSION[0]:
        raise ProtocolError(f"Protocol version {major} is not spoken here")
    text = payload[4:].rstrip(b"\0")
    try:
        said = json.loads(text) if text else {}
    except ValueError as error:
        raise ProtocolError(f"VERSION with {text!r}") from error
    capabilities = said.get("capabilities", {}) if isinstance(said, dict) else None
    if not isinstance(capabilities, dict):
        raise ProtocolError(f"VERSION with {text!r}")
    return capabilities
