"""Control queues in the registers: numbers, notifications, what software learns of them."""

from dataclasses import replace
from functools import partial

import pytest

from models.spec.config import config
from models.spec.nic import (
    MANAGEMENT,
    NOTIFY_OFFSET,
    FunctionControl,
    MailboxEvent,
    Stat,
    bar_base,
    function_block,
)
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus, Feature, common
from rtl.nic.registers import Registers
from rtl.nic.seams import QueueOp
from tests.rtl import agents
from tests.rtl.agents import Sink, Source, get, run, seeded
from tests.rtl.nic.pci_world import configure, obey, without_fences
from tests.rtl.simulators import built

TINY = config("tiny").nic
S = DeviceStatus
#: Kept together by every driver here.
FEATURES = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM | 1 << Feature.RING_RESET
PF_VECTOR = 3


class Machine:
    """Registers of a NIC with control queues, and an engine that stops what it is told to."""

    def __init__(self, pairs: int, **flags: bool):
        flags |= dict.fromkeys(("control_queue", "multiqueue", "rss"), True)
        self.nic = replace(TINY, vfs=1, queue_pairs=pairs, **flags)
        self.dut = built(Registers, self.nic)
        rng = seeded(5)
        self.bus = agents.Registers(self.dut.bus)
        self.commands = Sink(self.dut.command, rng, 0)
        self.doorbells = Sink(self.dut.doorbell, rng, 0)
        self.interrupts = without_fences(self.dut, rng, 0)
        self.filters = Sink(self.dut.filter, rng, 0)
        self.stopped = Source(self.dut.stopped, rng)

    def run(self, bench):
        async def whole(ctx):
            ctx.set(self.dut.cleared, -1)
            ctx.set(self.dut.fenced, 1)
            ctx.set(self.dut.pushed, 1)
            ctx.set(self.dut.count.ready, 1)
            await configure(ctx, self.bus.write32, self.nic)
            await bench(ctx)

        parts = (self.commands, self.doorbells, self.interrupts, self.filters, self.stopped)
        background = [part.process for part in parts] + [
            partial(obey, commands=self.commands, stopped=self.stopped)
        ]
        run(self.dut, whole, background=background)

    async def store(self, ctx, function, name, value):
        """Store to the common configuration."""
        register = common(name)
        address = bar_base(function) + register.offset
        for part in range(max(1, register.bytes // 4)):
            at, lanes = address + 4 * part, min(register.bytes, 4)
            word = (value >> 32 * part & 0xFFFF_FFFF) << 8 * (at % 4)
            await self.bus.write32(ctx, at & ~3, word, ((1 << lanes) - 1) << at % 4)

    async def load_block(self, ctx, function, name):
        return await self.bus.read32(ctx, function_block(function) + MANAGEMENT[name].offset)

    async def store_block(self, ctx, function, name, value):
        await self.bus.write32(ctx, function_block(function) + MANAGEMENT[name].offset, value)

    async def notify(self, ctx, function, queue):
        await self.bus.write32(ctx, bar_base(function) + NOTIFY_OFFSET + 4 * queue, queue)
        await ctx.tick().repeat(12)

    async def start(self, ctx, function, features, queues):
        """A driver: negotiation, queues, DRIVER_OK."""
        await self.store(ctx, function, "device_status", S.ACKNOWLEDGE | S.DRIVER)
        for half in range(2):
            await self.store(ctx, function, "driver_feature_select", half)
            await self.store(ctx, function, "driver_feature", features >> 32 * half & 0xFFFF_FFFF)
        await self.store(ctx, function, "device_status", S.FEATURES_OK)
        for queue in queues:
            await self.store(ctx, function, "queue_select", queue)
            await self.store(ctx, function, "queue_size", 16)
            await self.store(ctx, function, "queue_msix_vector", 1)
            for n, area in enumerate(("queue_desc", "queue_driver", "queue_device")):
                await self.store(ctx, function, area, 0x1_0000_1000 * (n + 1) + queue)
            await self.store(ctx, function, "queue_enable", 1)
        await self.store(ctx, function, "device_status", S.DRIVER_OK)
        await ctx.tick().repeat(150)


@pytest.mark.parametrize("several", [False, True])
def test_a_control_queue_alone_is_none_of_the_engine(several):
    """Its driver enables no other before DRIVER_OK."""
    machine = Machine(pairs=2)
    features = FEATURES | 1 << Feature.NET_CTRL_VQ | (1 << Feature.NET_MQ if several else 0)

    async def bench(ctx):
        await machine.start(ctx, 1, features, [4 if several else 2])
        assert not machine.commands.got
        assert await machine.load_block(ctx, 1, "control_size") == 16

    machine.run(bench)


@pytest.mark.parametrize("several", [False, True])
def test_life_of_a_control_queue(several):
    machine = Machine(pairs=2)
    index = 4 if several else 2
    features = FEATURES | 1 << Feature.NET_CTRL_VQ | (1 << Feature.NET_MQ if several else 0)
    ours = [0, 1, 2, 3] if several else [0, 1]

    async def bench(ctx):
        m = machine
        await m.store_block(ctx, 0, "mailbox_vector", PF_VECTOR)
        assert await m.load_block(ctx, 1, "control_size") == 0
        assert await m.load_block(ctx, 1, "control_vector") == MSI_NO_VECTOR
        await m.start(ctx, 1, features, [*ours, index])
        # The engine hears of the others alone, as its numbers are.
        started = [(c.op, c.queue) for c in m.commands.got]
        assert sorted(started) == [(QueueOp.ENABLE, 4 + queue) for queue in ours]
        raised = [(i.function, i.vector) for i in m.interrupts.got]
        assert raised == [(0, PF_VECTOR)]
        assert await m.load_block(ctx, 0, "mailbox") == 2
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.READY
        # More events raise nothing until those that are known are cleared.
        await m.notify(ctx, 1, index)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.READY | MailboxEvent.CONTROL
        assert len(m.interrupts.got) == 1
        await m.store_block(ctx, 1, "events", MailboxEvent.READY | MailboxEvent.CONTROL)
        assert await m.load_block(ctx, 0, "mailbox") == 0
        # What the hypervisor needs to know.
        assert await m.load_block(ctx, 1, "features_low") == features & 0xFFFF_FFFF
        assert await m.load_block(ctx, 1, "features_high") == features >> 32
        assert await m.load_block(ctx, 1, "control_size") == 16
        assert await m.load_block(ctx, 1, "control_vector") == 1
        for n, area in enumerate(("desc", "driver", "device")):
            low = await m.load_block(ctx, 1, f"control_{area}_low")
            high = await m.load_block(ctx, 1, f"control_{area}_high")
            assert high << 32 | low == 0x1_0000_1000 * (n + 1) + index
        # Its doorbell goes to software, theirs to the engine.
        await m.notify(ctx, 1, index)
        assert len(m.interrupts.got) == 2
        assert not m.doorbells.got
        await m.notify(ctx, 1, ours[-1])
        assert [d.queue for d in m.doorbells.got] == [4 + ours[-1]]
        # Software raises its vector.
        told = len(m.interrupts.got)
        await m.store_block(ctx, 1, "control_vector", 0)
        await ctx.tick().repeat(4)
        assert [(i.function, i.vector) for i in m.interrupts.got[told:]] == [(1, 1)]
        await m.store_block(ctx, 2, "control_vector", 0)  # it has none
        await m.store(ctx, 1, "queue_select", index)
        await m.store(ctx, 1, "queue_msix_vector", MSI_NO_VECTOR)
        await m.store_block(ctx, 1, "control_vector", 0)
        await ctx.tick().repeat(4)
        assert len(m.interrupts.got) == told + 1
        assert await m.load_block(ctx, 1, "control_vector") == MSI_NO_VECTOR
        # It is reset alone; then all of the function.
        await m.store_block(ctx, 1, "events", MailboxEvent.CONTROL)
        await m.store(ctx, 1, "queue_select", index)
        await m.store(ctx, 1, "queue_reset", 1)
        await ctx.tick().repeat(40)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.QUEUE_RESET
        assert await m.load_block(ctx, 1, "control_size") == 0
        await m.notify(ctx, 1, index)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.QUEUE_RESET
        await m.store_block(ctx, 1, "events", MailboxEvent.QUEUE_RESET)
        assert await m.load_block(ctx, 1, "queue_enables") == sum(1 << queue for queue in ours)
        await m.store(ctx, 1, "queue_select", ours[-1])
        await m.store(ctx, 1, "queue_reset", 1)
        await ctx.tick().repeat(60)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.DATA_RESET
        assert await m.load_block(ctx, 1, "queue_enables") == sum(1 << queue for queue in ours[:-1])
        await m.store_block(ctx, 1, "events", MailboxEvent.DATA_RESET)
        # Which queues were reset is known until software says that it knows.
        both = 1 << index | 1 << ours[-1]
        assert await m.load_block(ctx, 1, "queue_resets") == both
        assert await m.load_block(ctx, 2, "queue_resets") == 0
        await m.store_block(ctx, 1, "queue_resets", 1 << index)
        assert await m.load_block(ctx, 1, "queue_resets") == 1 << ours[-1]
        await m.store(ctx, 1, "device_status", 0)
        await ctx.tick().repeat(250)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.RESET
        assert await m.load_block(ctx, 1, "queue_resets") == 0
        stopped = [c.queue for c in m.commands.got if c.op == QueueOp.DISABLE]
        assert sorted(stopped) == [4 + queue for queue in ours]

    machine.run(bench)


def test_doorbells_are_counted_for_queues_of_data_alone():
    machine = Machine(pairs=2)

    async def bench(ctx):
        ctx.set(machine.dut.count.ready, 0)
        for queue in (0, 3, 4, 5):
            await machine.bus.write32(ctx, bar_base(1) + NOTIFY_OFFSET + 4 * queue, queue)
            if queue > 4:  # no queue
                continue
            event = await get(ctx, machine.dut.count)
            assert (event.function, event.stat) == (1, Stat.NOTIFICATIONS)
            assert event.queued == (queue < 4)
            assert not event.queued or event.queue == queue
        await ctx.tick().repeat(20)
        assert not ctx.get(machine.dut.count.valid)

    machine.run(bench)


def test_packed_rings_have_any_size():
    machine = Machine(pairs=1, packed=True)

    async def bench(ctx):
        m = machine
        packed = FEATURES | 1 << Feature.RING_PACKED
        for features, settled, size, kept in (
            (FEATURES, True, 24, TINY.queue_size_max),
            (packed, True, 24, 24),
            (packed, False, 24, TINY.queue_size_max),  # the feature may be taken back
            (packed, True, TINY.queue_size_max + 1, TINY.queue_size_max),
        ):
            await m.store(ctx, 1, "device_status", 0)
            await ctx.tick().repeat(150)
            for half in range(2):
                await m.store(ctx, 1, "driver_feature_select", half)
                await m.store(ctx, 1, "driver_feature", features >> 32 * half & 0xFFFF_FFFF)
            if settled:
                await m.store(ctx, 1, "device_status", DeviceStatus.FEATURES_OK | 3)
            await m.store(ctx, 1, "queue_size", size)
            word = await m.bus.read32(ctx, bar_base(1) + common("queue_size").offset)
            assert word & 0xFFFF == kept

    machine.run(bench)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("end", ["cleared", "disabled"])
def test_a_reset_of_an_attended_function_waits_for_software(whole, several, end):
    """It writes to a control queue's ring until it has taken note (virtio 1.3, 2.4.1, 2.6.1)."""
    machine = Machine(pairs=2)
    index = 4 if several else 2
    features = FEATURES | 1 << Feature.NET_CTRL_VQ | (1 << Feature.NET_MQ if several else 0)
    name = "device_status" if whole else "queue_reset"
    event = MailboxEvent.RESET if whole else MailboxEvent.QUEUE_RESET

    async def bench(ctx):
        m = machine

        async def shown():
            register = common(name)
            word = await m.bus.read32(ctx, bar_base(1) + (register.offset & ~3))
            return word >> 8 * (register.offset & 3) & (1 << register.width) - 1

        await m.store_block(ctx, 1, "control", FunctionControl.const({"attended": 1}).as_bits())
        await m.start(ctx, 1, features, [0, 1, index])
        await m.store_block(ctx, 1, "events", MailboxEvent.READY)
        # Another queue's reset does not wait.
        await m.store(ctx, 1, "queue_select", 1)
        await m.store(ctx, 1, "queue_reset", 1)
        await ctx.tick().repeat(60)
        assert await m.load_block(ctx, 1, "events") == MailboxEvent.DATA_RESET
        await m.store_block(ctx, 1, "events", MailboxEvent.DATA_RESET)
        await m.store(ctx, 1, "queue_select", index)
        await m.store(ctx, 1, name, 0 if whole else 1)
        await ctx.tick().repeat(200)
        assert await shown()
        assert await m.load_block(ctx, 1, "events") == event
        assert await m.load_block(ctx, 1, "control_size") == 16
        await m.store_block(ctx, 1, "events", MailboxEvent.CONTROL)  # not that one
        await ctx.tick().repeat(100)
        assert await shown()
        # Others do not wait.
        await m.start(ctx, 0, FEATURES, [0, 1])
        await m.store(ctx, 0, "device_status", 0)
        await ctx.tick().repeat(250)
        assert not await m.bus.read32(ctx, bar_base(0) + common("device_status").offset) & 0xFF
        if end == "cleared":
            await m.store_block(ctx, 1, "events", event)
        else:
            await m.store_block(ctx, 1, "control", 0)
        await ctx.tick().repeat(250)
        assert not await shown()
        assert await m.load_block(ctx, 1, "control_size") == 0
        assert await m.load_block(ctx, 1, "events") == (0 if end == "cleared" else event)
        assert len([c for c in m.commands.got if c.op == QueueOp.DISABLE]) == (4 if whole else 3)
        # It is told of anew.
        await m.store_block(ctx, 1, "events", event)
        await m.store_block(ctx, 1, "control", FunctionControl.const({"attended": 1}).as_bits())
        await m.store(ctx, 1, "device_status", 0)
        if not whole:
            await ctx.tick().repeat(200)
            assert await m.load_block(ctx, 1, "events") == MailboxEvent.RESET
            await m.store_block(ctx, 1, "events", MailboxEvent.RESET)
        await ctx.tick().repeat(250)
        assert not await m.bus.read32(ctx, bar_base(1) + common("device_status").offset) & 0xFF

    machine.run(bench)


def test_the_pf_presents_no_control_queue():
    """Nobody would answer it (virtio 1.3, 4.1.4.3.1: an unavailable queue has size 0)."""
    machine = Machine(pairs=2)

    async def bench(ctx):
        m = machine
        for function, queues in ((0, 4), (1, 5)):
            word = await m.bus.read32(ctx, bar_base(function) + common("num_queues").offset - 2)
            assert word >> 16 == queues
            for queue in range(6):
                await m.store(ctx, function, "queue_select", queue)
                word = await m.bus.read32(ctx, bar_base(function) + common("queue_size").offset)
                assert (word & 0xFFFF != 0) == (queue < queues)

    machine.run(bench)


def test_a_queue_that_is_not_enabled_is_reset_too():
    machine = Machine(pairs=2)

    async def bench(ctx):
        m = machine
        await m.start(ctx, 1, FEATURES, [1])
        await m.store(ctx, 1, "queue_select", 0)
        await m.store(ctx, 1, "queue_size", 4)
        at = bar_base(1) + common("queue_size").offset
        assert await m.bus.read32(ctx, at) & 0xFFFF == 4
        await m.store(ctx, 1, "queue_reset", 1)
        await ctx.tick().repeat(60)
        assert await m.bus.read32(ctx, at) == MSI_NO_VECTOR << 16 | TINY.queue_size_max

    machine.run(bench)
