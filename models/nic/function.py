"""What a driver sees of one function: its BAR."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from models.nic.management import ManagedFunction
from models.spec.config import NicConfig
from models.spec.nic import (
    BAR_BYTES,
    COMMON_OFFSET,
    DEVICE_OFFSET,
    ISR_OFFSET,
    MSIX_ENTRY_BYTES,
    MSIX_PBA_OFFSET,
    MSIX_TABLE_OFFSET,
    NOTIFY_MULTIPLIER,
    NOTIFY_OFFSET,
    FunctionControl,
    Isr,
    MailboxEvent,
    MsixEntry,
    QueueError,
    Stat,
    offered_features,
)
from models.spec.registers import Register
from models.spec.virtio import (
    COMMON_CONFIG,
    MSI_NO_VECTOR,
    DeviceStatus,
    Feature,
    NetConfig,
    NetStatus,
    common,
)
from models.spec.virtio_net import RSS_KEY_BYTES, RSS_TABLE_LENGTH, HashType, control_index

__all__ = ["Function", "QueueRegisters"]

_REQUIRED = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
#: Status bits that a driver sets; the device alone says that it needs a reset (2.1).
_STATUS_OF_DRIVER = sum(DeviceStatus) & ~DeviceStatus.DEVICE_NEEDS_RESET


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


class Function(ManagedFunction):
    """The PF or a VF.

    Parameters
    ----------
    config : NicConfig
    number : int
        0 is the PF.
    changed : callable
        Told of what a write has set off: ``changed("notify", queue)``, ``("reset", 0)``,
        ``("queue_reset", queue)``, ``("enable", queue)``, ``("driver_ok", 0)``, ``("control", 0)``,
        ``("events", 0)``, ``("coalescing", queue)``.
    message : callable
        ``message(address, data)`` sends an MSI-X message.
    allowed : callable
        ``allowed(right)`` tells what PCI configuration allows: ``"master"``, ``"messages"``,
        ``"ats"``, ``"by_pin"``.
    """

    def __init__(
        self,
        config: NicConfig,
        number: int,
        changed: Callable[[str, int], None],
        message: Callable[[int, int], object],
        allowed: Callable[[str], bool] = lambda right: True,
    ) -> None:
        super().__init__(config, number)
        self._changed, self._message, self._allowed = changed, message, allowed
        self._offered = offered_features(config, physical=number == 0)
        self.generation = 0
        self.queues = [self._fresh() for _ in range(config.queues_per_function)]
        self.reset_vectors()
        self.reset()

    def _fresh(self, error: QueueError = QueueError.NONE) -> QueueRegisters:
        return QueueRegisters(self.config.queue_size_max, error=error)

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
        self.post(MailboxEvent.RESET)

    def reset(self) -> None:
        """Forget what the driver has set up (virtio 1.3, 2.4); MSI-X tables and management stay.

        If its ``attended`` control queue was in use, its driver sees no end of it until software
        has cleared the event.  What is pending goes: a device that has been reset sends no
        notification (2.4.1).  To management belong why queues have stopped, and the generation: a
        driver that begins to read before and ends behind a reset has to see that something has
        changed (4.1.4.3.1).
        """
        self.status = DeviceStatus(0)
        self.ending = self.ending_queue = None
        self.isr, self.pending, self.queue_resets = Isr(0), 0, 0
        self.driver_features = 0
        self._select = {"device_feature_select": 0, "driver_feature_select": 0, "queue_select": 0}
        self.config_vector = MSI_NO_VECTOR
        self.stop_steering()
        self.queues = [self._fresh(queue.error) for queue in self.queues]

    @property
    def enabled(self) -> bool:
        """Whether the function may do DMA, send and receive."""
        return self.may and self._allowed("master")

    @property
    def ats(self) -> bool:
        """Whether it translates by ATS."""
        return bool(FunctionControl.from_bits(self.control).ats) and self._allowed("ats")

    @property
    def live(self) -> bool:
        """Whether the driver is ready."""
        return bool(self.status & DeviceStatus.DRIVER_OK)

    @property
    def receives(self) -> bool:
        """Whether frames that come for it are kept."""
        return self.live and self.enabled

    def accepted(self, feature: Feature) -> bool:
        """Whether the driver has accepted a feature."""
        return bool(self.driver_features >> feature & 1)

    @property
    def control_index(self) -> int | None:
        """Number of the control queue; ``None`` if the driver does without (5.1.2)."""
        return control_index(self.driver_features, self.config.queue_pairs)

    def post(self, event: MailboxEvent) -> None:
        """Tell the hypervisor's software of something."""
        if not self.config.control_queue:
            return
        known, self.events = self.events, self.events | event
        if not known:
            self._changed("events", 0)

    # Accesses ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Load from the BAR; what is no register reads 0."""
        page = offset % BAR_BYTES
        shown = range(page // 4, (page + size - 1) // 4 + 1)  # words
        if (
            common("config_generation").offset // 4 in shown
            or DEVICE_OFFSET <= page < NOTIFY_OFFSET
        ):
            self.unseen = False
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
            self._notify((page - NOTIFY_OFFSET) // NOTIFY_MULTIPLIER)
        elif page < ISR_OFFSET:
            touched = _overlapping(page - COMMON_OFFSET, size)
            # A reset is of what is stored beside it, too.
            for register in sorted(touched, key=lambda found: found.name == "device_status"):
                shift = 8 * (page - register.offset)
                lanes = (1 << 8 * size) - 1
                lanes = lanes << shift if shift >= 0 else lanes >> -shift
                new = value << shift if shift >= 0 else value >> -shift
                keep = self._load(register.name) & ~lanes
                self._store(register.name, (keep | new & lanes) & (1 << register.width) - 1)

    def _notify(self, queue: int) -> None:
        """Take a doorbell; that of the control queue goes to the hypervisor's software."""
        if queue >= len(self.queues):
            return
        of_data = queue < 2 * self.config.queue_pairs
        self.count(Stat.NOTIFICATIONS, queue=queue if of_data else None)
        if queue == self.control_index:
            if self.live and self.queues[queue].queue_enable:
                self.post(MailboxEvent.CONTROL)
        else:
            self._changed("notify", queue)

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
            "status": NetStatus.LINK_UP if self.link_up else 0,
            "max_virtqueue_pairs": self.config.queue_pairs,
            "mtu": self.config.mtu,
        }
        if self.config.rss:
            fields |= {
                "rss_max_key_size": RSS_KEY_BYTES,
                "rss_max_indirection_table_length": RSS_TABLE_LENGTH,
                "supported_hash_types": sum(HashType),
            }
        return NetConfig.const(fields).as_bits()

    # Common configuration (4.1.4.3) -------------------------------------------------------------

    @property
    def _presented(self) -> int:
        """Queues that there are."""
        return len(self.queues) if self.number else self.config.physical_queues

    @property
    def _queue(self) -> QueueRegisters | None:
        index = self._select["queue_select"]
        return self.queues[index] if index < self._presented else None

    def _load(self, name: str) -> int:
        if name in self._select:
            return self._select[name]
        words = {"device_feature": self._offered, "driver_feature": self.driver_features}
        if name in words:
            select = self._select[f"{name}_select"]
            return words[name] >> 32 * select & 0xFFFF_FFFF if select < 2 else 0
        plain = {
            "config_msix_vector": self.config_vector,
            "num_queues": self._presented,
            "device_status": int(self.status if self.ending is None else self.ending),
            "config_generation": self.generation & 0xFF,
        }
        if name in plain:
            return plain[name]
        if name == "queue_reset":
            return int(self._select["queue_select"] == self.ending_queue)
        if self._queue is None:
            return 0
        if name in ("queue_notify_off", "queue_notify_data"):
            return self._select["queue_select"]
        return getattr(self._queue, name)

    def _vector(self, value: int) -> int:
        return value if value < self.config.msix_vectors else MSI_NO_VECTOR

    def _store(self, name: str, value: int) -> None:
        if self.ending is not None:
            return
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
            waits = self.attended and self.live and self.control_index is not None
            before = self.status
            self.reset()
            self.ending = before if waits else None
            self._changed("reset", 0)
            self.post(MailboxEvent.RESET)
            return
        old, new = self.status, self.status | DeviceStatus(value & _STATUS_OF_DRIVER)
        if new & ~old & DeviceStatus.FEATURES_OK:
            accepted = self.driver_features
            if accepted & ~self._offered or accepted & _REQUIRED != _REQUIRED:
                new &= ~DeviceStatus.FEATURES_OK
        if not new & DeviceStatus.FEATURES_OK:
            new &= ~DeviceStatus.DRIVER_OK
        self.status = new
        if new & ~old & DeviceStatus.DRIVER_OK:
            self._run(queue for queue in self.queues if queue.queue_enable)
            self.post(MailboxEvent.READY)
            self._changed("driver_ok", 0)

    @staticmethod
    def _run(queues: Iterable[QueueRegisters]) -> None:
        """Forget why queues stopped that run again."""
        for queue in queues:
            queue.error = QueueError.NONE

    def stop_queue(self, number: int, error: QueueError) -> None:
        """Note why a queue has stopped, and tell the driver (2.1.2)."""
        self.queues[number].error = error
        self.status |= DeviceStatus.DEVICE_NEEDS_RESET
        self.config_interrupt()

    def _store_queue(self, queue: QueueRegisters, name: str, value: int) -> None:
        number = self._select["queue_select"]
        if number == self.ending_queue:
            return
        if name == "queue_reset":
            if value == 1 and self.accepted(Feature.RING_RESET):
                self.queues[number] = self._fresh(queue.error)
                self.queue_resets |= 1 << number
                self._changed("queue_reset", number)
                of_control = number == self.control_index
                if of_control and self.attended and self.live:
                    self.ending_queue = number
                self.post(MailboxEvent.QUEUE_RESET if of_control else MailboxEvent.DATA_RESET)
        elif name == "queue_msix_vector":  # at any time (4.1.5.1.2)
            queue.queue_msix_vector = self._vector(value)
        elif queue.queue_enable:
            return
        elif name == "queue_enable":
            if value == 1:
                queue.queue_enable = 1
                if self.live:
                    self._run([queue])
                self._changed("enable", number)
        elif name == "queue_size":
            settled = self.status & DeviceStatus.FEATURES_OK  # features do not change any more
            packed = settled and self.accepted(Feature.RING_PACKED)
            odd = value & (value - 1) and not packed  # 2.7, 2.8.10.1
            if 0 < value <= self.config.queue_size_max and not odd:
                queue.queue_size = value
        elif name in ("queue_desc", "queue_driver", "queue_device"):
            setattr(queue, name, value)

    # Interrupts --------------------------------------------------------------------------------

    def interrupt(self, vector: int, cause: Isr) -> None:
        """Set an ISR bit and raise a vector; used buffers have a bit without MSI-X (4.1.4.5)."""
        if cause is not Isr.QUEUE or self._allowed("by_pin"):
            self.isr |= cause
        self.raise_vector(vector)

    def raise_vector(self, vector: int) -> None:
        """Raise a vector (PCI Base 6.0, 6.1.4); one that is not there raises none."""
        if vector < len(self.table):
            self.pending |= 1 << vector
            self.send_pending()
            if self.pending >> vector & 1:
                self.count(Stat.INTERRUPTS_MASKED)

    def send_pending(self) -> None:
        """Send what is pending and may go; the rest has been counted as masked when it came."""
        if not (self.may and self._allowed("messages")):
            return
        for vector, bits in enumerate(self.table):
            entry = MsixEntry.from_bits(bits)
            if self.pending >> vector & 1 and not entry.mask:
                self.pending &= ~(1 << vector)
                self.count(Stat.INTERRUPTS)
                self._message(entry.address, entry.data)


def _part(value: int, offset: int, size: int) -> int:
    return value >> 8 * offset & (1 << 8 * size) - 1


def _overlapping(offset: int, size: int) -> list[Register]:
    return [
        register
        for register in COMMON_CONFIG
        if register.offset < offset + size and offset < register.offset + register.bytes
    ]
