"""The IOTLB against a list of entries, in any order of operations and stalls."""

import random

import pytest

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup
from rtl.iommu.iotlb import Iotlb
from tests.rtl.simulators import simulator


class Contents:
    """What models.spec.iotlb says of the contents, in plain lists."""

    def __init__(self, config):
        self.config = config
        self.sets = [[None] * config.iotlb_ways for _ in range(config.iotlb_sets)]
        self.pointers = [0] * config.iotlb_sets
        self.supers, self.pointer = [None] * config.iotlb_superpages, 0

    @staticmethod
    def _pages(entry):
        span = 1 << entry["size"] - 12
        base = entry["key"]["vpn"] - entry["key"]["vpn"] % span
        return range(base, base + span)

    @staticmethod
    def _space(entry, key):
        own = entry["key"]
        process = own["pscid"] == key["pscid"] or entry["glob"]
        same = all(own[name] == key[name] for name in ("gv", "gscid", "pv", "msi"))
        return same and (process or not key["pv"])

    def set_of(self, key):
        return (key["vpn"] ^ key["gscid"]) % self.config.iotlb_sets

    def find(self, key, elsewhere):
        small = [] if elsewhere else self.sets[self.set_of(key)]
        for entry in [*small, *self.supers]:
            if entry and self._space(entry, key) and key["vpn"] in self._pages(entry):
                return entry
        return None

    def fill(self, entry):
        small = entry["size"] == 12
        index = self.set_of(entry["key"])
        places = self.sets[index] if small else self.supers
        for i, old in enumerate(places):
            if (
                old
                and self._space(old, entry["key"])
                and old["glob"] == entry["glob"]
                and self._pages(old) == self._pages(entry)
            ):
                places[i] = entry
                return
        if None in places:
            places[places.index(None)] = entry
            return
        pointer = self.pointers[index] if small else self.pointer
        places[pointer] = entry
        pointer = (pointer + 1) % len(places)
        if small:
            self.pointers[index] = pointer
        else:
            self.pointer = pointer

    def invalidate(self, op):
        for places in [*self.sets, self.supers]:
            for i, entry in enumerate(places):
                if entry and self._covered(entry, op):
                    places[i] = None

    def _covered(self, entry, op):
        key = entry["key"]
        if op["gv"]:
            if not key["gv"] or key["gscid"] != op["gscid"]:
                return False
        elif bool(key["gv"]) != bool(op["gvma"]):
            return False
        if op["gvma"]:
            return True
        if not key["pv"]:
            return False
        if op["pscv"] and (entry["glob"] or key["pscid"] != op["pscid"]):
            return False
        if not op["av"] or entry["piece"]:
            return True
        first = last = op["addr"]
        if op["s"]:
            ones = 1
            while first & ones == ones:
                ones = ones << 1 | 1
            first, last = first & ~ones, first | ones
        pages = self._pages(entry)
        return pages.start <= last and first < pages.stop


def random_key(rng):
    gv, pv = rng.choice([(1, 1), (1, 0), (0, 1)])
    high = (1 << 52) - (1 << 26)
    pages = [0, 1, 4, 5, 16, 0x1FF, 0x200, 0x3FFFF, 0x1FF_FFFF, *([high, high + 4] if pv else [])]
    return {
        "gv": gv,
        "gscid": rng.randrange(2) if gv else 0,
        "pv": pv,
        "pscid": rng.randrange(2) if pv else 0,
        "vpn": rng.choice(pages),
        "msi": rng.randrange(4) == 0 and gv,
    }


def enough(asked, entry):
    """Whether rights suffice, one request at a time."""
    allowed = set("rwx")
    if asked["priv"] and asked["key"]["pv"]:
        if entry["u"]:
            allowed -= {"x"} if asked["sum"] else set("rwx")
    elif not entry["u"]:
        allowed.clear()
    has = {name for name in "rwx" if entry[name]} & allowed
    wanted = {"w"} if asked["write"] else set()
    if asked["ats"]:
        return "r" in has and not ("w" in has & wanted and not entry["dirty"])
    wanted |= {"x"} if asked["exec"] else set()
    wanted |= {"r"} if asked["also_read"] or not wanted else set()
    return wanted <= has and (entry["dirty"] or not asked["write"])


def random_fill(rng):
    key = random_key(rng)
    return {
        "key": key,
        "ppn": rng.randrange(1 << 34),
        "size": rng.choice([12, 12, 12, 16, 21, 30]),
        "r": rng.randrange(8) != 0,
        "w": rng.randrange(8) != 0,
        "u": rng.randrange(3) != 0 or not key["pv"],
        "x": rng.randrange(2),
        "glob": rng.randrange(4) == 0 and key["pv"],
        "dirty": rng.randrange(4) != 0,
        "pbmt": 0,
        "piece": rng.randrange(4) == 0 and key["pv"],
    }


def random_lookup(rng):
    names = ("write", "exec", "ats", "priv", "sum", "also_read")
    return {"key": random_key(rng)} | {name: rng.randrange(4) == 0 for name in names}


def random_invalidation(rng, config):
    op = {name: rng.randrange(2) for name in ("gvma", "av", "pscv", "gv", "pscid", "gscid")}
    op["s"] = config.s and rng.randrange(2)
    op["addr"] = random_key(rng)["vpn"]
    op["pscv"] &= not op["gvma"]
    return op


async def play(ctx, dut, rng, config, contents, seen):
    """Drive all ports at random; apply to ``contents`` what was accepted, in the order promised."""
    for _ in range(config.iotlb_sets + 4):
        await ctx.tick()
    fill, op, following = None, None, random_lookup(rng)
    expected, named = None, 0
    for cycle in range(6000):
        lookup, following = following, random_lookup(rng)
        elsewhere = named != contents.set_of(lookup["key"])
        ctx.set(dut.lookup.payload, IotlbLookup.const(lookup | {"elsewhere": elsewhere}))
        ctx.set(dut.lookup.valid, 1)
        named = contents.set_of(following["key"])
        if rng.randrange(8) == 0:
            named = rng.randrange(config.iotlb_sets)
        ctx.set(dut.next_set, named)
        if fill is None and rng.randrange(3) == 0:
            fill = random_fill(rng)
        if op is None and rng.randrange(12) == 0:
            op = random_invalidation(rng, config)
        if fill:
            ctx.set(dut.fill.payload, IotlbFill.const(fill))
        if op:
            ctx.set(dut.invalidate.payload, IotlbInvalidate.const(op))
        ctx.set(dut.fill.valid, fill is not None)
        ctx.set(dut.invalidate.valid, op is not None)
        _, _, took_lookup, took_fill, took_op, result = await ctx.tick().sample(
            dut.lookup.ready,
            dut.fill.valid & dut.fill.ready,
            dut.invalidate.valid & dut.invalidate.ready,
            dut.result,
        )
        # The result of the lookup of the cycle before.
        if expected is not None:
            assert (result.hit, *((result.ppn, result.size) if result.hit else ())) == expected
            seen["hits"] += expected[0]
            seen["lookups"] += 1
        expected = None
        if took_lookup and cycle:
            entry = contents.find(lookup["key"], elsewhere)
            expected = (0,)
            if entry and enough(lookup, entry):
                mask = (1 << entry["size"] - 12) - 1
                ppn = (entry["ppn"] & ~mask) | (lookup["key"]["vpn"] & mask)
                expected = (1, ppn, entry["size"])
        if took_op:
            contents.invalidate(op)
            op = None
            if fill and rng.randrange(2):
                fill = None  # of a walk that is stale now
        if took_fill:
            contents.fill(fill)
            fill = None


FULL = {"sv48": True, "sv57": True, "sv48x4": True, "sv57x4": True, "s": True}
#: In the fast suite.
FAST = (((2, 4, 2), "full"), ((1, 8, 3), "small"))


@pytest.mark.parametrize(
    ("ways", "sets", "supers", "more"),
    [
        pytest.param(*geometry, more, id=f"{geometry}-{name}", marks=marks)
        for geometry in ((2, 4, 2), (3, 2, 1), (1, 8, 3))
        for name, more in (("small", {}), ("full", FULL))
        for marks in [() if (geometry, name) in FAST else pytest.mark.full]
    ],
)
def test_random_operations_agree(ways, sets, supers, more):
    config = IommuConfig(iotlb_ways=ways, iotlb_sets=sets, iotlb_superpages=supers, **more)
    seed = 7
    print(f"seed {seed}")
    rng, dut, seen = random.Random(seed), Iotlb(config), {"hits": 0, "lookups": 0}

    async def bench(ctx):
        await play(ctx, dut, rng, config, Contents(config), seen)

    sim = simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    assert seen["lookups"] > 5000
    assert seen["hits"] > 200


def test_vms_made_alike_keep_their_pages():
    config = IommuConfig(iotlb_ways=2, iotlb_sets=8)
    dut, vms = Iotlb(config), 8  # of two ways, of a page whose number is the same in all

    async def bench(ctx):
        for _ in range(config.iotlb_sets + 4):
            await ctx.tick()
        contents = Contents(config)
        fill = random_fill(random.Random(1)) | {"size": 12, "r": 1, "u": 1, "glob": 0}
        keys = [fill["key"] | {"gv": 1, "gscid": vm, "pv": 0, "pscid": 0} for vm in range(vms)]
        ctx.set(dut.fill.valid, 1)
        for number, key in enumerate(keys):
            ctx.set(dut.fill.payload, IotlbFill.const(fill | {"key": key, "ppn": number}))
            await ctx.tick().until(dut.fill.ready)
        ctx.set(dut.fill.valid, 0)
        await ctx.tick().repeat(4)
        ctx.set(dut.lookup.valid, 1)
        for number, key in enumerate(keys):
            ctx.set(dut.next_set, contents.set_of(key))
            await ctx.tick()
            ctx.set(dut.lookup.payload, IotlbLookup.const({"key": key}))
            await ctx.tick()
            assert (ctx.get(dut.result.hit), ctx.get(dut.result.ppn)) == (1, number)

    sim = simulator(dut)
    sim.add_testbench(bench)
    sim.run()


async def _cycles(ctx, dut, op):
    """Cycles between two equal invalidations in a row."""
    for _ in range(dut.config.iotlb_sets + 4):
        await ctx.tick()
    ctx.set(dut.invalidate.payload, IotlbInvalidate.const(op))
    ctx.set(dut.invalidate.valid, 1)
    taken, now = [], 0
    while len(taken) < 3:
        *_, ready = await ctx.tick().sample(dut.invalidate.ready)
        now += 1
        if ready:
            taken.append(now)
    assert taken[2] - taken[1] == taken[1] - taken[0]
    return taken[1] - taken[0]


@pytest.mark.parametrize(
    ("op", "cycles"),
    [
        ({"av": 1, "gv": 1, "pscv": 1, "addr": 5}, 6),
        ({"av": 1, "gv": 1, "pscv": 1, "addr": 5, "s": 1}, 21),
        ({"gv": 1, "pscv": 1}, 21),
        ({"gvma": 1, "gv": 1, "av": 1, "addr": 5}, 21),
    ],
)
def test_time_of_an_invalidation(op, cycles):
    dut = Iotlb(IommuConfig(iotlb_sets=16, s=True))

    async def bench(ctx):
        assert await _cycles(ctx, dut, op) == cycles

    sim = simulator(dut)
    sim.add_testbench(bench)
    sim.run()
