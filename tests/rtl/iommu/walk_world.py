"""What surrounds the translator in tests: memory with tables, a client, a fault sink."""

import random
from collections import Counter

from amaranth.hdl import Module
from amaranth.lib import wiring

from models.spec.config import IommuConfig
from models.spec.translation import AddressType, TranslationRequest
from rtl.bus.arbiter import AxiReadArbiter
from rtl.iommu.requests import QosId
from rtl.iommu.seams import Invalidate
from rtl.iommu.translator import Translator
from tests.rtl.agents import mostly_full
from tests.rtl.simulators import built, simulator

__all__ = ["DDT", "LEAF", "SMALL", "WalkWorld", "one_stage", "phases", "two_stage"]

#: R, W, X, U, A, D and V of a leaf.
LEAF = 0xDF
#: Page of the device directory.
DDT = 0x1000
_V = 1
#: Little of everything, so that it is full soon.
SMALL = IommuConfig(context_entries=3, iotlb_ways=2, iotlb_sets=4, iotlb_superpages=2, misses=3,
                    walkers=3)  # fmt: skip
#: Kinds of events.
COUNTED = ("untranslated", "translated", "ats", "tlb_miss", "ddt_walk", "pdt_walk",
           "first_stage_walk", "second_stage_walk")  # fmt: skip


class _Bed(wiring.Component):
    """A translator with its reads on one port."""

    def __init__(self, config):
        self.translator = translator = Translator(config)
        sizes = {"addr_width": config.pas, "data_width": 64}
        ids = [translator.memory.signature.id_width, 1]
        self.reads = AxiReadArbiter(**sizes, id_widths=ids, user=QosId if config.qosid else None)
        self.memory = self.reads.down
        for name in ("translate", "directory", "invalidate", "drain", "faults", "request_event",
                     "walk_event"):  # fmt: skip
            setattr(self, name, getattr(translator, name))
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.translator, m.submodules.reads = self.translator, self.reads
        walker, fetch = self.translator.memory, self.translator.directory_memory
        for source, sink in ((walker, self.reads.up0), (fetch, self.reads.up1)):
            m.d.comb += [
                sink.ar.valid.eq(source.ar.valid),
                sink.ar.payload.eq(source.ar.payload),
                source.ar.ready.eq(sink.ar.ready),
                source.r.valid.eq(sink.r.valid),
                source.r.payload.eq(sink.r.payload),
                sink.r.ready.eq(source.r.ready),
            ]
        return m


class WalkWorld:
    """Memory of 8-byte words behind a translator; table pages are handed out from 0x2000 up."""

    def __init__(self, config, *, seed: int = 1, latency: int = 5, jitter: int = 0):
        self.dut, self.config = built(_Bed, config), config
        self.rng, self.latency, self.jitter = random.Random(seed), latency, jitter
        self.words: dict[int, int] = {}
        self.free = 0x200_0000
        self.reads: list[tuple[int, int]] = []
        self.answers: dict[int, tuple[int, object]] = {}
        self.asked: dict[int, int] = {}
        self.faults: list = []
        self.events = {"lookup": 0, "tlb_miss": 0}
        #: The same, and what else may be counted, of both event ports.
        self.counted: Counter = Counter()
        self.bad: set[int] = set()
        self.now = 0
        self._due: list = []

    def page(self, pages: int = 1) -> int:
        """Allocate zeroed, naturally aligned pages; returns their address."""
        size = 4096 * pages
        at = -(-self.free // size) * size
        self.free = at + size
        return at

    def device(self, device_id: int, *, first: int = 0, second: int = 0, gscid: int = 0,
               pscid: int = 0, tc: int = 3) -> None:  # fmt: skip
        """Write a device context; ``first`` and ``second`` are root tables, 0 for Bare."""
        base = DDT + 32 * device_id
        self.words[base] = tc
        self.words[base + 8] = (8 << 60 | gscid << 44 | second >> 12) if second else 0
        self.words[base + 16] = pscid << 12
        self.words[base + 24] = (8 << 60 | first >> 12) if first else 0

    def map(self, root: int, va: int, pa: int, level: int = 0, bits: int = LEAF, *, wide=False,
            through=None) -> int:  # fmt: skip
        """Map a page of ``level``; returns the address of its leaf PTE.

        ``wide`` is for a second stage's root.  ``through`` translates table addresses into those
        of the memory, for tables in guest memory.
        """
        seen = through or (lambda address: address)
        table = root
        for depth in (2, 1, 0):
            index = va >> 12 + 9 * depth & (0x7FF if wide and depth == 2 else 0x1FF)
            slot = seen(table + 8 * index)
            if depth == level:
                self.words[slot] = pa >> 12 << 10 | bits
                return slot
            if not self.words.get(slot, 0) & _V:
                self.words[slot] = self.page() >> 12 << 10 | _V
            table = (self.words[slot] >> 10) << 12
        raise AssertionError

    async def memory(self, ctx):
        """Serve reads, any order of IDs."""
        bus = self.dut.memory
        while True:
            ctx.set(bus.ar.ready, 1)
            ready = [i for i, e in enumerate(self._due) if e[0] <= self.now
                     and e[1] not in [old[1] for old in self._due[:i]]]  # fmt: skip
            entry = self._due[self.rng.choice(ready)] if ready else None
            if entry:
                _, id_, address, last = entry
                ctx.set(bus.r.payload.data, self.words.get(address, 0))
                ctx.set(bus.r.payload.id, id_)
                ctx.set(bus.r.payload.last, last)
                ctx.set(bus.r.payload.resp, 2 if address in self.bad else 0)
            ctx.set(bus.r.valid, entry is not None)
            *_, took, ar, r = await ctx.tick().sample(bus.ar.valid, bus.ar.payload, bus.r.ready)
            self.now += 1
            if entry and r:
                self._due.remove(entry)
            if took:
                self.reads.append((self.now, ar.addr))
                when = self.now + self.latency - 1 + self.rng.randrange(self.jitter + 1)
                for beat in range(ar.len + 1):
                    self._due.append((when, ar.id, ar.addr + 8 * beat, beat == ar.len))

    async def client(self, ctx):
        """Take answers and faults; count events."""
        dut = self.dut
        ctx.set(dut.faults.ready, 1)
        while True:
            *_, got, answer, fault, record, event, events, walk, walks = await ctx.tick().sample(
                dut.translate.response.valid & dut.translate.response.ready,
                dut.translate.response.payload,
                dut.faults.valid,
                dut.faults.payload,
                dut.request_event.valid,
                dut.request_event,
                dut.walk_event.valid,
                dut.walk_event,
            )
            if got:
                assert answer.tag not in self.answers, "answered twice"
                self.answers[answer.tag] = (self.now, answer)
            if fault:
                self.faults.append(record)
            if event:
                for name in self.events:
                    self.events[name] += events[name]
            for valid, found in ((event, events), (walk, walks)):
                for name in COUNTED if valid else ():
                    self.counted[name] += found[name]

    async def ask(self, ctx, tag: int, iova: int, *, device_id: int = 1, write: int = 0,
                  at=AddressType.UNTRANSLATED, exec_: int = 0,
                  pid: int | None = None) -> None:  # fmt: skip
        """Offer one request until it is accepted."""
        request = self.dut.translate.request
        self.answers.pop(tag, None)
        ctx.set(request.payload, TranslationRequest.const({
            "tag": tag, "at": at, "device_id": device_id, "write": write, "exec": exec_,
            "iova": iova, "process_id": pid or 0, "pv": pid is not None}))  # fmt: skip
        ctx.set(request.valid, 1)
        while not (await ctx.tick().sample(request.ready))[-1]:
            pass
        self.asked[tag] = self.now
        ctx.set(request.valid, 0)

    async def answer(self, ctx, tag: int, cycles: int = 3000):
        """Wait for an answer; returns it and its latency in cycles."""
        for _ in range(cycles):
            if tag in self.answers:
                when, answer = self.answers[tag]
                return answer, when - self.asked[tag]
            await ctx.tick()
        raise AssertionError(f"tag {tag} was never answered")

    async def translate(self, ctx, tag: int, iova: int, **how):
        """Ask and wait."""
        await self.ask(ctx, tag, iova, **how)
        return await self.answer(ctx, tag)

    async def invalidate(self, ctx, **fields) -> None:
        """Offer one invalidation until it is accepted."""
        port = self.dut.invalidate
        ctx.set(port.payload, Invalidate.const(fields))
        ctx.set(port.valid, 1)
        while not (await ctx.tick().sample(port.ready))[-1]:
            pass
        ctx.set(port.valid, 0)

    def run(self, test) -> None:
        """Simulate until ``test`` ends."""
        sim = simulator(self.dut)
        for agent in (self.memory, self.client):
            sim.add_testbench(agent, background=True)

        async def start(ctx):
            ctx.set(self.dut.translate.response.ready, 1)
            ctx.set(self.dut.directory.mode, 2)
            ctx.set(self.dut.directory.ppn, DDT >> 12)
            await ctx.tick().repeat(self.config.iotlb_sets + 4)
            await test(ctx)

        sim.add_testbench(start)
        sim.run()


def one_stage(world, device_id=1, pscid=1):
    """A device with a first stage alone; returns its root."""
    root = world.page()
    world.device(device_id, first=root, pscid=pscid)
    return root


def two_stage(world, device_id=1, gscid=1, pscid=1):
    """A guest whose memory lies at GPA + 0x4000_0000; returns its first-stage root and mapper."""
    second, offset = world.page(4), 0x4000_0000
    first = 0x10_0000
    world.device(device_id, first=first, second=second, gscid=gscid, pscid=pscid)
    tables = iter(range(first, first + 0x100_0000, 4096))
    next(tables)

    def back(gpa, level=0):
        size = 4096 << 9 * level
        base = gpa - gpa % size
        world.map(second, base, base + offset, level, wide=True)

    def page(pages=1):
        gpa = next(tables)
        back(gpa)
        return gpa

    def guest_map(va, gpa, level=0):
        taken, world.page = world.page, page
        try:
            return world.map(first, va, gpa, level, through=lambda gpa: gpa + offset)
        finally:
            world.page = taken

    def guest_back(gpa, level=0):
        back(gpa, level)
        return gpa + offset

    back(first)
    return guest_map, guest_back


def phases(count, fast, first=0):
    """Every phase once, in strides of seven; those beyond the first ``fast`` are exhaustive."""
    return mostly_full([(first + 7 * n) % count for n in range(count)], fast)
