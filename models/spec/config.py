"""Configurations: one frozen dataclass per block, named systems for everyone to share.

RTL, models, drivers and documents read the same object.
"""

from dataclasses import dataclass, field, replace

from models.spec.ethernet import VLAN_TAG_BYTES

__all__ = ["CAPABILITY_BITS", "CONFIGS", "IommuConfig", "NicConfig", "SystemConfig", "config"]


#: Queues of a NIC.
QUEUES_MAX = 512
#: DMA requests of the backup rings at once.
BACKUP_TAGS = 8
#: Frames beyond all quotas that may be on their way to the backup rings.
BACKUP_TRANSIT = 2
#: Translations that are asked for ahead of use.
PREFETCH_MAX = 16
#: Sizes of a frame slot: powers of two, and three quarters of one.
FRAME_BYTES = (1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
#: Tags of DMA requests: a page request group index of 9 bits has one, and a generation.
TAGS_MAX = 256


def _check_power_of_two(name: str, value: int, low: int, high: int) -> None:
    if value & (value - 1) or not low <= value <= high:
        raise ValueError(f"{name} must be a power of two in {low} to {high}, not {value!r}")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low} to {high}, not {value!r}")


#: Capabilities that are of no use, or not allowed, without another (section 6.3).
_NEEDS = (
    ("sv48", "sv39"),
    ("sv57", "sv48"),
    ("sv48x4", "sv39x4"),
    ("sv57x4", "sv48x4"),
    ("t2gpa", "ats"),
    ("msi_mrif", "msi_flat"),
    ("amo_mrif", "msi_mrif"),
    ("pd17", "pd8"),
    ("pd20", "pd17"),
)

#: Features of the NIC that are not allowed without another (virtio 1.3, 5.1.3.1).
_NIC_NEEDS = (
    ("segmentation", "checksum"),
    ("multiqueue", "control_queue"),
    ("rss", "control_queue"),
)


@dataclass(frozen=True, kw_only=True)
class IommuConfig:
    """Capabilities and sizes of an IOMMU.

    Parameters
    ----------
    pas : int
        Physical address bits, 34 to 56.
    ddt_levels : int
        Largest DDT depth, 1 to 3.
    device_id_bits : int
        Bits of device_id that are looked at; requests with more are refused (cause 260).
    sv32, sv39, sv48, sv57, sv32x4, sv39x4, sv48x4, sv57x4, svpbmt, svrsw60t59b : bool
        Schemes of the two stages, ``capabilities`` of those names.
    ats, t2gpa, amo_hwad, amo_mrif, msi_flat, msi_mrif, end, hpm, dbg, qosid, nl, s : bool
        ``capabilities`` of those names.
    pd8, pd17, pd20 : bool
        Process directories of one, two and three levels.
    igs : int
        ``capabilities.IGS``: 0 MSI, 1 wired, 2 both.
    hpm_counters, hpm_bits : int
        Programmable event counters (iohpmctr1..n) and their width.
    context_entries, process_entries : int
        Device and process contexts cached, set-associative; the latter of use with ``pd8``.
    iotlb_ways, iotlb_sets, iotlb_superpages : int
        Geometry of the IOTLB; see :mod:`models.spec.iotlb`.
    misses : int
        Misses outstanding.
    walkers : int
        Walk contexts, 1 to 128; at most ``misses`` are of use.
    walk_cache : int
        Tables known to the walker per stage and level, 0 for none, else a power of two from 2.
    queue_entries_log2_max : int
        Largest LOG2SZ of the command, fault and page-request queues.
    memory_width : int
        Bits of the walker's memory port.
    itags, ats_timeout : int
        ATS invalidation requests outstanding, and cycles without an answer after which they are
        given up (``cqcsr.cmd_to``).
    """

    pas: int = 46
    ddt_levels: int = 1
    device_id_bits: int = 24
    sv32: bool = False
    sv39: bool = True
    sv48: bool = False
    sv57: bool = False
    sv32x4: bool = False
    sv39x4: bool = True
    sv48x4: bool = False
    sv57x4: bool = False
    svpbmt: bool = False
    svrsw60t59b: bool = False
    ats: bool = True
    t2gpa: bool = False
    amo_hwad: bool = False
    amo_mrif: bool = False
    msi_flat: bool = False
    msi_mrif: bool = False
    end: bool = False
    hpm: bool = True
    dbg: bool = False
    qosid: bool = False
    nl: bool = False
    s: bool = False
    pd8: bool = False
    pd17: bool = False
    pd20: bool = False
    igs: int = 2
    hpm_counters: int = 8
    hpm_bits: int = 64
    context_entries: int = 16
    process_entries: int = 8
    iotlb_ways: int = 4
    iotlb_sets: int = 64
    iotlb_superpages: int = 8
    misses: int = 8
    walkers: int = 8
    walk_cache: int = 0
    queue_entries_log2_max: int = 16
    memory_width: int = 64
    itags: int = 8
    ats_timeout: int = 1 << 20

    def __post_init__(self) -> None:
        _check_range("pas", self.pas, 34, 56)
        _check_range("ddt_levels", self.ddt_levels, 1, 3)
        _check_range("device_id_bits", self.device_id_bits, 1, 24)
        _check_range("igs", self.igs, 0, 2)
        _check_range("hpm_counters", self.hpm_counters, 0, 31)
        _check_range("hpm_bits", self.hpm_bits, 32, 64)
        _check_range("context_entries", self.context_entries, 1, 1024)
        _check_range("process_entries", self.process_entries, 1, 1024)
        _check_range("iotlb_ways", self.iotlb_ways, 1, 16)
        _check_power_of_two("iotlb_sets", self.iotlb_sets, 2, 4096)
        _check_range("iotlb_superpages", self.iotlb_superpages, 1, 64)
        _check_range("misses", self.misses, 1, 128)
        _check_range("walkers", self.walkers, 1, 128)
        _check_range("walk_cache", self.walk_cache, 0, 4096)
        _check_range("queue_entries_log2_max", self.queue_entries_log2_max, 1, 32)
        _check_power_of_two("itags", self.itags, 2, 32)
        _check_range("ats_timeout", self.ats_timeout, 2, 1 << 32)
        if self.memory_width != 64:
            raise ValueError(f"memory_width must be 64, not {self.memory_width!r}")
        if not self.sv39x4 and not self.sv39:
            raise ValueError("At least one of sv39 and sv39x4 must be there")
        for name, needed in _NEEDS:
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name} needs {needed}")


#: Members of :class:`IommuConfig` that are bits of ``capabilities``, under the same name.
CAPABILITY_BITS = (
    *("sv32", "sv39", "sv48", "sv57", "sv32x4", "sv39x4", "sv48x4", "sv57x4"),
    *("svpbmt", "svrsw60t59b", "ats", "t2gpa", "amo_hwad", "amo_mrif", "msi_flat", "msi_mrif"),
    *("end", "hpm", "dbg", "qosid", "nl", "s", "pd8", "pd17", "pd20"),
)


@dataclass(frozen=True, kw_only=True)
class NicConfig:
    """Functions and sizes of a NIC.

    Parameters
    ----------
    vfs : int
        Virtual functions beside the physical one.
    queue_pairs : int
        Queue pairs per function.
    queue_size_max : int
        Largest virtqueue, a power of two up to 32768.
    msix_vectors : int
        MSI-X table entries per function.
    device_id : int
        device_id of the PF; VF n (from 1) has ``device_id + n``.
    data_width : int
        Bits of the DMA bus and of the Ethernet streams.
    frame_bytes : int
        Bytes of a frame slot, of ``FRAME_BYTES``; longer frames are dropped and counted.
    tx_slots, rx_slots : int
        Frames on their way from and to guests.  Enough that every function may have one waiting and
        one under way, and one is left: so nobody can keep others from sending or receiving.
    max_burst_beats : int
        Beats of the longest DMA burst.
    dma_tags : int
        DMA requests at once; a quarter is kept from those that may wait for a page.  A page request
        group index of 9 bits tells them, and one request from the next.
    dma_slots : int
        Parts of DMA requests, each within a page, that are translated or move at once.
    atc_entries : int
        Translations of 4 KiB that the device TLB holds, beside an eighth as many of 2 MiB, at least
        4; a power of two from 8, or 0 for none.
    mtu : int
        ``mtu`` of the device configuration (virtio 1.3, 5.1.4), without the Ethernet header; with
        that and a VLAN tag, a frame of so many bytes fits in a slot.
    packed, indirect, event_idx, in_order : bool
        Packed virtqueues, indirect descriptors, event index, in-order use (virtio 1.3, 6).
    mergeable, checksum, segmentation : bool
        Mergeable receive buffers, checksum offload both ways, TSO (virtio 1.3, 5.1.3).
    control_queue, multiqueue, rss : bool
        Control queue, several queue pairs at once, receive-side scaling (virtio 1.3, 5.1.3).
    prefetch : int
        Pages named by descriptors whose translations are asked for ahead of use at once, up to 16;
        one function has at most half of them.  0 for none.
    backup : bool
        Backup rings for frames whose receive queue waits for a page (``BackupRing``).  They have
        8 of the ``dma_tags``, and 2 slots of each memory that are in no function's share.
    """

    vfs: int = 8
    queue_pairs: int = 2
    queue_size_max: int = 1024
    msix_vectors: int = 8
    device_id: int = 8
    data_width: int = 128
    frame_bytes: int = 1536
    tx_slots: int = 40
    rx_slots: int = 40
    max_burst_beats: int = 16
    dma_tags: int = 64
    dma_slots: int = 16
    atc_entries: int = 64
    mtu: int = 1500
    packed: bool = False
    indirect: bool = False
    event_idx: bool = False
    in_order: bool = False
    mergeable: bool = False
    checksum: bool = False
    segmentation: bool = False
    control_queue: bool = False
    multiqueue: bool = False
    rss: bool = False
    prefetch: int = 0
    backup: bool = False

    def __post_init__(self) -> None:
        _check_range("vfs", self.vfs, 1, 255)
        _check_range("queue_pairs", self.queue_pairs, 1, 8)
        _check_power_of_two("queue_size_max", self.queue_size_max, 2, 32768)
        _check_range("msix_vectors", self.msix_vectors, 2, 64)
        if self.data_width != 128:
            raise ValueError(f"data_width must be 128, not {self.data_width!r}")
        if self.frame_bytes not in FRAME_BYTES:
            raise ValueError(f"frame_bytes must be one of {FRAME_BYTES}, not {self.frame_bytes!r}")
        _check_range("tx_slots", self.tx_slots, 2, 256)
        _check_range("rx_slots", self.rx_slots, 2, 256)
        _check_power_of_two("max_burst_beats", self.max_burst_beats, 4, 64)
        _check_power_of_two("dma_slots", self.dma_slots, 2, 64)
        if self.atc_entries:
            _check_power_of_two("atc_entries", self.atc_entries, 8, 4096)
        _check_range("dma_tags", self.dma_tags, 8 + BACKUP_TAGS * self.backup, TAGS_MAX)
        _check_range("prefetch", self.prefetch, 0, min(PREFETCH_MAX, self.engine_tags // 4))
        for name, spare in (("tx_slots", self._tx_spare), ("rx_slots", self._rx_spare)):
            if getattr(self, name) < 2 * self.functions + spare:
                raise ValueError(
                    f"{name} must be at least {2 * self.functions + spare} for {self.functions} "
                    f"functions, not {getattr(self, name)!r}"
                )
        if self.queues > QUEUES_MAX:
            raise ValueError(f"A NIC has at most {QUEUES_MAX} queues, not {self.queues!r}")
        _check_range("mtu", self.mtu, 68, self.frame_bytes - 14 - VLAN_TAG_BYTES)
        if self.backup and self.longest_frame >= 1 << 14:
            raise ValueError(f"backup needs an mtu below {(1 << 14) - 18}, not {self.mtu!r}")
        for name, needed in _NIC_NEEDS:
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name} needs {needed}")
        if self.device_id + self.vfs >= 1 << 24:
            raise ValueError(f"device_id {self.device_id:#x} leaves no room for {self.vfs} VFs")

    @property
    def functions(self) -> int:
        """PF and VFs; function 0 is the PF."""
        return 1 + self.vfs

    @property
    def tx_quota(self) -> int:
        """Frames of guests that one function may have waiting and under way.

        A slot more is nobody's where large frames are cut into segments.
        """
        return (self.tx_slots - self._tx_spare) // self.functions

    @property
    def rx_quota(self) -> int:
        """Frames from the port that one function may have waiting and under way."""
        return (self.rx_slots - self._rx_spare) // self.functions

    @property
    def _tx_spare(self) -> int:
        """Slots of the TX memory that are in no share."""
        return self._rx_spare + self.segmentation

    @property
    def _rx_spare(self) -> int:
        """Likewise of the RX memory."""
        return 1 + BACKUP_TRANSIT * self.backup

    @property
    def frame_stride(self) -> int:
        """Bytes from one frame slot to the next in addresses, a power of two."""
        return 1 << (self.frame_bytes - 1).bit_length()

    @property
    def longest_frame(self) -> int:
        """Bytes of the longest frame that a function receives: Ethernet header, tag, MTU."""
        return 14 + VLAN_TAG_BYTES + self.mtu

    @property
    def engine_tags(self) -> int:
        """DMA requests that the virtqueue engine may have at once; the other tags follow."""
        return self.dma_tags - BACKUP_TAGS * self.backup

    @property
    def prefetch_share(self) -> int:
        """Pages that one function may have asked for ahead of use at once."""
        return max(1, self.prefetch // 2)

    @property
    def backup_stride(self) -> int:
        """Bytes from one entry of a backup ring to the next."""
        fits = 16 + self.longest_frame <= self.frame_stride  # with what is before the frame
        return self.frame_stride if fits else 2 * self.frame_stride

    @property
    def queues_per_function(self) -> int:
        """Receive queue 2n, transmit queue 2n + 1, control queue (virtio 1.3, 5.1.2)."""
        return 2 * self.queue_pairs + self.control_queue

    @property
    def physical_queues(self) -> int:
        """Queues that the PF shows: nobody would answer a control queue of its."""
        return 2 * self.queue_pairs

    @property
    def queues(self) -> int:
        """All virtqueues; ``function * queues_per_function + queue`` numbers them."""
        return self.functions * self.queues_per_function

    @property
    def data_queues(self) -> int:
        """Receive and transmit queues; ``function * 2 * queue_pairs + queue`` numbers them."""
        return self.functions * 2 * self.queue_pairs

    @property
    def receivers(self) -> int:
        """Receive queues; ``function * queue_pairs + pair`` numbers them."""
        return self.functions * self.queue_pairs


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """A whole system.

    Parameters
    ----------
    name : str
        What users call it.
    iommu, nic : IommuConfig, NicConfig
        Its blocks.
    address_bits : int
        Bits of addresses on the DMA bus.
    bridge_slots : int
        Bursts of each direction that the I/O bridge has under way.
    """

    name: str
    iommu: IommuConfig = field(default_factory=IommuConfig)
    nic: NicConfig = field(default_factory=NicConfig)
    address_bits: int = 64
    bridge_slots: int = 16


#: Members of NicConfig that a driver may accept something for.
_NIC_FEATURES = (
    *("packed", "indirect", "event_idx", "in_order", "mergeable", "checksum", "segmentation"),
    *("control_queue", "multiqueue", "rss"),
)
_DEFAULT = SystemConfig(
    name="default",
    iommu=IommuConfig(pd8=True, msi_flat=True, amo_hwad=True, walk_cache=16),
    nic=NicConfig(
        **dict.fromkeys(("control_queue", "multiqueue", "rss"), True),
        checksum=True,
        backup=True,
        prefetch=14,
        dma_slots=32,
    ),
)

#: Named systems (docs/configurations.md).  Of ``hyper`` the IOMMU alone is of use: a generator of
#: translations takes the NIC's place.
CONFIGS = {
    system.name: system
    for system in (
        SystemConfig(
            name="tiny",
            iommu=IommuConfig(
                context_entries=3,
                iotlb_ways=2,
                iotlb_sets=4,
                iotlb_superpages=2,
                misses=3,
                walkers=2,
                queue_entries_log2_max=8,
            ),
            nic=NicConfig(
                vfs=3,
                queue_pairs=1,
                msix_vectors=4,
                queue_size_max=256,
                tx_slots=16,
                rx_slots=16,
                dma_slots=4,
                atc_entries=32,
                checksum=True,
                backup=True,
                prefetch=8,
            ),
        ),
        _DEFAULT,
        replace(
            _DEFAULT,
            name="full",
            iommu=replace(
                _DEFAULT.iommu,
                **dict.fromkeys(CAPABILITY_BITS, True),
                pas=50,
                ddt_levels=3,
                process_entries=16,
            ),
            nic=replace(_DEFAULT.nic, **dict.fromkeys(_NIC_FEATURES, True)),
        ),
        replace(
            _DEFAULT,
            name="complete",
            nic=replace(
                _DEFAULT.nic,
                **dict.fromkeys(_NIC_FEATURES, True),
                vfs=3,
                tx_slots=16,
                rx_slots=16,
            ),
        ),
        replace(
            _DEFAULT,
            name="wide",
            # 64 extended contexts fit into a page; there are 65 functions.
            iommu=replace(_DEFAULT.iommu, ddt_levels=2, misses=32, walkers=32, context_entries=80),
            nic=replace(
                _DEFAULT.nic,
                vfs=64,
                tx_slots=200,
                rx_slots=200,
                dma_tags=128,
            ),
        ),
        replace(
            _DEFAULT,
            name="hyper",
            # 1024 tenants: extended contexts of 6 bits of device_id a page.
            iommu=replace(
                _DEFAULT.iommu,
                ddt_levels=2,
                misses=128,
                walkers=128,
                context_entries=1024,
                walk_cache=1024,
            ),
        ),
    )
}


def config(name: str) -> SystemConfig:
    """Return the system of that name; ``ValueError`` with the names there are."""
    if name not in CONFIGS:
        raise ValueError(f"No configuration {name!r}; there are {', '.join(CONFIGS)}")
    return CONFIGS[name]
