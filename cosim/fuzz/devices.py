"""Random device and process contexts, and the directories that hold them."""

import random
from dataclasses import dataclass, field

from models.spec.config import IommuConfig

from .image import Image
from .spaces import Group, Settings
from .tables import Tree

__all__ = [
    "Device",
    "Directory",
    "Process",
    "device_directory",
    "iosatp",
    "make_device",
    "make_process",
    "spoil",
]

_DDI_BASE, _DDI_EXTENDED, _PDI = (7, 9, 8), (6, 9, 9), (8, 9, 3)
_V = 1


@dataclass
class Process:
    """A process context: its place in memory, and what was drawn."""

    address: int
    tree: Tree | None
    words: list[int]


@dataclass
class Device:
    """A device context, and what was drawn."""

    device_id: int
    group: Group
    tree: Tree | None = None  # first stage, if fsc is iosatp
    pd_levels: int = 0
    pd_tables: list[int] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)
    spoiled: bool = False


class Directory:
    """A directory of devices, or of processes; its tables are made as needed.

    Parameters
    ----------
    bits : tuple
        Index bits by level, lowest first.
    size : int
        Bytes of a record.
    group : Group or None
        Whose second stage the tables of a process directory are behind.
    """

    def __init__(
        self,
        rng: random.Random,
        image: Image,
        bits: tuple[int, ...],
        size: int,
        *,
        big: bool,
        group: Group | None = None,
    ) -> None:
        self._rng, self._image, self._bits, self._size = rng, image, bits, size
        self._big, self._group = big, group
        self.root, self.root_seen = self._table()
        self._below: dict[tuple[int, int], int] = {}
        self.pointers: list[tuple[int, int]] = []  # address, value
        self.tables = [self.root]

    def _table(self) -> tuple[int, int]:
        spa = self._image.page(low=bool(self._group and self._group.sxl))
        return spa, self._group.seen(self._rng, spa) if self._group else spa

    def slot(self, number: int) -> int:
        """Address of a record."""
        table = self.root
        for level in range(len(self._bits) - 1, 0, -1):
            key = level, number >> sum(self._bits[:level])
            if key not in self._below:
                spa, seen = self._table()
                self.tables.append(spa)
                self._below[key] = spa
                slot = table + 8 * (key[1] & (1 << self._bits[level]) - 1)
                self.pointers.append((slot, seen >> 12 << 10 | _V))
                self._image.put(slot, self.pointers[-1][1], big=self._big)
            table = self._below[key]
        return table + self._size * (number & (1 << self._bits[0]) - 1)

    def store(self, address: int, words: list[int]) -> None:
        """Store a record."""
        for index, word in enumerate(words):
            self._image.put(address + 8 * index, word, big=self._big)

    @property
    def bits(self) -> int:
        """Bits of numbers."""
        return sum(self._bits)


def device_directory(rng: random.Random, settings: Settings, image: Image, levels: int):
    """Make the device directory."""
    bits = _DDI_EXTENDED if settings.config.msi_flat else _DDI_BASE
    size = 64 if settings.config.msi_flat else 32
    return Directory(rng, image, bits[:levels], size, big=settings.be)


def iosatp(tree: Tree | None) -> int:
    """Value of ``fsc`` for a first stage, or for none."""
    return tree.scheme.mode << 60 | tree.root_seen >> 12 if tree else 0


def make_process(rng: random.Random, device: Device, directory: Directory, number: int) -> None:
    """Draw a process context and store it."""
    group, tree, pscid = device.group, None, rng.getrandbits(20)
    if group.first and rng.random() < 0.85:
        pscid, tree = rng.choice(group.first)
    ens, sum_ = rng.random() < 0.85, rng.random() < 0.5
    ta = (rng.random() < 0.97) | ens << 1 | sum_ << 2 | pscid << 12
    words = [ta, iosatp(tree)]
    draw = rng.random()
    if draw < 0.02:
        words[0] |= 1 << rng.choice([3, 11, 32, 63])
    elif draw < 0.04:
        # Reserved bits and modes: another mode would be another first stage of that PSCID.
        words[1] |= 1 << rng.choice([44, 59, 62])
    address = directory.slot(number)
    directory.store(address, words)
    device.processes[number] = Process(address, tree, words)


def _process_directory(rng: random.Random, settings: Settings, image: Image, device: Device) -> int:
    """Draw a process directory; returns fsc."""
    config = settings.config
    levels = rng.randrange(1, 1 + config.pd8 + config.pd17 + config.pd20)
    directory = Directory(rng, image, _PDI[:levels], 16, big=device.group.sbe, group=device.group)
    device.pd_levels, device.pd_tables = levels, directory.tables
    top = (1 << directory.bits) - 1
    numbers = [0, 1, 0x55, top, top - 1, top // 2, 0x100 & top, 0x1_0001 & top]
    for number in dict.fromkeys(rng.sample(numbers, rng.randrange(2, 5))):
        make_process(rng, device, directory, number)
    return levels << 60 | directory.root_seen >> 12


def make_device(
    rng: random.Random, settings: Settings, image: Image, device_id: int, group: Group
) -> Device:
    """Draw a device context; :meth:`Directory.store` puts ``words`` into memory."""
    config = settings.config
    ats = config.ats and rng.random() < 0.75
    pri = ats and rng.random() < 0.6
    flags = {
        "en_ats": ats,
        "en_pri": pri,
        "prpr": pri and rng.random() < 0.5,
        "t2gpa": config.t2gpa and ats and group.second is not None and rng.random() < 0.35,
        "dtf": rng.random() < 0.1,
        "gade": group.gade,
        "sade": group.sade,
        "sbe": group.sbe,
        "sxl": group.sxl,
    }
    fields: dict[str, int] = {}
    device = Device(device_id, group)
    if group.second:
        root = group.second.root_seen >> 12
        fields["iohgatp"] = group.second.scheme.mode << 60 | group.gscid << 44 | root
    pscid = rng.getrandbits(20)
    if config.pd8 and rng.random() < 0.5:
        flags["pdtv"], flags["dpe"] = True, rng.random() < 0.5
        if rng.random() < 0.9:
            fields["fsc"] = _process_directory(rng, settings, image, device)
    elif group.first and rng.random() < 0.8:
        pscid, device.tree = rng.choice(group.first)
        fields["fsc"] = iosatp(device.tree)
    fields["pscid"] = pscid
    if config.qosid:
        fields["rcid"], fields["mcid"] = rng.getrandbits(12), rng.getrandbits(12)
    device.words = _encode(flags, fields, group, settings)
    return device


def _encode(flags: dict, fields: dict, group: Group, settings: Settings) -> list[int]:
    names = (
        "en_ats",
        "en_pri",
        "t2gpa",
        "dtf",
        "pdtv",
        "prpr",
        "gade",
        "sade",
        "dpe",
        "sbe",
        "sxl",
    )
    tc = _V
    for position, name in enumerate(names, 1):
        tc |= bool(flags.get(name)) << position
    ta = fields["pscid"] << 12 | fields.get("rcid", 0) << 40 | fields.get("mcid", 0) << 52
    words = [tc, fields.get("iohgatp", 0), ta, fields.get("fsc", 0)]
    if settings.config.msi_flat:
        msi = [0, 0, 0, 0]
        if group.msi:
            msi = [1 << 60 | group.msi.root >> 12, group.msi.mask, group.msi.pattern, 0]
        words += msi
    return words


def spoil(rng: random.Random, words: list[int], config: IommuConfig) -> list[int]:
    """Return a context with one thing wrong; never one that gives shared IDs other tables."""
    words = list(words)
    kinds = [(0, bit) for bit in (0, 1, 2, 3, 5, 6, 9, 12, 32, 63)]
    kinds += [(1, 62), (1, 0), (2, 0), (2, 32), (3, 45), (3, 62)]
    if not config.amo_hwad:
        kinds += [(0, 7), (0, 8)]
    if not config.end:
        kinds += [(0, 10)]
    if not config.sv32x4:
        kinds += [(0, 11)]
    if len(words) > 4:
        kinds += [(4, 61), (4, 62), (4, 44), (5, 52), (6, 60), (7, 0), (7, 63)]
    word, bit = rng.choice(kinds)
    words[word] ^= 1 << bit
    return words
