"""What surrounds the virtqueue engine in tests: guest rings, a DMA that just copies, frames."""

import random
import struct
from collections import Counter, defaultdict, deque

from models.spec.config import NicConfig
from models.spec.nic import Stat
from rtl.nic.engine import VirtqueueEngine
from rtl.nic.seams import LARGE_BIT, DmaStatus, FrameForm, LocalMemory, QueueCommand
from tests.rtl.simulators import built, simulator

__all__ = ["PackedRing", "Ring", "RingWorld"]

#: Header of every frame that is received: one buffer holds it.
RX_HEADER = bytes(10) + b"\1\0"


class Ring:
    """A driver's view of one split virtqueue in guest memory."""

    def __init__(self, guest: bytearray, base: int, size: int, writable: bool, apart=False):
        self.guest, self.size, self.writable = guest, size, writable
        self.desc, self.driver, self.device = base, base + 0x1000, base + 0x1800
        if apart:  # a long descriptor table, and each area in its own pages
            self.driver, self.device = base + 0x2000, base + 0x3000
        self.buffers, self.room = base + (0x4000 if apart else 0x2000), 0x4000
        self.idx = self.used = 0
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}
        #: With IN_ORDER a used element stands for all chains up to its own.
        self.in_order = False

    def post(self, parts: list[tuple[int, int]], *, flags: int = 0, next_: int = 0) -> int:
        """Post one chain; returns its head.  ``flags`` and ``next_`` spoil the last descriptor."""
        ids = [self.free.pop(0) for _ in parts]
        for i, (address, length) in enumerate(parts):
            last = i == len(parts) - 1
            bits = (2 if self.writable else 0) | (0 if last else 1) | (flags if last else 0)
            link = next_ if last else ids[i + 1]
            struct.pack_into("<QIHH", self.guest, self.desc + 16 * ids[i], address, length, bits,
                             link)  # fmt: skip
        self.chains[ids[0]] = ids
        self.offer(ids[0])
        return ids[0]

    def offer(self, head: int, step: int = 1) -> None:
        """Put a head into the available ring."""
        at = self.driver + 4 + 2 * (self.idx % self.size)
        struct.pack_into("<H", self.guest, at, head)
        self.idx = (self.idx + step) & 0xFFFF
        struct.pack_into("<H", self.guest, self.driver + 2, self.idx)

    @property
    def avail_event(self) -> int:
        """Up to where the device wants no notification."""
        return struct.unpack_from("<H", self.guest, self.device + 4 + 8 * self.size)[0]

    def set_used_event(self, index: int) -> None:
        """Ask for an interrupt when the used element of this index is there."""
        at = self.driver + 4 + 2 * self.size
        struct.pack_into("<H", self.guest, at, index & 0xFFFF)

    def take(self) -> list[tuple[int, int]]:
        """Take used elements."""
        found = []
        (idx,) = struct.unpack_from("<H", self.guest, self.device + 2)
        while self.used != idx:
            at = self.device + 4 + 8 * (self.used % self.size)
            head, length = struct.unpack_from("<II", self.guest, at)
            heads = list(self.chains) if self.in_order else [head]
            for each in heads[: heads.index(head) + 1]:
                found.append((each, length if each == head else 0))
                self.free += self.chains.pop(each, [])
                self.used = (self.used + 1) & 0xFFFF
        return found


class PackedRing:
    """A driver's view of one packed virtqueue in guest memory."""

    def __init__(self, guest: bytearray, base: int, size: int, writable: bool, shift: int = 0):
        self.guest, self.size, self.writable = guest, size, writable
        self.desc, self.driver, self.device = base + shift, base + 0x1800, base + 0x1C00
        self.buffers = base + 0x2000
        self.next = self.used = 0  # positions, counting on from lap to lap
        self.spans: dict[int, int] = {}
        #: With IN_ORDER a used descriptor stands for all chains up to its own.
        self.in_order = False

    def _wrap(self, position: int) -> int:
        return 1 - position // self.size % 2

    @property
    def room(self) -> int:
        """Free descriptors."""
        return self.size - (self.next - self.used)

    def post(self, parts: list[tuple[int, int]], *, identity: int, flags: int = 0) -> None:
        """Post one chain; ``flags`` spoil the last descriptor."""
        for i, (address, length) in enumerate(parts):
            last, wrap = i == len(parts) - 1, self._wrap(self.next)
            bits = (2 if self.writable else 0) | (flags if last else 1)
            bits |= wrap << 7 | (1 - wrap) << 15
            struct.pack_into("<QIHH", self.guest, self.desc + 16 * (self.next % self.size), address,
                             length, identity if last else 0xBAD, bits)  # fmt: skip
            self.next += 1
        self.spans[identity] = len(parts)

    def take(self) -> list[tuple[int, int]]:
        """Take used descriptors."""
        found = []
        while self.spans:
            at = self.desc + 16 * (self.used % self.size)
            length, identity, flags = struct.unpack_from("<IHH", self.guest, at + 8)
            wrap = self._wrap(self.used)
            if (flags >> 7 & 1, flags >> 15) != (wrap, wrap):
                break
            given = list(self.spans) if self.in_order else [identity]
            for each in given[: given.index(identity) + 1]:
                found.append((each, length if flags & 2 and each == identity else 0))
                self.used += self.spans.pop(each)
        return found

    def notifies(self, before: int) -> bool:
        """Whether the device asks for a notification of what was posted from a position on."""
        at, flags = struct.unpack_from("<HH", self.guest, self.device)
        if flags != 2:
            return flags == 0
        asked = {n % self.size | self._wrap(n) << 15 for n in range(before, self.next)}
        return at in asked


class RingWorld:
    """Agents round an engine; ``status`` maps a page to how DMA to it ends."""

    def __init__(self, config: NicConfig, seed: int, latency: int = 8, slots: int = 4):
        self.dut, self.config = built(VirtqueueEngine, config), config
        self.rng, self.latency = random.Random(seed), latency
        self.guest = bytearray(1 << 20)
        stride = config.frame_stride
        self.frames = {LocalMemory.TX: bytearray(config.tx_slots * stride),
                       LocalMemory.RX: bytearray(config.rx_slots * stride)}  # fmt: skip
        #: What is beyond slots, of the one frame that has the large buffer.
        self.large = bytearray(1 << 16)
        #: Frames that are being cut into segments: at most one.
        self.cutting: list = []
        #: Tags of RX slots.
        self.tags: dict[int, bytes] = {}
        #: Free ones: few, so that queues wait for them.
        self.slots, self.slot_count = deque(range(slots)), slots
        self.status: dict[int, DmaStatus] = {}
        #: Functions that translate themselves.
        self.ats: set[int] = set()
        #: Functions whose DMA never ends.
        self.stuck: set[int] = set()
        #: Pages that are not there: hurried DMA ends with ABSENT, other waits.
        self.absent: set[int] = set()
        #: Pages that are not there for writes.
        self.unwritable: set[int] = set()
        #: Writes that had moved in part when they ended with ABSENT.
        self.torn: list = []
        self.sent, self.released, self.errors, self.interrupts = [], [], [], []
        self.stopped, self.stats, self.requests = [], {}, []
        #: Used elements that the engine has told of, by queue.
        self.told: Counter[int] = Counter()
        #: Per function and queue; and whose queue pair frames were sent by.
        self.queue_stats: Counter[tuple[int, int, Stat]] = Counter()
        self.sent_by: list[tuple[int, int]] = []
        #: What the headers of frames that were sent ask for.
        self.asked: list[tuple[int, int]] = []
        #: By function and queue pair.
        self.waiting: defaultdict = defaultdict(deque)
        self.arrivals: deque = deque()
        self.commands: deque = deque()
        self.doorbells: deque = deque()
        self.now = 0
        self._dma: list = []
        self._cancels: deque = deque()

    def ring(self, queue: int, size: int = 8, apart: bool = False, **features: int) -> Ring:
        """Make the rings of a queue and enable it, with features accepted."""
        ring = Ring(self.guest, 0x8000 * (queue + 1), size, queue % 2 == 0, apart)
        self.commands.append({"op": 1, "queue": queue, "size": size, "desc": ring.desc,
                              "driver": ring.driver, "device": ring.device,
                              **features})  # fmt: skip
        ring.in_order = bool(features.get("in_order"))
        return ring

    def packed_ring(self, queue: int, size: int = 8, shift: int = 0, **features: int) -> PackedRing:
        """Make a packed ring, so many bytes behind the begin of a page, and enable it."""
        ring = PackedRing(self.guest, 0x8000 * (queue + 1), size, queue % 2 == 0, shift)
        self.commands.append({"op": 1, "queue": queue, "size": size, "desc": ring.desc,
                              "driver": ring.driver, "device": ring.device, "packed": 1,
                              **features})  # fmt: skip
        ring.in_order = bool(features.get("in_order"))
        return ring

    def deliver(
        self, function: int, frame: bytes, slot: int, pair=0, form=FrameForm.WHOLE, tag=b""
    ) -> None:
        """A frame for a queue pair of a function waits in an RX slot; ``tag`` is that slot's."""
        base = slot * self.config.frame_stride
        self.frames[LocalMemory.RX][base : base + len(frame)] = frame
        self.tags[slot] = tag
        self.waiting[function, pair].append((LocalMemory.RX, slot, len(frame), form))
        self.arrivals.append((function, pair))

    async def dma(self, ctx):
        """Copy; end in any order of tags."""
        dut = self.dut
        ctx.set(dut.request.ready, 1)
        while True:
            self.now += 1
            ready = [
                e
                for e in self._dma
                if e[0] <= self.now
                and e[1].function not in self.stuck
                and (e[1].hurried or self._absent(e[1]) is None)
            ]
            if ready:
                entry = self.rng.choice(ready)
                self._dma.remove(entry)
                await self._end(ctx, entry[1], await self._copy(ctx, entry[1]))
            await self._tick(ctx)
            while self._cancels:
                tag = self._cancels.popleft()
                for entry in [e for e in self._dma if e[1].tag == tag]:
                    self._dma.remove(entry)
                    await self._end(ctx, entry[1], DmaStatus.CANCELLED)

    def _absent(self, request) -> int | None:
        """First page that is not there."""
        end = request.iova + max(1, request.length) - 1
        missing = self.absent | (self.unwritable if request.write else set())
        return next((p for p in range(request.iova >> 12, (end >> 12) + 1) if p in missing), None)

    def wanted(self) -> list[int]:
        """Pages that DMA waits for."""
        pages = []
        for _, request in self._dma:
            if not request.hurried:
                end = request.iova + max(1, request.length) - 1
                pages += range(request.iova >> 12, (end >> 12) + 1)
        return pages

    async def _tick(self, ctx, *values):
        dut = self.dut
        found = await ctx.tick().sample(dut.request.valid, dut.request.payload, *values)
        self.now += 1
        if found[2]:
            request = found[3]
            if request.cancel:
                self._cancels.append(request.tag)
                return found[4:] if len(found) > 4 else ()
            self.requests.append(request)
            assert request.tag not in [e[1].tag for e in self._dma], "two DMAs of one tag"
            self._dma.append((self.now + self.rng.randrange(self.latency + 1), request))
        return found[4:] if len(found) > 4 else ()

    async def _copy(self, ctx, request) -> DmaStatus:
        status = self.status.get(request.iova >> 12, DmaStatus.OK)
        missing = self._absent(request)
        if missing is not None:
            before = (missing << 12) - request.iova
            if before > 0 and request.memory == LocalMemory.SCRATCH:  # what is there has moved
                self.torn += [request] if request.write else []
                await self._copy_scratch(ctx, request, before)
            return DmaStatus.ABSENT
        if status != DmaStatus.OK:
            return status
        if not request.length:  # the translation alone
            return status
        if request.memory == LocalMemory.NOWHERE:
            self._store_number(request)
            return status
        if request.memory in self.frames:
            await self._copy_frame(ctx, request)
        else:
            await self._copy_scratch(ctx, request, request.length)
        return status

    async def _copy_scratch(self, ctx, request, n: int) -> None:
        """Copy the first ``n`` bytes."""
        dut, off, at = self.dut, request.offset, 0
        while at < n:
            part = min(n - at, 16 - (off + at) % 16)
            there = slice(request.iova + at, request.iova + at + part)
            if request.write:
                ctx.set(dut.load.en, 1)
                ctx.set(dut.load.addr, off + at)
                await self._tick(ctx)
                ctx.set(dut.load.en, 0)
                word = ctx.get(dut.load.data).to_bytes(16, "little")
                self.guest[there] = word[(off + at) % 16 :][:part]
            else:
                await self._store(ctx, LocalMemory.SCRATCH, off + at, bytes(self.guest[there]))
            at += part

    def _store_number(self, request) -> None:
        """Of a write from NOWHERE: bytes of the number that its offset holds."""
        number, at = divmod(request.offset, 16)
        if request.write:
            assert 10 <= at < at + request.length <= 12
            part = number.to_bytes(2, "little")[at - 10 :][: request.length]
            self.guest[request.iova : request.iova + request.length] = part

    async def _copy_frame(self, ctx, request) -> None:
        """A slot is as long as two frames: its tag, the header, the frame."""
        if request.memory == LocalMemory.TX and request.offset >> LARGE_BIT:
            at = (request.offset & (1 << LARGE_BIT) - 1) - 16
            there = self.guest[request.iova : request.iova + request.length]
            assert 0 <= at <= len(self.large) - request.length
            self.large[at : at + request.length] = there
            return
        frames, stride = self.frames[request.memory], 2 * self.config.frame_stride
        slot, at = divmod(request.offset, stride)
        end, base = at + request.length, slot * self.config.frame_stride - 16
        if request.write and end <= 4:
            self.guest[request.iova : request.iova + end - at] = self.tags[slot][at:end]
            return
        assert 4 <= at < end <= 16 + self.config.frame_bytes
        header, body = min(16, end) - min(16, at), slice(base + max(16, at), base + end)
        middle, last = request.iova + header, request.iova + request.length
        if request.write:
            self.guest[request.iova : middle] = RX_HEADER[at - 4 :][:header]
            self.guest[middle:last] = frames[body] if end > 16 else b""
            return
        if end > 16:
            frames[body] = self.guest[middle:last]
        if header:
            await self._store(ctx, request.memory, slot * stride + at,
                              bytes(self.guest[request.iova : middle]))  # fmt: skip

    async def _store(self, ctx, memory, at: int, content: bytes) -> None:
        """Store within one beat."""
        dut = self.dut
        ctx.set(dut.store.memory, memory)
        ctx.set(dut.store.en, 1)
        ctx.set(dut.store.addr, at)
        ctx.set(dut.store.mask, (1 << len(content)) - 1 << (at & 15))
        ctx.set(dut.store.data, int.from_bytes(content, "little") << 8 * (at & 15))
        await self._tick(ctx)
        ctx.set(dut.store.en, 0)

    async def _end(self, ctx, request, status):
        dut = self.dut
        ctx.set(dut.done.payload.tag, request.tag)
        ctx.set(dut.done.payload.status, status)
        ctx.set(dut.done.valid, 1)
        while not (await self._tick(ctx, dut.done.ready))[0]:
            pass
        ctx.set(dut.done.valid, 0)

    async def driver(self, ctx):
        """Commands, doorbells, slots, frames."""
        dut = self.dut
        while True:
            if self.commands:
                ctx.set(dut.command.payload, QueueCommand.const(self.commands[0]))
            ctx.set(dut.command.valid, bool(self.commands))
            if self.doorbells:
                ctx.set(dut.doorbell.payload.queue, self.doorbells[0])
            ctx.set(dut.doorbell.valid, bool(self.doorbells))
            if self.slots:
                ctx.set(dut.tx_alloc.payload, self.slots[0])
            ctx.set(dut.tx_alloc.valid, bool(self.slots))
            if self.arrivals:
                ctx.set(dut.arrival.payload.function, self.arrivals[0][0])
                ctx.set(dut.arrival.payload.pair, self.arrivals[0][1])
            ctx.set(dut.arrival.valid, bool(self.arrivals))
            rung, arrived = bool(self.doorbells), bool(self.arrivals)
            *_, command, alloc, pop, function, pair = await ctx.tick().sample(
                dut.command.valid & dut.command.ready,
                dut.tx_alloc.valid & dut.tx_alloc.ready,
                dut.rx_pop.en,
                dut.rx_pop.function,
                dut.rx_pop.pair,
            )
            if command:
                self.commands.popleft()
            if alloc:
                self.slots.popleft()
            if rung:
                self.doorbells.popleft()
            if arrived:
                self.arrivals.popleft()
            frames = self.waiting[function, pair] if pop else None
            ctx.set(dut.rx_pop.valid, bool(frames))
            if frames:
                memory, slot, length, form = frames.popleft()
                ctx.set(dut.rx_pop.frame.form, form)
                ctx.set(dut.rx_pop.frame.memory, memory)
                ctx.set(dut.rx_pop.frame.slot, slot)
                ctx.set(dut.rx_pop.frame.length, length)

    async def sinks(self, ctx):
        """Take what the engine says."""
        dut = self.dut
        ports = [dut.tx_frame, dut.release, dut.error, dut.used, dut.stopped, dut.stat]
        for port in ports:
            ctx.set(port.ready, 1)
        while True:
            values = [value for port in ports for value in (port.valid, port.payload)]
            _, _, *found = await ctx.tick().sample(*values)
            (
                sent,
                frame,
                released,
                ref,
                error,
                report,
                told,
                used,
                ended,
                queue,
                stat,
                count,
            ) = found
            if sent:
                base = frame.frame.slot * self.config.frame_stride
                length = frame.frame.length | frame.over << 16
                own = min(length, self.config.frame_bytes)
                content = self.frames[LocalMemory.TX][base : base + own]
                assert frame.large == (length > own)
                content += self.large[: length - own]
                self.sent.append((frame.function, bytes(content)))
                self.sent_by.append((frame.function, frame.pair))
                self.asked.append((frame.needs_csum, frame.gso_type))
                self.slots.append(frame.frame.slot)
                if frame.gso_type and self.config.segmentation:
                    assert not self.cutting, "two frames are to be cut at once"
                    self.cutting.append(frame)
            if released:
                self.released.append((int(ref.memory), ref.slot))
                if ref.memory == LocalMemory.TX:
                    self.slots.append(ref.slot)
            if error:
                self.errors.append((report.queue, int(report.error)))
            if told:
                self.told[used.queue] += used.amount
                if used.wanted:
                    self.interrupts.append(used.queue)
            if ended:
                self.stopped.append(queue)
            if stat:
                key = (count.function, int(count.stat))
                self.stats[key] = self.stats.get(key, 0) + count.amount
                assert count.queued
                self.queue_stats[count.function, count.queue, Stat(count.stat)] += count.amount

    async def segmenter(self, ctx):
        """Be done with a frame that is to be cut after a while."""
        dut = self.dut
        left = 0
        while True:
            await ctx.tick()
            left -= 1
            if self.cutting and left < 0:
                left = self.rng.randrange(1, 400)
            elif left == 0:
                (frame,) = self.cutting
                self.cutting.clear()
                ctx.set(dut.cut, 1)
                ctx.set(dut.large_back, frame.large)
                await ctx.tick()
                ctx.set(dut.cut, 0)
                ctx.set(dut.large_back, 0)

    async def until(self, ctx, condition, cycles=60_000):
        """Wait for a condition, or fail."""
        for _ in range(cycles):
            if condition():
                return
            await ctx.tick()
        raise AssertionError("it never came about")

    def run(self, test, *background) -> None:
        """Simulate until ``test`` ends."""
        sim = simulator(self.dut)
        for agent in (self.dma, self.driver, self.sinks, self.segmenter, *background):
            sim.add_testbench(agent, background=True)

        async def start(ctx):
            for function in range(self.config.functions):
                ctx.set(self.dut.controls[function].enable, 1)
                ctx.set(self.dut.controls[function].ats, function in self.ats)
            await test(ctx)

        sim.add_testbench(start)
        sim.run()
