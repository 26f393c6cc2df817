"""What plays the outside of a component in pysim: stream ends, AXI memory, register access."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from rtl.bus.axi import Resp
from tests.rtl.simulators import simulator

__all__ = [
    "AxiMemory",
    "Registers",
    "Sink",
    "Source",
    "get",
    "mostly_full",
    "put",
    "run",
    "seeded",
    "until",
    "wait_for",
]

#: A test that takes longer than this is stuck.
CYCLES_MAX = 200_000


def seeded(seed: int) -> random.Random:
    """Random numbers whose seed a failing test prints."""
    print(f"seed {seed}")
    return random.Random(seed)


def mostly_full(values, fast: int) -> list:
    """Parameters of which the first ``fast`` are for every run, the others for `make test-full`."""
    return [
        pytest.param(value, marks=[pytest.mark.full] if number >= fast else [])
        for number, value in enumerate(values)
    ]


def run(dut, *testbenches, background=()) -> None:
    """Simulate until all testbenches return; background ones go on for ever."""
    sim = simulator(dut)

    async def watchdog(ctx):
        for _ in range(CYCLES_MAX):
            await ctx.tick()
        raise AssertionError(f"Not finished after {CYCLES_MAX} cycles")

    for process in (*background, watchdog):
        sim.add_testbench(process, background=True)
    for testbench in testbenches:
        sim.add_testbench(testbench)
    sim.run()


async def until(ctx, condition, value=None) -> Any:
    """Wait for the first cycle in which ``condition`` holds; returns ``value`` in it.

    Not ``tick().until()``: its generator cannot be closed when a simulation ends in it.
    """
    sampled = (condition,) if value is None else (condition, value)
    while True:
        _, _, holds, *found = await ctx.tick().sample(*sampled)
        if holds:
            return found[0] if found else None


async def put(ctx, port, payload) -> None:
    """Transfer one payload into a stream."""
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await until(ctx, port.ready)
    ctx.set(port.valid, 0)


async def get(ctx, port):
    """Take one payload from a stream."""
    ctx.set(port.ready, 1)
    payload = await until(ctx, port.valid, port.payload)
    ctx.set(port.ready, 0)
    return payload


async def wait_for(ctx, condition, *, then: int = 0) -> None:
    """Wait until a Python condition holds, and some cycles more."""
    while not condition():
        await ctx.tick()
    for _ in range(then):
        await ctx.tick()


class Source:
    """Feeds a stream from ``queue``, with pauses."""

    def __init__(self, port, rng: random.Random, stall: float = 0.0):
        self.port, self.rng, self.stall = port, rng, stall
        self.queue: deque = deque()
        self.sent = 0

    async def process(self, ctx):
        while True:
            if not self.queue or self.rng.random() < self.stall:
                await ctx.tick()
                continue
            await put(ctx, self.port, self.queue[0])
            self.queue.popleft()
            self.sent += 1


class Sink:
    """Collects a stream into ``got``, with pauses; a stalled payload must not change.

    What is not to be kept is taken and forgotten.
    """

    def __init__(self, port, rng: random.Random, stall: float = 0.0, *, keep=lambda _: True):
        self.port, self.rng, self.stall, self.keep = port, rng, stall, keep
        self.got: list = []

    async def process(self, ctx):
        waiting = None
        while True:
            ready = self.rng.random() >= self.stall
            ctx.set(self.port.ready, ready)
            *_, valid, payload = await ctx.tick().sample(self.port.valid, self.port.payload)
            if waiting is not None:
                assert valid, "valid fell before ready"
                assert payload == waiting, "a stalled payload changed"
            waiting = payload if valid and not ready else None
            if valid and ready and self.keep(payload):
                self.got.append(payload)


@dataclass
class Burst:
    """A burst on its way through :class:`AxiMemory`."""

    id: int
    addr: int
    len: int
    size: int
    due: int
    beat: int = 0
    payload: object = None


@dataclass
class AxiMemory:
    """AXI4 memory: bytes by address, latency, pauses, errors, any order among IDs.

    ``failing`` holds address ranges; a beat in one is answered SLVERR and not written.
    ``latency`` is a range of cycles from the accepted address (write data) to the answer.
    """

    bus: object
    rng: random.Random
    latency: tuple[int, int] = (1, 1)
    stall: float = 0.0
    reorder: bool = False
    data: dict[int, int] = field(default_factory=dict)
    failing: list[range] = field(default_factory=list)
    failing_bursts: list[range] = field(default_factory=list)  # hit all beats, if more than two
    now: int = 0
    reads: list = field(default_factory=list)  # (addr, beats)
    writes: list = field(default_factory=list)  # (addr, bytes with None where not strobed)
    hold_responses: bool = False

    def processes(self) -> list:
        """Testbenches to run in the background."""
        found = [self._clock]
        if hasattr(self.bus, "ar"):
            found.append(self._read)
        if hasattr(self.bus, "aw"):
            found.append(self._write)
        return found

    def load(self, addr: int, size: int) -> int:
        """Little-endian value in memory."""
        return sum(self.data.get(addr + n, 0) << 8 * n for n in range(size))

    def store(self, addr: int, size: int, value: int) -> None:
        """Put a little-endian value into memory."""
        for n in range(size):
            self.data[addr + n] = value >> 8 * n & 0xFF

    def _fails(self, addr: int, burst: Burst | None = None) -> bool:
        if burst is not None and burst.len > 1:
            beats = range(burst.addr, burst.addr + (burst.len + 1 << burst.size))
            if any(set(beats) & set(bad) for bad in self.failing_bursts):
                return True
        return any(addr in bad for bad in self.failing)

    async def _clock(self, ctx):
        while True:
            await ctx.tick()
            self.now += 1

    def _due(self) -> int:
        return self.now + self.rng.randint(*self.latency)

    def _pick(self, bursts: list[Burst]) -> Burst | None:
        """The oldest of some ID that is due."""
        first: dict[int, Burst] = {}
        for burst in bursts:
            first.setdefault(burst.id, burst)
        able = [burst for burst in first.values() if burst.due <= self.now]
        if not self.reorder:
            able = [burst for burst in able if burst is bursts[0]]
        return self.rng.choice(able) if able else None

    @staticmethod
    def _burst(payload, due: int) -> Burst:
        return Burst(payload.id, payload.addr, payload.len, payload.size, due)

    async def _read(self, ctx):
        ar, r = self.bus.ar, self.bus.r
        width = len(r.payload.data) // 8
        waiting: list[Burst] = []
        current = None
        offered = False
        while True:
            ctx.set(ar.ready, self.rng.random() >= self.stall)
            if not offered:
                current = current or self._pick(waiting)
                if current is not None and self.rng.random() >= self.stall:
                    addr = (current.addr >> current.size) + current.beat << current.size
                    addr = max(addr, current.addr)
                    base = addr // width * width
                    ctx.set(
                        r.payload,
                        {
                            "id": current.id,
                            "data": self.load(base, width),
                            "resp": Resp.SLVERR if self._fails(addr, current) else Resp.OKAY,
                            "last": current.beat == current.len,
                        },
                    )
                    offered = True
            ctx.set(r.valid, offered)
            *_, ar_valid, ar_ready, asked, r_ready = await ctx.tick().sample(
                ar.valid, ar.ready, ar.payload, r.ready
            )
            if offered and r_ready:
                offered = False
                current.beat += 1
                if current.beat > current.len:
                    waiting.remove(current)
                    current = None
            if ar_valid and ar_ready:
                burst = self._burst(asked, self._due())
                self.reads.append((burst.addr, burst.len + 1))
                waiting.append(burst)

    async def _write(self, ctx):
        aw, w, b = self.bus.aw, self.bus.w, self.bus.b
        width = len(w.payload.strb)
        filling: deque[Burst] = deque()
        waiting: list[Burst] = []
        current = None
        while True:
            ctx.set(aw.ready, self.rng.random() >= self.stall)
            ctx.set(w.ready, bool(filling) and self.rng.random() >= self.stall)
            if current is None and not self.hold_responses and self.rng.random() >= self.stall:
                current = self._pick(waiting)
                if current is not None:
                    ctx.set(b.payload, {"id": current.id, "resp": current.payload["resp"]})
            ctx.set(b.valid, current is not None)
            (
                *_,
                aw_valid,
                aw_ready,
                asked,
                w_valid,
                w_ready,
                beat,
                b_ready,
            ) = await ctx.tick().sample(
                aw.valid, aw.ready, aw.payload, w.valid, w.ready, w.payload, b.ready
            )
            if current is not None and b_ready:
                waiting.remove(current)
                current = None
            if w_valid and w_ready:
                burst = filling[0]
                self._beat(burst, beat, width)
                assert beat.last == (burst.beat > burst.len), "WLAST does not match AWLEN"
                if beat.last:
                    filling.popleft()
                    burst.due = self._due()
                    self.writes.append((burst.addr, burst.payload["bytes"]))
                    waiting.append(burst)
            if aw_valid and aw_ready:
                burst = self._burst(asked, 0)
                burst.payload = {"resp": Resp.OKAY, "bytes": []}
                filling.append(burst)

    def _beat(self, burst: Burst, beat, width: int) -> None:
        """Store one beat."""
        addr = (burst.addr >> burst.size) + burst.beat << burst.size
        addr = max(addr, burst.addr)  # the first beat begins where the burst does
        base = addr // width * width
        end = (addr >> burst.size) + 1 << burst.size
        lanes = range(addr - base, end - base)
        if self._fails(addr):
            burst.payload["resp"] = Resp.SLVERR
        for lane in range(width):
            if beat.strb >> lane & 1:
                assert lane in lanes, f"strobe of lane {lane} outside of the transfer"
        for lane in lanes:
            value = beat.data >> 8 * lane & 0xFF if beat.strb >> lane & 1 else None
            burst.payload["bytes"].append(value)
            if value is not None and not self._fails(addr):
                self.data[base + lane] = value
        burst.beat += 1


class Registers:
    """Software's accesses through AXI4-Lite."""

    def __init__(self, bus):
        self.bus = bus

    async def write32(self, ctx, addr: int, value: int, strb: int = 0xF) -> None:
        """Store one word."""
        ctx.set(self.bus.aw.payload, {"addr": addr})
        ctx.set(self.bus.w.payload, {"data": value, "strb": strb})
        ctx.set(self.bus.aw.valid, 1)
        ctx.set(self.bus.w.valid, 1)
        await until(ctx, self.bus.aw.ready)
        ctx.set(self.bus.aw.valid, 0)
        ctx.set(self.bus.w.valid, 0)
        assert (await get(ctx, self.bus.b)).resp == Resp.OKAY

    async def read32(self, ctx, addr: int) -> int:
        """Load one word."""
        await put(ctx, self.bus.ar, {"addr": addr})
        answer = await get(ctx, self.bus.r)
        assert answer.resp == Resp.OKAY
        return answer.data

    async def write(self, ctx, register, value: int, *, high_first: bool = True) -> None:
        """Store a whole register, half by half if it has 64 bits."""
        halves = [(register.offset, value & 0xFFFF_FFFF)]
        if register.width == 64:
            halves.append((register.offset + 4, value >> 32))
            if high_first:
                halves.reverse()
        for addr, half in halves:
            await self.write32(ctx, addr, half)

    async def read(self, ctx, register) -> int:
        """Load a whole register."""
        value = await self.read32(ctx, register.offset)
        if register.width == 64:
            value |= await self.read32(ctx, register.offset + 4) << 32
        return value
