"""What the PF's management block says of one function."""

from collections.abc import Callable

from models.nic.steering import Steering
from models.spec.config import NicConfig
from models.spec.nic import (
    COALESCED_QUEUES,
    MAC_FILTERS,
    MANAGEMENT,
    VLAN_FILTERS,
    BackupRing,
    FunctionControl,
    FunctionVlan,
    Isr,
    MacFilterHigh,
    MailboxEvent,
    RssControl,
    Stat,
    VlanFilter,
    initial_mac,
    queue_error_offset,
    queue_stat_of,
    queue_stat_offset,
    queue_stats_of,
    stat_offset,
)
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus

__all__ = ["ManagedFunction"]

_BROADCAST = b"\xff" * 6
_COUNTER_MASK = (1 << 48) - 1


def _keep(layout, value: int) -> int:
    """A register's value without its reserved bits."""
    given = layout.from_bits(value)
    fields = {name: getattr(given, name) for name, _ in layout.as_shape()}
    return layout.const(
        {name: field for name, field in fields.items() if not name.startswith("reserved")}
    ).as_bits()


class ManagedFunction:
    """A function as its hypervisor sees it.

    Parameters
    ----------
    config : NicConfig
    number : int
        0 is the PF.
    """

    status: DeviceStatus
    driver_features: int
    config_vector: int
    queues: list
    live: bool
    control_index: int | None
    _changed: Callable[[str, int], None]

    def __init__(self, config: NicConfig, number: int) -> None:
        self.config, self.number = config, number
        self.device_id = config.device_id + number
        self.control = self.vlan = 0
        self.mac = initial_mac(number)
        #: Of the PF, for all functions: cycles to wait for a page.
        self.page_timeout = 0
        self.generation = 0
        self.stats = [0] * len(Stat)
        #: Of each queue, counters by their names.
        self.queue_stats = [
            {stat.name: 0 for stat in queue_stats_of(queue)}
            for queue in range(2 * config.queue_pairs)
        ]
        self.steering = Steering()
        self.events = MailboxEvent(0)
        self.queue_resets = 0
        #: A reset that goes on until software has taken note of it: ``device_status`` as it was;
        #: number of a control queue.
        self.ending: DeviceStatus | None = None
        self.ending_queue: int | None = None
        #: Nobody has read the generation, or what it is of, since it has changed.
        self.unseen = False
        self.mailbox_vector = MSI_NO_VECTOR
        #: Tells the PF which function has events.
        self.mailbox: Callable[[], int] = lambda: 0
        #: Tells which receive queue pairs have frames under way.
        self.receiving: Callable[[], int] = lambda: 0
        self._macs = [[0, 0] for _ in range(MAC_FILTERS)]
        self._vlans = [0] * VLAN_FILTERS
        #: QueueCoalescing of each queue.
        self.coalescing = [0] * COALESCED_QUEUES
        #: Of the PF: while a queue waits for a page no other goes on.
        self.fault_stall = 0
        #: BackupRing, and the address of the rings.
        self.backup = self.backup_base = 0

    @property
    def may(self) -> bool:
        """Whether the PF's owner has enabled the function."""
        return bool(FunctionControl.from_bits(self.control).enable)

    @property
    def link_up(self) -> bool:
        """Whether its driver is to see the link up."""
        control = FunctionControl.from_bits(self.control)
        return bool(control.enable and not control.link_down)

    @property
    def untagged(self) -> bool:
        """Whether it receives frames of its VLAN alone, without the tag."""
        control = FunctionControl.from_bits(self.control)
        return bool(FunctionVlan.from_bits(self.vlan).enable and not control.mirror)

    def count_group(self, frame: bytes, multicast: Stat, broadcast: Stat) -> None:
        """Count a frame if its destination is a group."""
        if frame[0] & 1:
            self.count(broadcast if frame[:6] == _BROADCAST else multicast)

    def count(self, stat: Stat, amount: int = 1, *, queue: int | None = None) -> None:
        """Add to a counter, and to that of the queue if there is one that is known."""
        self.stats[stat] = self.stats[stat] + amount & _COUNTER_MASK
        if queue is not None:
            counters, of_queue = self.queue_stats[queue], queue_stat_of(stat, queue)
            if of_queue is not None:
                counters[of_queue.name] = counters[of_queue.name] + amount & _COUNTER_MASK

    # Receiving ---------------------------------------------------------------------------------

    @property
    def mac_filters(self) -> set[bytes]:
        """MACs that the function receives beside its own."""
        found = ((low, MacFilterHigh.from_bits(high)) for low, high in self._macs)
        return {
            low.to_bytes(4, "little") + high.mac.to_bytes(2, "little")
            for low, high in found
            if high.valid
        }

    def passes(self, tagged: int | None) -> bool:
        """Whether a VLAN passes the VLAN filter; so do untagged and priority-tagged frames."""
        entries = (VlanFilter.from_bits(entry) for entry in self._vlans)
        return not tagged or tagged in {entry.vid for entry in entries if entry.valid}

    def pair_of(self, frame: bytes) -> int:
        """Queue pair that a frame is received by."""
        return self.steering.pair(frame, self.config.queue_pairs, bare=self.untagged)

    def stop_steering(self) -> None:
        """Send every frame to the first queue pair."""
        fields = RssControl.from_bits(self.steering.control)
        self.steering.control = RssControl.const(
            {"table_mask": fields.table_mask, "unclassified": fields.unclassified}
        ).as_bits()

    def raise_vector(self, vector: int) -> None:
        """Raise an MSI-X vector."""
        raise NotImplementedError

    def interrupt(self, vector: int, cause: Isr) -> None:
        """Set an ISR bit and raise a vector."""
        raise NotImplementedError

    def send_pending(self) -> None:
        """Send what is pending and may go."""
        raise NotImplementedError

    # Accesses ----------------------------------------------------------------------------------

    def _plain(self) -> dict[str, int]:
        """Values of the registers that are not numbered."""
        index = self.control_index
        queue = None if index is None else self.queues[index]
        values = {
            "control": self.control,
            "device_id": self.device_id,
            "mac_low": int.from_bytes(self.mac[:4], "little"),
            "mac_high": int.from_bytes(self.mac[4:], "little"),
            "page_timeout": self.page_timeout,
            "status": int(self.status if self.ending is None else self.ending),
            "vlan": self.vlan,
            "events": int(self.events),
            "mailbox": self.mailbox(),
            "mailbox_vector": self.mailbox_vector,
            "backup_low": self.backup_base & 0xFFFF_FFFF,
            "backup_high": self.backup_base >> 32,
            "backup": self.backup,
            "fault_stall": self.fault_stall,
            "rss": self.steering.control,
            "receiving": self.receiving(),
            "rss_types": self.steering.types,
            "features_low": self.driver_features & 0xFFFF_FFFF,
            "queue_resets": self.queue_resets,
            "queue_enables": sum(q.queue_enable << n for n, q in enumerate(self.queues)),
            "features_high": self.driver_features >> 32,
            "control_size": queue.queue_size if queue and queue.queue_enable else 0,
            "control_vector": queue.queue_msix_vector if queue else MSI_NO_VECTOR,
        }
        for area in ("desc", "driver", "device"):
            address = getattr(queue, f"queue_{area}") if queue else 0
            values[f"control_{area}_low"] = address & 0xFFFF_FFFF
            values[f"control_{area}_high"] = address >> 32
        return values

    def _array(self, name: str) -> tuple[str, int]:
        """Name and number of a numbered register."""
        family = name.rstrip("0123456789")
        return family, int(name[len(family) :] or 0)

    def read_management(self, offset: int) -> int:
        """Load 32 bits from the function's management block."""
        for number, queue in enumerate(self.queues):
            if offset == queue_error_offset(number):
                return int(queue.error)
        for stat in Stat:
            if offset == stat_offset(stat):
                return self.stats[stat] & 0xFFFF_FFFF
            if offset == stat_offset(stat) + 4:
                return self.stats[stat] >> 32
        for number, counters in enumerate(self.queue_stats):
            for stat in queue_stats_of(number):
                if offset - queue_stat_offset(number, stat) in (0, 4):
                    half = offset - queue_stat_offset(number, stat)
                    return counters[stat.name] >> 8 * half & 0xFFFF_FFFF
        for name, register in MANAGEMENT.items():
            if register.offset == offset:
                plain = self._plain()
                return plain[name] if name in plain else self._load_numbered(*self._array(name))
        return 0

    def _load_numbered(self, family: str, number: int) -> int:
        if family in ("rss_key", "rss_table"):
            held = self.steering.key if family == "rss_key" else self.steering.table
            return int.from_bytes(held[4 * number : 4 * number + 4], "little")
        if family == "vlan_filter":
            return self._vlans[number]
        if family == "coalescing":
            return self.coalescing[number]
        return self._macs[number][family == "mac_filter_high"]

    def write_management(self, offset: int, value: int) -> None:
        """Store 32 bits to the function's management block."""
        for name, register in MANAGEMENT.items():
            if register.offset == offset:
                self._manage(name, value)

    def _manage(self, name: str, value: int) -> None:
        if name == "control":
            self._store_control(value)
        elif name == "mac_low":
            self.mac = value.to_bytes(4, "little") + self.mac[4:]
            self._config_changed()
        elif name == "mac_high":
            self.mac = self.mac[:4] + (value & 0xFFFF).to_bytes(2, "little")
            self._config_changed()
        elif name == "page_timeout" and not self.number:
            self.page_timeout = value
        elif name == "vlan":
            self.vlan = _keep(FunctionVlan, value)
        elif name == "events":
            self.events &= ~MailboxEvent(value & sum(MailboxEvent))
            self._end_resets()
        elif name == "queue_resets":
            self.queue_resets &= ~value
        elif name == "mailbox_vector" and not self.number:
            self.mailbox_vector = value & 0xFFFF
        elif name == "control_vector":
            self._interrupt_of_control()
        elif name == "backup_low":
            self.backup_base = self.backup_base >> 32 << 32 | value
        elif name == "backup_high":
            self.backup_base = self.backup_base & 0xFFFF_FFFF | value << 32
        elif name == "backup":
            self.backup = _keep(BackupRing, value)
        elif name == "fault_stall" and not self.number:
            self.fault_stall = value & 1
        elif name == "rss":
            absent = RssControl.const({"closed": -1 << self.config.queue_pairs}).as_bits()
            self.steering.control = _keep(RssControl, value) & ~absent
            self._changed("rss", 0)
        elif name == "rss_types":
            self.steering.types = value
        else:
            self._store_numbered(*self._array(name), value)

    def _interrupt_of_control(self) -> None:
        """Raise the control queue's vector, if its driver may be told."""
        index = self.control_index
        if index is not None and self.live and index != self.ending_queue:
            queue = self.queues[index]
            if queue.queue_enable:
                self.raise_vector(queue.queue_msix_vector)

    def _store_control(self, value: int) -> None:
        before, self.control = self.link_up, _keep(FunctionControl, value)
        self._end_resets()
        if before != self.link_up:
            self._config_changed()
        self.send_pending()
        self._changed("control", 0)

    def _store_numbered(self, family: str, number: int, value: int) -> None:
        if family in ("rss_key", "rss_table"):
            held = self.steering.key if family == "rss_key" else self.steering.table
            held[4 * number : 4 * number + 4] = value.to_bytes(4, "little")
        elif family == "vlan_filter":
            self._vlans[number] = _keep(VlanFilter, value)
        elif family == "coalescing":
            self.coalescing[number] = value
            self._changed("coalescing", number)
        elif family == "mac_filter_low":
            self._macs[number][0] = value
        elif family == "mac_filter_high":
            self._macs[number][1] = _keep(MacFilterHigh, value)

    @property
    def attended(self) -> bool:
        """Whether software takes note of its driver's resets before they end."""
        return bool(FunctionControl.from_bits(self.control).attended)

    def _end_resets(self) -> None:
        """End resets that have waited for software."""
        if not self.attended or not self.events & MailboxEvent.RESET:
            self.ending = None
        if not self.attended or not self.events & MailboxEvent.QUEUE_RESET:
            self.ending_queue = None

    def _config_changed(self) -> None:
        # However often it changes: only so it is never again what it was (4.1.4.3.1).
        self.generation += not self.unseen
        self.unseen = True
        self.config_interrupt()

    def config_interrupt(self) -> None:
        """Send a configuration change notification, if there is a driver (2.3)."""
        if self.live:
            self.interrupt(self.config_vector, Isr.CONFIG)
