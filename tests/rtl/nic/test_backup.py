"""Backup rings against one deque per queue, with a memory that answers late and sometimes not."""

from collections import Counter, deque
from dataclasses import replace

import pytest

from models.spec.config import config
from models.spec.nic import BACKUP_FRAME_OFFSET, MANAGEMENT, BackupRing, Stat
from rtl.nic.backup import Backup
from rtl.nic.seams import BACKUP_BIT, DmaStatus, FrameForm, FrameRef, LocalMemory
from tests.rtl.agents import run, seeded

NIC = replace(config("tiny").nic, queue_pairs=2, frame_bytes=2048)
_LOG2 = 3
_BASES = [0x1_0000_0000 + (number << 20) for number in range(NIC.functions)]
_STRIDE = NIC.backup_stride


def _form(memory: int, slot: int) -> FrameForm:
    """What the receiver of a frame in a slot has of it."""
    if memory == LocalMemory.RX:
        return FrameForm.UNTAGGED if slot % 2 else FrameForm.WHOLE
    return FrameForm(slot % 3)


def _received(frame) -> int:
    """Bytes that a receiver has of a frame."""
    more = {FrameForm.UNTAGGED: -4, FrameForm.TAGGED: 4}
    return frame.length + more.get(FrameForm(frame.form), 0)


def _local(form: FrameForm, begin: int, end: int) -> int:
    """Where in a slot, as DMA sees it, a piece of an entry is: of no more than one part of it."""
    tag = BACKUP_FRAME_OFFSET + 12
    if form == FrameForm.WHOLE or end <= tag:
        return begin
    assert begin >= tag, "a piece goes over the place of a tag"
    if form == FrameForm.UNTAGGED:
        return begin + 4
    if begin >= tag + 4:
        return begin - 4
    assert end <= tag + 4, "a piece goes over the end of a tag"
    return begin - tag


class _World:
    """Everything around the rings: DMA, slots, the functions' quotas."""

    def __init__(self, rng, *, faults: float = 0.0):
        self.rng, self.faults = rng, faults
        self.memory: dict[int, object] = {}  # entry's number, or the length of its frame
        self.numbers: dict[int, int] = {}  # of entries whose frames are being written
        self.pieces: dict[int, set[int]] = {}  # bytes of an entry that have been written
        self.slots: dict[int, int] = {}  # length of the frame in a slot of the TX memory
        self.pending: list[tuple[int, dict]] = []
        self.free = deque(range(100, 120))
        self.claimed: Counter = Counter()
        self.store = self.ending = None
        self.now = 0

    def ask(self, request) -> None:
        if request["memory"] == LocalMemory.NOWHERE:  # comes first
            self.pieces.pop(request["iova"], None)
        late = self.now + self.rng.randrange(3, 60)
        self.pending.append((late, request))

    def finish(self):
        """A request that ends now: its tag and status."""
        ending, self.ending = self.ending, None
        if ending:
            return ending
        ready = [entry for entry in self.pending if entry[0] <= self.now]
        if not ready or self.rng.random() < 0.2:
            return None
        entry = self.rng.choice(ready)
        self.pending.remove(entry)
        request = entry[1]
        if self.rng.random() < self.faults:
            return request["tag"], DmaStatus.BUS
        self._move(**request)
        self.ending = request["tag"], DmaStatus.OK  # behind what is stored
        return None

    def _move(self, tag, write, iova, length, memory, offset) -> None:
        if write and memory == LocalMemory.NOWHERE:
            assert (length, offset & 15) == (2, 10)
            self.numbers[iova] = offset >> 4
            self._complete(iova)
        elif write:  # a piece: none goes over the end of a burst
            assert iova % 256 + length <= 256
            entry, (slot, at) = iova & -_STRIDE, divmod(offset, 2 * NIC.frame_stride)
            place = iova - entry
            assert at == _local(_form(memory, slot), place, place + length)
            self.pieces.setdefault(entry, set()).update(range(place, place + length))
            self._complete(entry)
        elif memory == LocalMemory.SCRATCH:
            assert length == BACKUP_FRAME_OFFSET
            self.store = offset, self.memory[iova]
        else:
            assert memory == LocalMemory.TX
            assert self.memory[iova] == length
            slot, at = divmod(offset, 2 * NIC.frame_stride)
            assert at == BACKUP_FRAME_OFFSET
            self.slots[slot] = length

    def _complete(self, entry: int) -> None:
        """See whether all of an entry has been written."""
        length, first = self.numbers.get(entry, 0) & 0x3FFF, BACKUP_FRAME_OFFSET
        if length and self.pieces.get(entry) == set(range(first, first + length)):
            self.memory[entry] = self.numbers.pop(entry)
            del self.pieces[entry]
            self.memory[entry + first] = length


@pytest.mark.parametrize(
    ("faults", "toggles"),
    [
        (0.01, False),
        pytest.param(0.0, False, marks=pytest.mark.full),
        pytest.param(0.0, True, marks=pytest.mark.full),
    ],
)
def test_order_and_what_is_given_back(faults, toggles):
    """With ``toggles`` software switches rings off and on meanwhile."""
    dut, rng = Backup(NIC), seeded(7 + int(100 * faults))
    world = _World(rng, faults=faults)
    receivers, pairs = NIC.receivers, NIC.queue_pairs
    expected = [deque() for _ in range(receivers)]  # lengths
    inside: Counter = Counter()  # (function, transit) of frames that came in
    given: Counter = Counter()
    stats: Counter = Counter()
    per_queue: Counter = Counter()
    lost: Counter = Counter()  # by queue
    handed = dropped = 0
    used, seen = set(), set()

    async def set_ring(ctx, function, enable):
        base, ring = _BASES[function], BackupRing.const({"entries_log2": _LOG2, "enable": enable})
        for name, value in (("backup_low", base & 0xFFFF_FFFF), ("backup_high", base >> 32),
                            ("backup", ring.as_bits())):  # fmt: skip
            ctx.set(dut.stored.en, 1)
            ctx.set(dut.stored.function, function)
            ctx.set(dut.stored.word, MANAGEMENT[name].offset // 4)
            ctx.set(dut.stored.data, value)
            await ctx.tick()
        ctx.set(dut.stored.en, 0)

    async def bench(ctx):
        nonlocal handed, dropped
        ctx.set(dut.receiving, -1 & (1 << NIC.functions) - 1)
        ctx.set(dut.note_free, 1)
        for function in range(NIC.functions):
            await set_ring(ctx, function, 1)
        waits, coming, length, cycles = 0, None, 60, 10_000
        enabled = [1] * NIC.functions
        for number in range(cycles):
            world.now = number
            ending = number > cycles - 3000
            if rng.random() < 0.01:
                waits ^= 1 << rng.randrange(receivers)
            if ending:
                waits = 0
            ctx.set(dut.waits, waits)
            if toggles and rng.random() < 0.004:
                function = rng.randrange(NIC.functions)
                enabled[function] = ending or not enabled[function]
                ring = {"entries_log2": _LOG2, "enable": enabled[function]}
                ctx.set(dut.stored.function, function)
                ctx.set(dut.stored.word, MANAGEMENT["backup"].offset // 4)
                ctx.set(dut.stored.data, BackupRing.const(ring).as_bits())
                ctx.set(dut.stored.en, 1)
            else:
                ctx.set(dut.stored.en, 0)
            if coming is None and not ending and rng.random() < 0.06:
                length = 16 + (length - 16 + 9) % 1440
                frame = FrameRef.const(
                    {
                        "memory": (memory := rng.choice((LocalMemory.TX, LocalMemory.RX))),
                        "slot": (slot := rng.randrange(40)),
                        "length": length,
                        "form": _form(memory, slot),
                    }
                )
                coming = {
                    "function": rng.randrange(NIC.functions),
                    "pair": rng.randrange(pairs),
                    "frame": frame,
                }
                ctx.set(dut.i.payload, coming)
                ctx.set(dut.transit, rng.random() < 0.1)
            ctx.set(dut.i.valid, coming is not None)
            ctx.set(dut.o.ready, rng.random() < 0.9)
            for port in (dut.request, dut.given, dut.release, dut.stat):
                ctx.set(port.ready, rng.random() < 0.9)
            ctx.set(dut.alloc.valid, bool(world.free))
            ctx.set(dut.alloc.payload, world.free[0] if world.free else 0)
            claim = ctx.get(dut.claim)
            claimed = bool(claim and rng.random() < 0.8)
            ctx.set(dut.claimed, claimed)
            if claimed:
                world.claimed[ctx.get(dut.claim_function)] += 1
            done = world.finish()
            ctx.set(dut.done.valid, done is not None)
            if done:
                ctx.set(dut.done.payload, {"tag": done[0], "status": done[1]})
            ctx.set(dut.store.en, world.store is not None)
            if world.store:
                offset, value = world.store
                assert offset >> BACKUP_BIT == 1
                ctx.set(dut.store.memory, LocalMemory.SCRATCH)
                ctx.set(dut.store.addr, offset)
                ctx.set(dut.store.data, value)
                world.store = None
            ctx.set(dut.finding.finding, ctx.get(dut.finding.slot) % 3)
            taken = coming is not None and ctx.get(dut.i.ready)
            transit = ctx.get(dut.transit)
            out, given_, back, stat, asked, slot = (
                ctx.get(port.payload) if ctx.get(port.valid) and ctx.get(port.ready) else None
                for port in (dut.o, dut.given, dut.release, dut.stat, dut.request, dut.alloc)
            )  # fmt: skip
            if slot is not None:
                used.add(world.free.popleft())
            if taken:
                receiver = coming["function"] * pairs + coming["pair"]
                expected[receiver].append(_received(coming["frame"]))
                inside[coming["function"], transit] += 1
                coming = None
            if out is not None:
                receiver = out.function * pairs + out.pair
                while expected[receiver][0] != _received(out.frame):
                    expected[receiver].popleft()
                    lost[out.function, 2 * out.pair, Stat.RX_DROPPED_FULL] += 1
                    dropped += 1
                expected[receiver].popleft()
                handed += 1
                if out.frame.slot in used:  # of the ring's own
                    assert world.slots[out.frame.slot] == out.frame.length
                    assert out.frame.form == FrameForm.WHOLE
                    seen.add(out.frame.length)
                    used.discard(out.frame.slot)
                    world.free.append(out.frame.slot)
                else:
                    inside[out.function, 0] -= 1  # it passes
            if given_ is not None:
                given[given_.function, given_.transit] += 1
            if back is not None and back.memory == LocalMemory.TX and back.slot in used:
                used.discard(back.slot)
                world.free.append(back.slot)
            if stat is not None:
                stats[Stat(stat.stat)] += stat.amount
                assert stat.queued
                per_queue[stat.function, stat.queue, Stat(stat.stat)] += stat.amount
            if asked is not None:
                names = ("tag", "write", "iova", "length", "memory", "offset")
                assert asked.function == 0
                assert asked.hurried
                world.ask({name: getattr(asked, name) for name in names})
            await ctx.tick()

    run(dut, bench)
    dropped += sum(map(len, expected))
    for receiver, left in enumerate(expected):
        lost[receiver // pairs, 2 * (receiver % pairs), Stat.RX_DROPPED_FULL] += len(left)
    assert not used, "slots are lost"
    assert min(seen) < 30
    assert stats[Stat.RX_BACKUP] > (50 if toggles else 100)
    assert stats[Stat.RX_DROPPED_FULL] == dropped
    assert {key: n for key, n in per_queue.items() if key[2] == Stat.RX_DROPPED_FULL} == +lost
    if not faults and not toggles:  # what is thrown away on its way back is given back again
        # Each that did not pass is given back once, as what it was.
        assert +inside == +given
        assert 5 < dropped < handed / 3
