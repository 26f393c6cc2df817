"""The walker against the golden model on random tables."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from models.iommu import Request
from models.iommu.directory import DeviceContext
from models.spec.config import IommuConfig
from models.spec.translation import AddressType
from rtl.iommu.seams import InvalidateKind
from tests.rtl.iommu.walker_world import (
    PAGES,
    SLOTS,
    Ask,
    WalkerWorld,
    compare,
    random_tables,
    tables_of,
)

#: The first is for every run.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2))]
FULL = IommuConfig(
    pas=50,
    ddt_levels=3,
    sv48=True,
    sv57=True,
    sv48x4=True,
    sv57x4=True,
    svpbmt=True,
    svrsw60t59b=True,
    t2gpa=True,
    amo_hwad=True,
    msi_flat=True,
    msi_mrif=True,
    misses=3,
)


def _iova(rng: random.Random, levels: int) -> int:
    value = 0
    for level in range(max(levels, 3)):
        value |= rng.choice(SLOTS) << 12 + 9 * level
    bits = 12 + 9 * max(levels, 3)
    if value >> bits - 1 & 1 and rng.random() < 0.9:
        value |= -1 << bits & (1 << 64) - 1
    if rng.random() < 0.03:
        value ^= 1 << rng.randrange(30, 64)
    return value | rng.randrange(4096)


def _root(rng: random.Random, mode: int, pages: int) -> int:
    if not mode or rng.random() < 0.02:
        return rng.choice(PAGES) // 4 << 14
    return rng.choice([page for page in tables_of(mode - 6) if page % pages == 0]) << 12


def random_ask(rng: random.Random, config, **fixed) -> Ask:
    """A request in a context; stages of any depth that the configuration has."""
    first = rng.choice([0, *(8 + n for n, c in enumerate((1, config.sv48, config.sv57)) if c)])
    seconds = [8 + n for n, c in enumerate((1, config.sv48x4, config.sv57x4)) if c]
    second = rng.choice([0, *seconds] if first else seconds)
    at = rng.choice([AddressType.UNTRANSLATED] * 3 + [AddressType.ATS_REQUEST])
    kind = rng.choice(["r", "r", "w", "x", "d"])
    has_process = rng.random() < 0.5
    context = {
        "v": 1, "en_ats": 1, "en_pri": 0, "dtf": 0, "pdtv": 0, "prpr": 0,
        "t2gpa": int(config.t2gpa and second != 0 and rng.random() < 0.2),
        "gade": int(config.amo_hwad and rng.random() < 0.5),
        "sade": int(config.amo_hwad and rng.random() < 0.5),
        "dpe": 0, "sbe": 0, "sxl": 0, "second_stage": second, "gscid": rng.randrange(2),
        "second_stage_root": _root(rng, second, 4), "pscid": rng.randrange(2),
        "fsc_mode": first, "fsc_root": _root(rng, first, 1),
    }  # fmt: skip
    if config.msi_flat and second and rng.random() < 0.4:
        context |= {
            "msi_mode": 1,
            "msi_root": 64 << 12,
            "msi_mask": rng.choice([0, 3, 0b1010, 0x1F]),
            "msi_pattern": rng.choice([*PAGES, 3, 1]),
        }
    request = Request(
        device_id=1,
        iova=_iova(rng, first - 5 if first else second - 5),
        at=at,
        process_id=1 if has_process else None,
        write=kind in "wd",
        execute=kind == "x",
        privileged=rng.random() < 0.5,
        also_read=kind == "d" and at == AddressType.UNTRANSLATED,
    )
    if request.at == AddressType.UNTRANSLATED and context["t2gpa"] and rng.random() < 0.3:
        request = Request(**{**request.__dict__, "at": AddressType.TRANSLATED})
    return Ask(request, DeviceContext(**{**context, **fixed}), rng.random() < 0.5)


def _world(seed: int, config, **options) -> WalkerWorld:
    world = WalkerWorld(config, seed=seed)
    rng = world.rng
    random_tables(rng, world.store, napot=True, pbmt=config.svpbmt, **options)
    if config.msi_flat:
        basic, mrif = 1 | 3 << 1 | 0x77 << 10, 1 | 1 << 1 | 0x4321 << 7
        for number in range(512):
            first = rng.choice([basic, basic, mrif, mrif, mrif, 0, 5, 1 << 63 | 7, basic | 1 << 8])
            second = rng.choice([0x123 | 0x99 << 10, 1 << 60 | 0x99 << 10, 1 << 59])
            at = (64 << 12) + 16 * number
            world.store.write(at, first.to_bytes(8, "little") + second.to_bytes(8, "little"))
    world.copy()
    return world


def _one_by_one(world: WalkerWorld, count: int, *, errors: bool = False, **fixed) -> Counter:
    """Compare walks with the golden model's, memory included; returns how often each cause."""
    # What is asked does not depend on when memory answers.
    rng, causes = random.Random(world.rng.getrandbits(32)), Counter()

    async def testbench(ctx):
        for number in range(count):
            ask = random_ask(rng, world.config, **fixed)
            if errors and number % 10 == 0:
                page = rng.choice([*PAGES, 64])
                error = (page << 12, 4096 if rng.random() < 0.5 else 8, rng.choice([1, 2]))
                world.faulty.inject([error] if number % 20 else [])
                world.golden_faulty.inject([error] if number % 20 else [])
            expected = world.expected(ask)
            await world.begin(ctx, rng.randrange(7), ask)
            got = await world.end(ctx)
            compare(ask, expected, got)
            causes[got.cause] += 1
            causes["mrif"] += got.mrif
            assert world.same_memory(), ask

    world.run(testbench)
    print(f"{world.stores} stores, {world.reads} reads, causes {causes}")
    return causes


@pytest.mark.parametrize("seed", SEEDS)
def test_every_walk_ends_as_the_golden_models_does(seed):
    causes = _one_by_one(_world(seed, FULL), 200, errors=True)
    assert {0, 12, 13, 15, 20, 21, 23} <= causes.keys()


@pytest.mark.parametrize("seed", SEEDS)
def test_guests_of_32_bits_have_addresses_of_34(seed):
    world = _world(seed, replace(FULL, sv32=True, sv32x4=True))
    causes = _one_by_one(world, 150, sxl=1, fsc_mode=0, second_stage=9, msi_mode=0)
    assert {0, 20, 21, 23} <= causes.keys()


@pytest.mark.parametrize("seed", SEEDS)
def test_accessed_and_dirty_are_updated_as_the_golden_model_does(seed):
    world = _world(seed, FULL, clear=0.7)
    _one_by_one(world, 150, gade=1, sade=1, errors=True)
    assert world.stores > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_interrupt_files_are_found_as_the_golden_model_does(seed):
    fixed = {"msi_mode": 1, "msi_root": 64 << 12, "fsc_mode": 0, "second_stage": 8}
    causes = _one_by_one(
        _world(seed, FULL), 200, errors=True, msi_mask=7 | 7 << 9 | 7 << 18, msi_pattern=0, **fixed
    )
    assert {0, 262, 263, 1, "mrif"} <= causes.keys()
    assert causes["mrif"]


def test_an_entry_that_changes_before_its_update_is_looked_at_again():
    world = _world(5, FULL, clear=0.7)
    rng, changed = world.rng, []

    def interfere(address: int) -> None:
        if rng.random() < 0.5 and len(changed) < 40:
            # Software sets what hardware was about to set, or a bit that is its own.
            entry = int.from_bytes(world.store.read(address, 8), "little")
            entry |= rng.choice([1 << 6, 1 << 7, 1 << 8])
            changed.append((address, entry))
            world.store.write(address, entry.to_bytes(8, "little"))

    world.interfere = interfere

    async def testbench(ctx):
        for _ in range(50):
            ask = random_ask(rng, FULL, gade=1, sade=1)
            expected = world.expected(ask)
            changed.clear()
            await world.begin(ctx, 0, ask)
            got = await world.end(ctx)
            assert got.cause == getattr(expected, "cause", 0)
            for address, entry in changed:
                there = int.from_bytes(world.store.read(address, 8), "little")
                assert there & entry == entry
            world.copy()

    world.run(testbench)
    assert world.stores > 30


@pytest.mark.parametrize("seed", range(3))
def test_answers_to_updates_are_taken_although_nobody_takes_results(seed):
    # On the way to memory the fault queue's answers come behind, and results wait for it.
    world = _world(20 + seed, FULL, clear=0.7)
    b = world.bed.walker.memory.b

    async def testbench(ctx):
        for index in range(7):
            await world.begin(ctx, index, random_ask(world.rng, FULL, gade=1, sade=1))
        world.takes_results = False
        await ctx.tick().repeat(600)
        assert world.stores
        assert not ctx.get(b.valid)
        world.takes_results = True
        assert {(await world.end(ctx)).index for _ in range(7)} == set(range(7))

    world.run(testbench)


@pytest.mark.parametrize(
    "walk_cache",
    [pytest.param(0, marks=pytest.mark.full), 2, pytest.param(8, marks=pytest.mark.full)],
)
def test_walks_overlap_and_caches_never_show_what_was_invalidated(walk_cache):
    config = replace(FULL, amo_hwad=False, walk_cache=walk_cache)
    world = _world(7 + walk_cache, config, clear=0.02)
    rng = world.rng
    contexts = [random_ask(rng, config) for _ in range(4)]

    async def testbench(ctx):
        for round_ in range(12):
            asks = []
            for _ in range(7):
                new, old = random_ask(rng, config), rng.choice(contexts)
                request = Request(**{**new.request.__dict__, "at": old.request.at})
                number = contexts.index(old) + 1
                context = replace(old.context, pscid=number, gscid=number)
                asks.append(Ask(request, context, old.sum))
            for _ in range(4):
                expected = [world.expected(ask) for ask in asks]
                for index, ask in enumerate(asks):
                    await world.begin(ctx, index, ask)
                for _ in asks:
                    got = await world.end(ctx)
                    compare(asks[got.index], expected[got.index], got)
            if round_ % 3 == 2:
                random_tables(rng, world.store, napot=True, pbmt=True, clear=0.02)
                world.copy()
                await world.invalidate(ctx, kind=InvalidateKind.VMA)
                for number in range(1, 5):
                    vm = {"gv": 1, "gscid": number}
                    await world.invalidate(ctx, kind=InvalidateKind.VMA, **vm)
                    await world.invalidate(ctx, kind=InvalidateKind.GVMA, **vm)

    world.run(testbench)


def test_a_step_takes_the_latency_of_memory_and_three_cycles():
    config = IommuConfig()
    world = WalkerWorld(config, seed=1, latency=17, jitter=0)
    world.stall = 0.0
    store = world.store
    # Identity in the second stage by pages of 4 KiB, tables at 16 to 18; first stage at 20 to 22.
    for table in (16, 17, 20, 21):
        store.write(table << 12, ((table + 1) << 10 | 1).to_bytes(8, "little"))
    for page in range(64):
        store.write((18 << 12) + 8 * page, (page << 10 | 0xDF).to_bytes(8, "little"))
    store.write(22 << 12, (5 << 10 | 0xDF).to_bytes(8, "little"))
    world.copy()
    base = random_ask(random.Random(1), config)
    context = replace(
        base.context, t2gpa=0, second_stage=8, second_stage_root=16 << 12, fsc_mode=8,
        fsc_root=20 << 12,
    )  # fmt: skip
    ask = Ask(Request(device_id=1, iova=0), context)

    async def testbench(ctx):
        await ctx.tick().repeat(80)
        await world.begin(ctx, 0, ask)
        got = await world.end(ctx)
        compare(ask, world.expected(ask), got)

    world.run(testbench)
    assert world.reads == 15
    steps = {b - a for a, b in pairwise(world.read_cycles)}
    assert steps == {world.read_latency + 3}
