"""PCI configuration spaces: RTL and golden model against each other, register by register."""

import random

import pytest

from models.nic.pci import NicPci
from models.pci import all_ones
from models.spec.config import config
from models.spec.nic import CONFIG_BASE, bar_base, config_base, function_block
from models.spec.pci import nic_space, pf_space, vf_space
from models.spec.registers import Access
from rtl.nic.pci_config import PciConfig
from tests.rtl.agents import get, put, run, seeded
from tests.rtl.nic.pci_world import settings
from tests.rtl.simulators import built

TINY = config("tiny").nic
ALL = range(TINY.functions)


class World:
    """RTL and golden model side by side; behind both a BAR whose words are its addresses."""

    def __init__(self):
        self.dut = built(PciConfig, TINY)
        self.passed: list[tuple[int, int | None]] = []
        self.wanted: list[tuple[int, int | None]] = []
        self.resets: list[int] = []
        self.waiting = False  # the PF's ISR status has something
        self.golden = NicPci(
            TINY, self._bar, self.resets.append, lambda: self.waiting, lambda: None
        )
        self.slow = 0  # cycles that a reset of a function takes
        self.delay = dict.fromkeys(ALL, 0)

    def _bar(self, function, offset, size, value):
        address = bar_base(function) + offset
        lane = address & 3
        self.wanted.append((address & ~3, None if value is None else value << 8 * lane))
        return (address & ~3) >> 8 * lane & all_ones(size)

    async def _below(self, ctx):
        """Whatever passes is answered with its address; no page request is outstanding."""
        ctx.set(self.dut.pri.idle, 1)
        while True:
            request = await get(ctx, self.dut.down.request)
            lanes = sum(0xFF << 8 * n for n in range(4) if request.strb >> n & 1)
            data = request.data & lanes if request.write else None
            self.passed.append((request.addr, data))
            await put(ctx, self.dut.down.response, 0 if request.write else request.addr)

    async def _resetting(self, ctx):
        """Functions and tables are reset in time; meanwhile they may do nothing."""
        signals = self.dut.masters, self.dut.messages, self.dut.resetting
        while True:
            *_, masters, messages, resetting, flr, clear = await ctx.tick().sample(
                *signals, self.dut.flr, self.dut.clear
            )
            assert not (masters | messages) & resetting
            ongoing = 0
            for f in ALL:
                if flr >> f & 1:
                    self.delay[f] = self.slow + 1
                ongoing |= bool(self.delay[f]) << f
                self.delay[f] = max(0, self.delay[f] - 1)
            ctx.set(self.dut.resetting, ongoing)
            ctx.set(self.dut.cleared, clear)

    async def access(self, ctx, address, write=0, data=0, strb=0):
        request = {"addr": address, "write": write, "data": data, "strb": strb}
        await put(ctx, self.dut.bus.request, request)
        return await get(ctx, self.dut.bus.response)

    async def read(self, ctx, f, offset):
        """Load a word from both; they agree."""
        found = await self.access(ctx, config_base(f) + offset)
        assert found == self.golden.read(config_base(f) + offset - CONFIG_BASE, 4), (
            f"function {f} at {offset:#x}: {found:#x}"
        )
        return found

    async def write(self, ctx, f, offset, value, size=4):
        """Store to both, in bytes of a word that ``size`` and ``offset`` tell."""
        lane = offset & 3
        strobes = (1 << size) - 1 << lane
        value &= all_ones(size)
        noise = 0xA5A5_A5A5 & ~(all_ones(size) << 8 * lane)
        data = value << 8 * lane | noise
        await self.access(ctx, config_base(f) + offset - lane, 1, data, strobes)
        self.golden.write(config_base(f) + offset - CONFIG_BASE, size, value)

    async def store(self, ctx, f, name, **fields):
        """Store fields of a register, the others 0."""
        register = nic_space(TINY, f)[name]
        value = sum(register[field].insert(v) for field, v in fields.items())
        await self.write(ctx, f, register.offset, value, register.bytes)

    async def load(self, ctx, f, name):
        register = nic_space(TINY, f)[name]
        word = await self.read(ctx, f, register.offset & ~3)
        return word >> 8 * (register.offset & 3) & (1 << register.width) - 1

    async def quiet(self, ctx, f):
        """Wait for the end of a function's reset, as software polls for it."""
        for _ in range(1000):
            if await self.access(ctx, config_base(f) + 4) != 0xFFFF_FFFF:
                return
        raise AssertionError("the reset does not end")

    async def everything(self, ctx):
        for f in ALL:
            for register, value in settings(TINY, f):
                await self.write(ctx, f, register.offset, value, register.bytes)

    def rights(self, ctx):
        """What the RTL allows, which is what the golden model allows."""
        found = {
            name: [ctx.get(getattr(self.dut, signal)) >> f & 1 for f in ALL]
            for name, signal in (("master", "masters"), ("messages", "messages"), ("ats", "ats"))
        }
        for f in ALL:
            for name, bits in found.items():
                assert bits[f] == getattr(self.golden, name)(f), (f, name)
        return found

    def run(self, bench):
        run(self.dut, bench, background=[self._below, self._resetting])


#: By the rules of PCI, not by the tables: offset, bits that may be written, value after reset.
PF_WORDS = {
    0x00: (0, 0x1041_1AF4),
    0x04: (0x0000_0546, 0x0010_0000),  # memory, bus master, parity, SERR#, INTx disable; a list
    0x08: (0, 0x0200_0001),  # network controller
    0x0C: (0x0000_00FF, 0),  # cache line size
    0x10: (0xFFFF_C000, 0x0000_0004),  # 16 KiB, 64 bits
    0x14: (0xFFFF_FFFF, 0),
    0x18: (0xFFFF_E000, 0x0000_0004),  # 8 KiB of management
    0x1C: (0xFFFF_FFFF, 0),
    0x20: (0, 0),
    0x24: (0, 0),
    0x2C: (0, 0x1100_1AF4),
    0x30: (0, 0),  # no expansion ROM
    0x34: (0, 0x0000_0040),
    0x3C: (0x0000_00FF, 0x0100),  # interrupt line; INTA
}
VF_WORDS = {
    0x00: (0, 0xFFFF_FFFF),
    0x04: (0x0000_0004, 0x0010_0000),  # memory space is the PF's to enable
    0x08: (0, 0x0200_0001),
    **dict.fromkeys(range(16, 40, 4), (0, 0)),  # BARs are the PF's
    0x2C: (0, 0x1100_1AF4),
    0x34: (0, 0x0000_0040),
    0x3C: (0, 0),
}


@pytest.mark.parametrize("f", [0, 1])
def test_every_register(f):
    """Reset value and writability of each word of the space, on both models."""
    world = World()
    space = nic_space(TINY, f)
    started = {space["virtio_pci_data"].offset}

    async def bench(ctx):
        if f:
            await world.everything(ctx)
            await world.store(ctx, 0, "device_control", flr=1)
            await world.quiet(ctx, 0)
            await world.store(ctx, 0, "num_vfs", value=2)
            await world.store(ctx, 0, "sriov_control", vf_enable=1)
        for offset, (_, value) in (VF_WORDS if f else PF_WORDS).items():
            assert await world.read(ctx, f, offset) == value, hex(offset)
        for offset in [*range(0, 0x180, 4), 0x1FC, 0x200, 0x400, 0xFFC]:
            if offset in started:
                continue
            word, before = space.words.get(offset), await world.read(ctx, f, offset)
            assert before == (word.reset if word else 0), hex(offset)
            ones = 0xFFFF_FFFF
            for register in space.registers:
                if register.offset & ~3 == offset:
                    ones &= ~(register.mask(Access.RW1S) << 8 * (register.offset & 3))
            if offset == 0x108 + 8 and not f:
                ones &= ~1  # VFs have a test of their own
            patterns = (ones, 0, ones & 0x5A5A_5A5A, ones & 0xA5A5_A5A5)
            for pattern in patterns if word and word.writable else (ones,):
                await world.write(ctx, f, offset, pattern)
                found = await world.read(ctx, f, offset)
                known = (VF_WORDS if f else PF_WORDS).get(offset)
                if known:
                    assert found == (known[1] & ~known[0]) | (pattern & known[0]), hex(offset)
            await world.write(ctx, f, offset, before)
            assert await world.read(ctx, f, offset) == before, hex(offset)
        world.rights(ctx)

    world.run(bench)


def test_random_bytes():
    """Any bytes of any word of any function, with VFs that come and go."""
    world, rng = World(), seeded(11)
    spaces = {f: sorted(nic_space(TINY, f).words) for f in ALL}
    spaces[0] += 40 * [pf_space(TINY)["sriov_control"].offset & ~3]
    for f in ALL:
        spaces[f] += 8 * [nic_space(TINY, f)["device_control"].offset & ~3]

    async def bench(ctx):
        await world.everything(ctx)
        visible = 0
        for _ in range(250):
            f = rng.choice(ALL)
            offset, size = rng.choice(spaces[f]), rng.choice([1, 2, 4])
            lane = rng.randrange(0, 4, size)
            resets = len(world.resets)
            await world.write(ctx, f, offset + lane, rng.getrandbits(32), size)
            for g in world.resets[resets:]:
                if world.golden.present(g):
                    await world.quiet(ctx, g)
            f = rng.choice(ALL)
            visible += world.golden.present(f) and f > 0
            await world.read(ctx, f, rng.choice(spaces[f]))
            await ctx.tick()
            world.rights(ctx)
        assert visible > 30
        assert len(world.resets) > 5

    world.run(bench)
    assert world.passed == world.wanted


def test_rights():
    """No DMA without bus master, no message without MSI-X, no ATS without page requests."""
    world = World()

    async def bench(ctx):
        await ctx.tick()
        assert world.rights(ctx) == dict.fromkeys(("master", "messages", "ats"), [0] * 4)
        await world.everything(ctx)
        assert world.rights(ctx) == dict.fromkeys(("master", "messages", "ats"), [1] * 4)
        await world.store(ctx, 2, "command")
        assert world.rights(ctx)["master"] == [1, 1, 0, 1]
        assert world.rights(ctx)["messages"] == [1, 1, 0, 1]
        await world.store(ctx, 2, "command", bus_master=1)
        await world.store(ctx, 3, "msix_control", enable=1, function_mask=1)
        assert world.rights(ctx)["messages"] == [1, 1, 1, 0]
        await world.store(ctx, 3, "msix_control")
        assert world.rights(ctx)["messages"] == [1, 1, 1, 0]
        await world.store(ctx, 1, "ats_control")
        assert world.rights(ctx)["ats"] == [1, 0, 1, 1]
        await world.store(ctx, 0, "pri_control")
        assert world.rights(ctx)["ats"] == [0, 0, 0, 0]
        # VFs have no power states: they follow the PF.
        await world.store(ctx, 0, "pm_control", power_state=3)
        assert world.rights(ctx)["master"] == [0, 0, 0, 0]
        for unsupported in (1, 2):
            await world.store(ctx, 0, "pm_control", power_state=unsupported)
            assert await world.load(ctx, 0, "pm_control") & 3 == 3
        await world.store(ctx, 0, "pm_control")
        assert world.rights(ctx)["master"] == [1, 1, 1, 1]

    world.run(bench)


def test_the_interrupt_pin_is_the_pfs_while_msix_is_disabled():
    world = World()
    interrupt = 1 << 3

    async def check(ctx, by_pin, enabled, status):
        assert ctx.get(world.dut.by_pin) == world.golden.by_pin(0) == by_pin
        assert ctx.get(world.dut.pin_enabled) == enabled
        assert world.golden.pin == (by_pin and enabled and world.waiting)
        ctx.set(world.dut.waiting, world.waiting and by_pin)
        assert await world.load(ctx, 0, "status") & interrupt == status
        assert not await world.load(ctx, 1, "status") & interrupt

    async def bench(ctx):
        await world.everything(ctx)
        await check(ctx, False, True, 0)
        world.waiting = True
        await check(ctx, False, True, 0)
        await world.store(ctx, 1, "msix_control")
        await check(ctx, False, True, 0)
        await world.store(ctx, 0, "msix_control")
        await check(ctx, True, True, interrupt)
        await world.store(ctx, 0, "command", memory=1, interrupt_disable=1)
        await check(ctx, True, False, interrupt)
        world.waiting = False
        await check(ctx, True, False, 0)
        await world.store(ctx, 0, "command", memory=1)
        world.waiting = True
        await check(ctx, True, True, interrupt)
        await world.store(ctx, 0, "msix_control", enable=1)
        await check(ctx, False, True, 0)

    world.run(bench)


def test_what_is_not_there_reads_ones():
    world = World()
    ones = 0xFFFF_FFFF

    async def bench(ctx):
        bars = [bar_base(f) for f in ALL] + [function_block(0), function_block(2)]
        for address in [*bars, config_base(1), config_base(3), config_base(TINY.functions)]:
            assert await world.access(ctx, address) == ones
            await world.access(ctx, address, 1, 1, 15)
        assert not world.passed
        await world.store(ctx, 0, "num_vfs", value=2)
        await world.store(ctx, 0, "sriov_control", vf_enable=1)
        assert await world.read(ctx, 2, 4) != ones
        assert await world.read(ctx, 3, 4) == ones
        assert await world.access(ctx, bar_base(1)) == ones
        await world.store(ctx, 0, "sriov_control", vf_enable=1, vf_memory=1)
        found = [await world.access(ctx, address) for address in bars]
        assert found == [ones, bar_base(1), bar_base(2), ones, ones, ones]
        await world.store(ctx, 0, "command", memory=1)
        found = [await world.access(ctx, address) for address in bars]
        assert found == [bar_base(0), bar_base(1), bar_base(2), ones, *bars[4:]]
        await world.store(ctx, 0, "pm_control", power_state=3)
        assert [await world.access(ctx, address) for address in bars] == [ones] * len(bars)

    world.run(bench)


def test_number_of_vfs_is_kept_while_they_are_there():
    world = World()

    async def bench(ctx):
        await world.store(ctx, 0, "num_vfs", value=1)
        await world.store(ctx, 0, "sriov_control", vf_enable=1)
        await world.store(ctx, 0, "num_vfs", value=3)
        assert await world.load(ctx, 0, "num_vfs") == 1
        assert await world.read(ctx, 2, 0x34) == 0xFFFF_FFFF
        await world.store(ctx, 0, "sriov_control")
        await world.store(ctx, 0, "num_vfs", value=3)
        await world.store(ctx, 0, "sriov_control", vf_enable=1)
        await world.quiet(ctx, 3)
        assert await world.read(ctx, 3, 0x34) == 0x40

    world.run(bench)


@pytest.mark.parametrize("size", [0, 1, 4, 6, 8, 10])
def test_vf_bars_lie_at_multiples_of_the_system_page_size(size):
    world = World()

    async def bench(ctx):
        await world.write(ctx, 0, pf_space(TINY)["system_page_size"].offset, 1 << size)
        await world.store(ctx, 0, "vf_bar0", base=(1 << 18) - 1)
        aligned = max(16 << 10, 4096 << size)
        found = await world.load(ctx, 0, "vf_bar0")
        assert found == 0x1_0000_0000 - aligned | 4

    world.run(bench)


@pytest.mark.parametrize("f", [0, 2])
def test_function_level_reset(f):
    """Configuration is as after power-on, the function is away meanwhile, others stay."""
    world = World()
    world.slow = 40

    async def bench(ctx):
        await world.everything(ctx)
        before = world.rights(ctx)
        await world.store(ctx, f, "device_control", flr=1)
        assert await world.access(ctx, config_base(f) + 4) == 0xFFFF_FFFF
        assert await world.access(ctx, bar_base(f)) == 0xFFFF_FFFF
        await world.quiet(ctx, f)
        assert await world.read(ctx, f, 4) == 0x0010_0000
        after = world.rights(ctx)
        gone = set(ALL) if f == 0 else {f}
        for name, bits in after.items():
            expected = [0 if g in gone else bit for g, bit in enumerate(before[name])]
            if name != "ats" or f:
                assert bits == expected, name
        assert set(world.resets) == gone
        assert await world.access(ctx, config_base(1)) == 0xFFFF_FFFF  # a VF's vendor, or no VF

    world.run(bench)


def test_vf_disable_resets_vfs():
    world = World()
    world.slow = 25

    async def bench(ctx):
        await world.everything(ctx)
        await world.store(ctx, 0, "sriov_control", vf_memory=1)
        assert world.rights(ctx)["master"] == [1, 0, 0, 0]
        await world.store(ctx, 0, "sriov_control", vf_memory=1, vf_enable=1)
        for f in (1, 2, 3):
            await world.quiet(ctx, f)
            assert await world.load(ctx, f, "command") == 0
            assert await world.load(ctx, f, "msix_control") == TINY.msix_vectors - 1
        assert sorted(world.resets) == [1, 2, 3]

    world.run(bench)


@pytest.mark.parametrize("f", [0, 2])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_window_on_a_bar(f, size):
    """The virtio capability for access without memory space."""
    world, rng = World(), random.Random(size)
    space = pf_space(TINY) if f == 0 else vf_space(TINY)
    data = space["virtio_pci_data"].offset

    async def bench(ctx):
        if f:
            await world.store(ctx, 0, "num_vfs", value=3)
            await world.store(ctx, 0, "sriov_control", vf_enable=1)
        await world.store(ctx, f, "virtio_pci_bytes", value=size)
        for offset in [0, 4, 0x1000, 0x3FFC, *rng.sample(range(0, 0x4000, size), 6)]:
            await world.store(ctx, f, "virtio_pci_offset", value=offset)
            value = bar_base(f) + (offset & ~3) >> 8 * (offset & 3)
            assert await world.read(ctx, f, data) & all_ones(size) == value & all_ones(size)
            await world.write(ctx, f, data, rng.getrandbits(32), size)
        assert len(world.passed) == 20
        # Nothing else is accessed: other BARs, beyond the end, askew, of other sizes.
        for bar, offset, length in ((1, 0, size), (0, 0x4000, size), (0, 1, 2), (0, 0, 3)):
            await world.store(ctx, f, "virtio_pci_bar", value=bar)
            await world.store(ctx, f, "virtio_pci_offset", value=offset)
            await world.store(ctx, f, "virtio_pci_bytes", value=length)
            assert await world.read(ctx, f, data) == 0
            await world.write(ctx, f, data, 1)
        assert len(world.passed) == 20

    world.run(bench)
    assert world.passed == world.wanted
