"""Caches of device and process contexts against dictionaries."""

import pytest

from models.spec.config import IommuConfig
from rtl.iommu.context import ContextCache, ProcessCache
from rtl.iommu.requests import Context, ProcessState
from tests.rtl.agents import run, seeded

#: Every member of Context is kept with these.
EVERYTHING = {
    **dict.fromkeys(("sv32", "sv32x4", "sv48", "sv48x4", "sv57", "sv57x4"), True),
    **dict.fromkeys(("t2gpa", "amo_hwad", "msi_flat", "end", "qosid"), True),
    **dict.fromkeys(("pd8", "pd17", "pd20"), True),
}
CYCLES = 600


class Model:
    """What a cache of so many entries holds: its sets, each replaced in turn.

    ``place`` numbers a key; the number modulo the sets chooses one.
    """

    def __init__(self, ways: int, sets: int, place):
        self.sets: list[list] = [[None] * ways for _ in range(sets)]
        self.turns = [0] * sets
        self.place = place

    def find(self, key):
        """Return the content of a key, or ``None``."""
        held = self.sets[self.place(key) % len(self.sets)]
        return next((slot[1] for slot in held if slot and slot[0] == key), None)

    def clear(self, covers) -> None:
        """Forget every key that is covered."""
        self.sets = [
            [None if slot and covers(slot[0]) else slot for slot in slots] for slots in self.sets
        ]

    def fill(self, key, content) -> None:
        """Store in place of what there is."""
        number = self.place(key) % len(self.sets)
        slots = self.sets[number]
        for way, slot in enumerate(slots):
            if slot and slot[0] == key:
                slots[way] = (key, content)
                return
        slots[self.turns[number]] = (key, content)
        self.turns[number] = (self.turns[number] + 1) % len(slots)


#: Entries, and how they are arranged.
GEOMETRIES = [(1, 1, 1), (2, 2, 1), (3, 3, 1), (8, 4, 2), (20, 5, 4)]


def any_content(rng, struct, config: IommuConfig) -> int:
    """Random content, of the widths that a good context can have."""
    shape = struct.as_shape()
    value = rng.getrandbits(shape.size)
    if struct is Context:
        for name in ("msi_mask", "msi_pattern"):
            high = (1 << 52) - (1 << 47) if config.sv57x4 else (1 << 52) - 1
            value &= ~(high << shape[name].offset)
        for name in ("ens", "sum"):  # not the device's
            value &= ~(1 << shape[name].offset)
    return value


@pytest.mark.parametrize(("entries", "ways", "sets"), GEOMETRIES)
def test_context_cache(entries, ways, sets):
    rng = seeded(entries)
    config = IommuConfig(context_entries=entries, device_id_bits=20, **EVERYTHING)
    dut, model = ContextCache(config), Model(ways, sets, lambda device: device)
    ids = [rng.getrandbits(20) for _ in range(entries + 2)]

    async def bench(ctx):
        hits, coming, behind, key = 0, None, False, ids[0]
        for _ in range(CYCLES):
            fill, clear, everything = (
                rng.choice((0, 1, 1)),
                rng.choice((0, 0, 1)),
                not rng.getrandbits(4),
            )
            before, cleared = key, rng.choice(ids)
            key = rng.choice((key, rng.choice(ids)))
            fill = fill and key == before
            content = any_content(rng, Context, config)
            ctx.set(dut.fill_en, fill)
            ctx.set(dut.fill_id, key)
            ctx.set(dut.fill_context.as_value(), content)
            ctx.set(dut.clear_en, clear)
            ctx.set(dut.clear_all, everything)
            ctx.set(dut.clear_id, cleared)
            for wanted in ids:
                ctx.set(dut.device_id, wanted)
                expected = model.find(wanted)
                assert ctx.get(dut.hit) == (expected is not None)
                if expected is not None:
                    hits += 1
                    assert ctx.get(dut.context.as_value()) == expected
            if coming:
                model.fill(*coming)
            # Right behind another of either kind a fill is not kept.
            coming = (key, content) if fill and not clear and not behind else None
            behind = bool(clear or coming)
            if clear:
                model.clear(lambda held, one=cleared, all=everything: all or held == one)
            await ctx.tick()
        assert hits > CYCLES // 4

    run(dut, bench)


@pytest.mark.parametrize(("entries", "ways", "sets"), GEOMETRIES)
def test_process_cache(entries, ways, sets):
    rng = seeded(entries)
    config = IommuConfig(process_entries=entries, pd8=True, pd17=True)
    dut, model = ProcessCache(config), Model(ways, sets, lambda key: key[0] ^ key[1])
    devices = [rng.getrandbits(24) for _ in range(2)]
    processes = [rng.getrandbits(17) for _ in range(entries // 2 + 2)]
    keys = [(device, process) for device in devices for process in processes]

    async def bench(ctx):
        hits, coming, behind, key = 0, None, False, keys[0]
        for _ in range(CYCLES):
            fill, clear = rng.choice((0, 1)), rng.choice((0, 0, 0, 1))
            everything, one = not rng.getrandbits(4), rng.getrandbits(2) != 0
            before, cleared = key, rng.choice(keys)
            key = rng.choice((key, rng.choice(keys)))
            fill = fill and key == before
            content = any_content(rng, ProcessState, config)
            ctx.set(dut.fill_en, fill)
            ctx.set(dut.fill_device, key[0])
            ctx.set(dut.fill_process, key[1])
            ctx.set(dut.fill_state.as_value(), content)
            ctx.set(dut.clear_en, clear)
            ctx.set(dut.clear_all, everything)
            ctx.set(dut.clear_device, cleared[0])
            ctx.set(dut.clear_process_en, one)
            ctx.set(dut.clear_process, cleared[1])
            for wanted in keys:
                ctx.set(dut.device_id, wanted[0])
                ctx.set(dut.process_id, wanted[1])
                ctx.set(dut.place, (wanted[0] ^ wanted[1]) & 0xFFFFF)
                expected = model.find(wanted)
                assert ctx.get(dut.hit) == (expected is not None)
                if expected is not None:
                    hits += 1
                    assert ctx.get(dut.process.as_value()) == expected
            ctx.set(dut.process_id, key[1] | 1 << 17)  # no such process
            assert not ctx.get(dut.hit)
            if coming:
                model.fill(*coming)
            # Right behind another of either kind a fill is not kept.
            coming = (key, content) if fill and not clear and not behind else None
            behind = bool(clear or coming)
            if clear:
                # What a device has is not found apart: everything is forgotten.
                covered = set(keys) if everything or not one else {cleared}
                model.clear(covered.__contains__)
            await ctx.tick()
        assert hits > CYCLES // 4

    run(dut, bench)


def test_members_that_a_configuration_lacks_read_zero():
    config = IommuConfig(ats=False)
    dut = ContextCache(config)

    async def bench(ctx):
        ctx.set(dut.fill_en, 1)
        ctx.set(dut.fill_id, 7)
        ctx.set(dut.fill_context.as_value(), -1)
        await ctx.tick().repeat(2)
        ctx.set(dut.device_id, 7)
        assert ctx.get(dut.hit)
        found = ctx.get(dut.context)
        assert found.dtf == 1
        assert found.s_ppn == (1 << 44) - 1
        for name in ("en_ats", "t2gpa", "pd_levels", "sade", "rcid", "msi", "msi_mask", "sbe"):
            assert found[name] == 0

    run(dut, bench)
