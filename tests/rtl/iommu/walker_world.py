"""What surrounds the walker in tests: random tables, memory with latency, the golden model."""

import random
from dataclasses import dataclass, replace

from amaranth.hdl import Module
from amaranth.lib import memory, wiring

from models.iommu import Parameters, Request
from models.iommu.access import PhysicalMemory
from models.iommu.directory import DeviceContext
from models.iommu.records import Fault
from models.iommu.translate import Identity, Translator
from models.memory import DataCorruption, FaultyMemory, Memory
from models.spec.iommu import DdtpMode
from models.spec.iommu_registers import DDTP
from models.spec.translation import AddressType
from rtl.bus.axi import Resp
from rtl.iommu.requests import Held
from rtl.iommu.walker import Walker
from tests.rtl.simulators import built, simulator

__all__ = ["PAGES", "SLOTS", "Ask", "WalkerWorld", "compare", "random_tables", "tables_of"]

#: Pages that hold tables; all of them lie in the lowest 2 MiB.
PAGES = range(16, 64)
#: Slots of a table that random addresses use.
SLOTS = (0, 1, 2, 5, 511)
_V, _R, _W, _X, _U, _G, _A, _D = (1 << n for n in range(8))


def tables_of(level: int) -> list[int]:
    """Pages that hold tables of a level."""
    return [page for page in PAGES if page % 5 == level]


def _entry(rng: random.Random, level: int, *, napot: bool, pbmt: bool, clear: float) -> int:
    """A page-table entry: mostly sound, of a pointer or of a leaf."""
    kind = rng.random()
    if level and kind < 0.7:
        return (
            rng.choice(tables_of(level - 1)) << 10
            | _V
            | (rng.choice([0] * 20 + [_G] * 4 + [_A, _U]))
        )
    if kind > 0.99:
        return rng.getrandbits(64)
    flags = _V | _R | _W | _X | _U | _A | _D
    for bit, chance in ((_V, 0.01), (_R, 0.02), (_W, 0.1), (_X, 0.2), (_U, 0.05)):
        flags &= ~(bit if rng.random() < chance else 0)
    for bit in (_A, _D):
        flags &= ~(bit if rng.random() < clear else 0)
    flags |= _G if rng.random() < 0.2 else 0
    span = 1 << 9 * level
    # The lowest superpage maps itself, so that tables are found through it.
    page = rng.choice([0, 0, 1]) * span if level else rng.choice([*PAGES, *PAGES, 3, 0x12345])
    if rng.random() < 0.01:
        page += rng.randrange(span) + 1
    entry = page << 10 | flags
    if napot and not level and rng.random() < 0.15:
        entry = (page & ~0xF | 8) << 10 | flags | 1 << 63
    if pbmt and rng.random() < 0.2:
        entry |= rng.randrange(4) << 61
    return entry


def random_tables(rng: random.Random, store: Memory, *, clear: float = 0.1, **options) -> None:
    """Fill table pages with entries; ``clear`` is the chance that A, or D, is 0."""
    for page in PAGES:
        for slot in (*SLOTS, *PAGES, 3):
            value = _entry(rng, page % 5, clear=clear, **options)
            store.write((page << 12) + 8 * slot, value.to_bytes(8, "little"))


@dataclass(frozen=True)
class Ask:
    """A walk to make: request and context, as the golden model sees them."""

    request: Request
    context: DeviceContext
    sum: bool = False
    process: bool = False


class _Walks(Translator):
    """The golden translator from the point on where the context is known."""

    context: DeviceContext
    sum: bool

    def locate(self, device_id: int) -> DeviceContext:
        return self.context

    def _check_type(self, request, context):
        pass

    def _first_stage_tables(self, request, context, identity):
        return context.fsc_mode, context.fsc_root, self.sum


class _Bed(wiring.Component):
    """The walker with the miss table's memory."""

    def __init__(self, config):
        self.walker = Walker(config)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = self.walker
        m.submodules.rows = rows = memory.Memory(shape=Held, depth=walker.entries, init=[])
        self.store = rows.write_port()
        read = rows.read_port(transparent_for=(self.store,))
        m.d.comb += [read.addr.eq(walker.entry_index), walker.entry.eq(read.data)]
        return m


class WalkerWorld:
    """Runs walks on the RTL and on the golden model, each with a memory of its own."""

    def __init__(self, config, *, seed: int, latency: int = 3, jitter: int = 6):
        self.config, self.rng = config, random.Random(seed)
        self.latency, self.jitter = latency, jitter
        self.bed = built(_Bed, config)
        self.store, self.golden_store = Memory(config.pas), Memory(config.pas)
        self.faulty, self.golden_faulty = (
            FaultyMemory(self.store),
            FaultyMemory(self.golden_store),
        )
        parameters = replace(Parameters.from_config(config))
        mode = DDTP["mode"].insert(DdtpMode.LVL1)
        self.golden = _Walks(
            PhysicalMemory(self.golden_faulty, config.pas),
            parameters,
            lambda name: mode if name == "ddtp" else 0,
        )
        self.reads = self.stores = 0
        self.stall = 0.1
        #: Cycles of accepted read addresses, and from one to its first data.
        self.read_cycles: list[int] = []
        self.read_latency = 0
        self.results: list = []
        self.takes_results = True
        self.interfere = None  # called before an exclusive write

    def copy(self) -> None:
        """Give the golden model a copy of the RTL's memory."""
        self.golden_store._pages = {n: bytearray(page) for n, page in self.store._pages.items()}

    def same_memory(self) -> bool:
        """Whether both memories are equal."""
        return self.store._pages == self.golden_store._pages

    def expected(self, ask: Ask):
        """What the golden model says: a translation, or a fault."""
        self.golden.context, self.golden.sum = ask.context, ask.sum
        try:
            return self.golden.translate(ask.request, Identity())
        except Fault as fault:
            return fault

    @staticmethod
    def held(ask: Ask) -> dict:
        """The miss table's entry."""
        context, request = ask.context, ask.request
        levels = {0: 0, 8: 3, 9: 4, 10: 5}
        return {
            "request": {
                "at": request.at,
                "device_id": request.device_id,
                "process_id": request.process_id or 0,
                "pv": request.process_id is not None,
                "priv": request.privileged,
                "exec": request.execute,
                "write": request.write,
                "iova": request.iova,
                "also_read": request.also_read,
            },
            "context": {
                "t2gpa": context.t2gpa,
                "gade": context.gade,
                "sade": context.sade,
                "sbe": context.sbe,
                "sxl": context.sxl,
                "sum": ask.sum,
                "g_levels": levels[context.second_stage],
                "gscid": context.gscid,
                "g_ppn": context.second_stage_root >> 12,
                "s_levels": levels[context.fsc_mode],
                "pscid": context.pscid,
                "s_ppn": context.fsc_root >> 12,
                "msi": context.msi_mode,
                "msi_ppn": context.msi_root >> 12,
                "msi_mask": context.msi_mask,
                "msi_pattern": context.msi_pattern,
            },
        }

    # Memory --------------------------------------------------------------------------------------

    def _load(self, address: int, size: int) -> tuple[int, Resp]:
        try:
            return int.from_bytes(self.faulty.read(address, size), "little"), Resp.OKAY
        except DataCorruption:
            return 0, Resp.SLVERR
        except ValueError:
            return 0, Resp.DECERR

    async def _reader(self, ctx):
        bus, due = self.bed.walker.memory, []
        offered = None
        now = 0
        while True:
            if offered is None:
                ripe = [entry for entry in due if entry[0] <= now]
                if ripe:
                    offered = self.rng.choice(ripe)
                    first = next(entry for entry in due if entry[1].id == offered[1].id)
                    offered = first if first[0] <= now else None
            if offered is not None:
                ar, beat = offered[1], offered[2]
                address = ar.addr + 8 * beat
                base = address & ~7
                data, resp = self._load(address, 1 << ar.size)
                data <<= 8 * (address - base)
                if ar.lock and resp == Resp.OKAY:
                    self.locks[ar.id] = (ar.addr, self.store.read(ar.addr, 1 << ar.size))
                    resp = Resp.EXOKAY
                ctx.set(
                    bus.r.payload,
                    {"id": ar.id, "data": data, "resp": resp, "last": beat == ar.len},
                )
            ctx.set(bus.r.valid, offered is not None)
            ctx.set(bus.ar.ready, self.rng.random() >= self.stall)
            *_, valid, ready, ar, taken = await ctx.tick().sample(
                bus.ar.valid, bus.ar.ready, bus.ar.payload, bus.r.ready
            )
            if offered is not None and taken:
                self.read_latency = now - self.read_cycles[-1]
                due.remove(offered)
                if offered[2] < offered[1].len:
                    due.insert(0, (now, offered[1], offered[2] + 1))
                offered = None
            if valid and ready:
                self.reads += 1
                self.read_cycles.append(now)
                assert ar.addr >> self.config.pas == 0
                due.append((now + self.latency + self.rng.randrange(self.jitter + 1), ar, 0))
            now += 1

    async def _writer(self, ctx):
        bus = self.bed.walker.memory
        while True:
            ctx.set(bus.aw.ready, 1)
            *_, valid, aw = await ctx.tick().sample(bus.aw.valid, bus.aw.payload)
            ctx.set(bus.aw.ready, 0)
            if not valid:
                continue
            ctx.set(bus.w.ready, 1)
            while True:
                *_, valid, w = await ctx.tick().sample(bus.w.valid, bus.w.payload)
                if valid:
                    break
            ctx.set(bus.w.ready, 0)
            self.stores += 1
            if self.interfere:
                self.interfere(aw.addr)
            assert aw.lock, "entries are only updated exclusively"
            size = 1 << aw.size
            lane = aw.addr & 7
            address, before = self.locks.pop(aw.id)
            assert address == aw.addr
            assert w.strb == ((1 << size) - 1) << lane
            resp = Resp.OKAY
            if self.store.read(address, size) == before:
                self.store.write(address, w.data.to_bytes(8, "little")[lane : lane + size])
                resp = Resp.EXOKAY
            for _ in range(self.rng.randrange(5)):
                await ctx.tick()
            ctx.set(bus.b.payload, {"id": aw.id, "resp": resp})
            ctx.set(bus.b.valid, 1)
            while True:
                *_, ready = await ctx.tick().sample(bus.b.ready)
                if ready:
                    break
            ctx.set(bus.b.valid, 0)

    # Walks ---------------------------------------------------------------------------------------

    async def invalidate(self, ctx, **fields) -> None:
        """Send an invalidation; walks under way become stale."""
        walker = self.bed.walker
        ctx.set(walker.invalidate.payload, fields)
        ctx.set(walker.invalidate.valid, 1)
        while True:
            if ctx.get(walker.invalidate.ready):
                break
            await ctx.tick()
        ctx.set(walker.stale_all, 1)
        await ctx.tick()
        ctx.set(walker.stale_all, 0)
        ctx.set(walker.invalidate.valid, 0)

    async def begin(self, ctx, index: int, ask: Ask) -> None:
        """Store a request and start its walk."""
        port, start = self.bed.store, self.bed.walker.start
        ctx.set(port.addr, index)
        ctx.set(port.data, self.held(ask))
        ctx.set(port.en, 1)
        await ctx.tick()
        ctx.set(port.en, 0)
        ctx.set(start.payload, {"index": index})
        ctx.set(start.valid, 1)
        while True:
            *_, ready = await ctx.tick().sample(start.ready)
            if ready:
                break
        ctx.set(start.valid, 0)

    async def _collector(self, ctx):
        result = self.bed.walker.result
        while True:
            ready = self.takes_results
            ctx.set(result.ready, ready)
            *_, valid, payload = await ctx.tick().sample(result.valid, result.payload)
            if valid and ready:
                self.results.append(payload)

    async def end(self, ctx):
        """Wait for a result."""
        for _ in range(5000):
            if self.results:
                return self.results.pop(0)
            await ctx.tick()
        raise AssertionError("the walk does not end")

    def run(self, testbench) -> None:
        """Simulate until the testbench ends."""
        self.locks = {}
        sim = simulator(self.bed)
        sim.add_testbench(self._reader, background=True)
        sim.add_testbench(self._writer, background=True)
        sim.add_testbench(self._collector, background=True)
        sim.add_testbench(testbench)
        sim.run()


def compare(ask: Ask, expected, got) -> None:
    """Fail unless a result says what the golden model says."""
    context = f"{ask}: {expected!r} {getattr(expected, 'iotval2', '')} and {got!r}"
    if isinstance(expected, Fault):
        assert got.cause == expected.cause, context
        if expected.cause in (20, 21, 23):
            iotval2 = got.gpa & ~3 | got.implicit | got.implicit_write << 1
            assert iotval2 == expected.iotval2, context
        return
    assert got.cause == 0, context
    request = ask.request
    first_stage = ask.context.fsc_mode and request.at != AddressType.TRANSLATED
    supervisor = request.supervisor and first_stage
    assert got.r == expected.r, context
    assert (got.w and got.dirty) == expected.w, context
    assert (got.x and not (supervisor and got.u)) == expected.x, context
    assert got.glob == expected.glob or got.mrif, context
    assert got.pbmt == expected.pbmt, context
    to_gpa = request.at == AddressType.ATS_REQUEST and ask.context.t2gpa
    assert got.size == min(expected.size_log2, 63), context
    if to_gpa:
        assert got.gpa == expected.address, context
    elif expected.mrif:
        assert got.mrif
        assert got.mrif_address << 9 == expected.mrif.address, context
        assert (got.nid, got.notice_ppn << 12) == (
            expected.mrif.notice_id,
            expected.mrif.notice_address,
        ), context
    else:
        assert got.ppn == expected.address >> 12, context
