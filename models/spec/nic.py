"""The NIC's register map, and codes that are its own.

Address map of the NIC's AXI4-Lite port, ``ADDRESS_BITS`` wide: function ``f`` (0 is the PF) has
its BAR of four pages at ``f * BAR_BYTES``; the PF's management pages are at ``MANAGEMENT_BASE``.
A guest is given the pages of its function and no others.
"""

from amaranth.lib import data, enum

from models.spec.registers import Access, Field, Register
from models.spec.virtio import Feature

__all__ = [
    "ADDRESS_BITS",
    "BAR_BYTES",
    "COMMON_OFFSET",
    "DEVICE_OFFSET",
    "FUNCTION_BYTES",
    "ISR_OFFSET",
    "MANAGEMENT",
    "MANAGEMENT_BASE",
    "MSIX_ENTRY_BYTES",
    "MSIX_PBA_OFFSET",
    "MSIX_TABLE_OFFSET",
    "NOTIFY_MULTIPLIER",
    "NOTIFY_OFFSET",
    "OFFERED_FEATURES",
    "PORT_SOURCE",
    "FunctionControl",
    "Isr",
    "MsixEntry",
    "QueueError",
    "Stat",
    "bar_base",
    "function_block",
    "initial_mac",
    "queue_error_offset",
    "stat_offset",
]

#: Bits of an address on the NIC's register port.
ADDRESS_BITS = 24
#: Bytes of a function's BAR: common/ISR/device page, notify page, MSI-X table page, PBA page.
BAR_BYTES = 0x4000
COMMON_OFFSET = 0x0000
ISR_OFFSET = 0x0100
DEVICE_OFFSET = 0x0200
NOTIFY_OFFSET = 0x1000
#: Queue ``q`` is notified by a write to ``NOTIFY_OFFSET + q * NOTIFY_MULTIPLIER``.
NOTIFY_MULTIPLIER = 4
MSIX_TABLE_OFFSET = 0x2000
MSIX_ENTRY_BYTES = 16
MSIX_PBA_OFFSET = 0x3000
#: Management: function ``f`` has a block of ``FUNCTION_BYTES`` at
#: ``MANAGEMENT_BASE + f * FUNCTION_BYTES``.
MANAGEMENT_BASE = 0x80_0000
FUNCTION_BYTES = 0x400
#: Feature bits that every function offers, one bit per Feature.
OFFERED_FEATURES = sum(
    1 << feature
    for feature in (
        Feature.NET_MTU,
        Feature.NET_MAC,
        Feature.NET_STATUS,
        Feature.VERSION_1,
        Feature.ACCESS_PLATFORM,
        Feature.ORDER_PLATFORM,
        Feature.RING_RESET,
    )
)
#: ``source`` of a frame that came from the Ethernet port.
PORT_SOURCE = 0xFF


class Isr(enum.IntFlag, shape=8):
    """ISR status (virtio 1.3, 4.1.4.5); reading clears it."""

    QUEUE = 1
    CONFIG = 2


class MsixEntry(data.Struct):
    """MSI-X table entry, 16 bytes (PCI Base 6.0, 7.7.2)."""

    address: 64
    data: 32
    mask: 1
    reserved: 31


class FunctionControl(data.Struct):
    """``control`` of a function in the management pages."""

    enable: 1  # the function may do DMA, send and receive
    ats: 1  # translate by ATS, park and retry; else DMA is untranslated and faults are errors
    promiscuous: 1
    reserved: 29


class QueueError(enum.IntEnum, shape=8):
    """Why a queue stopped; 0 while it runs."""

    NONE = 0
    RING_ADDRESS = 1  # a ring access met a fault that retry cannot mend
    BUFFER_ADDRESS = 2  # likewise a buffer access
    BAD_INDEX = 3  # avail.idx moved by more than the queue size
    BAD_HEAD = 4  # a head or next beyond the queue size
    BAD_CHAIN = 5  # longer than the queue, of wrong direction, or readable after writable
    BAD_LENGTH = 6  # a receive chain that is too short for its frame
    BAD_FLAGS = 7  # a flag that was not negotiated
    PAGE_REQUEST_FAILED = 8  # answered "failure" (or never, within the time-out)
    BUS = 9  # the bus answered with an error after a translation had succeeded


class Stat(enum.IntEnum, shape=4):
    """Counters kept per function, 48 bits each."""

    TX_PACKETS = 0
    TX_BYTES = 1
    RX_PACKETS = 2
    RX_BYTES = 3
    TX_DROPPED = 4  # too short or long, asks for an offload, to nobody, or its page was refused
    RX_DROPPED_FULL = 5  # no room in the receive FIFO, or a page of the buffer was refused
    RX_DROPPED_FILTER = 6  # the function is disabled
    PAGE_REQUESTS = 7
    PAGE_RETRIES = 8  # DMA begun again after a group response
    PARKED_CYCLES = 9  # from page request to group response
    INTERRUPTS = 10  # MSI-X messages sent
    INTERRUPTS_MASKED = 11  # recorded as pending instead
    DMA_READ_BYTES = 12
    DMA_WRITE_BYTES = 13
    TRANSLATIONS = 14  # ATS requests
    DMA_FAULTS = 15  # DMA that failed for good


def _register(
    name: str, offset: int, access: Access, doc: str, high: int = 31, reset: int | None = 0
) -> Register:
    fields = {"value": Field(high, 0, access, doc, reset)}
    return Register(name=name, offset=offset, width=32, fields=fields)


#: Registers of a function's management block; offsets are within the block.
MANAGEMENT = {
    register.name: register
    for register in (
        _register("control", 0x00, Access.RW, "FunctionControl."),
        _register("device_id", 0x04, Access.RO, "device_id of the function's DMA.", 23, None),
        _register(
            "mac_low", 0x08, Access.RW, "First four bytes of the MAC, first lowest.", 31, None
        ),
        _register("mac_high", 0x0C, Access.RW, "Last two bytes of the MAC.", 15, None),
        _register("page_timeout", 0x10, Access.RW, "Cycles to wait for a group response; 0: ever."),
        _register("status", 0x14, Access.RO, "device_status of the function.", high=7),
    )
}


def bar_base(function: int) -> int:
    """Address of a function's BAR on the register port."""
    return function * BAR_BYTES


def function_block(function: int) -> int:
    """Address of a function's management block on the register port."""
    return MANAGEMENT_BASE + function * FUNCTION_BYTES


def initial_mac(function: int) -> bytes:
    """MAC of a function after power-on: locally administered, the function in the last byte."""
    return bytes((0x02, 0, 0, 0, 0, function))


def queue_error_offset(queue: int) -> int:
    """Offset in the block of a queue's QueueError (32 bits, read-only)."""
    return 0x100 + 4 * queue


def stat_offset(stat: int) -> int:
    """Offset in the block of a counter: low half, high half at + 4 (read low first)."""
    return 0x200 + 8 * stat
