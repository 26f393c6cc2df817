"""Random scenarios for a configuration."""

import random
from typing import Any

from models.spec import iommu_registers as regs
from models.spec.config import IommuConfig
from models.spec.iommu import CommandFunc, DdtpMode, HpmEvent

from .changes import Changes, Recent
from .commands import Pool, ats_command, fence, ginval, inval, iodir, random_command
from .devices import Device, device_directory, make_device, spoil
from .image import Image
from .scenario import Scenario
from .spaces import Group, Impossible, Settings, make_group
from .tables import Entry, Tree

__all__ = ["generate"]

_EXACT_EVENTS = (
    HpmEvent.UNTRANSLATED_REQUEST,
    HpmEvent.TRANSLATED_REQUEST,
    HpmEvent.ATS_REQUEST,
)
_LEVELS = (DdtpMode.LVL1, DdtpMode.LVL2, DdtpMode.LVL3)
#: Guests of 32 bits have no addresses from here on, mapped or not.
_SXL_GPA_END = 1 << 34
#: Requests of a concurrent group, at most.
_GROUP = 96


def generate(config: IommuConfig, seed: str, translations: int) -> Scenario:
    """Draw a scenario of about so many translations; the same for the same arguments."""
    for attempt in range(50):
        rng = random.Random(f"{seed}/{attempt}")
        try:
            return _Generator(rng, config, seed).scenario(translations)
        except Impossible:
            continue
    raise AssertionError(f"No scenario for seed {seed}")


class _Generator:
    def __init__(self, rng: random.Random, config: IommuConfig, name: str) -> None:
        self.rng, self.config = rng, config
        self.out = Scenario(config, name)
        writable = config.sv32x4 and (config.sv39x4 or config.sv48x4 or config.sv57x4)
        self.settings = Settings(
            config,
            be=bool(config.end and rng.random() < 0.4),
            gxl=rng.random() < 0.3 if writable else config.sv32x4,
            gxl_writable=bool(writable),
        )
        self.wsi = config.igs == 1 or (config.igs == 2 and rng.random() < 0.5)
        self.image = Image(rng, config.pas, high=True)
        self.pool = Pool()
        self.recent = Recent()
        self.overflows = rng.random() < 0.06

    def step(self, *members: Any) -> None:
        self.out.steps.append(list(members))

    def write(self, register, value: int) -> None:
        self.step("w", register.offset, register.bytes, value)

    # Set-up ------------------------------------------------------------------------------------

    def scenario(self, translations: int) -> Scenario:
        rng = self.rng
        self.out.timing = {
            "latency": rng.choice([1, 2, 5, 20]),
            "jitter": rng.choice([0, 3, 20, 60]),
            "seed": rng.getrandbits(16),
        }
        data = self.image.page()
        self.pool.data = [data + 4 * n for n in range(8)]
        self._spaces()
        self._registers(data)
        self.changes = Changes(rng, self.settings, self.image, self.groups, self.devices,
                               self.directory)  # fmt: skip
        self.out.memory = self.image.take()
        self._modes()
        done = 0
        while done < translations:
            done += self._round()
        self.step("q")
        return self.out

    def _spaces(self) -> None:
        rng, settings, image = self.rng, self.settings, self.image
        config = self.config
        second = config.sv39x4 or config.sv48x4 or config.sv57x4 or config.sv32x4
        bare = [True] if not second else rng.choice([[True, False], [False, False],
                                                     [True, False, False]])  # fmt: skip
        self.groups: list[Group] = [
            make_group(rng, settings, image, number, bare=alone)
            for number, alone in enumerate(bare)
        ]
        levels = rng.randrange(1, config.ddt_levels + 1)
        self.levels = levels
        self.directory = device_directory(rng, settings, image, levels)
        bits = self.directory.bits
        top = (1 << bits) - 1
        choices = [0, 1, 2, 3, 5, top, top - 1, top // 2, 0x41 & top, 0x201 & top, 0x8000 & top]
        chosen = list(dict.fromkeys(choices))
        rng.shuffle(chosen)
        self.devices: list[Device] = []
        for device_id in chosen[: rng.randrange(4, 10)]:
            device = make_device(rng, settings, image, device_id, rng.choice(self.groups))
            self.devices.append(device)
            words = device.words
            if rng.random() < 0.12:
                words, device.spoiled = spoil(rng, words, config), True
            self.directory.store(self.directory.slot(device_id), words)
        for slot, value in self.directory.pointers:
            if rng.random() < 0.02:
                image.put(slot, rng.choice([0, value | 2, value | 1 << 54]), big=settings.be)
        pool = self.pool
        pool.devices = [device.device_id for device in self.devices]
        pool.processes = [p for d in self.devices for p in d.processes] or [0]
        pool.gscids = [group.gscid for group in self.groups]
        pool.pscids = [pscid for group in self.groups for pscid, _ in group.first] or [0]
        pool.pages = [
            page & (1 << 52) - 1
            for group in self.groups
            for tree in [group.second, *(tree for _, tree in group.first)]
            if tree
            for page in (tree.extended(entry.address) >> 12 for entry in tree.entries)
        ] or [0]

    def _registers(self, data: int) -> None:
        rng, config = self.rng, self.config
        fctl = self.settings.be | self.wsi << 1 | self.settings.gxl << 2
        self.write(regs.FCTL, fctl)
        if config.igs != 1:
            for vector in range(4):
                address = regs.msi_addr(vector)
                self.write(address, data + 0x100 + 16 * vector)
                self.step("w", address.offset + 8, 4, rng.getrandbits(32))
                self.step("w", address.offset + 12, 4, int(rng.random() < 0.2))
        self.write(regs.ICVEC, rng.randrange(1 << 16) & 0x3333)
        if config.qosid:
            self.write(regs.IOMMU_QOSID, rng.getrandbits(12) | rng.getrandbits(12) << 16)
        self._counters()
        most = config.queue_entries_log2_max
        sizes = {"cq": min(most, rng.choice([7, 8])), "fq": min(most, 8), "pq": min(most, 5)}
        if self.overflows:
            sizes["fq"] = rng.choice([1, 2, 3])
        pairs = [("cq", regs.CQB, regs.CQCSR), ("fq", regs.FQB, regs.FQCSR)]
        if config.ats:
            pairs.append(("pq", regs.PQB, regs.PQCSR))
        for name, base, csr in pairs:
            page = self.image.page(2)
            self.write(base, page >> 12 << 10 | sizes[name] - 1)
            self.write(csr, 1 | (rng.random() < 0.8) << 1)
        self.page_requests_room = (1 << sizes["pq"]) - 1

    def _counters(self) -> None:
        rng, config = self.rng, self.config
        if not config.hpm:
            return
        for index in range(min(config.hpm_counters, 5)):
            if index < 2 and config.hpm_counters > 2:
                event = (HpmEvent.LOOKUP, HpmEvent.TLB_MISS)[index]
                self.write(regs.IOHPMEVT[index], int(event))
                continue
            value = int(rng.choice(_EXACT_EVENTS))
            event = regs.IOHPMEVT[index]
            if rng.random() < 0.7:
                device, process = rng.choice(self.pool.devices), rng.choice(self.pool.processes)
                value |= event["did_gscid"].insert(device) | event["pid_pscid"].insert(process)
                value |= event["dv_gscv"].insert(rng.randrange(2))
                value |= event["pv_pscv"].insert(rng.random() < 0.3)
                value |= event["dmask"].insert(rng.randrange(2))
            self.write(event, value)
            if rng.random() < 0.3:
                near = (1 << config.hpm_bits) - rng.randrange(1, 60)
                self.write(regs.IOHPMCTR[index], near)

    def _modes(self) -> None:
        rng = self.rng
        if rng.random() < 0.1:
            self.step("g", self._rows(12), [])
        if rng.random() < 0.1:
            self.write(regs.DDTP, int(DdtpMode.BARE))
            self.step("g", self._rows(12), [])
        root = self.directory.root >> 12
        self.write(regs.DDTP, int(_LEVELS[self.levels - 1]) | root << 10)

    # Requests ----------------------------------------------------------------------------------

    def _rows(self, count: int) -> list[list[Any]]:
        rng, rows = self.rng, []
        good = [device for device in self.devices if not device.spoiled or rng.random() < 0.1]
        few = rng.sample(good, min(len(good), rng.choice([1, 2, 9]))) or self.devices
        while len(rows) < count:
            row = self._row(rng.choice(few))
            rows += [row] * rng.choice([1, 1, 1, 1, 2, 4])
        rng.shuffle(rows)
        return rows[:count]

    def _row(self, device: Device) -> list[Any]:
        rng, group = self.rng, device.group
        ats = device.words[0] & 2 or rng.random() < 0.1
        kind = rng.choice("uuuuaat") if ats else "u"
        number, process_id, tree = device.device_id, None, device.tree
        if device.processes and rng.random() < 0.75:
            process_id = rng.choice(list(device.processes))
            tree = device.processes[process_id].tree
            self.recent.processes.append((device, process_id))
        elif device.pd_levels and 0 in device.processes:
            tree = device.processes[0].tree
            self.recent.processes.append((device, 0))
        self.recent.devices.append(device)
        draw = rng.random()
        if draw < 0.02:
            number = rng.getrandbits(24)
        elif draw < 0.03:
            process_id = rng.getrandbits(rng.choice([8, 17, 20]))
        if kind == "t":
            tree = None
        access = rng.choice("rrrrrwwwx" + "y" * (kind == "a"))
        return [kind, access, int(rng.random() < 0.2), number, process_id,
                self._iova(group, tree)]  # fmt: skip

    def _iova(self, group: Group, tree) -> int:
        rng = self.rng
        draw = rng.random()
        if tree is None and group.msi and draw < 0.4:
            return rng.choice(group.msi.pages()) << 12 | rng.choice([0, 4, 0x123])
        tree = tree or group.second
        if tree is None or not tree.entries:
            bits = rng.choice([20, 32, 34, 39, self.config.pas, 64])
            return rng.choice([0x1000, 0x2000, rng.getrandbits(bits)])
        if draw > 0.98:
            return rng.getrandbits(64)
        entries = [entry for entry in tree.entries if entry.leaf]
        if not entries or draw > 0.95:
            entries = tree.entries
        if group.sxl and tree is group.second and rng.random() < 0.3:
            beyond = [e for e in entries if e.address + (1 << tree.size_log2(e)) > _SXL_GPA_END]
            if beyond:
                return max(rng.choice(beyond).address, _SXL_GPA_END) | rng.choice([0, 0x678])
        entry = rng.choice(entries)
        self.recent.entries.append((tree, entry))
        size = 1 << tree.size_log2(entry)
        page = rng.choice([0, 0, size - 4096, 4096, 0x20_0000]) & size - 1
        pieces = self._pieces(group, tree, entry)
        if pieces and rng.random() < 0.6:
            page = rng.choice(pieces)
        return tree.extended(entry.address) + page | rng.choice([0, 0, 8, 0xFFF, 0x678])

    def _pieces(self, group: Group, tree: Tree, entry: Entry) -> list[int]:
        """Offsets in a large page of a first stage at which other pages begin behind it."""
        size = 1 << tree.size_log2(entry)
        if group.second is None or tree is group.second or not entry.leaf or size == 4096:
            return []
        target = (entry.value >> 10 & (1 << 44) - 1) << 12 & -size
        begins = [other.address for other in group.second.entries if other.leaf]
        begins += [page << 12 for page in group.msi.pages()] if group.msi else []
        offsets = [begin - target for begin in begins]
        return [offset for offset in offsets if 0 <= offset < size]

    # Rounds ------------------------------------------------------------------------------------

    def _round(self) -> int:
        """One group of requests, with something after it."""
        rng = self.rng
        count = rng.choice([8, 24, 48, _GROUP])
        beside = []
        if rng.random() < 0.4:
            beside = [self._command() for _ in range(rng.randrange(1, 6))]
        self.recent.clear()
        rows = self._rows(count)
        self.step("g", rows, beside)
        draw = rng.random()
        if draw < 0.5:
            self._change()
            if rng.random() < 0.9:  # the same again, now of other tables
                self.step("g", rng.sample(rows, len(rows)), [])
                count *= 2
        elif draw < 0.57:
            self.step("c", [self._command() for _ in range(rng.randrange(1, 20))])
        elif draw < 0.63:
            count += self._errors()
        elif draw < 0.70 and self.config.ats:
            self._messages()
        elif draw < 0.75 and self.config.dbg:
            self._debug()
        elif draw < 0.8:
            self._illegal()
        if rng.random() < 0.25:
            self.step("q")
        return count

    def _command(self) -> int:
        return random_command(self.rng, self.config, self.pool, wsi=self.wsi)

    def _change(self) -> None:
        """Software changes tables, then invalidates what that asks for."""
        commands = []
        for _ in range(self.rng.choice([1, 1, 1, 3])):
            commands += self.changes.draw(self.recent)
        self.step("m", self.image.take())
        if commands:
            self.step("c", [*commands, fence(pr=1, pw=1)])

    def _everything(self) -> list[int]:
        return [
            iodir(),
            inval(),
            inval(pscv=0, gv=0, av=0),
            ginval(),
            *(inval(gv=1, gscid=group.gscid) for group in self.groups if group.second),
            fence(pr=1, pw=1),
        ]

    def _errors(self) -> int:
        """Memory errors at tables that nothing is cached of."""
        rng = self.rng
        trees = [
            tree
            for group in self.groups
            for tree in [group.second, *(tree for _, tree in group.first)]
            if tree
        ]
        pages = [
            self.directory.tables,
            [page for device in self.devices for page in device.pd_tables],
            [group.msi.root for group in self.groups if group.msi],
            [page for tree in trees for page in tree.tables],
        ]
        kinds = [[(page, 4096) for page in found] for found in pages]
        kinds.append([(entry.slots[0] & ~7, 8) for tree in trees for entry in tree.entries])
        address, size = rng.choice(rng.choice([kind for kind in kinds if kind]))
        self.step("c", self._everything())
        self.step("i", [[address, size, rng.choice([1, 2])]])
        self.step("g", self._rows(24), [])
        self.step("i", [])
        return 24

    def _messages(self) -> None:
        rng = self.rng
        for _ in range(rng.randrange(1, 5)):
            device = rng.choice(self.devices)
            number = device.device_id if rng.random() < 0.9 else rng.getrandbits(16)
            segment = number >> 16 or None  # the port's device_id does not tell 0 from none
            process_id = None
            if rng.random() < 0.5:
                process_id = rng.choice([*device.processes, rng.getrandbits(20)])
            self.step("p", number & 0xFFFF, segment, process_id, rng.randrange(2),
                      rng.randrange(2), rng.getrandbits(64))  # fmt: skip
        if rng.random() < 0.5:
            commands = [ats_command(rng, self.pool, CommandFunc.INVAL) for _ in range(2)]
            self.step("c", [*commands, self._command(), fence()])
            self.step("k")
        self.step("q")

    def _debug(self) -> None:
        rng = self.rng
        for _ in range(rng.randrange(1, 4)):
            _, _, priv, number, process_id, iova = self._row(rng.choice(self.devices))
            execute = rng.random() < 0.2
            flags = priv | execute << 1 | (rng.random() < 0.5 and not execute) << 2
            if execute:
                flags |= 4  # execute with write is unspecified
            self.step("d", number, process_id, flags, iova & ~0xFFF)

    def _illegal(self) -> None:
        """Commands up to one that stops the queue."""
        rng = self.rng
        wrong = [
            0,
            5,
            64,
            inval() | 2 << 7,
            ginval(pscv=1),
            inval() | 1 << 11,
            inval() | 1 << 127,
            fence() | 1 << 14,
            fence() | 1 << 7,
            ginval(gv=1, pscv=1, pscid=1),
            iodir(CommandFunc.INVAL_PDT, dv=0),
            iodir() | 2 << 7,
            iodir(pid=1),
        ]
        if not self.wsi:
            wrong.append(fence(wsi=1))
        if not self.config.nl:
            wrong.append(inval(av=1, nl=1))
        if not self.config.s:
            wrong.append(inval(av=1, s=1))
        commands = [self._command() for _ in range(rng.randrange(3))]
        for illegal in rng.sample(wrong, 3):
            self.step("c", [*commands, illegal, self._command()])
            self.step("f")
