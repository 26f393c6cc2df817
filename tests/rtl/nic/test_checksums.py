"""Checksum offloads: what is right, what is put in, against the golden model."""

import pytest

from models.nic.offload import BadOffload, complete
from models.nic.packets import Packet
from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.offload.checker import CHECK_LATENCY, Checker, Finding
from rtl.nic.seams import LocalMemory
from tests.rtl.agents import Sink, run, seeded, wait_for
from tests.rtl.nic.offload_world import PAIR, OffloadWorld
from tests.rtl.nic.packet_world import MACS, ip_frame, random_frame, spoiled, sum_of

CONFIG = NicConfig(vfs=2, queue_pairs=1, tx_slots=8, rx_slots=8, checksum=True)


def expected(frame: bytes) -> Finding:
    packet = Packet.of(frame)
    good = None if packet is None else packet.checksum_good()
    return Finding.NONE if good is None else Finding.GOOD if good else Finding.BAD


def frames_of_all_kinds(rng, count: int) -> list[bytes]:
    frames = [random_frame(rng) for _ in range(count)]
    frames = [frame if n % 3 == 0 else spoiled(rng, frame) for n, frame in enumerate(frames)]
    frames += [MACS + b"\x08\x00", MACS + b"\x81\x00", MACS + b"\x81\x00\x00\x01\x08\x00"]
    return frames


def test_checker_agrees_with_the_golden_model_on_beats_back_to_back():
    dut, rng = Checker(), seeded(31)
    frames, found = frames_of_all_kinds(rng, 90), []

    async def feed(ctx):
        ctx.set(dut.en, 1)
        for number, frame in enumerate(frames):
            for index in range(-(-len(frame) // 16)):
                part = frame[16 * index : 16 * index + 16]
                ctx.set(
                    dut.beat.data, int.from_bytes(part + rng.randbytes(16 - len(part)), "little")
                )
                ctx.set(dut.beat.index, index)
                ctx.set(dut.beat.last, 16 * index + 16 >= len(frame))
                ctx.set(dut.beat.length, len(frame))
                ctx.set(dut.beat.tag, number)
                await ctx.tick()
        ctx.set(dut.en, 0)
        await ctx.tick().repeat(CHECK_LATENCY + 1)

    async def watch(ctx):
        while True:
            *_, done, tag, finding = await ctx.tick().sample(dut.done, dut.tag, dut.finding)
            if done:
                found.append((tag, Finding(finding)))

    run(dut, feed, background=[watch])
    assert found == [(n, expected(frame)) for n, frame in enumerate(frames)]
    assert {finding for _, finding in found} == set(Finding)


def test_checker_is_as_late_as_it_says():
    dut, frame = Checker(), ip_frame(seeded(1), size=30)

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for index in range(-(-len(frame) // 16)):
            ctx.set(dut.beat.data, int.from_bytes(frame[16 * index :][:16], "little"))
            ctx.set(dut.beat.index, index)
            ctx.set(dut.beat.length, len(frame))
            ctx.set(dut.beat.last, 16 * index + 16 >= len(frame))
            await ctx.tick()
        ctx.set(dut.en, 0)
        for _ in range(CHECK_LATENCY - 1):
            assert not ctx.get(dut.done)
            await ctx.tick()
        assert ctx.get(dut.done)
        assert ctx.get(dut.finding) == Finding.GOOD

    run(dut, bench)


def completions(rng, count: int):
    """Frames with a checksum to put in, most of them possible."""
    for number in range(count):
        frame = random_frame(rng, 120)
        start = rng.choice((34, 54, 34, rng.randrange(0, len(frame) + 4)))
        offset = rng.choice((16, 6, rng.randrange(0, 80), 0, 1))
        if number % 10 == 0:  # the sum comes to nothing
            frame, start, offset = bytes(60), 20, number % 20 // 10
        if number % 10 == 1 and start + offset + 2 <= len(frame):
            done = complete(frame, start, offset)
            at = start + offset
            frame = done[:at] + bytes(2) + done[at + 2 :] if number % 20 == 1 else done
        yield frame, start, offset


def test_checksums_are_put_in_as_the_golden_model_does_and_sums_stay_right():
    rng = seeded(32)
    world = OffloadWorld(CONFIG, rng)
    dut, seen = world.dut, set()
    stats = Sink(dut.stat, rng, 0.3)
    frames, releases = Sink(dut.frame, rng, 0.3), Sink(dut.release, rng, 0.3)

    async def bench(ctx):
        ctx.set(dut.offloads.csum, 1)
        for frame, start, offset in completions(rng, 24):
            header = {"flags": rng.choice((1, 3, 0xFF)), "csum_start": start, "csum_offset": offset}
            slot = await world.fill(ctx, frame, header)
            await world.send(ctx, slot, frame, header)
            await wait_for(ctx, lambda: frames.got or releases.got)
            try:
                wanted = complete(frame, start, offset)
            except BadOffload:
                wanted = None
            assert bool(frames.got) == (wanted is not None), (start, offset, len(frame))
            seen.add(wanted is not None)
            if wanted is not None:
                assert await world.content(ctx, slot, len(frame)) == wanted
                await ctx.tick().repeat(6)
                ctx.set(dut.found.payload.frame.slot, slot)
                assert ctx.get(dut.verifier.sum) % 0xFFFF == sum_of(wanted) % 0xFFFF
                await world.free(ctx, slot)
                await wait_for(ctx, lambda: stats.got)
                assert [int(event.stat) for event in stats.got] == [Stat.TX_CHECKSUMS]
            else:
                await world.free(ctx, slot)
                await wait_for(ctx, lambda: len(stats.got) == 2)
                reasons = [Stat.TX_DROPPED, Stat.TX_DROPPED_OFFLOAD]
                assert [int(event.stat) for event in stats.got] == reasons
            assert all(frame.pair == PAIR for frame in frames.got)
            assert all(event.queued and event.queue == 2 * PAIR + 1 for event in stats.got)
            for sink in (stats, frames, releases):
                sink.got.clear()
        assert seen == {True, False}

    run(dut, bench, background=[s.process for s in (stats, frames, releases)])


@pytest.mark.parametrize("asked", [{"gso_type": 1}, {"flags": 1}])
def test_what_was_not_negotiated_is_dropped(asked):
    world = OffloadWorld(CONFIG, seeded(33))
    dut = world.dut
    stats, releases = Sink(dut.stat, world.rng), Sink(dut.release, world.rng)

    async def bench(ctx):
        ctx.set(dut.offloads.csum, "gso_type" in asked)
        frame = ip_frame(world.rng)
        slot = await world.fill(ctx, frame, asked)
        await world.send(ctx, slot, frame, asked)
        await wait_for(ctx, lambda: len(stats.got) == 2)
        assert [event.slot for event in releases.got] == [slot]

    run(dut, bench, background=[stats.process, releases.process])


def test_frames_between_functions_are_found_good_or_bad():
    rng = seeded(34)
    world = OffloadWorld(CONFIG, rng)
    dut, found = world.dut, []

    async def watch(ctx):
        note = dut.verifier.note
        while True:
            *_, en, slot, finding = await ctx.tick().sample(note.en, note.slot, note.finding)
            if en:
                found.append((slot, Finding(finding)))

    async def bench(ctx):
        ctx.set(dut.checked.ready, 1)
        ctx.set(dut.checking, 4)
        for number, frame in enumerate(frames_of_all_kinds(rng, 24)):
            slot = await world.fill(ctx, frame)
            functions = rng.choice((4, 6, 5))
            wanted = expected(frame)
            if number % 12 == 7:
                functions, wanted = 3, Finding.NONE
            ctx.set(dut.found.payload.frame.memory, LocalMemory.TX)
            ctx.set(dut.found.payload.frame.slot, slot)
            ctx.set(dut.found.payload.frame.length, len(frame))
            ctx.set(dut.found.payload.functions, functions)
            ctx.set(dut.found.valid, 1)
            for _ in range(60):
                if ctx.get(dut.found.ready):
                    break
                await ctx.tick()
            await ctx.tick()
            ctx.set(dut.found.valid, 0)
            await wait_for(ctx, lambda: found)
            assert found == [(slot, wanted)], (number, frame.hex())
            found.clear()
            await world.free(ctx, slot)

    run(dut, bench, background=[watch])
