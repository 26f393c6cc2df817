"""What surrounds the DMA engine in tests: guest memory, an IOMMU, local memories, a driver."""

import random
from collections import deque

from models.iommu.records import Response
from models.nic.atc import AtcRules
from models.spec.config import NicConfig
from models.spec.iommu import GroupResponsePayload, InvalidationPayload, PageRequestPayload
from models.spec.nic import Stat
from models.spec.translation import (
    AddressType,
    GroupResponse,
    InvalidationRequest,
    TranslationStatus,
)
from rtl.nic.dma import Dma
from rtl.nic.seams import DmaRequest, DmaStatus, LocalMemory, MsiWrite
from tests.rtl.simulators import built, simulator

__all__ = ["CONFIG", "OFFSET", "World"]

#: A small engine with an ATC, for tests of single moments.
CONFIG = NicConfig(vfs=3, queue_pairs=1, dma_tags=8, dma_slots=4, atc_entries=32)
#: The SPA of a page is its IOVA plus this; plus as much again for each time that it has moved.
OFFSET = 0x1_0000_0000


class World:
    """Agents round a :class:`Dma`; every delay is drawn from one generator.

    Pages of ``missing`` are without rights until their page request is answered.  ``stall`` is the
    probability that a channel of the bus is not ready; without stalls answers come in order.  The
    rules of ATS are judged always.
    """

    def __init__(
        self,
        config: NicConfig,
        *,
        seed: int,
        latency: int = 5,
        jitter: int = 10,
        stall: float = 0.1,
    ):
        self.dut = built(Dma, config)
        self.config, self.rng = config, random.Random(seed)
        self.latency, self.jitter, self.stall = latency, jitter, stall
        self.guest = bytearray(1 << 18)
        self.local = [bytearray(1 << 18) for _ in range(3)]
        self.missing: set[tuple[int, int]] = set()
        self.refused: set[int] = set()
        self.bad_bus: set[int] = set()
        self.bad_beats: set[int] = set()  # addresses of beats that get an error
        self.plain: set[int] = set()  # pages to be accessed untranslated
        self.read_only: set[int] = set()
        self.size_log2 = 12  # of the ranges that are answered
        self.rules = AtcRules()
        self.moves: dict[int, int] = {}  # how often a page has moved
        self.freed: set[tuple[int, int]] = set()  # pages, and places where they are not any more
        self.leaving: dict[int, tuple[int, int]] = {}  # by tag of the invalidation
        self.asked = 0  # translation requests
        self.asked_at: dict[int, int] = {}  # page to cycle of its last translation request
        self.moved_at: dict[int, int] = {}  # page to cycle of its last beat or write response
        self.done_ready = True
        self.beats: tuple[list[int], list[int]] = ([], [])  # cycles of R and W beats
        self.untranslated_reads: list[tuple[int, int]] = []
        self.done: dict[int, tuple[int, int]] = {}
        self.ended: list[tuple[int, int]] = []  # cycle and tag of every end
        self.page_requests: list = []
        self.answer_code: int | None = 0
        self.service = 30
        #: Like an IOMMU that answers itself: no page request is taken before the last is answered.
        self.serial = False
        self.deaf = False  # no page request is taken at all
        self.completions: list = []
        self.messages: list = []
        self.stats: dict[tuple[int, int], int] = {}
        self.now = 0
        self._due: list = []
        self._reads: dict[int, deque] = {}
        self._writes: deque = deque()
        self._write_beats: deque = deque()
        self._b: list = []
        self._t: list = []
        self._responses: deque = deque()
        self.accesses: list = []
        self.pending = 0  # beats of reads that have not been taken

    def delay(self) -> int:
        """Cycles until an answer."""
        return self.now + self.latency + self.rng.randrange(self.jitter + 1)

    def _any(self, ready: list):
        """One of what is ready: the first, if nothing stalls."""
        if not ready:
            return None
        return self.rng.choice(ready) if self.stall else ready[0]

    def place(self, address: int, user) -> int:
        """The IOVA of an access."""
        if user.at != AddressType.TRANSLATED:
            return address
        moves, iova = divmod(address - OFFSET, OFFSET)
        assert (iova >> 12, moves) not in self.freed, f"{iova:#x} is not there any more"
        return iova

    def _begin(self, key, address: int, user, write: bool) -> None:
        if user.at == AddressType.TRANSLATED:
            self.rules.begin(key, user.device_id, address, write)

    def _end(self, key, user) -> None:
        if user.at == AddressType.TRANSLATED:
            self.rules.end(key)

    def read(self, address: int, user) -> tuple[bytes, int]:
        """Bytes of a beat and its response."""
        address = self.place(address, user)
        self.moved_at[address >> 12] = self.now
        if address >> 12 in self.bad_bus or not 0 <= address < len(self.guest):
            return bytes(16), 2
        if address in self.bad_beats:
            return bytes(self.guest[address : address + 16]), 2
        return bytes(self.guest[address : address + 16]), 0

    async def memory(self, ctx):
        """Serve reads: bursts of an ID in order, IDs in any order."""
        dut = self.dut
        while True:
            ctx.set(dut.bus.ar.ready, self.rng.random() >= self.stall)
            candidates = [i for i, q in self._reads.items() if q and q[0][0] <= self.now]
            chosen = None
            if candidates:
                chosen = min(candidates, key=lambda i: self._reads[i][0][4])
                chosen = self.rng.choice(candidates) if self.stall else chosen
            if chosen is not None:
                _, address, user, last, number = self._reads[chosen][0]
                content, resp = self.read(address, user)
                ctx.set(dut.bus.r.payload.data, int.from_bytes(content, "little"))
                ctx.set(dut.bus.r.payload.resp, resp)
                ctx.set(dut.bus.r.payload.id, chosen)
                ctx.set(dut.bus.r.payload.last, last)
            ctx.set(dut.bus.r.valid, chosen is not None)
            while True:
                _, _, ar, payload, r = await ctx.tick().sample(
                    dut.bus.ar.valid & dut.bus.ar.ready,
                    dut.bus.ar.payload,
                    dut.bus.r.ready,
                )
                self.now += 1
                if ar:
                    self.accesses.append((self.now, False, payload.addr, payload.user))
                    self._begin(len(self.accesses), payload.addr, payload.user, False)
                    when, end = self.delay(), payload.addr + 16 * payload.len
                    assert payload.addr >> 12 == end >> 12, "burst crosses a page"
                    queue = self._reads.setdefault(payload.id, deque())
                    for beat in range(payload.len + 1):
                        ends = beat == payload.len
                        at = payload.addr + 16 * beat
                        queue.append((when, at, payload.user, ends, len(self.accesses)))
                        self.pending += 1
                if chosen is None or r:
                    if chosen is not None:
                        self.beats[0].append(self.now)
                        self._reads[chosen].popleft()
                        self.pending -= 1
                        if last:
                            self._end(number, user)
                    break

    async def writes(self, ctx):
        """Serve writes."""
        dut = self.dut
        while True:
            ctx.set(dut.bus.aw.ready, self.rng.random() >= self.stall)
            ctx.set(dut.bus.w.ready, self.rng.random() >= self.stall)
            oldest: dict[int, tuple] = {}  # of each ID: its responses stay in order
            for entry in self._b:
                oldest.setdefault(entry[1], entry)
            ready = [entry for entry in oldest.values() if entry[0] <= self.now]
            chosen = self._any(ready)
            if chosen:
                ctx.set(dut.bus.b.payload.id, chosen[1])
                ctx.set(dut.bus.b.payload.resp, chosen[2])
            ctx.set(dut.bus.b.valid, chosen is not None)
            while True:
                _, _, aw, address, w, beat, b = await ctx.tick().sample(
                    dut.bus.aw.valid & dut.bus.aw.ready,
                    dut.bus.aw.payload,
                    dut.bus.w.valid & dut.bus.w.ready,
                    dut.bus.w.payload,
                    dut.bus.b.ready,
                )
                if aw:
                    self.accesses.append((self.now, True, address.addr, address.user))
                    self._begin(len(self.accesses), address.addr, address.user, True)
                    self._writes.append([address, 0, 0, len(self.accesses)])
                if w:
                    self.beats[1].append(self.now)
                    self._write_beats.append(beat)
                self._store()
                if chosen is None or b:
                    if chosen:
                        self._b.remove(chosen)
                        self.moved_at[chosen[3]] = self.now
                        self._end(*chosen[4:])
                    break

    def _store(self):
        while self._writes and self._write_beats:
            entry, beat = self._writes[0], self._write_beats.popleft()
            address, count, resp, number = entry
            at = self.place(address.addr + 16 * count, address.user)
            content = beat.data.to_bytes(16, "little")
            if at >= 1 << 28 and at >> 12 in self.bad_bus:
                resp = 2
            elif at >= 1 << 24:
                self.messages.append((at, beat.strb, beat.data, address.user.device_id))
            elif at >> 12 in self.bad_bus or at in self.bad_beats:
                resp = 2
            else:
                for i in range(16):
                    if beat.strb >> i & 1:
                        self.guest[at + i] = content[i]
            entry[1:3] = count + 1, resp
            assert beat.last == (count == address.len), "WLAST in the wrong place"
            if beat.last:
                end = self.delay(), address.id, resp, at >> 12, number, address.user
                self._b.append(end)
                self._writes.popleft()

    async def iommu(self, ctx):
        """Answer translations in any order, and page requests after their service time."""
        dut = self.dut
        while True:
            ctx.set(dut.translate.request.ready, self.rng.random() >= 2 * self.stall)
            ready = [entry for entry in self._t if entry[0] <= self.now]
            chosen = self._any(ready)
            if chosen:
                _, request, spa = chosen
                page, function = request.iova >> 12, request.device_id - self.config.device_id
                present = (function, page) not in self.missing
                answer = Response(
                    status=TranslationStatus(page in self.refused),
                    cause=260 if page in self.refused else 0,
                    u=page in self.plain,
                    r=present,
                    w=present and bool(request.write) and page not in self.read_only,
                    size=1 << self.size_log2,
                    spa=spa,
                )
                response = dut.translate.response.payload
                ctx.set(response.tag, request.tag)
                ctx.set(response.size, self.size_log2)
                for name in ("status", "cause", "u", "r", "w", "spa"):
                    ctx.set(response[name], int(getattr(answer, name)))
            ctx.set(dut.translate.response.valid, chosen is not None)
            *_, took, request, answered = await ctx.tick().sample(
                dut.translate.request.valid & dut.translate.request.ready,
                dut.translate.request.payload,
                dut.translate.response.ready,
            )
            if took:
                # What is true when it is asked for, however old it is when it is answered.
                moves = self.moves.get(request.iova >> 12, 0)
                self._t.append((self.delay(), request, request.iova + OFFSET * (1 + moves)))
                self.asked += 1
                self.asked_at[request.iova >> 12] = self.now
                self.rules.ask(request.tag, request.device_id, request.iova)
            if chosen and answered:
                self._t.remove(chosen)
                self.rules.answer(chosen[1].tag, answer)

    async def pager(self, ctx):
        """Take page requests; make the page present; answer."""
        dut = self.dut
        waiting: list = []
        ready = True
        while True:
            ready = not self.deaf and not (self.serial and (waiting or self._responses))
            ctx.set(dut.page_request.ready, ready)
            if self._responses:
                ctx.set(dut.group_response.payload, GroupResponse.const(self._responses[0]))
            ctx.set(dut.group_response.valid, bool(self._responses))
            *_, took, request, sent = await ctx.tick().sample(
                dut.page_request.valid,
                dut.page_request.payload,
                dut.group_response.valid & dut.group_response.ready,
            )
            if sent:
                self._responses.popleft()
            if took and ready:
                payload = PageRequestPayload.from_bits(request.payload)
                self.page_requests.append((self.now, request, payload))
                waiting.append((self.now + self.service, request.device_id, payload))
            for entry in [entry for entry in waiting if entry[0] <= self.now]:
                waiting.remove(entry)
                if self.answer_code is None:
                    continue
                function = entry[1] - self.config.device_id
                if self.answer_code == 0:
                    self.missing.discard((function, entry[2].address))
                self.respond(entry[1], entry[2].index, self.answer_code)

    def respond(self, device_id: int, index: int, code: int) -> None:
        """Send a group response."""
        payload = GroupResponsePayload.const({"index": index, "code": code}).as_bits()
        self._responses.append({"device_id": device_id, "payload": payload})

    async def locals(self, ctx):
        """Serve the local memories."""
        dut = self.dut
        while True:
            *_, store, memory, addr, value, mask, load, from_, at = await ctx.tick().sample(
                *(getattr(dut.store, name) for name in ("en", "memory", "addr", "data", "mask")),
                *(getattr(dut.load, name) for name in ("en", "memory", "addr")),
            )
            if store:
                content = value.to_bytes(16, "little")
                for i in range(addr, addr + 16):
                    if mask >> i % 16 & 1 and memory != LocalMemory.NOWHERE:
                        self.local[memory][i % (1 << 24)] = content[i % 16]
            if load:
                lanes = bytearray(16)
                for i in range(at, at + 16):
                    if i % (1 << 24) < len(self.local[from_]):
                        lanes[i % 16] = self.local[from_][i % (1 << 24)]
                ctx.set(dut.load.data, int.from_bytes(lanes, "little"))

    async def sinks(self, ctx):
        """Take completions, counts, invalidation completions."""
        dut = self.dut
        for port in (dut.stat, dut.invalidation_completion):
            ctx.set(port.ready, 1)
        while True:
            ctx.set(dut.done.ready, self.done_ready)
            *_, done, result, stat, count, inval, completion = await ctx.tick().sample(
                dut.done.valid & dut.done.ready,
                dut.done.payload,
                dut.stat.valid,
                dut.stat.payload,
                dut.invalidation_completion.valid,
                dut.invalidation_completion.payload,
            )
            if done:
                assert result.tag not in self.done, "a request ended twice"
                self.done[result.tag] = (int(result.status), result.cause)
                self.ended.append((self.now, result.tag))
            if stat:
                key = (count.function, int(count.stat))
                self.stats[key] = self.stats.get(key, 0) + count.amount
            if inval:
                self.completions.append((self.now, completion, self.pending, len(self._t)))
                itag = completion.itag_vector.bit_length() - 1
                self.rules.completion(completion.device_id, itag)
                if itag in self.leaving:
                    self.freed.add(self.leaving.pop(itag))

    async def put(self, ctx, port, value):
        """Send one payload."""
        ctx.set(port.payload, value)
        ctx.set(port.valid, 1)
        for _ in range(20_000):
            if (await ctx.tick().sample(port.ready))[-1]:
                ctx.set(port.valid, 0)
                return
        raise AssertionError("never taken")

    async def request(self, ctx, **fields):
        """Begin a transfer."""
        self.done.pop(fields["tag"], None)
        await self.put(ctx, self.dut.request, DmaRequest.const(fields))

    async def cancel(self, ctx, tag: int):
        """Cancel a tag's transfer."""
        await self.put(ctx, self.dut.request, DmaRequest.const({"tag": tag, "cancel": 1}))

    async def wait(self, ctx, tag: int, cycles: int = 20_000) -> tuple[int, int]:
        """Wait for a tag's end."""
        for _ in range(cycles):
            if tag in self.done:
                return self.done[tag]
            await ctx.tick()
        raise AssertionError(f"tag {tag} never ended")

    async def run_all(self, ctx, requests: list[dict], tags: int) -> None:
        """Carry transfers out as fast as they are taken, each with a tag of ``tags`` that is free;
        check that all end well.
        """
        free, under_way, seen = deque(range(tags)), 0, len(self.ended)
        port, waiting = self.dut.request, deque(requests)
        while waiting or under_way:
            offers = bool(waiting and free)
            if offers:
                ctx.set(port.payload, DmaRequest.const({**waiting[0], "tag": free[0]}))
            ctx.set(port.valid, offers)
            if (await ctx.tick().sample(port.ready))[-1] and offers:
                waiting.popleft()
                free.popleft()
                under_way += 1
            for _, tag in self.ended[seen:]:
                assert self.done.pop(tag)[0] == DmaStatus.OK
                free.append(tag)
                under_way -= 1
            seen = len(self.ended)

    async def message(self, ctx, **fields):
        """Send an MSI."""
        await self.put(ctx, self.dut.message, MsiWrite.const(fields))

    async def invalidate(
        self, ctx, device_id: int, itag: int, page: int = 0, *, pages_log2: int = 0
    ):
        """Send an invalidation request for aligned pages."""
        ones = (1 << pages_log2) - 1 >> 1
        body = {"s": int(pages_log2 > 0), "address": page & -(1 << pages_log2) | ones}
        payload = InvalidationPayload.const(body).as_bits()
        fields = {"device_id": device_id, "itag": itag, "payload": payload}
        await self.put(ctx, self.dut.invalidation, InvalidationRequest.const(fields))
        self.rules.invalidation(device_id, itag, payload)

    async def move(self, ctx, device_id: int, itag: int, page: int):
        """Let a page be elsewhere from now on, and where it was until that is answered."""
        moves = self.moves.get(page, 0)
        self.moves[page], self.leaving[itag] = moves + 1, (page, moves)
        await self.invalidate(ctx, device_id, itag, page)

    def page_counts(self) -> list[int]:
        """Return page requests, parked without one, retries and faults of all functions."""
        stats = (Stat.PAGE_REQUESTS, Stat.PAGE_WAITS, Stat.PAGE_RETRIES, Stat.DMA_FAULTS)
        return [sum(n for (_, s), n in self.stats.items() if s == stat) for stat in stats]

    async def until_asked(self, ctx, count: int) -> None:
        """Wait until so many page requests have come in all."""
        for _ in range(2000):
            if len(self.page_requests) >= count:
                return
            await ctx.tick()
        raise AssertionError(f"{len(self.page_requests)} page requests, not {count}")

    def run(self, test) -> None:
        """Simulate until ``test`` ends."""
        sim = simulator(self.dut)
        for agent in (
            self.memory,
            self.writes,
            self.iommu,
            self.pager,
            self.locals,
            self.sinks,
        ):
            sim.add_testbench(agent, background=True)

        async def start(ctx):
            for function in range(self.config.functions):
                ctx.set(self.dut.controls[function].enable, 1)
                ctx.set(self.dut.controls[function].ats, 1)
            await test(ctx)

        sim.add_testbench(start)
        sim.run()
