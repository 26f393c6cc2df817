"""Ethernet port: frames into RX slots and out of TX slots."""

import pytest

from models.spec.config import config
from models.spec.nic import Stat
from rtl.nic.port import PortEgress, PortIngress
from rtl.nic.seams import FrameForm, LocalMemory
from tests.rtl.agents import Sink, Source, run, seeded, wait_for
from tests.rtl.simulators import built

TINY = config("tiny").nic
BEATS = TINY.frame_stride // 16


def beats(frame: bytes, error: bool = False) -> list[dict]:
    found = []
    for offset in range(0, len(frame), 16):
        part = frame[offset : offset + 16]
        last = offset + 16 >= len(frame)
        found.append(
            {
                "data": int.from_bytes(part, "little"),
                "keep": (1 << len(part)) - 1,
                "last": last,
                "error": error and last,
            }
        )
    return found


class Ingress:
    """PortIngress with its memory, in Python."""

    def __init__(self, slots, stall=0.0):
        self.dut = built(PortIngress, TINY)
        self.rng = seeded(5)
        self.alloc = Source(self.dut.alloc, self.rng)
        self.alloc.queue.extend(slots)
        self.frames = Sink(self.dut.frame, self.rng, stall)
        self.stats = Sink(self.dut.stat, self.rng, stall)
        self.memory = {}

    async def writes(self, ctx):
        write = self.dut.write
        while True:
            *_, en, addr, value = await ctx.tick().sample(write.en, write.addr, write.data)
            if en:
                self.memory[addr] = value

    def run(self, frames, then=20):
        async def wire(ctx):
            for _ in range(4):
                await ctx.tick()
            for beat in (beat for frame in frames for beat in frame):
                ctx.set(self.dut.wire.payload, beat)
                ctx.set(self.dut.wire.valid, 1)
                assert ctx.get(self.dut.wire.ready) == 1, "the wire was stalled"
                await ctx.tick()
            ctx.set(self.dut.wire.valid, 0)
            for _ in range(then):
                await ctx.tick()

        parts = (self.alloc, self.frames, self.stats)
        run(self.dut, wire, background=[part.process for part in parts] + [self.writes])

    def content(self, slot, length) -> bytes:
        size = -(-length // 16)
        found = b"".join(self.memory[slot * BEATS + n].to_bytes(16, "little") for n in range(size))
        return found[:length]

    @property
    def counted(self):
        total = {}
        for event in self.stats.got:
            assert event.function == 0
            total[event.stat] = total.get(event.stat, 0) + event.amount
        return total


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_frames_of_all_lengths_land_in_slots(stall):
    lengths = [14, 15, 16, 17, 64, 1514, TINY.frame_bytes]
    bench = Ingress([4, 2, 7, 0, 1, 3, 5], stall)
    frames = [bench.rng.randbytes(length) for length in lengths]
    bench.run([beats(frame) for frame in frames], then=60)
    assert len(bench.frames.got) == len(frames)
    for got, frame, slot in zip(bench.frames.got, frames, [4, 2, 7, 0, 1, 3, 5], strict=True):
        assert (got.frame.memory, got.frame.slot) == (LocalMemory.RX, slot)
        assert got.frame.length == len(frame)
        assert got.head.destination == int.from_bytes(frame[:6], "little")
        assert bench.content(slot, len(frame)) == frame
    assert bench.counted == {}


def test_bad_frames_are_dropped_and_counted():
    bench = Ingress([3, 6])
    good = [bench.rng.randbytes(60), bench.rng.randbytes(61)]
    bad = [
        beats(bytes(64), error=True),
        beats(bytes(13)),
        beats(bytes(TINY.frame_bytes + 1)),
        beats(bytes(TINY.frame_bytes + 100)),
    ]
    bench.run([*bad[:2], beats(good[0]), *bad[2:], beats(good[1])])
    assert [got.frame.slot for got in bench.frames.got] == [3, 6]
    assert [
        bench.content(slot, len(frame)) for slot, frame in zip([3, 6], good, strict=True)
    ] == good
    assert bench.counted == {Stat.RX_DROPPED_WIRE: 4}


def test_frames_without_a_slot_are_dropped_whole():
    bench = Ingress([1])
    frames = [bench.rng.randbytes(100) for _ in range(4)]
    bench.run([beats(frame) for frame in frames])
    assert [got.frame.slot for got in bench.frames.got] == [1]
    assert bench.content(1, 100) == frames[0]
    assert bench.counted == {Stat.RX_DROPPED_FULL: 3}


class Egress:
    """PortEgress with the TX memory, and tags of slots, in Python."""

    def __init__(self, seed, frames, stall=0.0, busy=0.0):
        self.dut, self.rng = built(PortEgress, TINY), seeded(seed)
        self.frames, self.busy = frames, busy
        self.tags = {slot: b"\x81\x00" + self.rng.randbytes(2) for slot in frames}
        self.wire = Sink(self.dut.wire, self.rng, stall)
        self.releases = Sink(self.dut.release, self.rng, stall)
        self.source = Source(self.dut.frame, self.rng)
        self.cycles = []

    async def memory(self, ctx):
        read, tag, rng = self.dut.read, self.dut.tag, self.rng
        while True:
            ctx.set(read.ready, rng.random() >= self.busy)
            *_, en, ready, addr, asked = await ctx.tick().sample(
                read.en, read.ready, read.addr, tag.slot
            )
            value = rng.getrandbits(128)  # nothing holds between reads
            if en and ready:
                slot, beat = divmod(addr, BEATS)
                part = self.frames[slot][16 * beat : 16 * beat + 16]
                assert part, "read beyond the frame"
                value = int.from_bytes(part, "little")
            ctx.set(read.data, value)
            ctx.set(tag.tag, int.from_bytes(self.tags.get(asked, bytes(4)), "little"))

    async def clock(self, ctx):
        now = 0
        while True:
            *_, valid, ready = await ctx.tick().sample(self.dut.wire.valid, self.dut.wire.ready)
            now += 1
            if valid and ready:
                self.cycles.append(now)

    def run(self, order):
        """Send slots in order, tagged or not; check what comes."""
        self.source.queue.extend(
            {
                "memory": LocalMemory.TX,
                "slot": slot,
                "length": len(self.frames[slot]),
                "form": FrameForm.TAGGED if tagged else FrameForm.WHOLE,
            }
            for slot, tagged in order
        )

        async def bench(ctx):
            await wait_for(ctx, lambda: len(self.releases.got) == len(order), then=40)

        parts = (self.wire, self.releases, self.source)
        run(self.dut, bench, background=[p.process for p in parts] + [self.memory, self.clock])
        assert [got.slot for got in self.releases.got] == [slot for slot, _ in order]
        sent, current = [], b""
        for beat in self.wire.got:
            count = beat.keep.bit_count()
            assert beat.keep == (1 << count) - 1
            assert count == 16 or beat.last
            assert not beat.error
            current += beat.data.to_bytes(16, "little")[:count]
            if beat.last:
                sent.append(current)
                current = b""
        assert sent == [self.sent(*one) for one in order]

    def sent(self, slot, tagged):
        frame = self.frames[slot]
        return frame[:12] + (self.tags[slot] if tagged else b"") + frame[12:]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_egress_sends_what_is_in_the_slots(stall, busy):
    rng = seeded(7)
    frames = {slot: rng.randbytes(rng.choice([14, 16, 60, 64, 65, 300])) for slot in range(8)}
    Egress(7, frames, stall, busy).run([(rng.randrange(8), False) for _ in range(30)])


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_tags_are_put_into_frames_of_all_lengths(stall, busy):
    """Between frames without a tag, and behind each other; the longest fills its slot."""
    rng = seeded(8)
    lengths = [14, *range(60, 76), *range(1505, 1515), TINY.frame_bytes - 3, TINY.frame_bytes]
    order = [(rng.randrange(16), True)]
    for _ in range(40):
        order.append((rng.randrange(16), rng.random() < 0.7))
    for first in range(0, len(lengths), 16):
        frames = {n: rng.randbytes(length) for n, length in enumerate(lengths[first:][:16])}
        mine = [(slot % len(frames), tagged) for slot, tagged in order]
        Egress(9, frames, stall, busy).run(mine + [(slot, True) for slot in frames])


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("length", [60, 64, 76, 77])
def test_egress_takes_a_cycle_per_beat(tagged, length):
    """Frames back to back, with one more beat where a tag needs it."""
    bench = Egress(1, {slot: bytes((slot,)) * length for slot in range(4)})
    bench.run([(slot, tagged) for slot in range(4)] * 3)
    count = 12 * -(-(length + 4 * tagged) // 16)
    assert bench.cycles == list(range(bench.cycles[0], bench.cycles[0] + count))
