"""The NIC's register map, and codes that are its own.

Address map of the NIC's AXI4-Lite port, ``ADDRESS_BITS`` wide: function ``f`` (0 is the PF) has
its BAR of four pages at ``f * BAR_BYTES``; the PF's management pages are at ``MANAGEMENT_BASE``;
the PCI configuration space of function ``f`` (:mod:`models.spec.pci`) is at ``config_base(f)``.
A guest is given the pages of its function and no others.
"""

from amaranth.lib import data, enum

from models.spec.config import NicConfig
from models.spec.registers import Access, Field, Register
from models.spec.virtio import MSI_NO_VECTOR, Feature
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH

__all__ = [
    "ADDRESS_BITS",
    "BACKUP_ENTRIES_LOG2_MAX",
    "BACKUP_FRAME_OFFSET",
    "BAR_BYTES",
    "BASE_FEATURES",
    "COALESCED_QUEUES",
    "COMMON_OFFSET",
    "CONFIG_BASE",
    "CONFIG_BYTES",
    "CONTROLLED_FLAGS",
    "DEVICE_OFFSET",
    "DROPS",
    "FEATURE_FLAGS",
    "FUNCTION_BYTES",
    "ISR_OFFSET",
    "MAC_FILTERS",
    "MANAGEMENT",
    "MANAGEMENT_BASE",
    "MERGED_BUFFERS",
    "MSIX_ENTRY_BYTES",
    "MSIX_PBA_OFFSET",
    "MSIX_TABLE_OFFSET",
    "NOTIFY_MULTIPLIER",
    "NOTIFY_OFFSET",
    "PORT_SOURCE",
    "QUEUE_STATS",
    "RX_QUEUE_DROPS",
    "VLAN_FILTERS",
    "BackupEntry",
    "BackupRing",
    "FunctionControl",
    "FunctionVlan",
    "Isr",
    "MacFilterHigh",
    "MailboxEvent",
    "MsixEntry",
    "QueueCoalescing",
    "QueueError",
    "RssControl",
    "RxQueueStat",
    "Stat",
    "TxQueueStat",
    "VlanFilter",
    "bar_base",
    "config_base",
    "function_block",
    "initial_mac",
    "offered_features",
    "queue_error_offset",
    "queue_stat_of",
    "queue_stat_offset",
    "queue_stats_of",
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
FUNCTION_BYTES = 0x800
#: Configuration space: function ``f`` has ``CONFIG_BYTES`` at ``CONFIG_BASE + f * CONFIG_BYTES``.
CONFIG_BASE = 0xC0_0000
CONFIG_BYTES = 0x1000
#: MAC and VLAN filters of a function, beside its MAC.
MAC_FILTERS = VLAN_FILTERS = 8
#: Queues of a function that have a register ``coalescing``: as many as a function can have.
COALESCED_QUEUES = 16
#: Most receive buffers of a frame (with NET_MRG_RXBUF); one that needs more stops its queue.
MERGED_BUFFERS = 16
#: Feature bits that every function of every NIC offers, one bit per Feature.
BASE_FEATURES = sum(
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
#: What else is offered, by the member of NicConfig that has it built in.
FEATURE_FLAGS: dict[str, tuple[Feature, ...]] = {
    "packed": (Feature.RING_PACKED,),
    "indirect": (Feature.RING_INDIRECT_DESC,),
    "event_idx": (Feature.RING_EVENT_IDX,),
    "in_order": (Feature.IN_ORDER,),
    "mergeable": (Feature.NET_MRG_RXBUF,),
    "checksum": (Feature.NET_CSUM, Feature.NET_GUEST_CSUM),
    "segmentation": (Feature.NET_HOST_TSO4, Feature.NET_HOST_TSO6, Feature.NET_HOST_ECN),
    "control_queue": (
        Feature.NET_CTRL_VQ,
        Feature.NET_CTRL_RX,
        Feature.NET_CTRL_VLAN,
        Feature.NET_CTRL_MAC_ADDR,
        Feature.NET_NOTF_COAL,
        Feature.NET_VQ_NOTF_COAL,
    ),
    "multiqueue": (Feature.NET_MQ,),
    "rss": (Feature.NET_RSS,),
}
#: Those whose features need a control queue.
CONTROLLED_FLAGS = ("control_queue", "multiqueue", "rss")
#: Largest ``BackupRing.entries_log2``.
BACKUP_ENTRIES_LOG2_MAX = 12
#: Where the frame begins in an entry of a backup ring; before it is a BackupEntry.
BACKUP_FRAME_OFFSET = 16
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
    promiscuous: 1  # receives every frame of its VLAN
    multicast_filter: 1  # of multicast frames only those to a MAC filter; else all of its VLAN
    vlan_filter: 1  # without a VLAN of its own: of tagged frames only those with a VLAN filter
    spoof_check: 1  # drops what it sends under a MAC, or a VLAN that is filtered, not its own
    mirror: 1  # receives a copy of every frame that is forwarded, tagged as on the wire
    link_down: 1  # neither sends nor receives, and its driver sees the link down
    attended: 1  # its driver's resets end when software has cleared their event; see MailboxEvent
    reserved: 23


class FunctionVlan(data.Struct):
    """``vlan`` of a function: frames are tagged and untagged by the switch (IEEE 802.1Q)."""

    vid: 12
    reserved0: 4
    priority: 3  # of the tag of frames that it sends
    reserved1: 12
    enable: 1


class MacFilterHigh(data.Struct):
    """``mac_filter_high``: the end of a MAC that a function receives beside its own."""

    mac: 16
    reserved: 15
    valid: 1


class VlanFilter(data.Struct):
    """``vlan_filter``: a VLAN that a function receives."""

    vid: 12
    reserved: 19
    valid: 1


class RssControl(data.Struct):
    """``rss`` of a function (virtio 1.3, 5.1.6.5.7)."""

    table_mask: 7  # entries of the indirection table, a power of two, less one
    closed: 8  # bit n: receive queue pair n takes no frames; cleared by a reset of the device
    reserved0: 1
    unclassified: 8  # queue pair of frames that have no hash
    reserved1: 7
    enable: 1  # else every frame goes to queue pair 0; likewise


class QueueCoalescing(data.Struct):
    """``coalescing`` of a queue: when its used buffers are notified (virtio 1.3, 5.1.6.5.8).

    As soon as so many wait, or when the first of them has waited so long.  The interrupt tells of
    all queues of the function that have its vector: those that share one are moderated together.
    """

    packets: 10  # used buffers; 0: no matter how many
    cycles: 22  # 0: at once


class BackupRing(data.Struct):
    """``backup`` of a function: the ring of each of its queue pairs, in memory that is pinned.

    Frames for a receive queue that waits for a page, or whose function has no room, go there, and
    from there to the queue in their order.  Entry ``n`` of queue pair ``p`` is at
    ``backup_low/high + ((p << entries_log2) + n) * NicConfig.backup_stride``, by the PF's DMA.
    Written last; the address must not change while a ring is enabled.
    """

    entries_log2: 4  # at most BACKUP_ENTRIES_LOG2_MAX
    reserved: 27
    enable: 1


class BackupEntry(data.Struct):
    """Begins an entry of a backup ring; what follows up to the frame has no meaning."""

    length: 14  # bytes of the frame
    checksum: 2  # 0: nothing is known of it, 1: it is good, 2: it is bad
    reserved: 16  # not written


class MailboxEvent(enum.IntFlag, shape=32):
    """``events`` of a function, for the hypervisor's software."""

    CONTROL = 1  # its control queue was notified
    RESET = 2  # its driver reset it
    READY = 4  # its driver has set DRIVER_OK
    QUEUE_RESET = 8  # its driver reset the control queue
    DATA_RESET = 16  # its driver reset another queue


#: Bytes of the longest frame that is cut into segments (virtio 1.3, 5.1.6.3.1): an IP packet,
#: Ethernet header and VLAN tag.
SEGMENTED_BYTES_MAX = 65535 + 14 + 4


class QueueError(enum.IntEnum, shape=8):
    """Why a queue stopped; 0 while it runs."""

    NONE = 0
    RING_ADDRESS = 1  # a ring access met a fault that retry cannot mend
    BUFFER_ADDRESS = 2  # likewise a buffer access
    BAD_INDEX = 3  # more is available than the queue holds
    BAD_HEAD = 4  # a head or next beyond the queue size
    BAD_CHAIN = 5  # longer than the queue, of wrong direction, or readable after writable
    BAD_LENGTH = 6  # a receive buffer without room for the header, or merged ones for the frame
    BAD_FLAGS = 7  # a flag that was not negotiated
    PAGE_REQUEST_FAILED = 8  # answered "failure" (or never, within the time-out)
    BUS = 9  # with ATS: the bus answered with an error, the translation had succeeded
    BAD_INDIRECT = 10  # an indirect table of no or broken entries, in a table, or followed by more
    BAD_WRAP = 11  # a packed chain goes on in a descriptor that is not available


class Stat(enum.IntEnum, shape=6):
    """Counters kept per function, 48 bits each."""

    TX_PACKETS = 0
    TX_BYTES = 1
    RX_PACKETS = 2
    RX_BYTES = 3
    TX_DROPPED = 4  # for whatever reason; each has a counter of its own
    RX_DROPPED_FULL = 5  # no room in FIFOs or backup ring, or lost with that; PF: no slot either
    RX_DROPPED_FILTER = 6  # its MAC, but disabled, no link, driver or VLAN of it; PF: nobody's
    PAGE_REQUESTS = 7
    PAGE_RETRIES = 8  # DMA begun again after it was parked
    PARKED_CYCLES = 9  # from parking to the end of it
    INTERRUPTS = 10  # MSI-X messages sent
    INTERRUPTS_MASKED = 11  # recorded as pending instead
    DMA_READ_BYTES = 12
    DMA_WRITE_BYTES = 13
    TRANSLATIONS = 14  # ATS requests; with an ATC those are its misses
    DMA_FAULTS = 15  # DMA that failed for good
    TX_DROPPED_OFFLOAD = 16  # of TX_DROPPED: an offload not negotiated or not possible
    TX_DROPPED_MAC = 17  # of TX_DROPPED: sent under a MAC that is not the function's
    TX_DROPPED_VLAN = 18  # of TX_DROPPED: tagged, but not with a VLAN of the function
    TX_CHECKSUMS = 19  # frames whose checksum was completed
    TX_SEGMENTED = 20  # chains cut into segments; each segment is one of TX_PACKETS
    TX_MULTICAST = 21  # of TX_PACKETS: to a group, but for broadcast
    TX_BROADCAST = 22
    RX_MULTICAST = 23  # to a group, but for broadcast, and taken in: there was room
    RX_BROADCAST = 24  # likewise to all
    RX_CHECKSUM_GOOD = 25
    RX_CHECKSUM_BAD = 26
    RX_MERGED = 27  # receive buffers used beyond the first of a frame
    NOTIFICATIONS = 28  # doorbells
    ATC_HITS = 29  # pages of DMA whose translation was known
    INVALIDATIONS = 30  # ATS invalidations that the function has carried out
    RX_BACKUP = 31  # frames that waited in the backup ring
    PAGE_WAITS = 32  # DMA parked without a page request: one was out, or it was too early for one
    RX_DROPPED_QUEUE = 33  # the queue does not run, or has ended with the frame
    RX_DROPPED_BUFFER = 34  # longer than the chain that it would go to
    RX_DROPPED_REFUSED = 35  # a page of its buffers was refused
    RX_DROPPED_LONG = 36  # longer than the MTU
    RX_DROPPED_WIRE = 37  # PF: with an error, shorter than a header or longer than a slot
    TX_DROPPED_LENGTH = 38  # of TX_DROPPED: too short or too long
    TX_DROPPED_REFUSED = 39  # of TX_DROPPED: a page of its buffers was refused
    TX_DROPPED_LINK = 40  # of TX_DROPPED: link down, or function disabled or reset meanwhile
    TX_DROPPED_NOBODY = 41  # of TX_DROPPED: no function and no port is to have it


class RxQueueStat(enum.IntEnum, shape=3):
    """Counters kept per receive queue, 48 bits each: its share of its function's of that name.

    RX_DROPPED is of all in RX_QUEUE_DROPS.
    """

    RX_PACKETS = 0
    RX_BYTES = 1
    RX_DROPPED = 2  # but not where its function has no room: no queue is chosen by then
    NOTIFICATIONS = 3
    RX_CHECKSUM_GOOD = 4
    RX_CHECKSUM_BAD = 5
    RX_MERGED = 6
    RX_BACKUP = 7


class TxQueueStat(enum.IntEnum, shape=3):
    """Counters kept per transmit queue, 48 bits each: its share of its function's of that name."""

    TX_PACKETS = 0
    TX_BYTES = 1
    TX_DROPPED = 2
    NOTIFICATIONS = 3
    TX_DROPPED_OFFLOAD = 4
    TX_DROPPED_MAC = 5
    TX_DROPPED_VLAN = 6
    TX_SEGMENTED = 7


#: Counters of a queue, by the lowest bit of its number.
QUEUE_STATS = RxQueueStat, TxQueueStat
#: Why a frame that is for a queue is dropped.
RX_QUEUE_DROPS = (
    *(Stat.RX_DROPPED_FULL, Stat.RX_DROPPED_QUEUE),
    *(Stat.RX_DROPPED_BUFFER, Stat.RX_DROPPED_REFUSED),
)
#: Every frame that is dropped is one of these, once for each of its receivers; but for what waits
#: when a device is reset.
DROPS = (
    Stat.TX_DROPPED,
    *RX_QUEUE_DROPS,
    *(Stat.RX_DROPPED_FILTER, Stat.RX_DROPPED_LONG, Stat.RX_DROPPED_WIRE),
)


def _register(
    name: str, offset: int, access: Access, doc: str, high: int = 31, reset: int | None = 0
) -> Register:
    fields = {"value": Field(high, 0, access, doc, reset)}
    return Register(name=name, offset=offset, width=32, fields=fields)


_RO, _RW = Access.RO, Access.RW
_ALL = (
    _register("control", 0x00, _RW, "FunctionControl."),
    _register("device_id", 0x04, _RO, "device_id of the function's DMA.", 23, None),
    _register("mac_low", 0x08, _RW, "First four bytes of the MAC, first lowest.", 31, None),
    _register("mac_high", 0x0C, _RW, "Last two bytes of the MAC.", 15, None),
    _register("page_timeout", 0x10, _RW, "PF: cycles that all wait for a group response; 0: ever."),
    _register("status", 0x14, _RO, "device_status of the function.", high=7),
    _register("vlan", 0x18, _RW, "FunctionVlan."),
    _register("events", 0x1C, Access.RW1C, "MailboxEvent."),
    _register("mailbox", 0x20, _RO, "PF: first function with events, plus 1; 0: none.", 15),
    _register("mailbox_vector", 0x24, _RW, "PF: vector raised for new events.", 15, MSI_NO_VECTOR),
    _register("rss", 0x2C, _RW, "RssControl."),
    _register("rss_types", 0x30, _RW, "HashType."),
    _register("features_low", 0x34, _RO, "Features that the driver accepted."),
    _register("features_high", 0x38, _RO, "Likewise, from bit 32 on."),
    _register("queue_enables", 0x3C, _RO, "Bit n: queue n of the function is enabled."),
    _register("queue_resets", 0x78, Access.RW1C, "Bit n: its driver reset queue n."),
    _register("receiving", 0x7C, _RO, "Bit n: receive queue pair n has frames under way.", 7),
    *(
        _register(f"rss_key{n}", 0x40 + 4 * n, _RW, "Toeplitz key, first byte lowest.")
        for n in range(RSS_KEY_BYTES // 4)
    ),
    _register("backup_low", 0x68, _RW, "Address of the function's backup rings, pages."),
    _register("backup_high", 0x6C, _RW, "Likewise, from bit 32 on."),
    _register("backup", 0x70, _RW, "BackupRing."),
    _register("fault_stall", 0x74, _RW, "PF: 1 lets no queue begin DMA while one waits.", 0),
    *(
        _register(f"mac_filter_low{n}", 0x80 + 8 * n, _RW, "As mac_low, of a further MAC.")
        for n in range(MAC_FILTERS)
    ),
    *(
        _register(f"mac_filter_high{n}", 0x84 + 8 * n, _RW, "MacFilterHigh.")
        for n in range(MAC_FILTERS)
    ),
    *(_register(f"vlan_filter{n}", 0xC0 + 4 * n, _RW, "VlanFilter.") for n in range(VLAN_FILTERS)),
    _register("control_size", 0xE0, _RO, "Entries of the control queue; 0: not enabled.", 15),
    _register("control_vector", 0xE4, _RW, "Its vector; a write raises it.", 15, MSI_NO_VECTOR),
    *(
        _register(f"control_{area}_{half}", 0xE8 + 8 * n + 4 * high, _RO, f"Its {area} area.")
        for n, area in enumerate(("desc", "driver", "device"))
        for high, half in enumerate(("low", "high"))
    ),
    *(
        _register(f"coalescing{n}", 0x300 + 4 * n, _RW, "QueueCoalescing of a queue.")
        for n in range(COALESCED_QUEUES)
    ),
    *(
        _register(f"rss_table{n}", 0x380 + 4 * n, _RW, "Four queue pairs, the first lowest.")
        for n in range(RSS_TABLE_LENGTH // 4)
    ),
)
#: Registers of a function's management block; offsets are within the block.
MANAGEMENT = {register.name: register for register in _ALL}


def offered_features(config: NicConfig, *, physical: bool = False) -> int:
    """Feature bits that a VF of a NIC offers, or the PF, one bit per Feature.

    Control queues are answered by the hypervisor's software, of which the PF is the device: it
    offers none, nor what needs one.
    """
    more = (
        feature
        for flag, features in FEATURE_FLAGS.items()
        for feature in features
        if getattr(config, flag) and not (physical and flag in CONTROLLED_FLAGS)
    )
    own = 1 << Feature.SR_IOV if physical else 0
    return BASE_FEATURES | own | sum(1 << feature for feature in more)


def bar_base(function: int) -> int:
    """Address of a function's BAR on the register port."""
    return function * BAR_BYTES


def config_base(function: int) -> int:
    """Address of a function's PCI configuration space on the register port."""
    return CONFIG_BASE + function * CONFIG_BYTES


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
    return 0x180 + 8 * stat


def queue_stats_of(queue: int) -> tuple[RxQueueStat | TxQueueStat, ...]:
    """Counters that a queue of a function has."""
    return tuple(QUEUE_STATS[queue & 1])


def queue_stat_of(stat: Stat, queue: int) -> RxQueueStat | TxQueueStat | None:
    """Counter of a queue that counts what a function's does."""
    name = "RX_DROPPED" if stat in RX_QUEUE_DROPS else stat.name
    return QUEUE_STATS[queue & 1].__members__.get(name)


def queue_stat_offset(queue: int, stat: int) -> int:
    """Offset in the block of a counter of a queue, likewise."""
    return 0x400 + 0x40 * queue + 8 * stat
