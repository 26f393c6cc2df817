"""Changes of tables by software, with the invalidations that they ask for.

Sections "IOMMU directory cache invalidation commands" and "Page-table cache invalidation
commands"; the guidelines, "Programming guidelines" on changing tables.  Where narrow and wide
commands would do, either is drawn.
"""

import random
from dataclasses import dataclass, field

from models.spec.iommu import CommandFunc

from .commands import ginval, inval, iodir
from .devices import Device, Directory, iosatp
from .image import Image
from .spaces import Group, Settings, msi_entry, store_msi
from .tables import PTE, Entry, Leafs, Tree

__all__ = ["Changes", "Recent"]

_PDTV, _PSCID = 1 << 5, ((1 << 20) - 1) << 12


@dataclass
class Recent:
    """What requests have used lately; changes of it show whether an invalidation was done."""

    entries: list[tuple[Tree, Entry]] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    processes: list[tuple[Device, int]] = field(default_factory=list)

    def clear(self) -> None:
        """Forget everything."""
        for used in (self.entries, self.devices, self.processes):
            used.clear()


class Changes:
    """Draws changes; each is stored into the image."""

    def __init__(
        self,
        rng: random.Random,
        settings: Settings,
        image: Image,
        groups: list[Group],
        devices: list[Device],
        directory: Directory,
    ) -> None:
        self.rng, self.settings, self.image = rng, settings, image
        self.groups, self.devices, self.directory = groups, devices, directory

    def draw(self, recent: Recent) -> list[int]:
        """Change something, what is ``recent`` rather; returns the commands that must follow."""
        rng = self.rng
        self._recent = recent
        group = rng.choice(self.groups)
        kinds = [self._device] * 2 + [self._process] * 3
        if group.first:
            kinds += [lambda: self._first(group)] * 4
        if group.second:
            kinds += [lambda: self._second(group)] * 4
        if group.msi:
            kinds += [lambda: self._msi(group)] * 2
        return rng.choice(kinds)()

    # Page tables -------------------------------------------------------------------------------

    def _entry(self, tree: Tree, leafs: Leafs) -> tuple[Entry, bool, bool] | None:
        """Change one entry; also says whether it was valid, and whether it was a leaf."""
        rng = self.rng
        entries = [entry for entry in tree.entries if not entry.keeps]
        if rng.random() < 0.2:
            made = tree.insert(leafs)
            return (made, False, True) if made else None
        if not entries:
            return None
        entry = rng.choice(entries)
        recent = [e for of, e in self._recent.entries if of is tree and not e.keeps]
        if tree.scheme.x4:
            recent += self._behind(tree)
        if recent and rng.random() < 0.8:
            entry = rng.choice(recent)
        old, new = entry.value, 0
        leaf = bool(old & (PTE.R | PTE.X))
        if entry.leaf:
            new = tree.leaf_value(leafs, tree.size_log2(entry))
            if rng.random() < 0.3:
                new = rng.choice([0, tree.spoil(entry), new & ~PTE.W, new & ~PTE.V])
        else:
            new = entry.original if entry.original != old else tree.spoil(entry)
        tree.change(entry, new)
        return entry, bool(old & PTE.V), leaf and entry.leaf

    def _behind(self, second: Tree) -> list[Entry]:
        """Entries that recent leafs of first stages lead to."""
        targets = [e.value >> 10 << 12 for tree, e in self._recent.entries if not tree.scheme.x4]
        return [
            entry
            for entry in second.entries
            if not entry.keeps
            and any(entry.address <= t < entry.address + (1 << second.size_log2(entry))
                    for t in targets)
        ]  # fmt: skip

    def _place(self, tree: Tree, entry: Entry, leaf: bool) -> dict[str, int]:
        """Operands that cover an entry: its address, a range, or everything."""
        rng, config = self.rng, self.settings.config
        draw = rng.random()
        size = tree.size_log2(entry)
        page = tree.extended(entry.address) >> 12 & (1 << 52) - 1
        if config.s and draw < 0.3 and size < 60:
            extra = rng.randrange(3)
            ones = (1 << max(size - 12 + extra - 1, 0)) - 1
            nl = 0 if leaf else 1
            if config.nl or leaf:
                return {"av": 1, "s": 1, "addr": page & ~((ones << 1) | 1) | ones, "nl": nl}
        if leaf and draw < 0.8:
            inside = rng.choice([0, rng.getrandbits(52) & (1 << size - 12) - 1])
            nl = config.nl and rng.random() < 0.3
            return {"av": 1, "addr": page | inside, "nl": int(nl)}
        return {}

    def _first(self, group: Group) -> list[int]:
        rng = self.rng
        tree = rng.choice(group.first)[1]
        assert group.first_leafs is not None
        changed = self._entry(tree, group.first_leafs)
        if changed is None:
            return []
        entry, valid, leaf = changed
        if not valid and rng.random() < 0.7:
            return []  # what is invalid is not cached
        place, commands = self._place(tree, entry, leaf), []
        ids = {"gv": 1, "gscid": group.gscid} if group.second else {}
        if group.glob or rng.random() < 0.3:
            return [inval(**ids, **place)]
        for other, same in group.first:
            if same is tree:
                commands.append(inval(**ids, **place, pscv=1, pscid=other))
        return commands

    def _second(self, group: Group) -> list[int]:
        rng, tree = self.rng, group.second
        assert tree is not None
        assert group.second_leafs is not None
        changed = self._entry(tree, group.second_leafs)
        if changed is None:
            return []
        entry, valid, leaf = changed
        if not valid and rng.random() < 0.7:
            return []
        # A pointer may have led to a process directory.  IOTINVAL.GVMA orders reads of the second
        # stage's tables; process contexts that are cached need none, and are the other commands'
        # business.
        contexts = [
            iodir(dv=1, did=device.device_id)
            for device in self.devices
            if device.group is group and device.processes and not entry.leaf
        ]
        if rng.random() < 0.1:
            return [ginval(), *contexts]
        place = self._place(tree, entry, leaf)
        return [ginval(gv=1, gscid=group.gscid, **place), *contexts]

    # Contexts ----------------------------------------------------------------------------------

    def _stages(self, group: Group) -> list[int]:
        """Everything of a group's page tables."""
        if group.second is None:
            return [inval()]
        ids = {"gv": 1, "gscid": group.gscid}
        return [ginval(**ids), inval(**ids)]

    def _space(self, group: Group, now: Tree | None) -> tuple[int, Tree | None]:
        """Draw another first stage of a group, with its PSCID."""
        others: list[tuple[int, Tree | None]] = [
            space for space in group.first if space[1] is not now
        ]
        if now is not None:
            others.append((self.rng.getrandbits(20), None))
        return self.rng.choice(others or [(0, None)])

    def _device(self) -> list[int]:
        """Give a device other rights, or take its context away, or put it back."""
        rng = self.rng
        device = rng.choice(self.devices)
        if self._recent.devices and rng.random() < 0.8:
            device = rng.choice(self._recent.devices)
        slot = self.directory.slot(device.device_id)
        draw = rng.random()
        if draw < 0.4 and not device.words[0] & _PDTV:
            pscid, device.tree = self._space(device.group, device.tree)
            device.words[2] = device.words[2] & ~_PSCID | pscid << 12
            device.words[3] = iosatp(device.tree)
        words = list(device.words)
        if 0.4 < draw < 0.6:
            words[0] &= ~1
        elif 0.6 < draw < 0.9:
            words[0] ^= rng.choice([1 << 4, 1 << 3, 1 << 9, 1 << 1])
        self.directory.store(slot, words)
        everyone = rng.random() < 0.2
        did = device.device_id
        command = iodir(dv=0) if everyone else iodir(dv=1, did=did)
        return [command, *(self._stages(device.group) if rng.random() < 0.3 else [])]

    def _process(self) -> list[int]:
        """Give a process other rights or another address space, or take it away, or put it back."""
        rng = self.rng
        having = [device for device in self.devices if device.processes]
        if not having:
            return []
        device = rng.choice(having)
        number = rng.choice(list(device.processes))
        if self._recent.processes and rng.random() < 0.8:
            device, number = rng.choice(self._recent.processes)
        process = device.processes[number]
        draw = rng.random()
        if draw < 0.5:
            pscid, process.tree = self._space(device.group, process.tree)
            process.words[0] = process.words[0] & ~_PSCID | pscid << 12
            process.words[1] = iosatp(process.tree)
        words = list(process.words)
        if draw > 0.4:
            words[0] ^= rng.choice([1, 1, 2, 4])
        for index, word in enumerate(words):
            self.image.put(process.address + 8 * index, word, big=device.group.sbe)
        command = iodir(CommandFunc.INVAL_PDT, dv=1, did=device.device_id, pid=number)
        if rng.random() < 0.2:
            command = iodir(dv=1, did=device.device_id)
        return [command, *(self._stages(device.group) if rng.random() < 0.3 else [])]

    def _msi(self, group: Group) -> list[int]:
        table = group.msi
        assert table is not None
        number = self.rng.choice(list(table.entries))
        table.entries[number] = msi_entry(self.rng, self.settings)
        store_msi(self.settings, self.image, table, number)
        return self._stages(group)
