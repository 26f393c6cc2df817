"""Who is to have a frame, against a small model."""

from models.spec.config import config
from models.spec.nic import PORT_SOURCE, FunctionControl, Stat
from rtl.nic.forwarding import Lookup
from rtl.nic.seams import LocalMemory
from tests.rtl.agents import Sink, put, run, seeded, wait_for

TINY = config("tiny").nic
ALL = range(TINY.functions)


def expected(world, source, target):
    """Return receivers, whether the port gets it, and whose drop it is if nobody does."""
    group, enabled = target & 1, {f for f in ALL if world["controls"][f]["enable"]}
    owners = {f for f in ALL if world["macs"][f] == target}
    promiscuous = {f for f in ALL if world["controls"][f]["promiscuous"]}
    guest = source != PORT_SOURCE
    others = owners - {source}
    blame = (min(others, default=0), Stat.RX_DROPPED_FILTER)
    if guest and (source not in enabled or not others):
        blame = (source, Stat.TX_DROPPED)
    if guest and source not in enabled:
        return set(), 0, blame
    wanted = (enabled if group else owners & enabled) | promiscuous
    port = guest and (group or not owners & enabled)
    return wanted & enabled & world["receiving"] - {source}, int(port), blame


def test_receivers_of_random_frames():
    dut, rng = Lookup(TINY), seeded(41)
    results, stats = Sink(dut.result, rng, 0.3), Sink(dut.stat, rng, 0.3)
    macs = [0x0200_0000_0002 << 4 | f << 8 for f in range(3)]
    destination = {"now": 0}

    async def header(ctx):
        while True:
            ctx.set(dut.header.ready, rng.random() < 0.5)
            *_, en, ready = await ctx.tick().sample(dut.header.en, dut.header.ready)
            noise = rng.getrandbits(80) << 48
            ctx.set(dut.header.data, noise | (destination["now"] if en and ready else 0x33))

    async def bench(ctx):
        for number in range(300):
            world = {
                "controls": [
                    {"enable": rng.random() < 0.7, "promiscuous": rng.random() < 0.2} for _ in ALL
                ],
                "macs": [rng.choice(macs) for _ in ALL],
            }
            enabled = [f for f in ALL if world["controls"][f]["enable"]]
            world["receiving"] = {f for f in enabled if rng.random() < 0.8}
            for f in ALL:
                ctx.set(dut.controls[f], FunctionControl.const(world["controls"][f]))
                ctx.set(dut.macs[f], world["macs"][f])
            ctx.set(dut.receiving, sum(1 << f for f in world["receiving"]))
            source = rng.choice([*ALL, PORT_SOURCE])
            target = rng.choice([*macs, 0x0A00_0000_0002, 0xFFFF_FFFF_FFFF, 1])
            destination["now"] = target
            memory = LocalMemory.RX if source == PORT_SOURCE else LocalMemory.TX
            frame = {"memory": memory, "slot": number % 16, "length": number}
            drops = len(stats.got)
            if source == PORT_SOURCE:
                await put(ctx, dut.port_frame, {"frame": frame, "destination": target})
            else:
                await put(ctx, dut.tx_frame, {"frame": frame, "function": source})
            await wait_for(ctx, lambda n=number: len(results.got) == n + 1, then=6)
            functions, port, blame = expected(world, source, target)
            result = results.got[-1]
            assert result.frame.length == number
            assert {f for f in ALL if result.functions >> f & 1} == functions
            assert result.port == port
            if functions or port:
                assert len(stats.got) == drops
            else:
                await wait_for(ctx, lambda n=drops: len(stats.got) == n + 1)
                assert (stats.got[-1].function, stats.got[-1].stat) == blame

    run(dut, bench, background=[results.process, stats.process, header])
