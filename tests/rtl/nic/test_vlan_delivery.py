"""The switch and VLANs: each receiver is told what of a frame it has, as the golden switch says."""

from collections import Counter
from dataclasses import replace

from models.spec.config import config
from models.spec.nic import MANAGEMENT, PORT_SOURCE, FunctionControl, FunctionVlan
from rtl.nic.seams import FrameForm, LocalMemory
from rtl.nic.switch import Switch
from tests.rtl.agents import Sink, put, run, seeded, wait_for
from tests.rtl.nic.policy_world import ALL, World, formed

TINY = replace(config("tiny").nic, checksum=False)
ROUNDS = 200


class Bench:
    """A switch, the frames in its slots, and what it tells of them."""

    def __init__(self, rng):
        self.dut, self.rng, self.world = Switch(TINY), rng, World(rng)
        names = ("share", "egress", "arrival", "stat")
        self.sinks = {name: Sink(getattr(self.dut, name), rng) for name in names}
        self.frame = b""
        self.notes: dict[int, bytes] = {}

    async def header(self, ctx):
        port = self.dut.header
        while True:
            ctx.set(port.ready, self.rng.random() < 0.5)
            *_, en, ready = await ctx.tick().sample(port.en, port.ready)
            beat = int.from_bytes(self.frame[:16].ljust(16, b"\x99"), "little")
            ctx.set(port.data, beat if en and ready else self.rng.getrandbits(128))

    async def note(self, ctx):
        port = self.dut.note
        while True:
            *_, en, slot, tci = await ctx.tick().sample(port.en, port.slot, port.tci)
            if en:
                self.notes[slot] = b"\x81\x00" + tci.to_bytes(2, "big")

    async def set_up(self, ctx):
        for function in self.world.functions:
            function.write_management(MANAGEMENT["control"].offset, 1)
        ctx.set(self.dut.live, (1 << TINY.functions) - 1)
        await ctx.tick().repeat(600)  # filters are filled

    async def change(self, ctx, changes):
        for change in changes:
            await put(ctx, self.dut.filter, change)
        for function in self.world.functions:
            bits = FunctionControl.from_bits(function.control)
            ctx.set(self.dut.controls[function.number], bits)
        await ctx.tick()

    async def forward(self, ctx, source, frame):
        """Send a frame; return what each function, and the wire, is told to have of it."""
        port, slot = source == PORT_SOURCE, self.rng.randrange(TINY.tx_slots)
        memory = LocalMemory.RX if port else LocalMemory.TX
        reference = {"memory": memory, "slot": slot, "length": len(frame)}
        self.frame = frame
        egress, sent = self.sinks["egress"].got, len(self.sinks["egress"].got)
        if port:
            await put(
                ctx, self.dut.port_frame, {"frame": reference, "head": self.world.head(frame)}
            )
        else:
            await put(ctx, self.dut.tx_frame, {"frame": reference, "function": source})
        await wait_for(ctx, lambda: True, then=60)
        found = {}
        for function in ALL:
            if (told := await self.pop(ctx, function)) is not None:
                assert (told.slot, told.length) == (slot, len(frame))
                found[function] = formed(frame, told.form, self.notes.get(slot, b""))
                assert told.form != FrameForm.TAGGED or not port
        wire = [formed(frame, one.form, self.notes.get(one.slot, b"")) for one in egress[sent:]]
        return found, wire

    async def pop(self, ctx, function):
        pop = self.dut.rx_pop
        ctx.set(pop.function, function)
        for signal in (pop.looks, pop.en):
            ctx.set(signal, 1)
        await ctx.tick()
        for signal in (pop.looks, pop.en):
            ctx.set(signal, 0)
        if not ctx.get(pop.valid):
            return None
        frame = ctx.get(pop.frame)
        ctx.set(pop.back_function, function)
        ctx.set(pop.back_memory, frame.memory)
        ctx.set(pop.back, 1)
        await ctx.tick()
        ctx.set(pop.back, 0)
        return frame

    def run(self, test):
        parts = [sink.process for sink in self.sinks.values()]
        run(self.dut, test, background=[*parts, self.header, self.note])


def set_vlan(world, number, **fields):
    """Give a function a VLAN; return what the switch is told."""
    function = world.functions[number]
    old, new = function.vlan, FunctionVlan.const(fields).as_bits()
    function.write_management(MANAGEMENT["vlan"].offset, new)
    return [{"vlan": 1, "function": number, "old": old & 0xFFF, "new": new,
             "valid": fields.get("enable", 0)}]  # fmt: skip


def test_receivers_in_a_vlan_trunks_and_mirrors_of_one_frame():
    """Functions 0 and 1 are in VLAN 7, 2 in none, 3 in 7 but mirrors: as golden, and as it is."""
    bench = Bench(seeded(4))
    world = bench.world
    tag, others = bytes.fromhex("8100a007"), bytes.fromhex("81002008")

    async def test(ctx):
        await bench.set_up(ctx)
        mirror = FunctionControl.const({"enable": 1, "mirror": 1}).as_bits()
        world.functions[3].write_management(MANAGEMENT["control"].offset, mirror)
        for number in (0, 1, 3):
            vlan = {"vid": 7, "priority": 5, "enable": 1}
            await bench.change(ctx, set_vlan(world, number, **vlan))
        frame = b"\xff" * 6 + bytes(range(6)) + b"\x88\xb5" + bytes(46)
        tagged, strange = (frame[:12] + one + frame[12:] for one in (tag, others))
        for source, given, having, wire in (
            (0, frame, {1: frame, 2: tagged, 3: tagged}, [tagged]),
            (2, tagged, {0: frame, 1: frame, 3: tagged}, [tagged]),
            (2, frame, {3: frame}, [frame]),
            (2, strange, {3: strange}, [strange]),
            (0, tagged, {}, []),  # a tag of its own, though it is that of its VLAN
            (0, strange, {}, []),
            (3, frame, {0: frame, 1: frame, 2: tagged}, [tagged]),
            (PORT_SOURCE, tagged, {0: frame, 1: frame, 2: tagged, 3: tagged}, []),
            (PORT_SOURCE, strange, {2: strange, 3: strange}, []),
            (PORT_SOURCE, frame, {2: frame, 3: frame}, []),
        ):
            assert world.forward(source, given)[:2] == (having, wire)
            assert await bench.forward(ctx, source, given) == (having, wire)

    bench.run(test)


def test_random_policies_agree_with_the_golden_switch():
    bench = Bench(seeded(7))
    world, rng, forms = bench.world, bench.rng, Counter()

    async def test(ctx):
        await bench.set_up(ctx)
        for _ in range(ROUNDS):
            if rng.random() < 0.3:
                fields = {"vid": 5, "priority": rng.randrange(8), "enable": 1}
                await bench.change(ctx, set_vlan(world, rng.choice(ALL), **fields))
            await bench.change(ctx, world.change())
            source, frame = rng.choice([*ALL, PORT_SOURCE]), world.frame()
            having, wire, _ = world.forward(source, frame)
            assert await bench.forward(ctx, source, frame) == (having, wire)
            for one in (*having.values(), *wire):
                forms[source == PORT_SOURCE, len(one) - len(frame)] += 1

    bench.run(test)
    assert min(forms[False, 4], forms[False, -4], forms[True, -4]) > 3, forms
