"""I/O bridge and memory-resident interrupt files: order, answers, what reaches memory; QoS IDs."""

import pytest

from models.spec.iommu import Cause
from rtl.bus.axi import Resp
from tests.rtl.agents import Sink, mostly_full, wait_for
from tests.rtl.iommu.mrif_world import WordMemory, pending_bit
from tests.rtl.iommu.test_bridge import PAGE, WIDTH, Access, BridgeBench, Translation, fill

PAS = 40
FILES, NOTICE = 0x70_0000_0000, 0x60_0000_0000


def file_of(device: int, page: int) -> int:
    """Address of the interrupt file that stands for a page."""
    return FILES + (device * 16 + page) * 512


class FileTranslation(Translation):
    """Some pages are interrupt files; devices have QoS IDs."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.files: set[tuple[int, int]] = set()

    def answer(self, asked) -> dict:
        place = (asked.device_id, asked.iova >> 12)
        found = super().answer(asked) | {"rcid": 0x100 + place[0], "mcid": 0x200 + place[0]}
        if place in self.files:
            found |= {"mrif": 1, "spa": file_of(*place), "nid": 0x300 + place[0]}
            found |= {"notice_ppn": (NOTICE >> 12) + place[0]}
        return found


class FileBench(BridgeBench):
    """A bridge with interrupt files."""

    translator = FileTranslation

    def __init__(self, seed=1, *, word_latency=(1, 1), **options):
        super().__init__(seed, **{"mrif": True, "atomic": True} | options)
        self.words = WordMemory(self.dut.interrupt_files, self.rng, word_latency)
        self.faults = Sink(self.dut.faults, self.rng)

    def background(self) -> list:
        return [*super().background(), *self.words.processes(), self.faults.process]

    def msi(self, device, page, identity, *, id=0, offset=0, size=2, file=Resp.OKAY) -> Access:
        """Send an MSI; with ``size`` above 2 it is a part of a wider beat."""
        lane = offset % WIDTH
        return self.send(
            Access(
                write=True,
                id=id,
                device=device,
                iova=page * PAGE + (offset >> size << size),
                len=0,
                size=size,
                data=(identity << 8 * lane,),
                strobes=(0xF << lane,),
                file=file,
            )
        )

    def pending(self, device: int, page: int) -> set[int]:
        """Identities that are pending in a file."""
        file = file_of(device, page)
        places = ((n, *pending_bit(file, n)) for n in range(2048))
        return {n for n, addr, bit in places if self.words.load(addr) >> bit & 1}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_an_msi_is_stored_and_noticed(size):
    bench = FileBench()
    bench.translation.files.add((5, 2))
    bench.msi(5, 2, 77, size=size)
    bench.msi(5, 2, 0x0102_0000, size=size, offset=4)  # 0x201, big-endian
    bench.msi(5, 2, 3, size=size, offset=8)  # no register there
    bench.msi(5, 2, 4, size=size, offset=0xFFC)
    bench.run()
    bench.check()
    assert bench.pending(5, 2) == {77, 0x201}
    notices = [item[:3] for item in bench.words.log if item[1] >> 40 == 0 and item[1] < FILES]
    assert notices == [("w", NOTICE + 5 * PAGE, 0x305)] * 2
    assert not bench.memory.writes


def test_what_is_no_word_is_refused_and_words_read_zero():
    bench = FileBench()
    bench.translation.files.add((1, 2))
    page = 2 * PAGE

    def access(write, iova, len, size, file, strobes=()):
        item = Access(write, 0, 1, iova, len, size, strobes=strobes, file=file)
        bench.send(item)

    access(False, page, 0, 2, Resp.OKAY)
    access(False, page + 0xABC, 0, 2, Resp.OKAY)
    access(False, page + 2, 0, 2, Resp.SLVERR)
    access(False, page, 0, 3, Resp.SLVERR)
    access(False, page, 0, 1, Resp.SLVERR)
    access(False, page, 1, 2, Resp.SLVERR)
    access(False, page, 3, 4, Resp.SLVERR)
    access(True, page, 0, 3, Resp.SLVERR, (0xFF,))
    access(True, page, 0, 4, Resp.SLVERR, (0xFFFF,))
    access(True, page, 0, 4, Resp.SLVERR, (0x3C,))
    access(True, page, 0, 1, Resp.SLVERR, (0x3,))
    access(True, page, 0, 2, Resp.SLVERR, (0x7,))
    access(True, page, 0, 2, Resp.SLVERR, (0,))
    access(True, page, 1, 2, Resp.SLVERR, (0xF, 0xF0))
    bench.run()
    bench.check()
    assert not bench.words.log
    assert not bench.memory.writes
    assert not bench.faults.got


@pytest.mark.parametrize(
    ("resp", "cause", "answer"),
    [
        (Resp.DECERR, Cause.MRIF_ACCESS_FAULT, Resp.DECERR),
        (Resp.SLVERR, Cause.MRIF_CORRUPTION, Resp.SLVERR),
    ],
)
def test_faults_are_answered_and_reported(resp, cause, answer):
    bench = FileBench()
    bench.translation.files |= {(3, 2), (3, 3)}
    bench.words.failing["r"].append((range(file_of(3, 2), file_of(3, 3)), resp))
    bench.msi(3, 2, 77, file=answer)
    bench.msi(3, 3, 78)
    bench.run()
    bench.check()
    assert bench.pending(3, 3) == {78}
    (record,) = bench.faults.got
    assert (record.cause, record.did, record.iotval) == (cause, 3, 2 * PAGE)
    assert (record.pid, record.pv) == (4, 1)


def test_an_msi_waits_for_earlier_writes_of_its_id_and_holds_later_ones():
    bench = FileBench(latency=(30, 30), word_latency=(20, 20))
    bench.translation.files.add((1, 1))
    bench.send(Access(write=True, id=5, device=1, iova=0x0010, len=2))
    bench.msi(1, 1, 9, id=5)
    bench.send(Access(write=True, id=5, device=1, iova=0x2010, len=1))
    seen = []

    async def testbench(ctx):
        while not bench.finished():
            seen.append((len(bench.b.got), len(bench.words.log), len(bench.memory.writes)))
            await ctx.tick()

    bench.run(testbench)
    bench.check()
    assert all(answers >= 1 for answers, accesses, _ in seen if accesses)
    assert all(answers >= 2 and accesses == 3 for answers, accesses, w in seen if w == 2)


def test_an_msi_holds_no_other_id():
    bench = FileBench(slots=4, word_latency=(200, 200))
    fill(bench)
    bench.translation.files.add((1, 1))
    bench.msi(1, 1, 9, id=1)
    for n in range(20):
        bench.send(Access(write=True, id=2, device=2, iova=0x1000 + 64 * n, len=1))
    bench.run()
    bench.check()
    assert [answer.id for answer in bench.b.got] == [2] * 20 + [1]


def test_drain_waits_for_the_notice():
    bench = FileBench(word_latency=(20, 20))
    bench.translation.files.add((1, 1))
    bench.msi(1, 1, 9)

    async def testbench(ctx):
        await wait_for(ctx, lambda: len(bench.translation.seen) == 1, then=5)
        ctx.set(bench.dut.drain.request, 1)
        while not ctx.get(bench.dut.drain.done):
            await ctx.tick()
        assert [item[0] for item in bench.words.log] == ["r", "w", "w"]
        await wait_for(ctx, bench.finished, then=5)

    bench.run(testbench)
    bench.check()


@pytest.mark.parametrize("seed", mostly_full(range(3), 1))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_msis_among_random_traffic(seed, stall):
    bench = FileBench(
        seed,
        stall=stall,
        translation=(1, 30),
        latency=(1, 20),
        word_latency=(0, 10),
        slots=8,
        beats=8,
        atomic=seed != 1,
    )
    rng = bench.rng
    fill(bench)
    files = {(device, page) for device in range(4) for page in (4, 5)}
    bench.translation.files |= files
    bench.translation.refused |= {(0, 1), (2, 0), (3, 3)}
    sent = {place: set() for place in files}
    for _ in range(200):
        device, id = rng.randrange(4), rng.randrange(4)
        kind = rng.randrange(4)
        if kind == 0:
            page, identity = rng.choice([4, 5]), rng.randrange(2048)
            sent[device, page].add(identity)
            bench.msi(device, page, identity, id=id, size=rng.choice([2, 3, 4]))
        elif kind == 1 and rng.random() < 0.3:
            iova = rng.choice([4, 5]) * PAGE + 4 * rng.randrange(1024)
            bench.send(Access(False, id, device, iova, 0, size=2, file=Resp.OKAY))
        else:
            write = kind == 2
            offset = rng.randrange(PAGE // 2 - 8 * WIDTH) | PAGE // 2 * write
            iova = rng.randrange(4) * PAGE + offset
            bench.send(Access(write, id, device, iova, rng.choice([0, 1, 3, 7])))
    bench.run()
    bench.check()
    for place, identities in sent.items():
        assert bench.pending(*place) == identities
    assert sum(map(len, sent.values())) > 20
    assert not bench.faults.got


@pytest.mark.parametrize("write", [False, True])
def test_translated_bursts_carry_their_devices_qos_id(write):
    bench = FileBench(qos=True, translation=(1, 20), slots=8)
    fill(bench)
    bench.translation.files.add((6, 1))
    for n in range(12):
        bench.send(Access(write, n % 4, n % 4, 64 * n, 0))
    bench.msi(6, 1, 5)
    seen = []

    async def watch(ctx):
        port = bench.dut.down.aw if write else bench.dut.down.ar
        while not bench.finished():
            *_, valid, ready, payload = await ctx.tick().sample(
                port.valid, port.ready, port.payload
            )
            if valid and ready:
                seen.append((payload.addr, payload.user.rcid, payload.user.mcid))

    bench.run(watch)
    bench.check()
    assert len(seen) == 12
    for addr, rcid, mcid in seen:
        device = (addr >> 12) // 0x10000
        assert (rcid, mcid) == (0x100 + device, 0x200 + device)
    assert [user for *_, user in bench.words.log] == [(0x106, 0x206)] * 3
