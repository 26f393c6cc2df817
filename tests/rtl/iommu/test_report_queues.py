"""Fault queue and page-request queue: records, wrap, overflow, faults, automatic answers."""

import pytest

from models.spec import iommu_registers as regs
from models.spec.iommu import (
    Cause,
    FaultRecord,
    PageRequestPayload,
    PageRequestRecord,
    PageResponse,
    Ttyp,
)
from models.spec.translation import PAGE_REQUEST_MESSAGE, AddressType, TranslationStatus
from tests.rtl.agents import Source, wait_for
from tests.rtl.iommu.control_bench import FQ, PQ, ControlBench

EN, IE, MF, OF, ON, BUSY = 1 << 0, 1 << 1, 1 << 8, 1 << 9, 1 << 16, 1 << 17
CIP, FIP, PMIP, PIP = 1, 2, 4, 8
STALLS = [pytest.param(0.0, marks=pytest.mark.full), 0.5]


def fault(n: int) -> dict:
    """A record that can be told from others."""
    return {
        "cause": Cause.READ_PAGE_FAULT,
        "ttyp": Ttyp.UNTRANSLATED_READ,
        "did": n,
        "pid": n * 3,
        "pv": 1,
        "priv": n & 1,
        "iotval": 0x1234_5678_0000_0000 | n,
        "iotval2": n << 2,
    }


def records(bench) -> list:
    """Writes of fault records; interrupts write elsewhere."""
    return [item for item in bench.memory.writes if item[0] >= FQ]


async def faults(bench, ctx, *numbers):
    """Report faults and wait until the queue took or dropped them."""
    sent = bench.faults.sent + len(numbers)
    bench.faults.queue.extend(fault(n) for n in numbers)
    await wait_for(ctx, lambda: bench.faults.sent == sent, then=150)


@pytest.mark.parametrize("stall", STALLS)
def test_fault_records_are_written_in_order_and_wrap(stall):
    bench = ControlBench(seed=2, stall=stall)

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 2)
        for n in range(11):
            await faults(bench, ctx, n)
            assert await bench.read(ctx, regs.FQT) == (n + 1) % 4
            assert bench.fault_record(n % 4) == fault(n)
            assert await bench.read(ctx, regs.IPSR) == FIP
            await bench.write(ctx, regs.IPSR, FIP)
            assert await bench.read(ctx, regs.IPSR) == 0
            await bench.write(ctx, regs.FQH, (n + 1) % 4)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON

    bench.run(testbench)
    assert [addr for addr, _ in records(bench)] == [FQ + 32 * (n % 4) for n in range(11)]
    assert all(len(content) == 32 for _, content in records(bench))


def test_index_moves_after_the_record_is_in_memory():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 3)
        bench.memory.hold_responses = True
        bench.faults.queue.append(fault(1))
        await bench.settle(ctx, 100)
        assert len(records(bench)) == 1
        assert await bench.read(ctx, regs.FQT) == 0
        assert await bench.read(ctx, regs.IPSR) == 0
        bench.memory.hold_responses = False
        await bench.settle(ctx, 30)
        assert await bench.read(ctx, regs.FQT) == 1
        assert await bench.read(ctx, regs.IPSR) == FIP

    bench.run(testbench)


@pytest.mark.parametrize("stall", STALLS)
def test_faults_of_the_bridge_are_recorded_among_the_others(stall):
    bench = ControlBench(seed=3, stall=stall, msi_flat=True, msi_mrif=True)
    bridge = Source(bench.dut.bridge_faults, bench.rng, stall)
    files = [fault(n) | {"cause": Cause.MRIF_ACCESS_FAULT} for n in range(100, 106)]

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 5)
        bridge.queue.extend(files)
        await faults(bench, ctx, *range(6))
        await wait_for(ctx, lambda: bridge.sent == 6, then=150)
        assert await bench.read(ctx, regs.FQT) == 12

    bench.run(testbench, bridge.process)
    got = [bench.fault_record(n) for n in range(12)]
    mine = [item for item in got if item["cause"] == Cause.MRIF_ACCESS_FAULT]
    assert mine == files
    assert [item for item in got if item not in mine] == [fault(n) for n in range(6)]


def test_full_fault_queue_drops_until_overflow_is_cleared():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 2)
        await faults(bench, ctx, 0, 1, 2)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON
        await bench.write(ctx, regs.IPSR, FIP)
        await faults(bench, ctx, 3)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON | OF
        assert await bench.read(ctx, regs.FQT) == 3
        await bench.write(ctx, regs.IPSR, FIP)
        assert await bench.read(ctx, regs.IPSR) == FIP  # the condition persists
        await bench.write(ctx, regs.FQH, 3)
        await faults(bench, ctx, 4)  # room, but the bit is set
        assert await bench.read(ctx, regs.FQT) == 3
        await bench.write(ctx, regs.FQCSR, EN | IE | OF)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON
        await faults(bench, ctx, 5)
        assert await bench.read(ctx, regs.FQT) == 0
        assert bench.fault_record(3) == fault(5)

    bench.run(testbench)
    assert len(records(bench)) == 4


@pytest.mark.parametrize("word", range(4))
def test_memory_fault_drops_until_it_is_cleared(word):
    bench = ControlBench()
    bench.memory.failing.append(range(FQ + 32 + 8 * word, FQ + 32 + 8 * word + 8))

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 3)
        await faults(bench, ctx, 0, 1, 2)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON | MF
        assert await bench.read(ctx, regs.FQT) == 1
        bench.memory.failing.clear()
        await faults(bench, ctx, 3)
        assert await bench.read(ctx, regs.FQT) == 1
        await bench.write(ctx, regs.FQCSR, EN | IE | MF)
        await faults(bench, ctx, 4)
        assert await bench.read(ctx, regs.FQT) == 2
        assert bench.fault_record(1) == fault(4)

    bench.run(testbench)
    assert len(records(bench)) == 3


def test_fault_queue_that_is_off_drops_and_enabling_clears():
    bench = ControlBench()

    async def testbench(ctx):
        await faults(bench, ctx, 0)
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 1, bits=EN)
        await faults(bench, ctx, 1, 2)
        assert await bench.read(ctx, regs.FQCSR) == EN | ON | OF
        assert await bench.read(ctx, regs.FQT) == 1
        assert await bench.read(ctx, regs.IPSR) == 0  # not enabled
        await bench.write(ctx, regs.FQCSR, 0)
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.FQCSR) == OF
        assert await bench.read(ctx, regs.FQT) == 1
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 1)
        assert await bench.read(ctx, regs.FQCSR) == EN | IE | ON
        assert await bench.read(ctx, regs.FQT) == 0
        await faults(bench, ctx, 3)
        assert bench.fault_record(0) == fault(3)

    bench.run(testbench)
    assert len(records(bench)) == 2


def test_disabling_waits_for_the_record_under_way():
    bench = ControlBench()

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 3)
        bench.memory.hold_responses = True
        bench.faults.queue.append(fault(1))
        await bench.settle(ctx)
        await bench.write(ctx, regs.FQCSR, 0)
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.FQCSR) == ON | BUSY
        bench.memory.hold_responses = False
        await bench.settle(ctx)
        assert await bench.read(ctx, regs.FQCSR) == 0
        assert await bench.read(ctx, regs.FQT) == 1

    bench.run(testbench)


# Page requests


def page(n: int, *, last=0, r=1, w=0, pv=1) -> dict:
    """A page request of device n."""
    payload = PageRequestPayload.const(
        {"r": r, "w": w, "last": last, "index": 0x100 + n, "address": 0xABC000 + n}
    )
    return {
        "device_id": 0x120000 | n,
        "process_id": 0x500 + n,
        "pv": pv,
        "priv": 1,
        "exec": 1,
        "payload": payload.as_bits(),
    }


async def pages(bench, ctx, *requests):
    """Send page requests and wait until they are dealt with."""
    seen = len(bench.lookups) + len(requests)
    bench.requests.queue.extend(requests)
    await wait_for(ctx, lambda: len(bench.lookups) == seen, then=150)


def record(bench, index: int) -> dict:
    """A record of the page-request queue."""
    raw = PageRequestRecord.from_bits(bench.memory.load(PQ + 16 * index, 16))
    return {
        name: int(getattr(raw, name)) for name in ("did", "pid", "pv", "priv", "exec", "payload")
    }


@pytest.mark.parametrize("stall", STALLS)
def test_page_requests_become_records(stall):
    bench = ControlBench(seed=4, stall=stall)

    async def testbench(ctx):
        await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 2)
        for n in range(6):
            request = page(n, last=n & 1, pv=n > 1)
            await pages(bench, ctx, request)
            assert await bench.read(ctx, regs.PQT) == (n + 1) % 4
            got = record(bench, n % 4)
            assert got["did"] == 0x120000 | n
            assert got["payload"] == request["payload"]
            with_pasid = (0x500 + n, 1, 1, 1) if n > 1 else (0, 0, 0, 0)
            assert (got["pid"], got["pv"], got["priv"], got["exec"]) == with_pasid
            assert await bench.read(ctx, regs.IPSR) == PIP
            await bench.write(ctx, regs.IPSR, PIP)
            await bench.write(ctx, regs.PQH, (n + 1) % 4)
        assert await bench.read(ctx, regs.PQCSR) == EN | IE | ON

    bench.run(testbench)
    assert not bench.responses.got
    assert all(item.at == AddressType.MESSAGE for item in bench.lookups)
    assert all(item.iova == PAGE_REQUEST_MESSAGE for item in bench.lookups)
    assert [item.device_id for item in bench.lookups] == [0x120000 | n for n in range(6)]
    assert [item.pv for item in bench.lookups] == [0, 0, 1, 1, 1, 1]


def refused(cause, prpr=0) -> dict:
    """What the translator says of a device that may not."""
    return {"status": TranslationStatus.UNSUPPORTED_REQUEST, "cause": cause, "prpr": prpr}


CONTEXTS = [
    (Cause.ALL_INBOUND_DISALLOWED, 0, PageResponse.FAILURE, True),
    (Cause.DDT_ACCESS_FAULT, 0, PageResponse.FAILURE, True),
    (Cause.DDT_INVALID, 0, PageResponse.FAILURE, True),
    (Cause.DDT_MISCONFIGURED, 0, PageResponse.FAILURE, True),
    (Cause.DDT_CORRUPTION, 0, PageResponse.FAILURE, True),
    (Cause.TYPE_DISALLOWED, 0, PageResponse.INVALID, False),
    (Cause.TYPE_DISALLOWED, 1, PageResponse.INVALID, True),
]


@pytest.mark.parametrize(("cause", "prpr", "code", "pasid"), CONTEXTS)
@pytest.mark.parametrize("pv", [0, 1])
def test_context_faults_are_answered(cause, prpr, code, pasid, pv):
    bench = ControlBench()
    bench.contexts[0x120007] = refused(cause, prpr)

    async def testbench(ctx):
        await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 2)
        await pages(bench, ctx, page(7, last=0), page(7, last=1, r=0, w=0))
        assert not bench.responses.got  # not the last of its group; a stop marker
        await pages(bench, ctx, page(7, last=1, pv=pv))
        assert await bench.read(ctx, regs.PQT) == 0
        assert await bench.read(ctx, regs.PQCSR) == EN | IE | ON

    bench.run(testbench)
    (answer,) = bench.responses.got
    check_answer(answer, code, pasid and pv)


def check_answer(answer, code, pasid):
    """An automatic answer for device 7."""
    assert (answer.device_id, answer.dsv) == (0x120007, 1)
    assert answer.pv == pasid
    assert answer.process_id == (0x507 if pasid else 0)
    assert answer.payload == 0x107 << 32 | code << 44 | 0x0007 << 48


@pytest.mark.parametrize("prpr", [0, 1])
def test_queue_conditions_are_answered(prpr):
    bench = ControlBench()
    bench.contexts[0x120007] = {"prpr": prpr}

    async def testbench(ctx):
        async def answered(code, pasid):
            before = len(bench.responses.got)
            await pages(bench, ctx, page(7, last=0), page(7, last=1, r=0))
            assert len(bench.responses.got) == before
            await pages(bench, ctx, page(7, last=1))
            assert len(bench.responses.got) == before + 1
            check_answer(bench.responses.got[-1], code, pasid)

        await answered(PageResponse.FAILURE, 1)  # off
        await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 1)
        await pages(bench, ctx, page(1))
        await answered(PageResponse.SUCCESS, prpr)  # full
        assert await bench.read(ctx, regs.PQCSR) == EN | IE | ON | OF
        await bench.write(ctx, regs.PQH, 1)
        await answered(PageResponse.SUCCESS, prpr)  # pqof
        await bench.write(ctx, regs.PQCSR, EN | IE | OF)
        bench.memory.failing.append(range(PQ + 16, PQ + 32))
        await pages(bench, ctx, page(7, last=1))
        check_answer(bench.responses.got[-1], PageResponse.FAILURE, 1)  # the write failed
        assert await bench.read(ctx, regs.PQCSR) == EN | IE | ON | MF
        bench.memory.failing.clear()
        await answered(PageResponse.FAILURE, 1)  # pqmf
        assert await bench.read(ctx, regs.PQT) == 1
        await bench.write(ctx, regs.PQCSR, EN | IE | MF)
        await pages(bench, ctx, page(7, last=1))
        assert await bench.read(ctx, regs.PQT) == 0
        assert record(bench, 1)["did"] == 0x120007

    bench.run(testbench)
    assert len(bench.responses.got) == 5


@pytest.mark.parametrize("stall", STALLS)
def test_big_endian_records(stall):
    """Each doubleword is big-endian; their order is the same."""
    bench = ControlBench(seed=9, stall=stall, end=True)
    raw = FaultRecord.const(fault(0x55)).as_bits()
    request = page(3)

    async def testbench(ctx):
        await bench.write(ctx, regs.FCTL, 1)
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 2)
        await bench.enable(ctx, regs.PQB, regs.PQCSR, PQ, 2)
        await faults(bench, ctx, 0x55)
        await pages(bench, ctx, request)

    bench.run(testbench)
    for n in range(4):
        stored = bench.memory.load(FQ + 8 * n, 8).to_bytes(8, "little")
        assert int.from_bytes(stored, "big") == raw >> 64 * n & (1 << 64) - 1
    stored = bench.memory.load(PQ + 8, 8).to_bytes(8, "little")
    assert int.from_bytes(stored, "big") == request["payload"]
    stored = bench.memory.load(PQ, 8).to_bytes(8, "little")
    assert int.from_bytes(stored, "big") >> 40 == 0x120003


def test_fault_record_layout_is_what_memory_gets():
    """The queue writes doublewords in order, lowest first."""
    bench = ControlBench()
    raw = FaultRecord.const(fault(0x55)).as_bits()

    async def testbench(ctx):
        await bench.enable(ctx, regs.FQB, regs.FQCSR, FQ, 2)
        await faults(bench, ctx, 0x55)

    bench.run(testbench)
    assert bench.memory.load(FQ, 32) == raw
    assert bench.memory.load(FQ, 8) & 0xFFF == Cause.READ_PAGE_FAULT
    assert bench.memory.load(FQ + 16, 8) == 0x1234_5678_0000_0055
