"""What a driver sees of one function: its BAR, and what the PF's management block says of it."""

from collections.abc import Callable
from dataclasses import dataclass

from models.spec.config import NicConfig
from models.spec.nic import (
    BAR_BYTES,
    COMMON_OFFSET,
    DEVICE_OFFSET,
    ISR_OFFSET,
    MANAGEMENT,
    MSIX_ENTRY_BYTES,
    MSIX_PBA_OFFSET,
    MSIX_TABLE_OFFSET,
    NOTIFY_MULTIPLIER,
    NOTIFY_OFFSET,
    FunctionControl,
    Isr,
    MsixEntry,
    QueueError,
    Stat,
    initial_mac,
    offered_features,
    queue_error_offset,
    stat_offset,
)
from models.spec.registers import Register
from models.spec.virtio import (
    COMMON_CONFIG,
    MSI_NO_VECTOR,
    DeviceStatus,
    Feature,
    NetConfig,
)

__all__ = ["Function", "QueueRegisters"]

_REQUIRED = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
_COUNTER_MASK = (1 << 48) - 1
_NET_CONFIG_BYTES = NetConfig.as_shape().size // 8


@dataclass
class QueueRegisters:
    """Registers of one virtqueue."""

    queue_size: int
    queue_msix_vector: int = MSI_NO_VECTOR
    queue_enable: int = 0
    queue_desc: int = 0
    queue_driver: int = 0
    queue_device: int = 0
    error: QueueError = QueueError.NONE


class Function:
    """Registers of the PF or a VF.

    Parameters
    ----------
    config : NicConfig
    number : int
        0 is the PF.
    changed : callable
        Told of what a write has set off: ``changed("notify", queue)``, ``("reset", 0)``,
        ``("queue_reset", queue)``, ``("enable", queue)``, ``("driver_ok", 0)``, ``("control", 0)``.
    message : callable
        ``message(address, data)`` sends an MSI-X message.
    allowed : callable
        ``allowed(right)`` tells what PCI configuration allows: ``"master"``, ``"messages"``,
        ``"ats"``.
    """

    def __init__(
        self,
        config: NicConfig,
        number: int,
        changed: Callable[[str, int], None],
        message: Callable[[int, int], object],
        allowed: Callable[[str], bool] = lambda right: True,
    ) -> None:
        self.config, self.number = config, number
        self._changed, self._message, self._allowed = changed, message, allowed
        self._offered = offered_features(config, physical=number == 0)
        self.device_id = config.device_id + number
        self.control = 0
        self.mac = initial_mac(number)
        self.page_timeout = 0
        self.stats = [0] * len(Stat)
        self.generation = 0
        self.reset_vectors()
        self.reset()

    def reset_vectors(self) -> None:
        """Mask all vectors and forget what is pending."""
        masked = MsixEntry.const({"mask": 1}).as_bits()
        self.table, self.pending = [masked] * self.config.msix_vectors, 0

    def function_level_reset(self) -> None:
        """Be as after power-on, but for the PF's management (PCIe 6.6.2)."""
        self.reset_vectors()
        self.reset()
        self.generation = 0
        self._changed("reset", 0)

    def reset(self) -> None:
        """Forget what the driver has set up (virtio 1.3, 2.4); MSI-X and management stay."""
        self.status = DeviceStatus(0)
        self.isr = Isr(0)
        self.driver_features = 0
        self._select = {"device_feature_select": 0, "driver_feature_select": 0, "queue_select": 0}
        self.config_vector = MSI_NO_VECTOR
        self.queues = [
            QueueRegisters(self.config.queue_size_max)
            for _ in range(self.config.queues_per_function)
        ]

    @property
    def link(self) -> bool:
        """Whether the PF's owner has enabled the function."""
        return bool(FunctionControl.from_bits(self.control).enable)

    @property
    def enabled(self) -> bool:
        """Whether the function may do DMA, send and receive."""
        return self.link and self._allowed("master")

    @property
    def ats(self) -> bool:
        """Whether it translates by ATS."""
        return bool(FunctionControl.from_bits(self.control).ats) and self._allowed("ats")

    @property
    def live(self) -> bool:
        """Whether the driver is ready."""
        return bool(self.status & DeviceStatus.DRIVER_OK)

    def count(self, stat: Stat, amount: int = 1) -> None:
        """Add to a counter."""
        self.stats[stat] = self.stats[stat] + amount & _COUNTER_MASK

    # Accesses ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Load from the BAR; what is no register reads 0."""
        page = offset % BAR_BYTES
        if page >= MSIX_PBA_OFFSET:
            return _part(self.pending, page - MSIX_PBA_OFFSET, size)
        if page >= MSIX_TABLE_OFFSET:
            index, within = divmod(page - MSIX_TABLE_OFFSET, MSIX_ENTRY_BYTES)
            return _part(self.table[index], within, size) if index < len(self.table) else 0
        if page >= NOTIFY_OFFSET:
            return 0
        if page >= DEVICE_OFFSET:
            return _part(self._net_config(), page - DEVICE_OFFSET, size)
        if page >= ISR_OFFSET:
            if page != ISR_OFFSET:
                return 0
            value, self.isr = int(self.isr), Isr(0)
            return value
        value = 0
        for register in _overlapping(page - COMMON_OFFSET, size):
            shift = 8 * (register.offset - page)
            found = self._load(register.name)
            value |= found << shift if shift >= 0 else found >> -shift
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, value: int, size: int) -> None:
        """Store to the BAR; stores to what is no register do nothing."""
        page = offset % BAR_BYTES
        if page >= MSIX_PBA_OFFSET:
            return
        if page >= MSIX_TABLE_OFFSET:
            self._write_table(page - MSIX_TABLE_OFFSET, value, size)
        elif page >= NOTIFY_OFFSET:
            queue = (page - NOTIFY_OFFSET) // NOTIFY_MULTIPLIER
            if queue < len(self.queues):
                self._changed("notify", queue)
        elif page < ISR_OFFSET:
            for register in _overlapping(page - COMMON_OFFSET, size):
                shift = 8 * (page - register.offset)
                lanes = (1 << 8 * size) - 1
                lanes = lanes << shift if shift >= 0 else lanes >> -shift
                new = value << shift if shift >= 0 else value >> -shift
                keep = self._load(register.name) & ~lanes
                self._store(register.name, (keep | new & lanes) & (1 << register.width) - 1)

    def _write_table(self, offset: int, value: int, size: int) -> None:
        index, within = divmod(offset, MSIX_ENTRY_BYTES)
        if index >= len(self.table):
            return
        lanes = (1 << 8 * size) - 1 << 8 * within
        entry = MsixEntry.from_bits(self.table[index] & ~lanes | value << 8 * within & lanes)
        fields = {"address": entry.address & ~3, "data": entry.data, "mask": entry.mask}
        self.table[index] = MsixEntry.const(fields).as_bits()
        self.send_pending()

    def _net_config(self) -> int:
        fields = {
            "mac": int.from_bytes(self.mac, "little"),
            "status": int(self.link),
            "max_virtqueue_pairs": self.config.queue_pairs,
            "mtu": self.config.mtu,
        }
        return NetConfig.const(fields).as_bits()

    # Common configuration (4.1.4.3) -------------------------------------------------------------

    @property
    def _queue(self) -> QueueRegisters | None:
        index = self._select["queue_select"]
        return self.queues[index] if index < len(self.queues) else None

    def _load(self, name: str) -> int:
        if name in self._select:
            return self._select[name]
        words = {"device_feature": self._offered, "driver_feature": self.driver_features}
        if name in words:
            select = self._select[f"{name}_select"]
            return words[name] >> 32 * select & 0xFFFF_FFFF if select < 2 else 0
        plain = {
            "config_msix_vector": self.config_vector,
            "num_queues": len(self.queues),
            "device_status": int(self.status),
            "config_generation": self.generation & 0xFF,
        }
        if name in plain:
            return plain[name]
        if self._queue is None or name == "queue_reset":
            return 0
        if name in ("queue_notify_off", "queue_notify_data"):
            return self._select["queue_select"]
        return getattr(self._queue, name)

    def _vector(self, value: int) -> int:
        return value if value < self.config.msix_vectors else MSI_NO_VECTOR

    def _store(self, name: str, value: int) -> None:
        if name in self._select:
            self._select[name] = value
        elif name == "driver_feature":
            select = self._select["driver_feature_select"]
            if select < 2 and not self.status & DeviceStatus.FEATURES_OK:
                kept = self.driver_features & ~(0xFFFF_FFFF << 32 * select)
                self.driver_features = kept | value << 32 * select
        elif name == "config_msix_vector":
            self.config_vector = self._vector(value)
        elif name == "device_status":
            self._store_status(value)
        elif self._queue is not None:
            self._store_queue(self._queue, name, value)

    def _store_status(self, value: int) -> None:
        if not value:
            self.reset()
            self._changed("reset", 0)
            return
        old, new = self.status, self.status | DeviceStatus(value)
        if new & ~old & DeviceStatus.FEATURES_OK:
            accepted = self.driver_features
            if accepted & ~self._offered or accepted & _REQUIRED != _REQUIRED:
                new &= ~DeviceStatus.FEATURES_OK
        if not new & DeviceStatus.FEATURES_OK:
            new &= ~DeviceStatus.DRIVER_OK
        self.status = new
        if new & ~old & DeviceStatus.DRIVER_OK:
            self._changed("driver_ok", 0)

    def _store_queue(self, queue: QueueRegisters, name: str, value: int) -> None:
        number = self._select["queue_select"]
        if name == "queue_reset":
            if value == 1 and self.driver_features >> Feature.RING_RESET & 1:
                self.queues[number] = QueueRegisters(self.config.queue_size_max)
                self._changed("queue_reset", number)
        elif queue.queue_enable:
            return
        elif name == "queue_enable":
            if value == 1:
                queue.queue_enable, queue.error = 1, QueueError.NONE
                self._changed("enable", number)
        elif name == "queue_size":
            if 0 < value <= self.config.queue_size_max and not value & (value - 1):
                queue.queue_size = value
        elif name == "queue_msix_vector":
            queue.queue_msix_vector = self._vector(value)
        elif name in ("queue_desc", "queue_driver", "queue_device"):
            setattr(queue, name, value)

    # Interrupts --------------------------------------------------------------------------------

    def interrupt(self, vector: int, cause: Isr) -> None:
        """Raise a vector (PCI Base 6.0, 6.1.4); MSI_NO_VECTOR raises none."""
        self.isr |= cause
        if vector < len(self.table):
            self.pending |= 1 << vector
            self.send_pending()

    def send_pending(self) -> None:
        """Send what is pending and may go; the rest is counted as masked once, when it comes."""
        if not (self.link and self._allowed("messages")):
            return
        for vector, bits in enumerate(self.table):
            entry = MsixEntry.from_bits(bits)
            if self.pending >> vector & 1 and not entry.mask:
                self.pending &= ~(1 << vector)
                self.count(Stat.INTERRUPTS)
                self._message(entry.address, entry.data)

    # Management --------------------------------------------------------------------------------

    def read_management(self, offset: int) -> int:
        """Load 32 bits from the function's management block."""
        values = {
            "control": self.control,
            "device_id": self.device_id,
            "mac_low": int.from_bytes(self.mac[:4], "little"),
            "mac_high": int.from_bytes(self.mac[4:], "little"),
            "page_timeout": self.page_timeout,
            "status": int(self.status),
        }
        for name, register in MANAGEMENT.items():
            if register.offset == offset:
                return values[name]
        for number, queue in enumerate(self.queues):
            if offset == queue_error_offset(number):
                return int(queue.error)
        for stat in Stat:
            if offset == stat_offset(stat):
                return self.stats[stat] & 0xFFFF_FFFF
            if offset == stat_offset(stat) + 4:
                return self.stats[stat] >> 32
        return 0

    def write_management(self, offset: int, value: int) -> None:
        """Store 32 bits to the function's management block."""
        if offset == MANAGEMENT["control"].offset:
            control = FunctionControl.from_bits(value)
            fields = {name: getattr(control, name) for name in ("enable", "ats", "promiscuous")}
            old, self.control = self.control, FunctionControl.const(fields).as_bits()
            if old ^ self.control & 1:
                self._config_changed()
            self.send_pending()
            self._changed("control", 0)
        elif offset == MANAGEMENT["mac_low"].offset:
            self.mac = value.to_bytes(4, "little") + self.mac[4:]
            self._config_changed()
        elif offset == MANAGEMENT["mac_high"].offset:
            self.mac = self.mac[:4] + (value & 0xFFFF).to_bytes(2, "little")
            self._config_changed()
        elif offset == MANAGEMENT["page_timeout"].offset:
            self.page_timeout = value

    def _config_changed(self) -> None:
        self.generation += 1
        if self.live:
            self.interrupt(self.config_vector, Isr.CONFIG)


def _part(value: int, offset: int, size: int) -> int:
    return value >> 8 * offset & (1 << 8 * size) - 1


def _overlapping(offset: int, size: int) -> list[Register]:
    return [
        register
        for register in COMMON_CONFIG
        if register.offset < offset + size and offset < register.offset + register.bytes
    ]
