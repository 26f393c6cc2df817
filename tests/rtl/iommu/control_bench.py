"""The control side with everything round it played in Python."""

import random
from dataclasses import replace

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from models.spec import iommu_registers as regs
from models.spec.config import config
from models.spec.iommu import FaultRecord
from models.spec.translation import TranslationStatus
from rtl.bus.axi import Axi4
from rtl.iommu.control import Control
from tests.rtl.agents import AxiMemory, Registers, Sink, Source, get, put, run
from tests.rtl.simulators import built

__all__ = ["ControlBench", "small"]

CQ, FQ, PQ = 0x10_0000, 0x20_0000, 0x30_0000


def small(**changes):
    """Configuration for quick simulations."""
    changes = {"hpm_counters": 1, "ats_timeout": 400, "itags": 2} | changes
    return replace(config("tiny").iommu, **changes)


class _OneMemory(wiring.Component):
    """Control with reads and writes on one port, as an AXI memory wants them."""

    def __init__(self, control: Control):
        self.control = control
        super().__init__(
            {
                "memory": Out(
                    Axi4(
                        addr_width=control.config.pas,
                        data_width=64,
                        id_width=control.write_id_width,
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = self.control
        m.d.comb += [
            self.memory.ar.valid.eq(control.read.ar.valid),
            control.read.ar.ready.eq(self.memory.ar.ready),
            control.read.r.valid.eq(self.memory.r.valid),
            self.memory.r.ready.eq(control.read.r.ready),
        ]
        for source, sink in (
            (control.read.ar.payload, self.memory.ar.payload),
            (self.memory.r.payload, control.read.r.payload),
        ):
            m.d.comb += [sink[name].eq(source[name]) for name in sink.shape().members]
        aw, below = control.write.aw, self.memory.aw
        m.d.comb += [below.valid.eq(aw.valid), aw.ready.eq(below.ready)]
        m.d.comb += [below.payload[n].eq(aw.payload[n]) for n in below.payload.shape().members]
        connect(m, control.write.w, flipped(self.memory.w))
        connect(m, flipped(self.memory.b), control.write.b)
        return m


class ControlBench:
    """Software on one side, translator, memory and devices on the other.

    ``drain_delay`` and ``fence_delay`` are the cycles those take to be done, None for ever.
    ``contexts`` answers look-ups for page requests and debug translations: device_id to status,
    cause, prpr, spa, size, pbmt.  While ``hold_lookups`` is set they wait.
    """

    def __init__(self, seed: int = 1, stall: float = 0.0, latency=(1, 8), **changes):
        print(f"seed {seed}")
        self.rng = rng = random.Random(seed)
        self.dut = built(Control, small(**changes))
        self._top = built(_OneMemory, self.dut)
        self.memory = AxiMemory(self._top.memory, rng, latency=latency, stall=stall)
        self.software = Registers(self.dut.regs)
        self.invalidations = Sink(self.dut.invalidate, rng, stall)
        self.to_devices = Sink(self.dut.invalidation, rng, stall)
        self.responses = Sink(self.dut.group_response, rng, stall)
        self.faults = Source(self.dut.faults, rng, stall)
        self.requests = Source(self.dut.page_request, rng, stall)
        self.completions = Source(self.dut.invalidation_completion, rng, stall)
        self.drain_delay, self.fence_delay = 0, 0
        self.drains, self.fences = [], []  # (requested at, done at)
        self.contexts = {}
        self.lookups = []
        self.hold_lookups = False
        self.tail = 0

    # Software

    async def write(self, ctx, register, value, **options):
        """Store a register."""
        await self.software.write(ctx, register, value, **options)

    async def read(self, ctx, register) -> int:
        """Load a register."""
        return await self.software.read(ctx, register)

    async def settle(self, ctx, cycles: int = 40) -> None:
        """Let some cycles pass."""
        for _ in range(cycles):
            await ctx.tick()

    async def enable(self, ctx, base, csr, addr: int, log2: int, bits: int = 3) -> None:
        """Switch a queue on and wait until it is."""
        await self.write(ctx, base, addr >> 12 << 10 | log2 - 1)
        await self.write(ctx, csr, bits)
        while await self.read(ctx, csr) & (1 << 17):
            pass
        assert await self.read(ctx, csr) & 1 << 16

    async def enable_commands(self, ctx, log2: int = 6, bits: int = 3) -> None:
        """Switch the command queue on."""
        self.log2, self.tail = log2, 0
        await self.write(ctx, regs.CQT, 0)
        await self.enable(ctx, regs.CQB, regs.CQCSR, CQ, log2, bits)

    async def post(self, ctx, *commands: int) -> None:
        """Append commands and ring."""
        for command in commands:
            self.memory.store(CQ + 16 * self.tail, 16, command)
            self.tail = (self.tail + 1) % (1 << self.log2)
        await self.write(ctx, regs.CQT, self.tail)

    async def finish(self, ctx, head: int | None = None, cycles: int = 4000) -> None:
        """Wait for ``cqh`` to get to the tail, or to ``head``."""
        target = self.tail if head is None else head
        for _ in range(cycles):
            if await self.read(ctx, regs.CQH) == target:
                return
        raise AssertionError(f"cqh is {await self.read(ctx, regs.CQH)}, not {target}")

    def fault_record(self, index: int) -> dict:
        """A record of the fault queue, fields by name."""
        raw = FaultRecord.from_bits(self.memory.load(FQ + 32 * index, 32))
        return {
            name: int(getattr(raw, name))
            for name in ("cause", "ttyp", "did", "pid", "pv", "priv", "iotval", "iotval2")
        }

    # The rest

    async def _drainer(self, ctx, port, delay, log):
        cycle, since = 0, None
        while True:
            *_, request = await ctx.tick().sample(port.request)
            cycle += 1
            if not request:
                since = None
                ctx.set(port.done, 0)
                continue
            if since is None:
                since = cycle
            wait = delay()
            if wait is not None and cycle - since >= wait and not ctx.get(port.done):
                ctx.set(port.done, 1)
                log.append((since, cycle))

    async def _drain(self, ctx):
        await self._drainer(ctx, self.dut.drain, lambda: self.drain_delay, self.drains)

    async def _fence(self, ctx):
        await self._drainer(ctx, self.dut.fence, lambda: self.fence_delay, self.fences)

    async def _translate(self, ctx):
        while True:
            request = await get(ctx, self.dut.translate.request)
            self.lookups.append(request)
            while self.hold_lookups:
                await ctx.tick()
            found = {"status": TranslationStatus.SUCCESS, "cause": 0, "prpr": 0}
            found |= self.contexts.get(request.device_id, {})
            await put(ctx, self.dut.translate.response, {"tag": request.tag} | found)

    def run(self, testbench, *more) -> None:
        """Simulate, with more processes in the background."""
        agents = (
            self.invalidations,
            self.to_devices,
            self.responses,
            self.faults,
            self.requests,
            self.completions,
        )
        background = [
            *self.memory.processes(),
            *(agent.process for agent in agents),
            self._drain,
            self._fence,
            self._translate,
            *more,
        ]
        run(self._top, testbench, background=background)
