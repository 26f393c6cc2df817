"""What a driver reads of its registers, whatever it has done, is what golden functions say."""

from dataclasses import replace

import pytest

from models.nic.function import Function
from models.spec.nic import (
    DEVICE_OFFSET,
    FEATURE_FLAGS,
    ISR_OFFSET,
    MANAGEMENT,
    NOTIFY_OFFSET,
    FunctionControl,
    MailboxEvent,
    QueueError,
    bar_base,
    function_block,
    offered_features,
    queue_error_offset,
)
from models.spec.virtio import COMMON_CONFIG, MSI_NO_VECTOR, Feature, NetConfig, common
from tests.rtl.agents import mostly_full, seeded, wait_for
from tests.rtl.nic.registers_world import TINY, Machine, S

NIC = replace(TINY, queue_pairs=2, **dict.fromkeys(FEATURE_FLAGS, True))
PER, FUNCTIONS = NIC.queues_per_function, (0, 2)
COMMON_WORDS = range(0, COMMON_CONFIG[-1].offset + COMMON_CONFIG[-1].bytes, 4)
#: All of the device configuration, and what is behind it.
DEVICE_WORDS = range(DEVICE_OFFSET, DEVICE_OFFSET + NetConfig.as_shape().size // 8 + 8, 4)
MANAGED = [
    *("status", "features_low", "features_high", "events", "control_size", "control_vector"),
    *("queue_enables", "queue_resets"),
    *(name for name in MANAGEMENT if name.startswith("control_d")),
]
REQUIRED = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
OF_QUEUES = [register.name for register in COMMON_CONFIG if register.name.startswith("queue_")]
STATUS = common("device_status").offset
#: Cycles after which nothing is left to do, but for a reset.
QUIET = 40
#: Steps of the seed for every run, and of the others.
FAST, LONG = 50, 400


class Told(Function):
    """A golden function, and the vectors that it has raised."""

    def __init__(self, number):
        self.vectors: list[int] = []
        super().__init__(NIC, number, lambda *_: None, lambda *_: None)

    def raise_vector(self, vector):
        if vector < NIC.msix_vectors:
            self.vectors.append(vector)


class Pair:
    """The RTL and its golden functions, of which everything is done to both."""

    def __init__(self, seed):
        self.rng = seeded(seed)
        self.machine = Machine(nic=NIC)
        self.golden = {f: Told(f) for f in FUNCTIONS}
        self.log: list[str] = []
        self.enabled = self.resets = self.reads = self.attended = 0

    def run(self, steps):
        async def bench(ctx):
            self.ctx = ctx
            for f in FUNCTIONS:
                await self.everything(f)
            for _ in range(steps):
                f = self.rng.choice(FUNCTIONS)
                kinds = [self.access] * 8 + [self.bring_up] * 2 + [self.reset_queue] * 2
                kinds += [self.reset, self.hypervisor, self.fail, self.notify]
                await self.rng.choice(kinds)(f)
                if self.rng.random() < 0.1:
                    await self.everything(f)
            for f in FUNCTIONS:
                await self.everything(f)

        self.machine.run(bench)

    # Accesses ----------------------------------------------------------------------------------

    def note(self, what):
        self.log.append(what)

    async def quiet(self):
        await wait_for(self.ctx, lambda: True, then=QUIET)

    async def store(self, f, offset, value, size):
        value &= (1 << 8 * size) - 1
        self.note(f"{f}: {offset:#x}/{size} = {value:#x}")
        self.golden[f].write(offset, value, size)
        lane = offset % 4
        strobes = (1 << size) - 1 << lane
        await self.machine.bus.write32(
            self.ctx, bar_base(f) + offset - lane, value << 8 * lane, strobes
        )
        await self.attend(f)
        if offset <= STATUS < offset + size and not self.golden[f].status:
            await self.until_0(f, "device_status")

    async def write(self, f, name, value):
        register = common(name)
        for part in range(0, register.bytes, 4):
            size = min(4, register.bytes)
            await self.store(f, register.offset + part, value >> 8 * part, size)

    async def attend(self, f):
        """Take note of a reset that waits for software; until then nobody sees an end of it."""
        golden, events = self.golden[f], int(MailboxEvent.RESET | MailboxEvent.QUEUE_RESET)
        if golden.ending is None and golden.ending_queue is None:
            return
        self.attended += 1
        name = "queue_reset" if golden.ending is None else "device_status"
        if golden.ending is not None or golden._select["queue_select"] == golden.ending_queue:
            for _ in range(20):
                golden.read(common(name).offset & ~3, 4)
                assert await self.machine.read(self.ctx, f, name)
        golden.write_management(MANAGEMENT["events"].offset, events)
        await self.machine.manage(self.ctx, f, "events", events)
        await self.quiet()

    async def until_0(self, f, name):
        for _ in range(200):
            self.golden[f].read(common(name).offset & ~3, 4)
            if not await self.machine.read(self.ctx, f, name):
                return
        raise AssertionError(f"{name} does not become 0 after {self.log[-1]}")

    async def compare(self, f, offset):
        found = await self.machine.bus.read32(self.ctx, bar_base(f) + offset)
        self.same(f, f"{offset:#x}", found, self.golden[f].read(offset, 4))

    async def compare_managed(self, f, name, offset):
        found = await self.machine.bus.read32(self.ctx, function_block(f) + offset)
        self.same(f, name, found, self.golden[f].read_management(offset))

    def same(self, f, where, found, expected):
        self.reads += 1
        last = "\n".join(self.log[-20:])
        assert found == expected, f"{f}: {where} reads {found:#x}, not {expected:#x}, after\n{last}"

    async def everything(self, f):
        """Compare all registers of the selected queue, the function, and its management block."""
        await self.quiet()
        for offset in (*COMMON_WORDS, *DEVICE_WORDS, ISR_OFFSET):
            await self.compare(f, offset)
        for name in MANAGED:
            await self.compare_managed(f, name, MANAGEMENT[name].offset)
        for queue in range(PER):
            await self.compare_managed(f, f"error {queue}", queue_error_offset(queue))
        raised = [i.vector for i in self.machine.interrupts.got if i.function == f]
        self.same(f, "vectors", len(raised), len(self.golden[f].vectors))
        assert raised == self.golden[f].vectors

    # What is done ------------------------------------------------------------------------------

    def value(self, name):
        """One for a register: mostly sensible, sometimes not."""
        rng = self.rng
        if rng.random() < 0.15:
            return rng.getrandbits(64)
        if name == "queue_select":
            return rng.choice((*range(PER), PER))
        if name.endswith("feature_select"):
            return rng.choice((0, 1, 1, 2))
        if name.endswith("vector"):
            return rng.choice((*range(NIC.msix_vectors), NIC.msix_vectors, MSI_NO_VECTOR))
        if name == "queue_size":
            return rng.choice((0, 2, 3, 8, 64, NIC.queue_size_max, 2 * NIC.queue_size_max))
        if name in ("queue_enable", "queue_reset"):
            return rng.choice((0, 1, 1, 2))
        if name == "device_status":
            return rng.choice((1, 3, 11, 15, 15, 64, 128))
        return rng.getrandbits(64)

    async def access(self, f):
        """Reads and writes of any register, mostly as wide as it is."""
        rng = self.rng
        register = rng.choice(COMMON_CONFIG)
        if rng.random() < 0.4:
            await self.compare(f, rng.choice((*COMMON_WORDS, *DEVICE_WORDS, ISR_OFFSET)))
            return
        if rng.random() < 0.8:
            await self.write(f, register.name, self.value(register.name))
        elif rng.random() < 0.5:
            offset = rng.choice((*COMMON_WORDS, *DEVICE_WORDS))
            await self.store(f, offset, rng.getrandbits(32), 4)
        else:
            offset = register.offset + rng.randrange(register.bytes)
            await self.store(f, offset, rng.choice((0, 1, rng.getrandbits(8))), 1)
        if register.offset & ~3 == common("queue_reset").offset & ~3:
            await self.settled_reset(f)
        await self.compare(f, register.offset & ~3)

    async def settled_reset(self, f):
        """Wait for the reset of the selected queue, if there is one."""
        if self.golden[f]._select["queue_select"] < PER:
            await self.until_0(f, "queue_reset")
        await self.quiet()

    async def set_up(self, f, queue):
        await self.write(f, "queue_select", queue)
        names = [name for name in OF_QUEUES if name not in ("queue_select", "queue_reset")]
        names = [name for name in names if self.rng.random() < 0.8 and name != "queue_enable"]
        for name in names:
            await self.write(f, name, self.value(name))
        await self.write(f, "queue_enable", 1)
        self.enabled += self.golden[f].queues[queue].queue_enable

    async def bring_up(self, f):
        """As a driver does, with some features and queues; from a reset, or from what there is."""
        rng, offered = self.rng, offered_features(NIC, physical=f == 0)
        if rng.random() < 0.5:
            await self.reset(f)
        features = offered & (rng.getrandbits(64) | rng.getrandbits(64)) | REQUIRED
        if rng.random() < 0.8:
            features |= offered & (1 << Feature.RING_RESET)
        if rng.random() < 0.1:
            features = rng.getrandbits(64)
        for half in rng.sample((0, 1), 2):
            await self.write(f, "driver_feature_select", half)
            await self.write(f, "driver_feature", features >> 32 * half & 0xFFFF_FFFF)
        await self.write(f, "device_status", S.ACKNOWLEDGE | S.DRIVER | S.FEATURES_OK)
        await self.write(f, "config_msix_vector", self.value("config_msix_vector"))
        ready = rng.randrange(4)
        for number, queue in enumerate(rng.sample(range(PER), 3)):
            if number == ready:
                await self.write(f, "device_status", S.DRIVER_OK)
            await self.set_up(f, queue)
        if ready == 3:
            await self.write(f, "device_status", S.DRIVER_OK)
        await self.quiet()
        await self.compare(f, STATUS)

    async def reset_queue(self, f):
        held = [queue for queue in range(PER) if self.golden[f].queues[queue].queue_enable]
        queue = self.rng.choice(held if held and self.rng.random() < 0.8 else range(PER))
        await self.write(f, "queue_select", queue)
        was = self.golden[f].queues[queue].queue_enable
        await self.write(f, "queue_reset", 1)
        self.resets += was and not self.golden[f].queues[queue].queue_enable
        await self.settled_reset(f)
        for name in OF_QUEUES:
            await self.compare(f, common(name).offset & ~3)
        if self.rng.random() < 0.5:
            await self.set_up(f, queue)

    async def reset(self, f):
        await self.write(f, "device_status", 0)
        await self.quiet()
        await self.compare(f, STATUS)

    async def hypervisor(self, f):
        """Device configurations change."""
        fields = {"enable": 1, "link_down": self.rng.getrandbits(1)}
        fields["attended"] = self.rng.random() < 0.7
        name, value = self.rng.choice(
            (
                ("control", FunctionControl.const(fields).as_bits()),
                ("mac_low", self.rng.getrandbits(32)),
                ("mac_high", self.rng.getrandbits(16)),
                ("events", self.rng.getrandbits(4)),
                ("queue_resets", self.rng.getrandbits(PER)),
            )
        )
        self.note(f"{f}: {name} = {value:#x}")
        self.golden[f].write_management(MANAGEMENT[name].offset, value)
        await self.machine.manage(self.ctx, f, name, value)
        await self.quiet()

    async def fail(self, f):
        """The engine stops one of the first two queues, if it runs."""
        golden = self.golden[f]
        running = [
            queue
            for queue in (0, 1)
            if golden.live and golden.queues[queue].queue_enable and not golden.queues[queue].error
        ]
        if running:
            queue, error = self.rng.choice(running), self.rng.choice([*QueueError][1:])
            self.note(f"{f}: queue {queue} stops, {error.name}")
            golden.stop_queue(queue, error)
            report = {"queue": f * 2 * NIC.queue_pairs + queue, "error": error}
            self.machine.errors.queue.append(report)
            await self.quiet()

    async def notify(self, f):
        queue = self.rng.randrange(PER + 1)
        self.note(f"{f}: notify {queue}")
        self.golden[f].write(NOTIFY_OFFSET + 4 * queue, queue, 4)
        await self.machine.notify(self.ctx, f, queue)
        await self.quiet()


@pytest.mark.parametrize("seed", mostly_full(range(1, 8), 1))
def test_registers_are_as_the_golden_functions(seed):
    steps = FAST if seed == 1 else LONG
    pair = Pair(seed)
    pair.run(steps)
    assert pair.enabled > steps // 10
    assert pair.resets >= steps // 50
    assert pair.reads > 5 * steps
    assert pair.attended or steps == FAST


def test_a_generation_that_was_read_does_not_come_again():
    """However often the device configuration changes between two reads (virtio 1.3, 4.1.4.3.1)."""
    pair = Pair(9)

    async def bench(ctx):
        pair.ctx = ctx
        name, offset = "mac_low", common("config_generation").offset & ~3
        for changes in (1, 2, 255, 256, 257, 0):
            before = await pair.machine.read(ctx, 2, "config_generation")
            await pair.compare(2, offset)
            for number in range(changes):
                pair.golden[2].write_management(MANAGEMENT[name].offset, number)
                await pair.machine.manage(ctx, 2, name, number)
            await pair.quiet()
            await pair.compare(2, offset)
            after = await pair.machine.read(ctx, 2, "config_generation")
            assert (after != before) == (changes > 0)

    pair.machine.run(bench)
