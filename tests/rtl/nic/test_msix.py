"""MSI-X against a small model: masks, pending bits, table, messages."""

from amaranth.hdl import Signal

from models.spec.config import config
from models.spec.nic import MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, MsixEntry, Stat, bar_base
from rtl.nic.msix import Msix
from tests.rtl.agents import Sink, get, put, run, seeded, wait_for

TINY = config("tiny").nic
ALL, VECTORS = range(TINY.functions), range(TINY.msix_vectors)


class Model:
    """Tables and pending bits of all functions; ``sent`` is what must have gone out."""

    def __init__(self):
        self.words = {(f, v): [0, 0, 0, 1] for f in ALL for v in VECTORS}
        self.pending: set[tuple[int, int]] = set()
        self.enabled: set[int] = set()
        self.sent: list[tuple[int, int, int]] = []
        self.masked = 0

    def able(self, f, v):
        return f in self.enabled and not self.words[f, v][3]

    def send(self, f, v):
        low, high, data, _ = self.words[f, v]
        self.pending.discard((f, v))
        self.sent.append((f, high << 32 | low, data))

    def interrupt(self, f, v):
        if v not in VECTORS:
            return
        if self.able(f, v):
            self.send(f, v)
        else:
            self.pending.add((f, v))
            self.masked += 1

    def recheck(self, f):
        for v in VECTORS:
            if (f, v) in self.pending and self.able(f, v):
                self.send(f, v)

    def write(self, f, v, word, value, strobes):
        lanes = sum(0xFF << 8 * n for n in range(4) if strobes >> n & 1)
        kept = (0xFFFF_FFFC, 0xFFFF_FFFF, 0xFFFF_FFFF, 1)[word]
        old = self.words[f, v][word]
        self.words[f, v][word] = (old & ~lanes | value & lanes) & kept
        self.recheck(f)


def test_random_traffic():
    dut, rng, model = Msix(TINY), seeded(43), Model()
    messages, stats = Sink(dut.message, rng, 0.3), Sink(dut.stat, rng, 0.3)
    fences = []  # how many messages each has behind it
    messages.keep = lambda message: not message.fence or fences.append(len(messages.got))

    async def access(ctx, addr, write=0, data=0, strb=15):
        await put(ctx, dut.bus.request, {"addr": addr, "write": write, "data": data, "strb": strb})
        return await get(ctx, dut.bus.response)

    async def bench(ctx):
        entry, fenced, forgotten = MsixEntry.as_shape().size // 8, 0, 0
        for _ in range(600):
            f, v, word = rng.choice(ALL), rng.choice(VECTORS), rng.randrange(4)
            base = bar_base(f) + MSIX_TABLE_OFFSET + entry * v + 4 * word
            match rng.randrange(7):
                case 0:
                    value, strobes = rng.getrandbits(32), rng.choice([15, 1, 2, 12, 0])
                    await access(ctx, base, 1, value, strobes)
                    model.write(f, v, word, value, strobes)
                case 1:
                    await access(ctx, base | 12, 1, 0)
                    model.write(f, v, 3, 0, 15)
                case 2:
                    assert await access(ctx, base) == model.words[f, v][word]
                case 3:
                    found = await access(ctx, bar_base(f) + MSIX_PBA_OFFSET)
                    assert found == sum(1 << v for g, v in model.pending if g == f)
                    assert await access(ctx, bar_base(f) + MSIX_TABLE_OFFSET + 0xFF0) == 0
                case 4:
                    model.enabled ^= {f}
                    ctx.set(dut.allowed, sum(1 << g for g in model.enabled))
                    await ctx.tick()
                    await ctx.tick()
                    model.recheck(f)
                case 5:
                    v = rng.choice([*VECTORS, *VECTORS, 0xFFFF])
                    await put(ctx, dut.interrupt, {"function": f, "vector": v})
                    model.interrupt(f, v)
                case 6:
                    whole = rng.randrange(2)
                    await put(ctx, dut.interrupt, {"function": f, "fence": 1, "whole": whole})
                    if whole:
                        forgotten += sum(g == f for g, _ in model.pending)
                        model.pending = {(g, v) for g, v in model.pending if g != f}
                    await wait_for(ctx, lambda n=fenced: len(fences) > n)
                    assert fences[-1] == len(model.sent)
                    fenced += 1
            await wait_for(ctx, lambda: len(messages.got) >= len(model.sent), then=30)
            assert [(m.function, m.address, m.data) for m in messages.got] == model.sent
        counted = [int(s.stat) for s in stats.got]
        assert counted.count(Stat.INTERRUPTS) == len(model.sent)
        assert counted.count(Stat.INTERRUPTS_MASKED) == model.masked
        assert len(model.sent) > 20
        assert model.masked > 20
        assert forgotten > 2

    run(dut, bench, background=[messages.process, stats.process])


async def unmask(ctx, dut, function):
    """Unmask the first vector of a function."""
    request = {"addr": bar_base(function) + MSIX_TABLE_OFFSET + 12, "write": 1, "strb": 15}
    await put(ctx, dut.bus.request, request)
    await get(ctx, dut.bus.response)


def watch(dut, cleared):
    """An agent that notes which functions' tables have been cleared."""

    async def process(ctx):
        async for *_, done in ctx.tick().sample(dut.cleared):
            cleared.extend([done] if done else [])

    return process


def test_a_flood_of_interrupts_keeps_nobody_waiting():
    """One function's vector is unmasked, another's table is cleared, while a third sends all that
    can be sent.
    """
    dut, rng = Msix(TINY), seeded(44)
    messages, stats = Sink(dut.message, rng, 0.9), Sink(dut.stat, rng, 0.0)
    cleared: list[int] = []

    async def flood(ctx):
        while True:
            await put(ctx, dut.interrupt, {"function": 0, "vector": 0})

    async def bench(ctx):
        ctx.set(dut.allowed, -1)
        await unmask(ctx, dut, 0)
        await put(ctx, dut.interrupt, {"function": 1, "vector": 0})
        await ctx.tick().repeat(20)
        assert not messages.got
        cleared.clear()
        ctx.set(flooding, 1)
        await ctx.tick().repeat(100)
        await unmask(ctx, dut, 1)
        ctx.set(dut.clear, 1 << 2)
        for _ in range(4000):
            if cleared:
                ctx.set(dut.clear, 0)
            await ctx.tick()
        assert cleared == [1 << 2]
        others = [number for number, m in enumerate(messages.got) if m.function == 1]
        assert len(others) == 1
        assert others[0] < 50
        assert len(messages.got) > 100

    async def later(ctx):
        await ctx.tick().until(flooding)
        await flood(ctx)

    flooding = Signal()
    run(dut, bench, background=[messages.process, stats.process, watch(dut, cleared), later])


def test_a_guest_that_unmasks_all_the_time_keeps_nobody_waiting():
    """Of the lowest number: others' vectors and tables have their turns beside its own."""
    dut, rng = Msix(TINY), seeded(45)
    messages, stats = Sink(dut.message, rng, 0.0), Sink(dut.stat, rng, 0.0)
    cleared: list[int] = []

    async def bench(ctx):
        await ctx.tick().repeat(100)
        ctx.set(dut.allowed, -1)
        for function in (1, 2):
            await put(ctx, dut.interrupt, {"function": function, "vector": 0})
        await ctx.tick().repeat(20)
        cleared.clear()
        for number in range(60):
            await unmask(ctx, dut, 0)
            await ctx.tick().repeat(rng.randrange(1, 5))
            if number == 10:
                await unmask(ctx, dut, 1)
                await unmask(ctx, dut, 2)
                ctx.set(dut.clear, 1 << 3)
            if cleared:
                ctx.set(dut.clear, 0)
        assert cleared == [1 << 3]
        assert [message.function for message in messages.got] == [1, 2]

    run(dut, bench, background=[messages.process, stats.process, watch(dut, cleared)])
