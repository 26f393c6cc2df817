"""The segmenter against the golden model."""

import pytest

from models.nic.offload import BadOffload, segment
from models.spec.config import NicConfig
from models.spec.virtio import GsoType, NetHeader
from rtl.nic.offload.segmenter import Segmenter
from tests.rtl.agents import run, seeded
from tests.rtl.nic.packet_world import ip_frame, sum_of

CONFIG = NicConfig(vfs=2, queue_pairs=1, tx_slots=8, rx_slots=8, checksum=True, segmentation=True)


class World:
    """A segmenter, and the memories round it: one slot after another."""

    def __init__(self, rng, *, steady: bool, stall: float):
        self.dut, self.rng, self.steady, self.stall = Segmenter(CONFIG), rng, steady, stall
        self.frame = b""
        self.slots: dict[int, bytearray] = {}
        self.counted: dict[int, int] = {}
        self.segments: list[bytes] = []
        self.outcome: list[bool] = []

    async def memories(self, ctx):
        """Answers reads a cycle later, takes writes, knows sums."""
        dut, read, patch = self.dut, self.dut.read, self.dut.patch
        ctx.set(dut.steady, self.steady)
        slot = 0
        while True:
            ctx.set(read.ready, self.steady or self.rng.random() >= self.stall)
            ctx.set(patch.ready, self.rng.random() >= self.stall)
            ctx.set(dut.alloc.valid, self.rng.random() >= self.stall)
            ctx.set(dut.alloc.payload, slot)
            ctx.set(dut.segment.ready, self.rng.random() >= self.stall)
            ctx.set(dut.sum, self.counted.get(ctx.get(dut.look), 0))
            found = await ctx.tick().sample(
                read.en & read.ready, read.addr, patch.en & patch.ready, patch.addr, patch.data,
                patch.mask, dut.counted, dut.extra, dut.alloc.valid & dut.alloc.ready,
                dut.segment.valid & dut.segment.ready, dut.segment.payload, dut.segments,
                dut.refused,
            )  # fmt: skip
            (reads, addr, writes, at, content, mask, counts, extra, took, gave, ref, cuts,
             refused) = found[2:]  # fmt: skip
            if took:
                self.slots[slot], self.counted[slot] = bytearray(CONFIG.frame_stride), 0
                slot = (slot + 1) % CONFIG.tx_slots
            if writes:
                self._write(at, content.to_bytes(16, "little"), mask, counts, extra)
            if gave:
                whole = bytes(self.slots[ref.slot][: ref.length])
                assert self.counted[ref.slot] % 0xFFFF == sum_of(whole) % 0xFFFF
                self.segments.append(whole)
            if cuts or refused:
                assert not (cuts and refused)
                self.outcome.append(bool(cuts))
            if reads:
                part = (self.frame[addr : addr + 16]).ljust(16, b"\xee")
                turned = bytes(part[(lane - addr) % 16] for lane in range(16))
                ctx.set(read.data, int.from_bytes(turned, "little"))
            elif not self.steady:
                ctx.set(read.data, self.rng.getrandbits(128))

    def _write(self, at, content, mask, counts, extra) -> None:
        slot, base = divmod(at, CONFIG.frame_stride)
        kept = bytearray(16)
        for lane in range(16):
            if mask >> lane & 1:
                place = base // 16 * 16 + lane
                self.slots[slot][place] = kept[lane] = content[lane]
        if counts:
            self.counted[slot] = (self.counted[slot] + sum_of(bytes(kept)) + extra) % 0xFFFF

    async def cut(self, ctx, frame: bytes, header) -> list[bytes] | None:
        """Cut a frame; ``None`` if that is refused."""
        job = self.dut.job
        self.frame = frame
        self.segments.clear()
        self.outcome.clear()
        ctx.set(job.payload.length, len(frame))
        ctx.set(job.payload.gso_type, header.gso_type)
        for name in ("gso_size", "csum_start", "csum_offset"):
            ctx.set(job.payload.note[name], getattr(header, name))
        ctx.set(job.valid, 1)
        while True:
            *_, ready = await ctx.tick().sample(job.ready)
            if ready:
                break
        ctx.set(job.valid, 0)
        await ctx.tick()
        assert len(self.outcome) == (header.gso_type != 0)
        return None if self.outcome == [False] else list(self.segments)


def golden(frame: bytes, header) -> list[bytes] | None:
    """What the golden model makes of it."""
    version = 4 if header.gso_type & ~GsoType.ECN == GsoType.TCPV4 else 6
    try:
        found = segment(frame, header, version)
    except BadOffload:
        return None
    return None if any(len(one) > CONFIG.frame_bytes for one in found) else found


def cases(rng, count: int):
    """Packets of both versions, most of them as they should be."""
    for number in range(count):
        version, tagged, options = rng.choice((4, 6)), rng.random() < 0.3, rng.choice((0, 0, 2))
        options = options if version == 4 else 0
        size = rng.choice((0, 1, 99, 100, 101, rng.randrange(400)))
        frame = ip_frame(
            rng, version, rng.choice((6, 6, 6, 17)) if number % 5 == 0 else 6, size, tagged=tagged,
            options=options, flags=rng.randrange(256), tcp_options=rng.choice((0, 3, 10)),
        )  # fmt: skip
        start = 14 + 4 * tagged + (20 + 4 * options if version == 4 else 40)
        fields = {
            "flags": 1, "gso_type": 1 if version == 4 else 4, "csum_start": start,
            "csum_offset": 16,
            "gso_size": rng.choice((100, 100, 536, 1400, rng.randrange(40, 200))),
        }  # fmt: skip
        if number % 6 == 1:
            spoil = rng.choice(("gso_size", "csum_start", "csum_offset", "gso_type", "cut", "bit"))
            if spoil == "cut":
                frame = frame[: rng.randrange(14, min(len(frame), 100))]
            elif spoil == "bit":
                at = rng.randrange(12, min(len(frame), start + 14))
                frame = frame[:at] + bytes((frame[at] ^ 1 << rng.randrange(8),)) + frame[at + 1 :]
            else:
                fields[spoil] = rng.choice((0, 5)) if spoil != "gso_type" else 5 - fields[spoil]
        yield frame, NetHeader.from_bits(NetHeader.const(fields).as_bits())


@pytest.mark.parametrize(("steady", "stall"), [(True, 0.0), (True, 0.3), (False, 0.3)])
def test_segments_are_those_of_the_golden_model(steady, stall):
    rng = seeded(41)
    world = World(rng, steady=steady, stall=stall)

    async def bench(ctx):
        refused = 0
        for frame, header in cases(rng, 14):
            expected = golden(frame, header)
            assert await world.cut(ctx, frame, header) == expected
            refused += expected is None
        assert 0 < refused < 10

    run(world.dut, bench, background=[world.memories])


def test_a_frame_that_is_not_to_be_cut_is_copied():
    rng = seeded(42)
    world = World(rng, steady=True, stall=0.0)

    async def bench(ctx):
        for length in (14, 15, 16, 17, 1514, CONFIG.frame_bytes):
            frame = rng.randbytes(length)
            assert await world.cut(ctx, frame, NetHeader.from_bits(0)) == [frame]

    run(world.dut, bench, background=[world.memories])
