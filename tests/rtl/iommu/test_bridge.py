"""I/O bridge: order, faults, bursts, drain and random traffic."""

import itertools
import random
from dataclasses import dataclass

import pytest

from models.spec.translation import AddressType, TranslationStatus
from rtl.bus.axi import Burst, Resp
from rtl.iommu.bridge import Bridge
from tests.rtl.agents import AxiMemory, Sink, Source, run, seeded, wait_for
from tests.rtl.simulators import built

PAS = 40
WIDTH = 16
PAGE = 4096


@dataclass
class Access:
    """One burst and what has to come of it."""

    write: bool
    id: int
    device: int
    iova: int
    len: int
    size: int = 4
    at: AddressType = AddressType.UNTRANSLATED
    data: tuple = ()
    strobes: tuple = ()
    file: Resp | None = None  # answer of a memory-resident interrupt file; nothing goes below

    @property
    def address(self) -> dict:
        return {
            "addr": self.iova,
            "id": self.id,
            "len": self.len,
            "size": self.size,
            "burst": Burst.INCR,
            "lock": 0,
            "user": {
                "device_id": self.device,
                "process_id": self.device + 1,
                "pv": self.device & 1,
                "priv": 0,
                "exec": 0,
                "at": self.at,
            },
        }

    def beats(self):
        """Address of each beat, as IHI 0022 has it."""
        start = self.iova >> self.size << self.size
        return [self.iova, *(start + (n << self.size) for n in range(1, self.len + 1))]


class Translation:
    """Answers in any order: page n of device d is at ``where(d, n)``, or refused."""

    def __init__(self, port, rng: random.Random, latency, stall=0.0):
        self.port, self.rng, self.latency, self.stall = port, rng, latency, stall
        self.pending, self.seen, self.now = [], [], 0
        self.refused: set[tuple[int, int]] = set()
        self.held: set[int] = set()  # devices that are not answered for now

    @staticmethod
    def where(device: int, page: int) -> int:
        """Physical page."""
        return (page * 7 + device * 0x10000 + 3) % (1 << PAS - 12)

    async def process(self, ctx):
        request, response = self.port.request, self.port.response
        offered = False
        while True:
            ctx.set(request.ready, self.rng.random() >= self.stall)
            able = [
                item
                for item in self.pending
                if item[0] <= self.now and item[1].device_id not in self.held
            ]
            offered = bool(able)
            if offered:
                item = self.rng.choice(able)
                self.pending.remove(item)
                ctx.set(response.payload, self.answer(item[1]))
            ctx.set(response.valid, offered)
            *_, valid, ready, asked, taken = await ctx.tick().sample(
                request.valid, request.ready, request.payload, response.ready
            )
            self.now += 1
            assert taken, "the bridge must always take answers"
            if valid and ready:
                assert all(item[1].tag != asked.tag for item in self.pending), "tag in use"
                self.seen.append(asked)
                self.pending.append((self.now + self.rng.randint(*self.latency), asked))

    def answer(self, asked) -> dict:
        """Response to a request."""
        page = asked.iova >> 12
        answer = {"tag": asked.tag, "status": TranslationStatus.SUCCESS}
        if (asked.device_id, page) in self.refused:
            answer |= {"status": TranslationStatus.UNSUPPORTED_REQUEST, "spa": 0xDEAD_BEEF}
        else:
            answer["spa"] = self.where(asked.device_id, page) << 12 | asked.iova & 0xFFF
        return answer


class BridgeBench:
    """Manager above, memory below, translation beside; checks every answer."""

    translator = Translation

    def __init__(self, seed=1, *, stall=0.0, translation=(1, 1), latency=(1, 1), **options):
        self.rng = rng = seeded(seed)
        self.dut = built(Bridge, addr_width=PAS, id_width=3, **{"slots": 4, "beats": 4} | options)
        self.memory = AxiMemory(self.dut.down, rng, latency=latency, stall=stall, reorder=True)
        self.translation = self.translator(self.dut.translate, rng, translation, stall)
        up = self.dut.up
        self.ar, self.aw, self.w = (Source(port, rng, stall) for port in (up.ar, up.aw, up.w))
        self.r, self.b = Sink(up.r, rng, stall), Sink(up.b, rng, stall)
        self.accesses: list[Access] = []

    def send(self, access: Access) -> Access:
        """Queue a burst; writes get random data."""
        self.accesses.append(access)
        if not access.write:
            self.ar.queue.append(access.address)
            return access
        self.aw.queue.append(access.address)
        access.data = access.data or tuple(
            self.rng.getrandbits(8 * WIDTH) for _ in range(access.len + 1)
        )
        strobes = list(access.strobes)
        for n, addr in enumerate(access.beats()):
            low = addr % WIDTH
            high = ((addr >> access.size) + 1 << access.size) - addr + low
            lanes = (1 << high) - (1 << low)
            if len(strobes) == n:
                strobes.append(lanes & self.rng.getrandbits(WIDTH))
            beat = {"data": access.data[n], "strb": strobes[n], "last": n == access.len}
            self.w.queue.append(beat)
        access.strobes = tuple(strobes)
        return access

    def _reads(self) -> int:
        return sum(access.len + 1 for access in self.accesses if not access.write)

    def finished(self) -> bool:
        """Everything that was sent has been answered."""
        writes = sum(access.write for access in self.accesses)
        return len(self.r.got) == self._reads() and len(self.b.got) == writes

    def expected(self, access: Access) -> Resp:
        """What the access must be answered with."""
        if access.file is not None:
            return access.file
        end = (access.iova % PAGE >> access.size << access.size) + (access.len + 1 << access.size)
        if end > PAGE or (access.write and access.len >= self.dut._write._store._beats):
            return Resp.SLVERR
        if access.at not in (AddressType.UNTRANSLATED, AddressType.TRANSLATED):
            return Resp.SLVERR
        if (access.device, access.iova >> 12) in self.translation.refused:
            return Resp.DECERR
        return Resp.OKAY

    def physical(self, access: Access) -> int:
        """Where the burst must go."""
        page = Translation.where(access.device, access.iova >> 12)
        return page << 12 | access.iova & 0xFFF

    def check(self) -> None:
        """Compare all answers, bursts and bytes."""
        for beat, following in itertools.pairwise(self.r.got):
            assert beat.last or beat.id == following.id, "bursts are mixed"
        answers = {id: [b.resp for b in self.b.got if b.id == id] for id in range(8)}
        beats = {id: [r for r in self.r.got if r.id == id] for id in range(8)}
        issued = {True: [], False: []}
        for access in self.accesses:
            expected = self.expected(access)
            if expected == Resp.OKAY and access.file is None:
                issued[access.write].append((self.physical(access), access))
            if access.write:
                assert answers[access.id].pop(0) == expected, access
                continue
            for n, addr in enumerate(access.beats()):
                beat = beats[access.id].pop(0)
                assert beat.resp == expected, access
                assert beat.last == (n == access.len)
                if expected == Resp.OKAY and access.file is None:
                    base = self.physical(access) - access.iova + addr
                    base -= base % WIDTH
                    assert beat.data == self.memory.load(base, WIDTH), access
                else:
                    assert beat.data == 0
        assert not any(answers.values())
        assert not any(beats.values())
        assert sorted(self.memory.reads) == sorted(
            (addr, access.len + 1) for addr, access in issued[False]
        )
        wanted = []
        for addr, access in issued[True]:
            content = []
            for n, at in enumerate(access.beats()):
                lanes = at // (1 << access.size) * (1 << access.size) % WIDTH
                for lane in range(at % WIDTH, lanes + (1 << access.size)):
                    strobe = access.strobes[n] >> lane & 1
                    content.append(access.data[n] >> 8 * lane & 0xFF if strobe else None)
            wanted.append((addr, content))

        def by_address(item):
            return item[0], str(item[1])

        assert sorted(self.memory.writes, key=by_address) == sorted(wanted, key=by_address)

    def run(self, testbench=None, then: int = 30) -> None:
        """Simulate until all is answered, or until ``testbench`` returns."""

        async def wait(ctx):
            await wait_for(ctx, self.finished, then=then)

        run(self.dut, testbench or wait, background=self.background())

    def background(self) -> list:
        """Everything that plays a part."""
        agents = (self.translation, self.ar, self.aw, self.w, self.r, self.b)
        return [*self.memory.processes(), *(agent.process for agent in agents)]


def fill(bench, pages=range(4), devices=range(4)) -> None:
    """Different bytes wherever reads may go."""
    for device in devices:
        for page in pages:
            base = Translation.where(device, page) << 12
            for offset in range(0, PAGE, 8):
                bench.memory.store(base + offset, 8, bench.rng.getrandbits(64))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_traffic_keeps_order_and_bytes(seed, stall):
    bench = BridgeBench(seed, stall=stall, translation=(1, 30), latency=(1, 20), slots=8, beats=8)
    rng = bench.rng
    fill(bench)
    bench.translation.refused |= {(0, 1), (1, 2), (2, 0), (3, 3)}
    for number in range(150):
        write = rng.random() < 0.5
        size = rng.choice([4, 4, 4, 3, 2, 0])
        # Reads and writes use different halves of a page, so that their order does not matter.
        offset = rng.randrange(PAGE // 2 - 8 * WIDTH) | (PAGE // 2 if write else 0)
        at = rng.choice([AddressType.UNTRANSLATED] * 6 + [AddressType.TRANSLATED] * 2)
        at = AddressType.ATS_REQUEST if number % 29 == 7 else at
        length = rng.choice([0, 0, 1, 3, 7])
        if number % 23 == 5:
            offset, length, size = PAGE - 16, 1, 4  # crosses the page
        if number % 31 == 9:
            length = 8 + number % 3  # too long for a write
            offset = min(offset, PAGE - 16 * WIDTH)
        bench.send(
            Access(
                write=write,
                id=rng.randrange(4),
                device=rng.randrange(4),
                iova=rng.randrange(4) << 12 | offset,
                len=length,
                size=size,
                at=at,
            )
        )
    bench.run()
    bench.check()
    assert {bench.expected(access) for access in bench.accesses} == {
        Resp.OKAY,
        Resp.SLVERR,
        Resp.DECERR,
    }
    for access in bench.translation.seen:
        assert access.process_id == access.device_id + 1
        assert access.pv == access.device_id & 1
        assert access.at in (AddressType.UNTRANSLATED, AddressType.TRANSLATED)


def test_a_miss_of_one_id_holds_no_other():
    bench = BridgeBench(slots=4)
    fill(bench)
    bench.translation.held.add(1)
    for write in (False, True):
        half = 0x800 * write
        bench.send(Access(write=write, id=1, device=1, iova=0x100 + half, len=0))
        for n in range(6):
            bench.send(Access(write=write, id=2, device=2, iova=0x1000 + half + 64 * n, len=1))

    async def testbench(ctx):
        await wait_for(ctx, lambda: len(bench.r.got) == 12 and len(bench.b.got) == 6, then=50)
        assert not bench.finished()
        bench.translation.held.clear()
        await wait_for(ctx, bench.finished, then=20)

    bench.run(testbench)
    bench.check()
    assert [beat.id for beat in bench.r.got] == [2] * 12 + [1]
    assert [answer.id for answer in bench.b.got] == [2] * 6 + [1]


@pytest.mark.parametrize("write", [False, True])
def test_an_error_waits_for_earlier_bursts_of_its_id_and_holds_later_ones(write):
    bench = BridgeBench(latency=(40, 40), slots=4)
    fill(bench)
    bench.translation.refused.add((1, 1))
    bench.send(Access(write=write, id=5, device=1, iova=0x0010, len=2))
    bench.send(Access(write=write, id=5, device=1, iova=0x1010, len=3))
    bench.send(Access(write=write, id=5, device=1, iova=0x2010, len=1))
    issued = []

    async def testbench(ctx):
        log = bench.memory.writes if write else bench.memory.reads
        got = bench.b.got if write else bench.r.got
        while not bench.finished():
            issued.append((len(log), len(got)))
            await ctx.tick()

    bench.run(testbench)
    bench.check()
    # Nothing of the third went to memory before the error was answered.
    answered = 2 if write else 7
    assert all(done >= answered - 1 for count, done in issued if count == 2)


def test_bursts_of_one_id_are_issued_in_order_whatever_the_translations_do():
    bench = BridgeBench(7, translation=(1, 40), slots=8)
    fill(bench)
    for n in range(40):
        bench.send(Access(write=bool(n & 1), id=3, device=1, iova=n * 32 + 2048 * (n & 1), len=1))
    bench.run()
    bench.check()
    for write, log in ((False, bench.memory.reads), (True, bench.memory.writes)):
        wanted = [bench.physical(item) for item in bench.accesses if item.write == write]
        assert [addr for addr, _ in log] == wanted


def test_longest_bursts_at_the_edge_of_a_page():
    bench = BridgeBench(slots=2, beats=16)
    fill(bench)
    for write in (False, True):
        for offset in (256, 255, 240):
            bench.send(Access(write=write, id=0, device=1 + write, iova=PAGE - offset, len=15))
    bench.send(Access(write=True, id=0, device=2, iova=0, len=16))
    bench.send(Access(write=True, id=0, device=2, iova=0, len=255))
    bench.send(Access(write=False, id=0, device=1, iova=0, len=255))
    bench.send(Access(write=True, id=0, device=2, iova=64, len=0))
    bench.run()
    bench.check()
    responses = [answer.resp for answer in bench.b.got]
    assert responses == [Resp.OKAY, Resp.OKAY, *[Resp.SLVERR] * 3, Resp.OKAY]


def test_memory_errors_pass_through():
    bench = BridgeBench()
    fill(bench)
    page = Translation.where(1, 0) << 12
    bench.memory.failing.append(range(page + 0x40, page + 0x50))
    bench.send(Access(write=False, id=0, device=1, iova=0x30, len=2))
    bench.send(Access(write=True, id=0, device=1, iova=0x30, len=2))
    bench.run()
    assert [beat.resp for beat in bench.r.got] == [Resp.OKAY, Resp.SLVERR, Resp.OKAY]
    assert [answer.resp for answer in bench.b.got] == [Resp.SLVERR]


@pytest.mark.parametrize("write", [False, True])
def test_drain_waits_for_what_was_accepted_and_for_nothing_later(write):
    bench = BridgeBench(slots=4, latency=(10, 10))
    fill(bench)
    bench.translation.held.add(1)
    bench.send(Access(write=write, id=0, device=1, iova=0, len=1))

    async def testbench(ctx):
        drain = bench.dut.drain
        await wait_for(ctx, lambda: len(bench.translation.seen) == 1, then=5)
        ctx.set(drain.request, 1)
        for _ in range(5):
            await ctx.tick()
        assert not ctx.get(drain.done)
        # Later bursts keep the bridge busy all the time, also when the first is answered.
        for n in range(80):
            bench.send(Access(write=write, id=1, device=2, iova=16 * n, len=0))
        await wait_for(ctx, lambda: len(bench.b.got if write else bench.r.got) > 3)
        assert not ctx.get(drain.done)
        bench.translation.held.clear()
        while not ctx.get(drain.done):
            await ctx.tick()
        assert len((bench.aw if write else bench.ar).queue) > 10
        for _ in range(5):
            await ctx.tick()
            assert ctx.get(drain.done)
        assert any(item.id == 0 for item in (bench.b.got if write else bench.r.got))
        ctx.set(drain.request, 0)
        await wait_for(ctx, bench.finished, then=5)
        assert not ctx.get(drain.done)
        ctx.set(drain.request, 1)  # nothing to wait for
        for _ in range(3):
            await ctx.tick()
        assert ctx.get(drain.done)

    bench.run(testbench)
    bench.check()


def test_latency_of_an_idle_bridge_is_fixed():
    """Address to translation request one cycle, answer to address below two, data one."""
    bench = built(Bridge, addr_width=PAS, id_width=3, slots=4, beats=4)
    times = []

    async def testbench(ctx):
        up, down, port = bench.up, bench.down, bench.translate
        for signal in (port.request.ready, down.ar.ready, up.r.ready):
            ctx.set(signal, 1)
        for _ in range(3):
            ctx.set(up.ar.payload, Access(False, 1, 2, 0x1238, 0).address)
            ctx.set(up.ar.valid, 1)
            cycle, seen = 0, {}
            while "r" not in seen:
                *_, asked, request, issued, address, answered = await ctx.tick().sample(
                    port.request.valid,
                    port.request.payload,
                    down.ar.valid,
                    down.ar.payload,
                    up.r.valid,
                )
                ctx.set(up.ar.valid, 0)
                ctx.set(port.response.valid, 0)
                ctx.set(down.r.valid, 0)
                if asked:
                    seen["request"] = cycle
                    answer = {"tag": request.tag, "spa": 0x77000}
                    ctx.set(port.response.payload, answer)
                    ctx.set(port.response.valid, 1)
                if issued:
                    assert address.addr == 0x77238
                    seen["issue"] = cycle
                    ctx.set(down.r.payload, {"id": 1, "last": 1})
                    ctx.set(down.r.valid, 1)
                if answered:
                    seen["r"] = cycle
                cycle += 1
            times.append(seen)
            await ctx.tick()

    run(bench, testbench)
    assert times == [{"request": 1, "issue": 4, "r": 6}] * 3


def test_throughput_of_full_bursts():
    """With enough slots, data moves in all but a few cycles."""
    bench = BridgeBench(slots=8, beats=16, translation=(6, 6), latency=(10, 10))
    fill(bench)
    for n in range(24):
        for write in (False, True):
            bench.send(Access(write=write, id=n % 4, device=1 + write, iova=n % 16 * 256, len=15))
    bench.run(then=0)
    bench.check()
    assert bench.memory.now < 24 * 16 + 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 3}, "Slots must be a power of two from 2, not 3"),
        ({"slots": 256}, "Tags have no room for 256 slots in each direction"),
        ({"beats": 3}, "Beats must be a power of two in 2 to 256, not 3"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(Bridge, addr_width=PAS, **options)
