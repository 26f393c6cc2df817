"""Who is to have a frame: the switch's lookup against the golden switch."""

from models.spec.nic import MANAGEMENT, PORT_SOURCE, FunctionControl, FunctionVlan, Stat
from models.spec.virtio import DeviceStatus
from rtl.nic.forwarding import Lookup
from rtl.nic.seams import FrameForm, LocalMemory
from tests.rtl.agents import Sink, put, run, seeded, wait_for
from tests.rtl.nic.policy_world import ALL, SENT, TINY, World, formed


def test_random_policies_agree_with_the_golden_switch():
    dut, rng = Lookup(TINY), seeded(41)
    world = World(rng)
    results, stats = Sink(dut.result, rng, 0.3), Sink(dut.stat, rng, 0.3)
    beat = {"now": 0}
    notes: dict[int, bytes] = {}
    seen = {"functions": 0, "port": 0, "long": 0, "kinds": set(), "forms": set(), "lost": 0}

    async def header(ctx):
        while True:
            ctx.set(dut.header.ready, rng.random() < 0.5)
            *_, en, ready = await ctx.tick().sample(dut.header.en, dut.header.ready)
            ctx.set(dut.header.data, beat["now"] if en and ready else rng.getrandbits(128))

    async def note(ctx):
        while True:
            *_, en, slot, tci = await ctx.tick().sample(dut.note.en, dut.note.slot, dut.note.tci)
            if en:
                notes[slot] = b"\x81\x00" + tci.to_bytes(2, "big")

    async def forward(ctx, number):
        frame, source = world.frame(), rng.choice([*ALL, PORT_SOURCE])
        have, port, counts = world.forward(source, frame)
        beat["now"] = int.from_bytes(frame[:16].ljust(16, b"\x99"), "little")
        memory = LocalMemory.RX if source == PORT_SOURCE else LocalMemory.TX
        reference = {"memory": memory, "slot": number % 16, "length": len(frame)}
        before = len(stats.got)
        if source == PORT_SOURCE:
            await put(ctx, dut.port_frame, {"frame": reference, "head": world.head(frame)})
        else:
            await put(ctx, dut.tx_frame, {"frame": reference, "function": source})
        await wait_for(ctx, lambda: len(results.got) == number + 1, then=20)
        result = results.got[-1]
        wired = formed(frame, result.frame.form, notes.get(reference["slot"], b""))
        bare = formed(wired, FrameForm.UNTAGGED, b"")
        found = {
            n: bare if result.bare >> n & 1 else wired for n in ALL if result.functions >> n & 1
        }
        mine: dict = {}
        for event in stats.got[before:]:
            key = event.function, Stat(event.stat)
            mine[key] = mine.get(key, 0) + event.amount
        # The switch's second half drops what is too long, and counts that and groups.
        kind = Stat.RX_DROPPED_LONG if result.long else None
        if result.group and not result.long:
            kind = Stat.RX_BROADCAST if result.broadcast else Stat.RX_MULTICAST
        for n in found if kind is not None else ():
            mine[n, kind] = mine.get((n, kind), 0) + 1
        if result.long:
            found = {}
        assert (found, [wired] * result.port, mine) == (have, port, counts), (number, frame[:20])
        assert result.frame.length == len(frame)
        seen["functions"] += len(found)
        seen["port"] += len(port)
        seen["long"] += result.long
        seen["forms"] |= {(source == PORT_SOURCE, len(frame) - len(one)) for one in have.values()}
        seen["kinds"] |= {stat for _, stat in counts}
        # Somebody else has what its owner does not.
        seen["lost"] += bool(have) and any(stat is Stat.RX_DROPPED_FILTER for _, stat in counts)

    async def bench(ctx):
        for function in world.functions:
            function.write_management(MANAGEMENT["control"].offset, 1)
        number = 0
        for _ in range(400):
            for change in world.change():
                await put(ctx, dut.filter, change)
            for n in ALL:
                bits = world.functions[n].control
                ctx.set(dut.controls[n], FunctionControl.from_bits(bits))
            world.functions[rng.choice(ALL)].status = rng.choice(
                (DeviceStatus.DRIVER_OK, DeviceStatus.DRIVER_OK, DeviceStatus(0))
            )
            ctx.set(dut.receiving, sum(world.functions[n].receives << n for n in ALL))
            for _ in range(rng.choice((0, 1, 2))):
                await forward(ctx, number)
                number += 1

    run(dut, bench, background=[results.process, stats.process, header, note])
    assert seen["functions"] > 50, seen
    # Frames of guests are left as they are, or lose a tag or get one; the port's lose it.
    assert seen["forms"] == {(False, 0), (False, 4), (False, -4), (True, 0), (True, 4)}, seen
    assert seen["port"] > 20, seen
    assert seen["long"] > 5, seen
    assert seen["lost"] > 5, seen
    assert set(SENT) | {Stat.TX_DROPPED_MAC, Stat.TX_DROPPED_VLAN} <= seen["kinds"]


def test_a_function_changes_its_vlan_while_frames_wait():
    """A frame is of the VLAN whose tag it has: that of when it is looked up."""
    dut, rng = Lookup(TINY), seeded(42)
    results, notes = [], []
    frame = b"\xff" * 6 + bytes((2, 0, 0, 0, 0, 1)) + b"\x88\xb5" + bytes(46)

    async def note(ctx):
        while True:
            *_, en, tci = await ctx.tick().sample(dut.note.en, dut.note.tci)
            if en:
                notes.append(tci & 0xFFF)

    async def bench(ctx):
        vlans = {1: 5, 2: 5, 3: 9}
        await ctx.tick().repeat(600)  # filters are filled
        for number, vid in vlans.items():
            bits = FunctionVlan.const({"vid": vid, "enable": 1}).as_bits()
            change = {"vlan": 1, "function": number, "new": bits, "valid": 1}
            await put(ctx, dut.filter, change)
            ctx.set(dut.controls[number].enable, 1)
        ctx.set(dut.receiving, (1 << TINY.functions) - 1)
        ctx.set(dut.header.ready, 1)
        ctx.set(dut.header.data, int.from_bytes(frame[:16], "little"))
        ctx.set(dut.stat.ready, 1)
        reference = {"memory": LocalMemory.TX, "length": len(frame)}
        for vid in (9, 5, 9):
            for slot in range(4):  # more than find room: one waits to be told of
                ctx.set(dut.tx_frame.payload, {"frame": {**reference, "slot": slot}, "function": 1})
                ctx.set(dut.tx_frame.valid, 1)
                for _ in range(rng.randrange(12, 30)):
                    *_, ready = await ctx.tick().sample(dut.tx_frame.ready)
                    if ready:
                        break
            bits = FunctionVlan.const({"vid": vid, "enable": 1}).as_bits()
            change = {"vlan": 1, "function": 1, "old": vlans[1], "new": bits, "valid": 1}
            vlans[1] = vid
            ctx.set(dut.filter.payload, change)
            ctx.set(dut.filter.valid, 1)
            await ctx.tick().repeat(20)
            ctx.set(dut.result.ready, 1)
            for _ in range(60):
                *_, changed, ready, valid, one = await ctx.tick().sample(
                    dut.filter.ready, dut.tx_frame.ready, dut.result.valid, dut.result.payload
                )
                if changed:
                    ctx.set(dut.filter.valid, 0)
                if ready:
                    ctx.set(dut.tx_frame.valid, 0)
                if valid:
                    results.append(one)
            ctx.set(dut.result.ready, 0)

    run(dut, bench, background=[note])
    assert len(results) == len(notes)
    found = [(tag, one.functions) for tag, one in zip(notes, results, strict=True)]
    assert set(found) == {(5, 1 << 2), (9, 1 << 3)}, found
