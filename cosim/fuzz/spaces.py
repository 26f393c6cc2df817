"""Random address spaces: virtual machines with their second stage, first stages, MSI tables.

Software must give devices of one GSCID one second stage, and one PSCID of it one first stage; a
page may be global only if all first stages of the GSCID have it.  So a group with global pages has
one first-stage tree under all of its PSCIDs.
"""

import random
from dataclasses import dataclass, field

from models.spec.config import IommuConfig

from .image import Image
from .tables import PTE, Entry, Leafs, Scheme, Tree, schemes

__all__ = ["Group", "Impossible", "MsiTable", "Settings", "make_group"]


class Impossible(Exception):
    """These random choices do not fit together; draw again."""


@dataclass(frozen=True)
class Settings:
    """What holds for a whole scenario: registers that tables depend on."""

    config: IommuConfig
    be: bool
    gxl: bool
    gxl_writable: bool

    @property
    def gpa_bits(self) -> int:
        """Widest guest physical address."""
        config = self.config
        widths = (("sv57x4", 59), ("sv48x4", 50), ("sv39x4", 41), ("sv32x4", 34))
        return next((bits for name, bits in widths if getattr(config, name)), config.pas)


@dataclass
class MsiTable:
    """An MSI page table, with the registers of device contexts that lead to it."""

    root: int
    mask: int
    pattern: int
    entries: dict[int, list[int]] = field(default_factory=dict)

    def pages(self) -> list[int]:
        """Page numbers of its interrupt files."""
        found = [self.pattern & ~self.mask]
        for bit in range(52):
            if self.mask >> bit & 1:
                found += [page | 1 << bit for page in found]
        return found


@dataclass
class Group:
    """A virtual machine, or (``second`` is ``None``) everything without second stage."""

    gscid: int
    second: Tree | None
    sxl: bool
    sbe: bool
    #: The same in all of its contexts: those that share tables but not these bits may meet an
    #: entry before or after the other's update, and fault or not.
    gade: bool = False
    sade: bool = False
    first: list[tuple[int, Tree]] = field(default_factory=list)  # PSCID, tree
    msi: MsiTable | None = None
    table_leafs: Leafs | None = None
    glob: bool = False
    first_leafs: Leafs | None = None
    second_leafs: Leafs | None = None

    def seen(self, rng: random.Random, spa: int) -> int:
        """Address by which the first stage's pointers reach a table."""
        if self.second is None:
            return spa
        second = self.second
        if rng.random() < 0.7:
            for entry in second.entries:
                if entry.keeps and _holds(second, entry, spa):
                    return entry.address | spa & (1 << second.size_log2(entry)) - 1
        assert self.table_leafs is not None
        entry = second.insert(self.table_leafs, spa, tries=60)
        if entry is None:
            raise Impossible
        return entry.address | spa & (1 << second.size_log2(entry)) - 1


def _holds(tree: Tree, entry: Entry, spa: int) -> bool:
    size_log2 = tree.size_log2(entry)
    value = entry.value >> 10 & (1 << 44) - 1
    if entry.napot:
        value &= ~0xF
    return value << 12 >> size_log2 == spa >> size_log2


def _guest_target(rng: random.Random, group: Group, size_log2: int) -> int:
    """Where a leaf of the first stage goes: mostly to what the second stage maps."""
    assert group.second is not None
    entries = [entry for entry in group.second.entries if entry.leaf]
    draw = rng.random()
    if group.msi and draw < 0.2:
        gpa = rng.choice(group.msi.pages()) << 12
    elif entries and draw < 0.95:
        entry = rng.choice(entries)
        gpa = entry.address | rng.getrandbits(56) & (1 << group.second.size_log2(entry)) - 1
    else:
        gpa = rng.randrange(group.second.limit)
    return gpa >> size_log2 << size_log2


def _system_target(rng: random.Random, settings: Settings, size_log2: int) -> int:
    bits = settings.config.pas if rng.random() < 0.9 else 56
    return rng.getrandbits(bits) >> size_log2 << size_log2


def _msi_table(rng: random.Random, settings: Settings, image: Image, group: Group) -> MsiTable:
    bits = (34 if group.sxl else settings.gpa_bits) - 12
    mask = 0
    for _ in range(rng.randrange(5)):
        mask |= 1 << rng.choice([0, 1, 2, 3, 9, 10, bits - 1])
    root, pattern = image.page(), rng.getrandbits(bits)
    if group.second and rng.random() < 0.5:  # near what is mapped
        pattern = rng.choice(group.second.entries).address >> 12
    table = MsiTable(root, mask, pattern)
    for number in range(1 << mask.bit_count()):
        table.entries[number] = msi_entry(rng, settings)
        store_msi(settings, image, table, number)
    return table


def msi_entry(rng: random.Random, settings: Settings) -> list[int]:
    """Draw an MSI page-table entry: basic, MRIF, or wrong."""
    pas = settings.config.pas
    basic = 7 | rng.getrandbits(pas - 12) << 10
    mrif = 3 | rng.getrandbits(pas - 9) << 7
    notice = rng.getrandbits(10) | rng.getrandbits(pas - 12) << 10 | rng.getrandbits(1) << 60
    draw = rng.random()
    if draw < 0.55:
        return [basic, rng.getrandbits(64) if rng.random() < 0.1 else 0]
    if draw < 0.8:
        return [mrif, notice]
    kinds = (
        [basic & ~1, 0],
        [basic & ~6 | rng.choice([0, 4]), 0],
        [basic | 1 << rng.choice([3, 54, 62, 63]), 0],
        [mrif | 1 << rng.choice([3, 54, 62, 63]), notice],
        [mrif, notice | 1 << rng.choice([54, 59, 61, 63])],
        [0, 0],
    )
    return rng.choice(kinds)


def store_msi(settings: Settings, image: Image, table: MsiTable, number: int) -> None:
    """Put an entry into memory."""
    for word, value in enumerate(table.entries[number]):
        image.put(table.root + 16 * number + 8 * word, value, big=settings.be)


def _first_scheme(rng: random.Random, settings: Settings, group: Group) -> Scheme | None:
    found = schemes(settings.config, x4=False, narrow=group.sxl)
    return rng.choice(found) if found else None


def make_group(
    rng: random.Random, settings: Settings, image: Image, number: int, *, bare: bool
) -> Group:
    """Draw a group with its tables."""
    config, second = settings.config, None
    sxl = settings.gxl or (settings.gxl_writable and config.sv32 and rng.random() < 0.35)
    sbe = rng.random() < 0.4 if config.end else settings.be
    group = Group(gscid=0 if bare else rng.choice([1, 2, 0xFFFF]) + number * 8 & 0xFFFF,
                  second=None, sxl=sxl, sbe=sbe,
                  gade=config.amo_hwad and rng.random() < 0.6,
                  sade=config.amo_hwad and rng.random() < 0.6)  # fmt: skip
    extras = {"svpbmt": config.svpbmt, "rsw2": config.svrsw60t59b}
    ad = 0.12 if config.amo_hwad else 0.04
    rights = {PTE.R: 0.03, PTE.W: 0.12, PTE.X: 0.2, PTE.A: ad / 2, PTE.D: ad}
    there = schemes(config, x4=True, narrow=settings.gxl)
    if not bare and there:
        limit = 1 << (34 if sxl else 56)
        second = Tree(rng, image, rng.choice(there), big=settings.be, limit=limit)
        group.second = second
        faint = {PTE.W: 0.05, PTE.X: 0.3, PTE.A: ad / 10, PTE.D: ad}
        group.table_leafs = Leafs(faint, lambda size: 0, **extras)
        group.second_leafs = Leafs(
            rights | {PTE.U: 0.02}, lambda size: _system_target(rng, settings, size), **extras
        )
        for number in range(rng.randrange(4, 10)):
            second.insert(group.second_leafs, largest=number == 0 and rng.random() < 0.5)
    elif not bare:
        raise Impossible
    if config.msi_flat and second and rng.random() < 0.7:
        group.msi = _msi_table(rng, settings, image, group)
    scheme = _first_scheme(rng, settings, group)
    if scheme is None:
        return group
    group.glob = rng.random() < 0.4
    target = (
        (lambda size: _guest_target(rng, group, size))
        if second
        else (lambda size: _system_target(rng, settings, size))
    )
    group.first_leafs = Leafs(rights | {PTE.U: 0.12}, target, glob=group.glob, **extras)
    lowest = rng.randrange(2) + number * 16
    for _ in range(1 if group.glob else rng.randrange(1, 4)):
        tree = Tree(rng, image, scheme, big=sbe, limit=1 << 64,
                    seen=lambda spa: group.seen(rng, spa))  # fmt: skip
        for number in range(rng.randrange(5, 14)):
            tree.insert(group.first_leafs, largest=number == 0 and rng.random() < 0.5)
        group.first.append((len(group.first) + lowest, tree))
    if group.glob:
        tree = group.first[0][1]
        group.first = [(lowest + n, tree) for n in range(3)]
    for tree in {id(t): t for t in [second, *(t for _, t in group.first)] if t}.values():
        for entry in list(tree.entries):
            if not entry.keeps and rng.random() < (0.08 if entry.leaf else 0.02):
                tree.change(entry, tree.spoil(entry))
    return group
