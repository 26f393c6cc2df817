"""Virtio 1.3's network device: control queue and receive steering.

A command on the control queue is a chain of a device-readable :class:`ControlHeader` and its data,
and one device-writable byte, the :class:`ControlAck` (5.1.6.5).
"""

from amaranth.lib import data, enum

from models.spec.virtio import Feature

__all__ = [
    "RSS_KEY_BYTES",
    "RSS_TABLE_LENGTH",
    "Coalescing",
    "CoalescingQueue",
    "ControlAck",
    "ControlClass",
    "ControlCoalescing",
    "ControlHeader",
    "ControlMac",
    "ControlMq",
    "ControlRx",
    "ControlVlan",
    "HashType",
    "RssHead",
    "control_queue",
]

#: Bytes of the Toeplitz key (5.1.4): enough for the addresses and ports of IPv6.
RSS_KEY_BYTES = 40
#: Most entries of the indirection table (5.1.4).
RSS_TABLE_LENGTH = 128


class ControlHeader(data.Struct):
    """First two bytes of a command (5.1.6.5)."""

    kind: 8  # ControlClass
    command: 8


class ControlAck(enum.IntEnum, shape=8):
    """The device's answer to a command (5.1.6.5)."""

    OK = 0
    ERR = 1


class ControlClass(enum.IntEnum, shape=8):
    """``class`` of a command (5.1.6.5)."""

    RX = 0
    MAC = 1
    VLAN = 2
    ANNOUNCE = 3
    MQ = 4
    NOTF_COAL = 6


class ControlRx(enum.IntEnum, shape=8):
    """Receive filters, with CTRL_RX; data is a byte, 0 or 1 (5.1.6.5.1)."""

    PROMISC = 0
    ALLMULTI = 1


class ControlMac(enum.IntEnum, shape=8):
    """MAC addresses (5.1.6.5.2).

    Data of ``TABLE_SET`` is two tables, unicast and multicast, each a 32-bit number of entries
    before entries of 6 bytes; that of ``ADDR_SET`` a MAC.
    """

    TABLE_SET = 0
    ADDR_SET = 1


class ControlVlan(enum.IntEnum, shape=8):
    """VLAN filter; data is a VLAN in 16 bits (5.1.6.5.3)."""

    ADD = 0
    DEL = 1


class ControlMq(enum.IntEnum, shape=8):
    """Receive steering (5.1.6.5.5 to 5.1.6.5.7).

    Data of ``PAIRS_SET`` is a number of queue pairs in 16 bits; that of ``RSS_CONFIG`` an RssHead,
    the indirection table of 16-bit entries, ``max_tx_vq`` in 16 bits, a key length in 8 bits and
    the key.
    """

    PAIRS_SET = 0
    RSS_CONFIG = 1


class ControlCoalescing(enum.IntEnum, shape=8):
    """When used buffers are notified (5.1.6.5.8).

    Data of ``TX_SET`` and ``RX_SET``, for all queues of a direction, is a Coalescing; that of
    ``VQ_SET`` a CoalescingQueue and a Coalescing; that of ``VQ_GET`` a CoalescingQueue, and a
    Coalescing stands before the answer.
    """

    TX_SET = 0
    RX_SET = 1
    VQ_SET = 2
    VQ_GET = 3


class Coalescing(data.Struct):
    """``virtio_net_ctrl_coal`` (5.1.6.5.8)."""

    max_packets: 32
    max_usecs: 32


class CoalescingQueue(data.Struct):
    """``virtio_net_ctrl_coal_vq`` up to its parameters (5.1.6.5.8)."""

    vq_index: 16
    reserved: 16


class HashType(enum.IntFlag, shape=32):
    """What packets are hashed by (5.1.6.4.3.1)."""

    IPV4 = 1
    TCPV4 = 2
    UDPV4 = 4
    IPV6 = 8
    TCPV6 = 16
    UDPV6 = 32


class RssHead(data.Struct):
    """``virtio_net_rss_config`` up to its indirection table (5.1.6.5.7.1)."""

    hash_types: 32  # HashType
    indirection_table_mask: 16
    unclassified_queue: 16  # number of a queue pair


def control_queue(pairs: int) -> int:
    """Number of the control queue when ``pairs`` queue pairs are in use (5.1.2).

    That is ``max_virtqueue_pairs`` if MQ or RSS is negotiated, else 1.
    """
    return 2 * pairs


def control_index(features: int, pairs: int) -> int | None:
    """Number of the control queue for a driver with these features, of a device with ``pairs``
    queue pairs; ``None`` if the driver does without.
    """
    if not features >> Feature.NET_CTRL_VQ & 1:
        return None
    several = features & (1 << Feature.NET_MQ | 1 << Feature.NET_RSS)
    return control_queue(pairs if several else 1)
