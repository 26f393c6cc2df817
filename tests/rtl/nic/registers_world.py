"""Registers of all functions with an engine that answers, and software that drives them."""

from functools import partial

from models.spec.config import config
from models.spec.nic import (
    BASE_FEATURES,
    MANAGEMENT,
    NOTIFY_OFFSET,
    bar_base,
    function_block,
)
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus, common
from rtl.nic.registers import Registers
from rtl.nic.seams import QueueOp
from tests.rtl import agents
from tests.rtl.agents import Sink, Source, get, run, seeded
from tests.rtl.nic.pci_world import configure, obey, without_fences
from tests.rtl.simulators import built

__all__ = ["AFTER_RESET", "COMMAND", "PER", "RING", "TINY", "Machine", "S", "fields"]

TINY = config("tiny").nic
PER = TINY.queues_per_function
S = DeviceStatus
RING = {"queue_desc": 0x1_2345_6000, "queue_driver": 0x2_0000_7000, "queue_device": 0x3_0000_8004}
#: What a driver finds when its function has been reset.
AFTER_RESET = {
    "device_status": 0,
    "driver_feature": 0,
    "queue_select": 0,
    "queue_size": TINY.queue_size_max,
    "queue_msix_vector": MSI_NO_VECTOR,
    "queue_enable": 0,
    "queue_desc": 0,
    "queue_device": 0,
    "config_generation": 0,
}
#: What an ENABLE says of a queue's rings.
COMMAND = ("op", "queue", "size", "desc", "driver", "device")


def fields(payload, names) -> dict:
    """Those members of a payload."""
    return {name: getattr(payload, name) for name in names}


class Machine:
    """Registers with an engine that answers DISABLE when it is told to."""

    def __init__(self, *, nic=TINY, stall=0.0, take_doorbells=True, obedient=True):
        self.nic, self.dut = nic, built(Registers, nic)
        self.rng = seeded(3)
        self.bus = agents.Registers(self.dut.bus)
        self.commands = Sink(self.dut.command, self.rng, stall)
        self.doorbells = Sink(self.dut.doorbell, self.rng, stall if take_doorbells else 2.0)
        self.interrupts = without_fences(self.dut, self.rng, stall)
        self.counted = Sink(self.dut.count, self.rng, stall)
        self.stopped = Source(self.dut.stopped, self.rng)
        self.errors = Source(self.dut.error, self.rng)
        self.obedient = obedient
        #: Of each queue, by its number in all.
        self.vectors: dict[int, int] = {}

    async def _vectors(self, ctx):
        """Follow the queues' vectors."""
        port = self.dut.vector
        while True:
            *_, en, queue, vector = await ctx.tick().sample(port.en, port.queue, port.vector)
            if en:
                self.vectors[queue] = vector

    async def _msix(self, ctx):
        """Whatever asks for MSI-X gets its address."""
        while True:
            request = await get(ctx, self.dut.msix.request)
            await agents.put(ctx, self.dut.msix.response, request.addr)

    def configured(self, bench):
        """``bench`` behind what software does first, by PCI configuration."""

        async def whole(ctx):
            ctx.set(self.dut.cleared, -1)
            ctx.set(self.dut.fenced, 1)
            ctx.set(self.dut.pushed, 1)
            ctx.set(self.dut.filter.ready, 1)
            await configure(ctx, self.bus.write32, self.nic)
            await bench(ctx)

        return whole

    def run(self, bench, *background):
        parts = [self.commands, self.doorbells, self.interrupts, self.counted]
        parts += [self.stopped, self.errors]
        background = [part.process for part in parts] + [self._msix, self._vectors, *background]
        if self.obedient:
            background.append(partial(obey, commands=self.commands, stopped=self.stopped))
        run(self.dut, self.configured(bench), background=background)

    # Software

    async def write(self, ctx, f, name, value):
        register = common(name)
        base = bar_base(f) + register.offset
        if register.width == 64:
            await self.bus.write32(ctx, base + 4, value >> 32)
            await self.bus.write32(ctx, base, value & 0xFFFF_FFFF)
            return
        lane = register.offset % 4
        strobes = (1 << register.bytes) - 1 << lane
        noise = 0x5A5A_5A5A  # of lanes that are not strobed
        mask = sum(0xFF << 8 * n for n in range(4) if strobes >> n & 1)
        data = (value << 8 * lane & mask) | (noise & ~mask)
        await self.bus.write32(ctx, base - lane, data, strobes)

    async def read(self, ctx, f, name):
        register = common(name)
        base, lane = bar_base(f) + register.offset // 4 * 4, register.offset % 4
        value = await self.bus.read32(ctx, base) >> 8 * lane
        if register.width == 64:
            return value | await self.bus.read32(ctx, base + 4) << 32
        return value & (1 << register.width) - 1

    async def manage(self, ctx, f, name, value):
        await self.bus.write32(ctx, function_block(f) + MANAGEMENT[name].offset, value)

    async def managed(self, ctx, f, name):
        return await self.bus.read32(ctx, function_block(f) + MANAGEMENT[name].offset)

    async def negotiate(self, ctx, f, features=BASE_FEATURES):
        await self.write(ctx, f, "device_status", S.ACKNOWLEDGE)
        await self.write(ctx, f, "device_status", S.ACKNOWLEDGE | S.DRIVER)
        for half in range(2):
            await self.write(ctx, f, "driver_feature_select", half)
            await self.write(ctx, f, "driver_feature", features >> 32 * half & 0xFFFF_FFFF)
        await self.write(ctx, f, "device_status", S.ACKNOWLEDGE | S.DRIVER | S.FEATURES_OK)
        return await self.read(ctx, f, "device_status")

    async def set_up(self, ctx, f, queue, size=64, vector=1):
        await self.write(ctx, f, "queue_select", queue)
        await self.write(ctx, f, "queue_size", size)
        await self.write(ctx, f, "queue_msix_vector", vector)
        for name, value in RING.items():
            await self.write(ctx, f, name, value + (f << 40) + (queue << 20))
        await self.write(ctx, f, "queue_enable", 1)

    async def driver_ok(self, ctx, f):
        await self.write(ctx, f, "device_status", S.ACKNOWLEDGE | S.DRIVER | S.FEATURES_OK | 4)

    async def start(self, ctx, f, queues=(0, 1)):
        await self.negotiate(ctx, f)
        for queue in queues:
            await self.set_up(ctx, f, queue)
        await self.driver_ok(ctx, f)

    async def notify(self, ctx, f, queue):
        await self.bus.write32(ctx, bar_base(f) + NOTIFY_OFFSET + 4 * queue, queue, 3)

    def enable(self, f, queue, size=64):
        at = (f << 40) + (queue << 20)
        return {
            "op": QueueOp.ENABLE,
            "queue": f * PER + queue,
            "size": size,
            "desc": RING["queue_desc"] + at,
            "driver": RING["queue_driver"] + at,
            "device": RING["queue_device"] + at,
        }
