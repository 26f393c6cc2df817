"""The switch under random traffic: every frame reaches its receivers, and no reference is lost."""

from collections import Counter, deque
from dataclasses import replace
from itertools import product

import pytest

from models.spec.config import config
from models.spec.nic import PORT_SOURCE, FunctionControl, Stat, initial_mac
from rtl.nic.seams import LocalMemory
from rtl.nic.switch import Switch
from tests.rtl.agents import Sink, Source, put, run, seeded, wait_for

TINY = replace(config("tiny").nic, checksum=False)
ALL = range(TINY.functions)
MACS = [0x0200_0000_0002 | f << 40 for f in ALL]
PROMISCUOUS = 3
GROUPS = {0xFFFF_FFFF_FFFF: Stat.RX_BROADCAST, 0x0100_005E_0001: Stat.RX_MULTICAST}
FRAMES = 250


def initial(function):
    return int.from_bytes(initial_mac(function), "little")


def receivers(source, target):
    """Return functions and whether the port gets it; all are enabled and receive."""
    if target & 1:
        return {f for f in ALL if f != source}, source != PORT_SOURCE
    owner = {f for f in ALL if MACS[f] == target}
    return (owner | {PROMISCUOUS}) - {source}, source != PORT_SOURCE and not owner


@pytest.mark.parametrize("patience", [0.02, 0.4])
def test_random_traffic(patience):
    """``patience``: how often a function takes a frame; the less, the more are dropped."""
    dut, rng = Switch(TINY), seeded(44)
    sources = {LocalMemory.TX: Source(dut.tx_frame, rng, 0.2),
               LocalMemory.RX: Source(dut.port_frame, rng, 0.2)}  # fmt: skip
    share, egress = Sink(dut.share, rng, 0.3), Sink(dut.egress, rng, 0.3)
    arrivals, stats = Sink(dut.arrival, rng, 0.3), Sink(dut.stat, rng, 0.5)
    free = {memory: deque(range(TINY.tx_slots)) for memory in sources}
    held: dict[tuple, int] = {}  # references of a slot
    target_of: dict[int, int] = {}  # destination of what is in a TX slot
    wanted = {(f, memory): deque() for f in ALL for memory in sources}
    port: list[int] = []
    taken = [0] * TINY.functions
    targets: dict[int, int] = {}  # destination of a frame
    to_groups = Counter()  # frames by function and counter
    seen = {"share": 0, "egress": 0, "wanted": 0}

    def settle():
        """Follow shares and what goes to the wire."""
        for word in share.got[seen["share"] :]:
            key = (word.frame.memory, word.frame.slot)
            assert held[key] == 1, "shared twice"
            held[key] = word.count
            release(key, 0)
        seen["share"] = len(share.got)
        for frame in egress.got[seen["egress"] :]:
            assert frame.length == port.pop(0)
            release((frame.memory, frame.slot), 1)
        seen["egress"] = len(egress.got)

    def release(key, count):
        held[key] -= count
        assert held[key] >= 0, "a reference too many"
        if not held[key]:
            del held[key]
            free[key[0]].append(key[1])

    async def header(ctx):
        while True:
            ctx.set(dut.header.ready, rng.random() < 0.5)
            *_, en, ready, addr = await ctx.tick().sample(
                dut.header.en, dut.header.ready, dut.header.addr
            )
            if en and ready:
                ctx.set(dut.header.data, target_of[addr * 16 // TINY.frame_stride])

    def send(number):
        source = rng.choice([*ALL, PORT_SOURCE])
        memory = LocalMemory.RX if source == PORT_SOURCE else LocalMemory.TX
        if not free[memory]:
            return False
        slot = free[memory].popleft()
        target = rng.choice([*MACS, *MACS, 0x0E00_0000_0002, *GROUPS])
        targets[number] = target
        held[memory, slot] = 1
        frame = {"memory": memory, "slot": slot, "length": number}
        functions, to_port = receivers(source, target)
        seen["wanted"] += len(functions)
        for f in functions:
            wanted[f, memory].append(number)
        if to_port:
            port.append(number)
        if memory == LocalMemory.TX:
            target_of[slot] = target
            sources[memory].queue.append({"frame": frame, "function": source})
        else:
            head = {"destination": target}
            sources[memory].queue.append({"frame": frame, "head": head})
        return True

    async def bench(ctx):
        for f in ALL:
            ctx.set(dut.controls[f], FunctionControl.const({"enable": 1, "promiscuous": f == 3}))
            change = {"function": f, "old": initial(f), "new": MACS[f], "valid": 1}
            await put(ctx, dut.filter, change)
        ctx.set(dut.live, (1 << TINY.functions) - 1)
        await wait_for(ctx, lambda: True, then=20)
        number, idle = 0, 0
        while idle < 300:
            if number < FRAMES and rng.random() < 0.15:
                number += send(number)
            f, pop = rng.choice(ALL), rng.random() < (patience if number < FRAMES else 0.5)
            ctx.set(dut.rx_pop.function, f)
            ctx.set(dut.rx_pop.looks, pop)
            ctx.set(dut.rx_pop.en, pop)
            await ctx.tick()
            settle()
            idle = 0 if number < FRAMES or held else idle + 1
            popped = pop and ctx.get(dut.rx_pop.valid)
            ctx.set(dut.rx_pop.back, popped)  # in the next cycle
            if popped:
                frame = ctx.get(dut.rx_pop.frame)
                ctx.set(dut.rx_pop.back_function, f)
                ctx.set(dut.rx_pop.back_memory, frame.memory)
                expected = wanted[f, frame.memory]
                while expected.popleft() != frame.length:
                    pass  # a drop, to be found among the counts
                taken[f] += 1
                if stat := GROUPS.get(targets[frame.length]):
                    to_groups[f, stat] += 1
                release((frame.memory, frame.slot), 1)
        assert not port
        full = [0] * TINY.functions
        for event in stats.got:
            full[event.function] += event.stat == Stat.RX_DROPPED_FULL
            assert not (event.stat == Stat.RX_DROPPED_FULL and event.queued)
        for f in ALL:
            assert taken[f] == sum(a.function == f for a in arrivals.got)
        counted = Counter((event.function, event.stat) for event in stats.got)
        for f, stat in product(ALL, GROUPS.values()):
            assert counted[f, stat] == to_groups[f, stat]
        assert sum(to_groups.values()) > 20
        assert sum(taken) > 50
        assert sum(full) > 20 or patience > 0.1
        assert sum(taken) + sum(full) == seen["wanted"]

    parts = [*sources.values(), share, egress, arrivals, stats]
    run(dut, bench, background=[part.process for part in parts] + [header])
