"""Virtio 1.3: what the driver and the device share, but for what only the network device has.

Section numbers are those of the OASIS specification "Virtual I/O Device (VIRTIO) Version 1.3".
:mod:`models.spec.virtio_net` has control queue, checksums' places and receive steering.
"""

from amaranth.lib import data, enum

from models.spec.registers import Access, Field, Register

__all__ = [
    "AVAIL_F_NO_INTERRUPT",
    "COMMON_CONFIG",
    "MSI_NO_VECTOR",
    "USED_F_NO_NOTIFY",
    "Descriptor",
    "DescriptorFlag",
    "DeviceStatus",
    "EventFlags",
    "EventSuppression",
    "Feature",
    "GsoType",
    "NetConfig",
    "NetHeader",
    "NetHeaderFlag",
    "NetStatus",
    "PackedDescriptor",
    "UsedElement",
    "avail_bytes",
    "avail_event_offset",
    "common",
    "used_bytes",
    "used_event_offset",
]

#: A vector register that holds this raises no interrupt (4.1.5.1.2.1).
MSI_NO_VECTOR = 0xFFFF
#: ``avail.flags``: the driver asks for no interrupts (2.7.7).
AVAIL_F_NO_INTERRUPT = 1
#: ``used.flags``: the device asks for no notifications (2.7.10).
USED_F_NO_NOTIFY = 1


class DeviceStatus(enum.IntFlag, shape=8):
    """``device_status`` (2.1)."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    DEVICE_NEEDS_RESET = 64
    FAILED = 128


class Feature(enum.IntEnum, shape=7):
    """Feature bit numbers (5.1.3 and 6)."""

    NET_CSUM = 0  # the device completes checksums of frames that the driver sends
    NET_GUEST_CSUM = 1  # the driver takes the device's word for checksums of received frames
    NET_CTRL_GUEST_OFFLOADS = 2
    NET_MTU = 3
    NET_MAC = 5
    NET_GUEST_TSO4 = 7
    NET_GUEST_TSO6 = 8
    NET_GUEST_ECN = 9
    NET_HOST_TSO4 = 11  # the device cuts TCP over IPv4 into segments
    NET_HOST_TSO6 = 12
    NET_HOST_ECN = 13
    NET_MRG_RXBUF = 15
    NET_STATUS = 16
    NET_CTRL_VQ = 17
    NET_CTRL_RX = 18
    NET_CTRL_VLAN = 19
    NET_CTRL_RX_EXTRA = 20
    NET_GUEST_ANNOUNCE = 21
    NET_MQ = 22
    NET_CTRL_MAC_ADDR = 23
    RING_INDIRECT_DESC = 28
    RING_EVENT_IDX = 29
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    SR_IOV = 37
    NOTIFICATION_DATA = 38
    RING_RESET = 40
    NET_VQ_NOTF_COAL = 52
    NET_NOTF_COAL = 53
    NET_HASH_REPORT = 57
    NET_RSS = 60
    NET_SPEED_DUPLEX = 63


class DescriptorFlag(enum.IntFlag, shape=16):
    """``flags`` of a descriptor (2.7.5 and 2.8.1)."""

    NEXT = 1
    WRITE = 2
    INDIRECT = 4
    AVAIL = 1 << 7  # packed: the driver's wrap counter when it was made available
    USED = 1 << 15  # packed: as AVAIL once it is used, before that the opposite


class Descriptor(data.Struct):
    """Split-ring descriptor, 16 bytes (2.7.5)."""

    addr: 64
    len: 32
    flags: 16  # DescriptorFlag
    next: 16


class PackedDescriptor(data.Struct):
    """Descriptor of a packed ring or of its indirect tables, 16 bytes (2.8.13)."""

    addr: 64
    len: 32
    id: 16
    flags: 16  # DescriptorFlag


class EventFlags(enum.IntEnum, shape=2):
    """When to notify, in an event suppression structure (2.8.14)."""

    ENABLE = 0
    DISABLE = 1
    DESC = 2  # at one descriptor; with EVENT_IDX only


class EventSuppression(data.Struct):
    """Event suppression structure of a packed ring's driver or device area, 4 bytes (2.8.14)."""

    offset: 15
    wrap: 1
    flags: 2  # EventFlags
    reserved: 14


class UsedElement(data.Struct):
    """Element of the used ring, 8 bytes (2.7.8)."""

    id: 32
    len: 32


class NetHeaderFlag(enum.IntFlag, shape=8):
    """``flags`` of a NetHeader (5.1.6)."""

    NEEDS_CSUM = 1  # the sum from csum_start on is to be put at csum_start + csum_offset
    DATA_VALID = 2  # the device has found the checksum right


class GsoType(enum.IntEnum, shape=8):
    """``gso_type`` of a NetHeader (5.1.6); ``ECN`` is a bit beside the others."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 4
    ECN = 0x80


class NetHeader(data.Struct):
    """``virtio_net_hdr``, 12 bytes with VERSION_1 (5.1.6)."""

    flags: 8  # NetHeaderFlag
    gso_type: 8  # GsoType
    hdr_len: 16  # a hint
    gso_size: 16  # bytes of TCP payload of a segment
    csum_start: 16
    csum_offset: 16
    num_buffers: 16


class NetStatus(enum.IntFlag, shape=16):
    """``status`` of a NetConfig (5.1.4)."""

    LINK_UP = 1
    ANNOUNCE = 2


class NetConfig(data.Struct):
    """``virtio_net_config`` up to RSS (5.1.4)."""

    mac: 48
    status: 16  # NetStatus
    max_virtqueue_pairs: 16
    mtu: 16
    speed: 32  # Mbit/s; with SPEED_DUPLEX
    duplex: 8
    rss_max_key_size: 8
    rss_max_indirection_table_length: 16
    supported_hash_types: 32


def avail_bytes(size: int) -> int:
    """Bytes of an available ring without the event word: flags, idx, ring (2.7)."""
    return 4 + 2 * size


def used_bytes(size: int) -> int:
    """Bytes of a used ring without the event word: flags, idx, ring (2.7)."""
    return 4 + 8 * size


def used_event_offset(size: int) -> int:
    """Offset of ``used_event`` in the driver area: behind the available ring (2.7.7)."""
    return avail_bytes(size)


def avail_event_offset(size: int) -> int:
    """Offset of ``avail_event`` in the device area: behind the used ring (2.7.10)."""
    return used_bytes(size)


def _register(
    name: str, offset: int, width: int, access: Access, doc: str, reset: int | None = 0
) -> Register:
    fields = {"value": Field(width - 1, 0, access, doc, reset)}
    return Register(name=name, offset=offset, width=width, fields=fields)


_RO, _RW = Access.RO, Access.RW

#: ``virtio_pci_common_cfg`` (4.1.4.3).
COMMON_CONFIG = (
    _register("device_feature_select", 0, 32, _RW, "Which 32 device features to show."),
    _register("device_feature", 4, 32, _RO, "Device features.", None),
    _register("driver_feature_select", 8, 32, _RW, "Which 32 driver features to show."),
    _register("driver_feature", 12, 32, _RW, "Driver features."),
    _register("config_msix_vector", 16, 16, _RW, "Vector of configuration changes.", MSI_NO_VECTOR),
    _register("num_queues", 18, 16, _RO, "Virtqueues.", None),
    _register("device_status", 20, 8, _RW, "DeviceStatus; writing 0 resets."),
    _register("config_generation", 21, 8, _RO, "Changes with the device configuration."),
    _register("queue_select", 22, 16, _RW, "Virtqueue that the fields below are about."),
    _register("queue_size", 24, 16, _RW, "Entries; 0 if there is no such queue.", None),
    _register("queue_msix_vector", 26, 16, _RW, "Vector of the queue.", MSI_NO_VECTOR),
    _register("queue_enable", 28, 16, _RW, "1 enables; cannot be written to 0."),
    _register("queue_notify_off", 30, 16, _RO, "Notify address, in notify_off_multiplier.", None),
    _register("queue_desc", 32, 64, _RW, "Descriptor area."),
    _register("queue_driver", 40, 64, _RW, "Driver area: available ring."),
    _register("queue_device", 48, 64, _RW, "Device area: used ring."),
    _register("queue_notify_data", 56, 16, _RO, "Equal to the queue's number.", None),
    _register("queue_reset", 58, 16, _RW, "1 resets the queue; reads 1 until that is done."),
)


def common(name: str) -> Register:
    """Return a register of the common configuration by its name."""
    for register in COMMON_CONFIG:
        if register.name == name:
            return register
    raise KeyError(name)
