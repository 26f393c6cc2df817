"""The IOTLB against a list of entries, in any order of operations and stalls."""

import random

import pytest
from amaranth.sim import Simulator

from models.spec.config import IommuConfig
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup
from rtl.iommu.iotlb import Iotlb


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
        return (
            (own["gv"], own["gscid"], own["pv"]) == (key["gv"], key["gscid"], key["pv"])
            and (process or not key["pv"])
        )  # fmt: skip

    def find(self, key):
        for entry in [*self.sets[key["vpn"] % self.config.iotlb_sets], *self.supers]:
            if entry and self._space(entry, key) and key["vpn"] in self._pages(entry):
                return entry
        return None

    def fill(self, entry):
        small = entry["size"] == 12
        index = entry["key"]["vpn"] % self.config.iotlb_sets
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
        return not op["av"] or op["addr"] in self._pages(entry)


def random_key(rng):
    gv, pv = rng.choice([(1, 1), (1, 0), (0, 1)])
    high = (1 << 52) - (1 << 26)
    pages = [0, 1, 4, 5, 16, 0x1FF, 0x200, 0x3FFFF, *([high, high + 4] if pv else [])]
    return {
        "gv": gv,
        "gscid": rng.randrange(2) if gv else 0,
        "pv": pv,
        "pscid": rng.randrange(2) if pv else 0,
        "vpn": rng.choice(pages),
    }


def random_fill(rng):
    key = random_key(rng)
    return {
        "key": key,
        "ppn": rng.randrange(1 << 34),
        "size": rng.choice([12, 12, 12, 16, 21, 30]),
        "r": 1,
        "w": 1,
        "u": 1,
        "x": rng.randrange(2),
        "glob": rng.randrange(4) == 0 and key["pv"],
        "dirty": rng.randrange(4) != 0,
        "pbmt": 0,
    }


async def play(ctx, dut, rng, config, contents, seen, stall):
    """Drive all ports at random; apply to ``contents`` what was accepted, in the order promised."""
    for _ in range(config.iotlb_sets + 4):
        await ctx.tick()
    expected, fill, op = [], None, None
    for cycle in range(4000):
        lookup = {"key": random_key(rng), "write": rng.randrange(2), "exec": 0, "ats": 0}
        ctx.set(dut.lookup.payload, IotlbLookup.const(lookup))
        ctx.set(dut.lookup.valid, rng.random() < 0.8)
        if fill is None and op is None:
            choice = rng.randrange(12)
            fill = random_fill(rng) if choice < 4 else None
            op = None
            if choice == 4:
                op = {name: rng.randrange(2) for name in ("gvma", "av", "pscv", "gv")}
                op |= {"pscid": rng.randrange(2), "gscid": rng.randrange(2)}
                op["addr"] = random_key(rng)["vpn"]
                op["pscv"] &= not op["gvma"]
        if fill:
            ctx.set(dut.fill.payload, IotlbFill.const(fill))
        if op:
            ctx.set(dut.invalidate.payload, IotlbInvalidate.const(op))
        ctx.set(dut.fill.valid, fill is not None)
        ctx.set(dut.invalidate.valid, op is not None)
        ctx.set(dut.result.ready, rng.random() >= stall)
        _, _, took_lookup, took_fill, took_op, got, result = await ctx.tick().sample(
            dut.lookup.valid & dut.lookup.ready,
            dut.fill.valid & dut.fill.ready,
            dut.invalidate.valid & dut.invalidate.ready,
            dut.result.valid & dut.result.ready,
            dut.result.payload,
        )
        if took_op:
            contents.invalidate(op)
            op = None
        if took_fill:
            contents.fill(fill)
            fill = None
        if took_lookup:
            expected.append((cycle, lookup, contents.find(lookup["key"])))
        if got:
            when, asked, entry = expected.pop(0)
            enough = entry and (not asked["write"] or entry["dirty"])
            assert result.hit == bool(enough), (cycle, asked, entry)
            if enough:
                mask = (1 << entry["size"] - 12) - 1
                ppn = (entry["ppn"] & ~mask) | (asked["key"]["vpn"] & mask)
                assert (result.ppn, result.size) == (ppn, entry["size"]), (cycle, asked, entry)
                seen["hits"] += 1
            seen["latency"].add(cycle - when)
            seen["results"] += 1
    assert len(expected) <= 3


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("ways", "sets", "supers"), [(2, 4, 2), (3, 2, 1), (1, 8, 3)])
def test_random_operations_agree(ways, sets, supers, stall):
    config = IommuConfig(iotlb_ways=ways, iotlb_sets=sets, iotlb_superpages=supers)
    seed = 7
    print(f"seed {seed}")
    rng, dut, seen = random.Random(seed), Iotlb(config), {"hits": 0, "results": 0, "latency": set()}

    async def bench(ctx):
        await play(ctx, dut, rng, config, Contents(config), seen, stall)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert seen["results"] > 1000
    assert seen["hits"] > 150
    if not stall:
        assert seen["latency"] == {2}
