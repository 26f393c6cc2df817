"""Hardware performance monitor: events, filters, inhibition, overflow."""

import random

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import HpmEvent
from rtl.iommu.counters import Counters
from tests.rtl.agents import get, put, seeded
from tests.rtl.iommu.control_bench import small
from tests.rtl.simulators import built, simulator

BITS = {
    HpmEvent.UNTRANSLATED_REQUEST: "untranslated",
    HpmEvent.TRANSLATED_REQUEST: "translated",
    HpmEvent.ATS_REQUEST: "ats",
    HpmEvent.TLB_MISS: "tlb_miss",
    HpmEvent.DDT_WALK: "ddt_walk",
    HpmEvent.PDT_WALK: "pdt_walk",
    HpmEvent.FIRST_STAGE_WALK: "first_stage_walk",
    HpmEvent.SECOND_STAGE_WALK: "second_stage_walk",
    HpmEvent.LOOKUP: "lookup",
}
#: Events that IDT 1 applies to (table "Standard events"); LOOKUP is the project's own.
BY_SOFT_CONTEXT = {
    HpmEvent.TLB_MISS,
    HpmEvent.FIRST_STAGE_WALK,
    HpmEvent.SECOND_STAGE_WALK,
    HpmEvent.LOOKUP,
}
CY = 1


class Bench:
    """Counters alone, at their register port."""

    def __init__(self, **changes):
        self.dut = built(Counters, small(**changes))

    async def write(self, ctx, register, value):
        """Store a register."""
        for half in reversed(range(register.width // 32)):
            word = value >> 32 * half & 0xFFFF_FFFF
            access = {"addr": register.offset + 4 * half, "write": 1, "data": word, "strb": 15}
            await put(ctx, self.dut.bus.request, access)
            assert await get(ctx, self.dut.bus.response) == 0

    async def read(self, ctx, register) -> int:
        """Load a register, when what happened before has counted."""
        for _ in range(2):
            await ctx.tick()
        value = 0
        for half in range(register.width // 32):
            await put(ctx, self.dut.bus.request, {"addr": register.offset + 4 * half})
            value |= (await get(ctx, self.dut.bus.response)) << 32 * half
        return value

    async def fire(self, ctx, request=None, walk=None):
        """Show events for one cycle."""
        ctx.set(self.dut.request_event, request or {})
        ctx.set(self.dut.walk_event, walk or {})
        await ctx.tick()
        ctx.set(self.dut.request_event, {})
        ctx.set(self.dut.walk_event, {})

    def run(self, testbench):
        """Simulate."""
        sim = simulator(self.dut)
        sim.add_testbench(testbench)
        sim.run()


def event(*kinds, **fields) -> dict:
    """An event with the bits of some kinds."""
    return {"valid": 1} | {BITS[kind]: 1 for kind in kinds} | fields


def counts(selector: dict, happened: dict) -> bool:
    """Whether an event counts, from the specification's text."""
    kind = selector["eventid"]
    if kind not in BITS or not happened["valid"] or not happened.get(BITS[kind]):
        return False
    if selector["idt"]:
        if kind not in BY_SOFT_CONTEXT:
            return False
        process, process_valid = happened["pscid"], happened["pscv"]
        device, device_valid = happened["gscid"], happened["gscv"]
    else:
        process, process_valid = happened["process_id"], happened["pv"]
        device, device_valid = happened["device_id"], 1
    if selector["pv_pscv"] and not (process_valid and process == selector["pid_pscid"]):
        return False
    if not selector["dv_gscv"]:
        return True
    mask = 0
    if selector["dmask"]:
        # Trailing ones and the zero above them are not compared.
        while selector["did_gscid"] >> mask.bit_length() & 1:
            mask = mask << 1 | 1
        mask = mask << 1 | 1
    return bool(device_valid) and not (device ^ selector["did_gscid"]) & ~mask & 0xFF_FFFF


def random_event(rng: random.Random) -> dict:
    """Few enough IDs that filters often match."""
    kinds = [kind for kind in BITS if rng.random() < 0.4]
    return event(
        *kinds,
        valid=rng.random() < 0.8,
        device_id=rng.choice([0x10, 0x11, 0x17, 0x18, 0xFF_FFFF]),
        process_id=rng.choice([1, 2]),
        pv=rng.randrange(2),
        gscid=rng.choice([0x10, 0x13, 0x1F]),
        gscv=rng.randrange(2),
        pscid=rng.choice([1, 2]),
        pscv=rng.randrange(2),
    )


@pytest.mark.parametrize("seed", range(3))
def test_filters_count_what_the_specification_says(seed):
    rng = seeded(seed)
    bench = Bench(hpm_counters=6)
    selectors = [
        {
            "eventid": rng.choice([*BITS, HpmEvent.NONE, 9, 20000]) if n else HpmEvent.TLB_MISS,
            "dmask": rng.randrange(2),
            "pid_pscid": rng.choice([1, 2]),
            "did_gscid": rng.choice([0x10, 0x11, 0x13, 0x17, 0xFF_FFFF]),
            "pv_pscv": rng.random() < 0.4,
            "dv_gscv": rng.random() < 0.6,
            "idt": rng.randrange(2),
            "of": 0,
        }
        for n in range(6)
    ]
    expected = [0] * 6

    async def testbench(ctx):
        for n, selector in enumerate(selectors):
            value = regs.IOHPMEVT[n].layout.const(selector).as_bits()
            await bench.write(ctx, regs.IOHPMEVT[n], value)
            assert await bench.read(ctx, regs.IOHPMEVT[n]) == value
        for _ in range(300):
            pair = random_event(rng), random_event(rng)
            for n, selector in enumerate(selectors):
                expected[n] += sum(counts(selector, happened) for happened in pair)
            await bench.fire(ctx, *pair)
        for n in range(6):
            assert await bench.read(ctx, regs.IOHPMCTR[n]) == expected[n], selectors[n]

    bench.run(testbench)
    assert any(expected)


@pytest.mark.parametrize("kind", BITS)
def test_both_ports_count_in_one_cycle(kind):
    bench = Bench()

    async def testbench(ctx):
        await bench.write(ctx, regs.IOHPMEVT[0], kind)
        both = event(kind)
        for _ in range(10):
            await bench.fire(ctx, both, both)
        for other in BITS:
            if other != kind:
                await bench.fire(ctx, event(other), event(other))
        await bench.fire(ctx, both | {"valid": 0}, both)
        assert await bench.read(ctx, regs.IOHPMCTR[0]) == 21

    bench.run(testbench)


@pytest.mark.parametrize("counters", [1, 5])
def test_nothing_is_lost_beside_accesses(counters):
    """Both ports fire in every cycle, and accesses come one after the other."""
    bench, kind = Bench(hpm_counters=counters), HpmEvent.LOOKUP

    async def testbench(ctx):
        for n in range(counters):
            await bench.write(ctx, regs.IOHPMEVT[n], kind)
        for name in ("request_event", "walk_event"):
            ctx.set(getattr(bench.dut, name), event(kind))
        ctx.set(bench.dut.bus.request.payload, {"addr": regs.IOHPMCTR[0].offset})
        ctx.set(bench.dut.bus.request.valid, 1)
        ctx.set(bench.dut.bus.response.ready, 1)
        for _ in range(400):
            await ctx.tick()
        ctx.set(bench.dut.bus.request.valid, 0)
        for name in ("request_event", "walk_event"):
            ctx.set(getattr(bench.dut, name), {})
        for _ in range(30):
            await ctx.tick()
        ctx.set(bench.dut.bus.response.ready, 0)
        for n in range(counters):
            assert await bench.read(ctx, regs.IOHPMCTR[n]) == 800

    bench.run(testbench)


@pytest.mark.parametrize("hpm_bits", [32, 40, 64])
@pytest.mark.parametrize("step", [1, 2])
def test_overflow_sets_its_bit_and_interrupts_once(hpm_bits, step):
    counters = 2
    bench = Bench(hpm_bits=hpm_bits, hpm_counters=counters)
    kind = HpmEvent.TLB_MISS
    pulses = []

    async def testbench(ctx):
        async def fire():
            await bench.fire(ctx, event(kind), event(kind) if step == 2 else None)
            # One cycle of them has passed in ``fire``.
            for _ in range(max(2, counters + 1) + 7):
                *_, pulse = await ctx.tick().sample(bench.dut.interrupt)
                pulses.append(pulse)

        await bench.write(ctx, regs.IOCOUNTINH, CY)
        await bench.write(ctx, regs.IOHPMEVT[1], kind)
        await bench.write(ctx, regs.IOHPMCTR[1], 2**64 - 1)
        assert await bench.read(ctx, regs.IOHPMCTR[1]) == (1 << hpm_bits) - 1
        await fire()
        assert await bench.read(ctx, regs.IOHPMCTR[1]) == step - 1
        assert await bench.read(ctx, regs.IOHPMEVT[1]) == kind | 1 << 63
        assert await bench.read(ctx, regs.IOCOUNTOVF) == 1 << 2
        assert sum(pulses) == 1
        await bench.write(ctx, regs.IOHPMCTR[1], 2**64 - 1)
        await fire()  # OF is set already
        assert sum(pulses) == 1
        await bench.write(ctx, regs.IOHPMEVT[1], kind)
        assert await bench.read(ctx, regs.IOCOUNTOVF) == 0
        await bench.write(ctx, regs.IOHPMCTR[1], 2**64 - 1)
        await fire()
        assert sum(pulses) == 2

    bench.run(testbench)


def test_inhibited_counters_stand_still():
    bench = Bench(hpm_counters=2)
    kind = HpmEvent.ATS_REQUEST

    async def testbench(ctx):
        await bench.write(ctx, regs.IOCOUNTINH, 2**32 - 1)
        assert await bench.read(ctx, regs.IOCOUNTINH) == 0b111
        for n in range(2):
            await bench.write(ctx, regs.IOHPMEVT[n], kind)
            await bench.write(ctx, regs.IOHPMCTR[n], 100 + n)
        await bench.write(ctx, regs.IOHPMCYCLES, 0x1234_5678_9ABC)
        await bench.fire(ctx, event(kind))
        assert await bench.read(ctx, regs.IOHPMCYCLES) == 0x1234_5678_9ABC
        assert await bench.read(ctx, regs.IOHPMCTR[0]) == 100
        await bench.write(ctx, regs.IOCOUNTINH, 0b011)
        await bench.fire(ctx, event(kind))
        assert await bench.read(ctx, regs.IOHPMCTR[0]) == 100
        assert await bench.read(ctx, regs.IOHPMCTR[1]) == 102

    bench.run(testbench)


def test_cycles_are_counted_and_overflow():
    bench = Bench()

    async def testbench(ctx):
        first = await bench.read(ctx, regs.IOHPMCYCLES)
        for _ in range(50):
            await ctx.tick()
        second = await bench.read(ctx, regs.IOHPMCYCLES)
        # Two cycles before the access; a half of it is taken, read and its answer taken.
        assert second - first == 50 + 2 + 2 * (1 + 2 + 6)
        await bench.write(ctx, regs.IOHPMCYCLES, 2**63 - 8)
        for _ in range(20):
            await ctx.tick()
        assert await bench.read(ctx, regs.IOCOUNTOVF) == 1
        assert await bench.read(ctx, regs.IOHPMCYCLES) >> 63 == 1

    bench.run(testbench)


@pytest.mark.parametrize("hpm_bits", [32, 40, 64])
def test_cycles_have_the_bits_there_are(hpm_bits):
    bench = Bench(hpm_bits=hpm_bits)

    async def testbench(ctx):
        await bench.write(ctx, regs.IOCOUNTINH, CY)
        await bench.write(ctx, regs.IOHPMCYCLES, 2**64 - 1)
        bits = min(hpm_bits, 63)
        assert await bench.read(ctx, regs.IOHPMCYCLES) == 1 << 63 | (1 << bits) - 1

    bench.run(testbench)


def test_absent_counters_read_zero():
    for changes in ({"hpm_counters": 2}, {"hpm": False}):
        bench = Bench(**changes)
        there = changes.get("hpm_counters", 0)

        async def testbench(ctx, bench=bench, there=there):
            for register in (*regs.IOHPMCTR[there:], *regs.IOHPMEVT[there:]):
                await bench.write(ctx, register, 2**64 - 1)
                assert await bench.read(ctx, register) == 0

        bench.run(testbench)
