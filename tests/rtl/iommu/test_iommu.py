"""The IOMMU whole, with the bridge in front and memory behind: devices, software, tables."""

import itertools

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from models.directory import Context, DirectoryBuilder
from models.pagetable import PageTable
from models.spec import iommu_registers as regs
from models.spec.iommu import Cause, FaultRecord, HpmEvent, PageRequestRecord, PageResponse, Ttyp
from models.spec.translation import AddressType
from rtl.bus.axi import Burst, Resp
from rtl.iommu.bridge import Bridge, bridge_options, join
from rtl.iommu.iommu import Iommu
from tests.rtl.agents import AxiMemory, Registers, Sink, Source, run, seeded, wait_for
from tests.rtl.iommu.commands import iofence, iotinval
from tests.rtl.iommu.control_bench import small

CQ, FQ, PQ, TABLES, DATA = 0x10_0000, 0x11_0000, 0x12_0000, 0x20_0000, 0x100_0000
DEVICE, GSCID, PSCID = 9, 5, 7


class Top(wiring.Component):
    """Bridge and IOMMU as a system joins them."""

    def __init__(self, config):
        super().__init__({})
        self.iommu = Iommu(config, clients=1)
        self.bridge = Bridge(**bridge_options(config), id_width=2, slots=4, beats=4)

    def elaborate(self, platform):
        m = Module()
        m.submodules.iommu, m.submodules.bridge = iommu, bridge = self.iommu, self.bridge
        join(m, bridge, iommu)
        return m


class System:
    """Devices, software and memory round :class:`Top`."""

    def __init__(self, seed=1, **changes):
        rng = seeded(seed)
        self.top = Top(small(hpm_counters=3, **changes))
        iommu, bridge = self.top.iommu, self.top.bridge
        self.tables = AxiMemory(iommu.memory, rng, latency=(2, 9), stall=0.1, reorder=True)
        self.memory = AxiMemory(
            bridge.down, rng, latency=(2, 30), stall=0.1, reorder=True, data=self.tables.data
        )
        self.software = Registers(iommu.regs)
        up = bridge.up
        self.ar, self.aw, self.w = (Source(port, rng) for port in (up.ar, up.aw, up.w))
        self.r, self.b = Sink(up.r, rng), Sink(up.b, rng)
        self.requests = Source(iommu.page_request, rng)
        self.responses = Sink(iommu.group_response, rng)
        pages = itertools.count(TABLES, 0x1000)

        def allocate(count):
            while (page := next(pages)) % (count * 0x1000):
                pass
            for _ in range(count - 1):
                next(pages)
            return page

        def read(address, size):
            return self.tables.load(address, size).to_bytes(size, "little")

        def write(address, content):
            self.tables.store(address, len(content), int.from_bytes(content, "little"))

        self.first = PageTable(read, write, allocate)
        self.second = PageTable(read, write, allocate, x4=True)
        self.directory = DirectoryBuilder(read, write, allocate)
        self.tail = 0
        # The guest's tables are where they are: identity in the second stage.
        for page in range(TABLES, TABLES + 0x10_0000, 0x1000):
            self.second.map(page, page)

    async def start(self, ctx, **context):
        """Build the directory and switch everything on."""
        fields = {"fsc": self.first.iosatp, "iohgatp": self.second.iohgatp(GSCID), "pscid": PSCID}
        self.directory.set(DEVICE, Context(**fields | context))
        for _ in range(40):
            await ctx.tick()
        for base, csr, addr in (
            (regs.CQB, regs.CQCSR, CQ),
            (regs.FQB, regs.FQCSR, FQ),
            (regs.PQB, regs.PQCSR, PQ),
        ):
            await self.software.write(ctx, base, addr >> 12 << 10 | 5)
            await self.software.write(ctx, csr, 1)
        await self.software.write(ctx, regs.DDTP, self.directory.ddtp)
        while await self.software.read(ctx, regs.DDTP) & 1 << 4:
            pass

    async def command(self, ctx, *commands):
        """Post commands and wait until they are done."""
        for command in commands:
            self.tables.store(CQ + 16 * self.tail, 16, command)
            self.tail = (self.tail + 1) % 64
        await self.software.write(ctx, regs.CQT, self.tail)
        while await self.software.read(ctx, regs.CQH) != self.tail:
            assert await self.software.read(ctx, regs.CQCSR) == 0x10001

    def read(self, iova, *, id=0, device=DEVICE, at=AddressType.UNTRANSLATED):
        """Queue a read of one beat."""
        self.ar.queue.append(self._address(iova, id, device, at))

    def write(self, iova, value, *, id=0, device=DEVICE):
        """Queue a write of one beat."""
        self.aw.queue.append(self._address(iova, id, device, AddressType.UNTRANSLATED))
        self.w.queue.append({"data": value, "strb": 0xFFFF, "last": 1})

    @staticmethod
    def _address(iova, id, device, at):
        user = {"device_id": device, "at": at}
        fields = {"addr": iova, "id": id, "len": 0, "size": 4, "burst": Burst.INCR}
        return fields | {"user": user}

    def fault(self, index) -> FaultRecord:
        """A record of the fault queue."""
        return FaultRecord.from_bits(self.tables.load(FQ + 32 * index, 32))

    def run(self, testbench):
        """Simulate."""
        agents = (self.ar, self.aw, self.w, self.r, self.b, self.requests, self.responses)
        background = [
            *self.tables.processes(),
            *self.memory.processes(),
            *(agent.process for agent in agents),
        ]
        run(self.top, testbench, background=background)


def test_dma_through_two_stages():
    system = System()
    for n in range(8):
        system.first.map(0x4000_0000 + n * 0x1000, 0x8000_0000 + n * 0x1000)
        system.second.map(0x8000_0000 + n * 0x1000, DATA + (7 - n) * 0x1000)
        system.tables.store(DATA + (7 - n) * 0x1000 + 0x120, 16, 0xABCD << 64 | n)

    async def testbench(ctx):
        await system.start(ctx)
        events = (HpmEvent.UNTRANSLATED_REQUEST, HpmEvent.LOOKUP, HpmEvent.TLB_MISS)
        for n, event in enumerate(events):
            await system.software.write(ctx, regs.IOHPMEVT[n], event)
        for _ in range(3):
            for n in range(8):
                system.read(0x4000_0120 + n * 0x1000, id=n % 4)
                system.write(0x4000_0200 + n * 0x1000, 0x1111 * n, id=n % 4)
        await wait_for(ctx, lambda: len(system.r.got) == 24 and len(system.b.got) == 24, then=20)
        requests, lookups, misses = [
            await system.software.read(ctx, regs.IOHPMCTR[n]) for n in range(3)
        ]
        assert requests == lookups == 48
        assert 8 <= misses <= 40

    system.run(testbench)
    assert all(beat.resp == Resp.OKAY for beat in (*system.r.got, *system.b.got))
    for id in range(4):
        beats = [beat.data for beat in system.r.got if beat.id == id]
        assert beats == [0xABCD << 64 | id, 0xABCD << 64 | id + 4] * 3
    for n in range(8):
        assert system.tables.load(DATA + (7 - n) * 0x1000 + 0x200, 16) == 0x1111 * n


def test_refused_dma_is_an_error_and_a_record():
    system = System()
    system.first.map(0x1000, 0x8000_0000)

    async def testbench(ctx):
        await system.start(ctx)
        cases = [
            (lambda: system.read(0x5000), Cause.READ_PAGE_FAULT, Ttyp.UNTRANSLATED_READ, DEVICE),
            (
                lambda: system.write(0x1010, 5),
                Cause.WRITE_GUEST_PAGE_FAULT,
                Ttyp.UNTRANSLATED_WRITE,
                DEVICE,
            ),
            (
                lambda: system.read(0x1020, device=3),
                Cause.DDT_INVALID,
                Ttyp.UNTRANSLATED_READ,
                3,
            ),
            (
                lambda: system.read(0x1030, at=AddressType.TRANSLATED),
                Cause.TYPE_DISALLOWED,
                Ttyp.TRANSLATED_READ,
                DEVICE,
            ),
        ]
        for n, (send, cause, ttyp, device) in enumerate(cases):
            answers = len(system.r.got) + len(system.b.got)
            send()
            await wait_for(
                ctx, lambda done=answers + 1: len(system.r.got) + len(system.b.got) == done
            )
            while await system.software.read(ctx, regs.FQT) != n + 1:
                pass
            record = system.fault(n)
            assert (record.cause, record.ttyp, record.did) == (cause, ttyp, device)
            if cause == Cause.WRITE_GUEST_PAGE_FAULT:
                assert record.iotval2 & ~0xFFF == 0x8000_0000

    system.run(testbench)
    assert [beat.resp for beat in (*system.r.got, *system.b.got)] == [Resp.DECERR] * 4
    assert not system.memory.reads
    assert not system.memory.writes


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2, 3))])
def test_after_invalidation_and_fence_nobody_sees_the_old_page(seed):
    """Reads never stop; the page moves under them."""
    system = System(seed)
    iova, gpa = 0x7000, 0x9000_0000
    system.first.map(iova, gpa)
    system.second.map(gpa, DATA)
    for n in range(6):
        system.tables.store(DATA + n * 0x1000, 16, n)
    marks = []

    async def reader(ctx):
        while True:
            if len(system.ar.queue) < 3:
                system.read(iova, id=len(marks) % 4)
            await ctx.tick()

    async def testbench(ctx):
        await system.start(ctx)
        await wait_for(ctx, lambda: len(system.r.got) > 20)
        for n in range(1, 6):
            system.second.move(gpa, DATA + n * 0x1000)
            await system.command(
                ctx,
                iotinval(func=1, gv=1, gscid=GSCID, av=1, addr=gpa >> 12),
                iotinval(gv=1, gscid=GSCID),
                iofence(pr=1, pw=1),
            )
            # What software now does with the old page no read may see.
            system.tables.store(DATA + (n - 1) * 0x1000, 16, 0xBAD)
            marks.append(len(system.r.got))
            await wait_for(ctx, lambda done=marks[-1] + 20: len(system.r.got) > done)

    agents = (system.ar, system.r)
    background = [
        *system.tables.processes(),
        *system.memory.processes(),
        *(agent.process for agent in agents),
        reader,
    ]
    run(system.top, testbench, background=background)
    values = [beat.data for beat in system.r.got]
    assert set(values) == set(range(6))
    for n, mark in enumerate(marks):
        # A beat or two may be on their way from the bridge to the device.
        assert all(value >= n + 1 for value in values[mark + 3 : mark + 15])


def test_directory_is_off_when_earlier_dma_has_landed():
    """A write that is translated waits in the bridge for its data when software writes Off."""
    system = System()
    system.first.map(0x7000, 0x9000_0000)
    system.second.map(0x9000_0000, DATA)

    async def testbench(ctx):
        await system.start(ctx)
        system.write(0x7000, 0x55)
        await wait_for(ctx, lambda: len(system.b.got) == 1)
        system.write(0x7010, 0x77)
        beat = system.w.queue.pop()
        await ctx.tick().repeat(60)
        await system.software.write(ctx, regs.DDTP, 0)
        for _ in range(20):
            assert await system.software.read(ctx, regs.DDTP) & 1 << 4
        system.read(0x7000)  # a later one does not hold it up, and is refused
        system.w.queue.append(beat)
        while await system.software.read(ctx, regs.DDTP) & 1 << 4:
            pass
        assert system.tables.load(DATA + 0x10, 16) == 0x77
        await wait_for(ctx, lambda: len(system.b.got) == 2 and len(system.r.got) == 1)

    system.run(testbench)
    assert [beat.resp for beat in (*system.b.got, *system.r.got)] == [
        Resp.OKAY,
        Resp.OKAY,
        Resp.DECERR,
    ]


def test_page_requests_are_checked_against_the_device():
    system = System()

    def request(device, last=1):
        return {"device_id": device, "payload": 0x1000_0000 | 3 << 3 | last << 2 | 1}

    async def testbench(ctx):
        await system.start(ctx, en_ats=True, en_pri=True, prpr=True)
        system.directory.set(DEVICE + 1, Context(fsc=system.first.iosatp))
        system.requests.queue.append(request(DEVICE))
        while await system.software.read(ctx, regs.PQT) != 1:
            pass
        record = PageRequestRecord.from_bits(system.tables.load(PQ, 16))
        assert (record.did, record.payload) == (DEVICE, request(DEVICE)["payload"])
        system.requests.queue.extend([request(DEVICE + 1), request(DEVICE + 2)])
        await wait_for(ctx, lambda: len(system.responses.got) == 2, then=100)
        assert await system.software.read(ctx, regs.FQT) == 2
        codes = [(answer.device_id, answer.payload >> 44 & 15) for answer in system.responses.got]
        assert codes == [
            (DEVICE + 1, PageResponse.INVALID),
            (DEVICE + 2, PageResponse.FAILURE),
        ]
        for n, cause in enumerate((Cause.TYPE_DISALLOWED, Cause.DDT_INVALID)):
            record = system.fault(n)
            assert (record.cause, record.ttyp) == (cause, Ttyp.MESSAGE)
            assert (record.did, record.iotval) == (DEVICE + 1 + n, 4)
        assert await system.software.read(ctx, regs.PQT) == 1

    system.run(testbench)


@pytest.mark.parametrize("id", [0, 1])
def test_interrupt_files_are_read_and_written_with_one_id(id):
    # Or no memory's exclusive monitor would let the write follow the read.
    iommu = Iommu(small(msi_flat=True, msi_mrif=True, amo_mrif=True), clients=1)
    port, below, seen = iommu.interrupt_files, iommu.memory, {}

    async def testbench(ctx):
        for name in ("ar", "aw"):
            asked, passed = getattr(port, name), getattr(below, name)
            ctx.set(asked.payload, {"addr": 0x5000, "size": 3, "lock": 1, "id": id})
            ctx.set(asked.valid, 1)
            payload, *_ = await ctx.tick().sample(passed.payload).until(passed.valid)
            assert payload.lock
            seen[name] = payload.id

    run(iommu, testbench)
    assert seen["ar"] == seen["aw"]
